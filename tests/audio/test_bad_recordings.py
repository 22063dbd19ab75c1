"""What cannot be used is refused in one sentence: what, where, and what to do."""

import io
import os

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.audio.ogg import checksum
from core.audio.reader import probe, read_blocks
from core.audio.signal import open_signal
from core.errors import DataError, InputError
from tests.audio.making import encode, noise, wav_bytes


def drain(path, **options):
    return sum(len(block) for block in read_blocks(path, **options))


def refusal(path, kind, *words, **options):
    """The message of the error that reading raises; it is one line, names the file and holds every word."""
    with pytest.raises(kind) as caught:
        drain(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in (path.name, *words):
        assert word in message
    return message


def test_missing_path(tmp_path):
    refusal(tmp_path / "nowhere.wav", InputError, "does not exist")


def test_a_file_taken_for_a_folder(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"x")
    refusal(tmp_path / "a.wav" / "b.wav", InputError, "cannot be opened")


def test_a_folder(tmp_path):
    refusal(tmp_path, InputError, "folder")


def test_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    refusal(tmp_path / "pipe.wav", InputError, "pipe", "Save")


def test_an_empty_file(tmp_path):
    (tmp_path / "a.wav").touch()
    refusal(tmp_path / "a.wav", DataError, "empty", "0 bytes")


@pytest.mark.parametrize(
    "content", [b"Once upon a time.\n" * 200, b"x", b"\x89PNG\r\n\x1a\n" + bytes(500), bytes(4000)]
)
@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.raw", "a.vox", "a.m4a"])
def test_no_audio_whatever_the_suffix(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    refusal(tmp_path / name, DataError, "not audio", "Expected wav")


def test_a_playlist_does_not_open_what_it_names(tmp_path, monkeypatch):
    """FFmpeg would open any file or address that a playlist names, for whoever uploaded it."""
    monkeypatch.chdir(tmp_path)
    encode(tmp_path / "secret.aac", noise(48000), 48000, "aac", "adts")
    lines = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.aac\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.wav").write_text(lines)
    refusal(tmp_path / "list.wav", DataError, "not audio")
    (tmp_path / "concat.wav").write_text("ffconcat version 1.0\nfile secret.aac\n")
    refusal(tmp_path / "concat.wav", DataError, "not audio")


def test_a_wav_without_samples(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav_bytes(b""))
    assert drain(tmp_path / "a.wav") == 0


def test_a_film_without_sound(tmp_path):
    encode(tmp_path / "silent.mp4", None, 0, "", "mp4", video_seconds=1.0)
    refusal(tmp_path / "silent.mp4", DataError, "no audio track")


def test_no_permission(tmp_path):
    if os.geteuid():
        pytest.skip("needs root, to become nobody.")
    soundfile.write(tmp_path / "a.wav", noise(100), 16000)
    os.seteuid(65534)
    try:
        refusal(tmp_path / "a.wav", InputError, "permission denied")
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_placed(tmp_path, bad):
    samples = noise(50000, 2)
    samples[40004, 1] = bad
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    refusal(tmp_path / "a.wav", DataError, "2.5002", "sample 40004", str(bad), channel=2)
    refusal(tmp_path / "a.wav", DataError, "2.5002", block_seconds=0.1)
    assert drain(tmp_path / "a.wav", channel=1) == 50000


@pytest.mark.parametrize("channel", [0, -1, 3])
def test_a_channel_that_is_not_there(tmp_path, channel):
    soundfile.write(tmp_path / "a.wav", noise(100, 2), 16000)
    refusal(tmp_path / "a.wav", InputError, f"channel {channel}", "has 2", channel=channel)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_blocks_without_length(tmp_path, seconds):
    soundfile.write(tmp_path / "a.wav", noise(100), 16000)
    with pytest.raises(InputError, match="above 0"):
        drain(tmp_path / "a.wav", block_seconds=seconds)


def packed(container, subtype=None):
    memory = io.BytesIO()
    soundfile.write(memory, noise(200000), 32000 if container == "MP3" else 48000, format=container, subtype=subtype)
    return memory.getvalue()


class Contents:
    """Files by name; a dict would be printed, megabytes of it, where a test fails."""

    def __init__(self, made):
        self.made = made

    def __call__(self, name):
        return self.made[name]


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """Four to six seconds of noise in every format whose structure tells where it ends."""
    folder = tmp_path_factory.mktemp("contents")
    made = {name: packed(name) for name in ("WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "FLAC", "MP3", "OGG")}
    made["OPUS"] = packed("OGG", "OPUS")
    for name, codec, container in [("M4A", "aac", "ipod"), ("WEBM", "libopus", "webm"), ("MKA", "flac", "matroska")]:
        encode(folder / name, noise(200000), 48000, codec, container)
        made[name] = (folder / name).read_bytes()
    encode(folder / "fast", noise(200000), 48000, "aac", "mp4", options={"movflags": "faststart"})
    encode(folder / "film", noise(200000), 48000, "aac", "mp4", video_seconds=4)
    made |= {"FAST": (folder / "fast").read_bytes(), "FILM": (folder / "film").read_bytes()}
    return Contents(made)


CUTTABLE = [
    "WAV",
    "WAVEX",
    "RF64",
    "W64",
    "AIFF",
    "CAF",
    "FLAC",
    "MP3",
    "OGG",
    "OPUS",
    "M4A",
    "WEBM",
    "MKA",
    "FAST",
    "FILM",
]


@pytest.mark.parametrize("name", CUTTABLE)
def test_whole_files_pass(contents, tmp_path, name):
    (tmp_path / name).write_bytes(contents(name))
    assert 200000 <= drain(tmp_path / name) <= 202048


@pytest.mark.parametrize("name", CUTTABLE)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.floats(0.1, 0.97))
def test_a_cut_anywhere_is_noticed(contents, tmp_path, name, kept):
    content = contents(name)
    (tmp_path / "cut.wav").write_bytes(content[: int(kept * len(content))])
    refusal(tmp_path / "cut.wav", DataError, "truncated", "Copy it again")


@pytest.mark.parametrize("name", ["WAV", "RF64", "W64", "AIFF", "CAF", "OGG", "OPUS", "M4A", "WEBM", "MKA"])
def test_the_loss_of_one_byte_is_noticed_before_decoding(contents, tmp_path, name):
    (tmp_path / name).write_bytes(contents(name)[:-1])
    with pytest.raises(DataError, match="truncated"):
        probe(tmp_path / name)


def test_a_cut_is_placed(contents, tmp_path):
    (tmp_path / "a.wav").write_bytes(contents("WAV")[: 44 + 2 * 120000])
    refusal(tmp_path / "a.wav", DataError, "at second 2.50", "160000 bytes more")


@pytest.mark.parametrize("name", ["FLAC", "OGG", "OPUS", "MP3", "M4A", "FAST", "FILM", "MKA", "WEBM"])
def test_damage_in_the_middle_is_noticed(contents, tmp_path, name):
    content = bytearray(contents(name))
    middle = len(content) // 2
    content[middle : middle + 3000] = np.random.default_rng(1).bytes(3000)
    (tmp_path / name).write_bytes(content)
    refusal(tmp_path / name, DataError, "truncated or damaged at second")


def test_an_ogg_cut_between_two_pages_is_noticed(contents, tmp_path):
    content = contents("OPUS")
    (tmp_path / "a.opus").write_bytes(content[: content.rindex(b"OggS")])
    refusal(tmp_path / "a.opus", DataError, "page that ends the stream is missing")


def test_an_index_cut_short_is_no_missing_audio_track(contents, tmp_path):
    content = contents("M4A")
    (tmp_path / "a.m4a").write_bytes(content[: content.rindex(b"trak")])
    refusal(tmp_path / "a.m4a", DataError, "truncated")


@pytest.mark.parametrize(("codec", "container"), [("libopus", "webm"), ("flac", "matroska"), ("aac", "mp4")])
def test_a_hole_in_the_time_stamps_is_placed(tmp_path, codec, container):
    """Samples after it would all be given too early a time."""
    encode(tmp_path / "holed", noise(4 * 48000), 48000, codec, container, gap=(2.5, 1.0))
    refusal(tmp_path / "holed", DataError, "damaged at second 2.5", "sound are missing there", "aresample")


def test_one_flipped_bit_of_an_ogg_is_noticed(contents, tmp_path):
    content = bytearray(contents("OGG"))
    content[len(content) // 2] ^= 1
    (tmp_path / "a.ogg").write_bytes(content)
    refusal(tmp_path / "a.ogg", DataError, "checksum")


def test_bytes_behind_the_sound_are_no_fault(contents, tmp_path):
    for name in ("WAV", "AIFF", "OGG", "FLAC", "MP3", "M4A"):
        (tmp_path / name).write_bytes(contents(name) + b"TAG" + bytes(125))
        assert drain(tmp_path / name) >= 200000


def test_ogg_checksum_equals_the_bitwise_definition():
    """RFC 3533, section 6: polynomial 0x04c11db7, begun at 0, not reflected, not inverted."""

    def bitwise(data):
        crc = 0
        for byte in data:
            crc ^= byte << 24
            for _ in range(8):
                crc = ((crc << 1) ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
        return crc

    for length in (0, 1, 2, 27, 300):
        data = np.random.default_rng(length).bytes(length)
        assert checksum(data) == bitwise(data)


def test_a_rate_that_is_no_sounds_is_refused_before_it_swells(tmp_path):
    path = tmp_path / "slow.wav"
    soundfile.write(path, np.zeros(4000, np.float32), 1)
    with pytest.raises(DataError, match=r"slow.wav states a sampling rate of 1 Hz; expected at least 1000 Hz"):
        open_signal(path, 16_000)
