"""Every format comes back as what was written, at its own time, whatever the suffix and the size of the blocks."""

import io

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.audio.reader import probe, read_blocks
from tests.audio.making import decode_with_ffmpeg, encode, ffmpeg, lag, noise, wav_bytes


def whole(path, **options):
    return np.concatenate(list(read_blocks(path, **options)))


LOSSLESS = [
    ("a.wav", "WAV", "PCM_U8", 2**-7),
    ("a.wav", "WAV", "PCM_16", 2**-15),
    ("a.wav", "WAV", "PCM_24", 2**-23),
    ("a.wav", "WAV", "PCM_32", 2**-23),
    ("a.wav", "WAV", "FLOAT", 0),
    ("a.wav", "WAV", "DOUBLE", 0),
    ("a.wav", "WAVEX", "PCM_16", 2**-15),
    ("a.wav", "WAVEX", "FLOAT", 0),
    ("a.wav", "WAV", "ULAW", 0.02),
    ("a.rf64", "RF64", "PCM_24", 2**-23),
    ("a.w64", "W64", "PCM_16", 2**-15),
    ("a.flac", "FLAC", "PCM_24", 2**-23),
    ("a.aiff", "AIFF", "PCM_16", 2**-15),
    ("a.caf", "CAF", "PCM_16", 2**-15),
    ("a.au", "AU", "PCM_16", 2**-15),
]


@pytest.mark.parametrize(("name", "container", "subtype", "tolerance"), LOSSLESS)
def test_lossless_formats_return_what_was_written(tmp_path, name, container, subtype, tolerance):
    samples = noise(12345, 2)
    soundfile.write(tmp_path / name, samples, 22050, format=container, subtype=subtype)
    info = probe(tmp_path / name)
    assert (info.container, info.codec, info.reader) == (container, subtype, "soundfile")
    assert (info.sampling_rate, info.n_channels, info.n_samples) == (22050, 2, 12345)
    assert info.duration_seconds == pytest.approx(12345 / 22050)
    for channel in (1, 2):
        assert whole(tmp_path / name, channel=channel) == pytest.approx(samples[:, channel - 1], abs=tolerance + 1e-7)


@pytest.mark.parametrize(("container", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
@pytest.mark.parametrize("name", ["sound.bin", "sound.wav", "sound.raw", "sound"])
def test_lossy_formats_keep_time_whatever_the_suffix(tmp_path, container, subtype, name):
    samples = noise(48000)
    memory = io.BytesIO()
    soundfile.write(memory, samples, 24000, format=container, subtype=subtype)
    (tmp_path / name).write_bytes(memory.getvalue())
    got = whole(tmp_path / name)
    assert probe(tmp_path / name).reader == "soundfile"
    assert got.shape == (48000,)
    assert got.dtype == np.float32
    # Opus at its lowest rates delays by a fraction of a sample, in every decoder.
    assert abs(lag(got, samples[:, 0])) <= (1 if subtype == "OPUS" else 0)
    assert np.corrcoef(got, samples[:, 0])[0, 1] > 0.9


THROUGH_FFMPEG = [
    ("a.m4a", "aac", "ipod", 0),
    ("a.mp4", "aac", "mp4", 0),
    ("a.aac", "aac", "adts", 1024),
    ("a.mka", "flac", "matroska", 0),
    ("a.webm", "libopus", "webm", 0),
    ("wrong suffix.wav", "aac", "ipod", 0),
    ("alac.m4a", "alac", "ipod", 0),
]


@pytest.mark.parametrize(("name", "codec", "container", "priming"), THROUGH_FFMPEG)
@pytest.mark.parametrize("n_channels", [1, 2, 6])
def test_ffmpeg_formats_keep_time_and_channels(tmp_path, name, codec, container, priming, n_channels):
    """Raw AAC has nowhere to state the encoder's 1,024 samples of priming, so that ffmpeg keeps them too."""
    samples = noise(60000, n_channels)
    encode(tmp_path / name, samples, 48000, codec, container)
    info = probe(tmp_path / name)
    assert (info.sampling_rate, info.n_channels, info.reader) == (48000, n_channels, "pyav")
    # The fourth of six channels is the subwoofer's, which lossy codecs strip of all but the lowest octaves.
    for channel in [channel for channel in range(1, n_channels + 1) if channel != 4]:
        got = whole(tmp_path / name, channel=channel)
        assert 60000 <= len(got) <= 60000 + 2048
        assert lag(got, samples[:, channel - 1]) == priming
        assert np.corrcoef(got[priming:][:60000], samples[:, channel - 1][: len(got) - priming])[0, 1] > 0.95


@pytest.mark.parametrize(("name", "codec", "container", "priming"), THROUGH_FFMPEG)
def test_ffmpeg_formats_equal_the_ffmpeg_program(tmp_path, name, codec, container, priming):
    encode(tmp_path / name, noise(60000, 2), 48000, codec, container)
    truth = decode_with_ffmpeg(tmp_path / name, 2)
    # Releases of FFmpeg differ in the last bit only.
    np.testing.assert_allclose(whole(tmp_path / name), truth.mean(axis=1), atol=1e-5)


@pytest.mark.parametrize(("codec", "container"), [("aac", "mp4"), ("libopus", "matroska")])
def test_the_sound_of_a_video_is_read(tmp_path, codec, container):
    samples = noise(96000)
    encode(tmp_path / "film", samples, 48000, codec, container, video_seconds=2.0)
    assert lag(whole(tmp_path / "film"), samples[:, 0]) == 0


def test_a_stated_duration_is_reported(tmp_path):
    encode(tmp_path / "a.m4a", noise(96000), 48000, "aac", "ipod")
    assert probe(tmp_path / "a.m4a").duration_seconds == pytest.approx(2.0, abs=0.05)
    assert probe(tmp_path / "a.m4a").n_samples is None


@pytest.mark.parametrize("rate", [4000, 8000, 11025, 44100, 96000, 192000])
def test_sampling_rates(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", noise(rate // 10), rate)
    assert probe(tmp_path / "a.wav").sampling_rate == rate
    assert len(whole(tmp_path / "a.wav")) == rate // 10


def test_eight_bits_are_unsigned_around_128(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav_bytes(bytes([0, 64, 128, 192, 255, 128]), bits=8))
    assert whole(tmp_path / "a.wav").tolist() == [-1.0, -0.5, 0.0, 0.5, 127 / 128, 0.0]


def test_six_channels_average_and_separate(tmp_path):
    samples = noise(5000, 6)
    soundfile.write(tmp_path / "six.wav", samples, 16000, format="WAVEX", subtype="FLOAT")
    assert whole(tmp_path / "six.wav") == pytest.approx(samples.mean(axis=1), abs=1e-7)
    assert np.array_equal(whole(tmp_path / "six.wav", channel=6), samples[:, 5])


def test_spaces_and_unicode_in_paths(tmp_path):
    folder = tmp_path / "mes données 録音"
    folder.mkdir()
    soundfile.write(folder / "a b – ü.flac", noise(1000), 16000)
    encode(folder / "http: 録音.m4a", noise(48000), 48000, "aac", "ipod")
    assert len(whole(folder / "a b – ü.flac")) == 1000
    assert len(whole(str(folder / "http: 録音.m4a"))) >= 48000


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000])
def test_a_wav_from_a_pipe_is_read_to_its_end(tmp_path, size):
    values = np.arange(-3000, 3000, dtype=np.int16)
    (tmp_path / "pipe.wav").write_bytes(wav_bytes(values.tobytes(), data_size=size, riff_size=size))
    assert np.array_equal(whole(tmp_path / "pipe.wav"), (values / 2**15).astype(np.float32))


@pytest.mark.parametrize("muxer", ["wav", "flac", "mp3", "ogg", "adts", "webm"])
def test_what_the_ffmpeg_program_writes_to_a_pipe(tmp_path, muxer):
    soundfile.write(tmp_path / "a.wav", noise(48000), 48000)
    (tmp_path / "piped").write_bytes(ffmpeg("-i", tmp_path / "a.wav", "-f", muxer, "-"))
    np.testing.assert_allclose(whole(tmp_path / "piped"), decode_with_ffmpeg(tmp_path / "piped", 1)[:, 0], atol=2e-3)


def test_an_mp3_whose_length_can_only_be_guessed_is_read_to_its_end(tmp_path):
    """A loud beginning makes libsndfile's guess from the first frames far too short, and it would stop there."""
    samples = noise(5 * 48000)
    samples[48000:] *= 1e-3
    encode(tmp_path / "a.mp3", samples, 48000, "libmp3lame", "mp3", options={"write_xing": "0"}, quality=2)
    assert soundfile.info(tmp_path / "a.mp3").frames < 4 * 48000
    assert probe(tmp_path / "a.mp3").n_samples is None
    assert len(whole(tmp_path / "a.mp3")) >= 5 * 48000


def test_joined_mp3s_are_read_to_the_end_of_the_last(tmp_path):
    encode(tmp_path / "a.mp3", noise(96000), 48000, "libmp3lame", "mp3")
    (tmp_path / "joined.mp3").write_bytes((tmp_path / "a.mp3").read_bytes() * 2)
    assert len(whole(tmp_path / "a.mp3")) == 96000
    got = whole(tmp_path / "joined.mp3")
    assert 2 * 96000 <= len(got) <= 2 * 96000 + 4 * 1152
    np.testing.assert_allclose(got, decode_with_ffmpeg(tmp_path / "joined.mp3", 1)[:, 0], atol=1e-5)


def test_a_tag_before_an_mp3_is_skipped(tmp_path):
    memory = io.BytesIO()
    soundfile.write(memory, noise(48000), 48000, format="MP3")
    tag = b"ID3\x04\x00\x00" + bytes([0, 10, 0, 0]) + bytes(10 << 14)
    (tmp_path / "tagged.mp3").write_bytes(tag + memory.getvalue())
    assert len(whole(tmp_path / "tagged.mp3")) == 48000


def test_chained_ogg_streams_are_read_one_after_the_other(tmp_path):
    memory = io.BytesIO()
    soundfile.write(memory, noise(48000), 48000, format="OGG", subtype="VORBIS")
    (tmp_path / "chained.ogg").write_bytes(memory.getvalue() * 2)
    assert len(whole(tmp_path / "chained.ogg")) >= 96000


@pytest.fixture(scope="module")
def three_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blocks")
    samples = noise(30000, 2)
    soundfile.write(folder / "a.wav", samples, 16000)
    soundfile.write(folder / "a.ogg", samples, 16000)
    encode(folder / "a.m4a", samples, 16000, "aac", "ipod")
    return {path: whole(path, block_seconds=100) for path in folder.iterdir()}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(block_seconds=st.floats(1e-3, 3.0))
def test_blocks_of_any_size_join_to_the_same_samples(three_files, block_seconds):
    for path, samples in three_files.items():
        blocks = list(read_blocks(path, block_seconds=block_seconds))
        assert {len(block) for block in blocks[:-1]} <= {max(1, round(block_seconds * 16000))}
        assert len(blocks[-1]) <= max(1, round(block_seconds * 16000))
        assert np.array_equal(np.concatenate(blocks), samples)


def test_jfk(shared_data):
    path = shared_data("whisper_jfk") / "jfk.flac"
    info = probe(path)
    assert (info.codec, info.sampling_rate, info.n_channels, info.n_samples) == ("PCM_24", 44100, 2, 485100)
    truth, _ = soundfile.read(path, dtype="float64")
    assert whole(path) == pytest.approx(truth.mean(axis=1), abs=1e-7)


def test_odd_files_of_a_speech_aligner(shared_data):
    """The same clip as 16-bit, 24-bit (WAVE_FORMAT_EXTENSIBLE) and float; opus; mp3 without a length."""
    folder = shared_data("mfa_tests") / "wav"
    plain = whole(folder / "cold_corpus.wav")
    for name in ("cold_corpus_24bit.wav", "cold_corpus_32bit_float.wav"):
        assert whole(folder / name) == pytest.approx(plain, abs=2**-14)
    assert len(whole(folder / "13697_11991_000000.opus")) == 237600
    assert probe(folder / "michaelandsickmichael.wav").n_channels == 2
    for path in sorted(folder.glob("*.mp3")):
        truth = decode_with_ffmpeg(path, 1)[:, 0]
        np.testing.assert_allclose(whole(path), truth, atol=1e-4)


def test_every_file_of_a_speech_aligner_opens(shared_data):
    for path in sorted((shared_data("mfa_tests") / "wav").iterdir()):
        assert sum(map(len, read_blocks(path))) >= 16000


def test_opus_keeps_time_against_ffmpeg(shared_data):
    """libsndfile decodes at the recording's own 16 kHz, FFmpeg at 48 kHz: every third of its samples is beside one."""
    path = sorted(shared_data("librivox_opus").glob("*.opus"))[2]
    got, truth = whole(path), decode_with_ffmpeg(path, 1)[::3, 0]
    assert probe(path).sampling_rate == 16000
    assert len(got) == len(truth)
    assert lag(got, truth) == 0
    assert np.corrcoef(got, truth)[0, 1] > 0.99
