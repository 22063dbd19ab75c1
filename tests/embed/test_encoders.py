"""Every family of encoders meets one contract, and equals transformers run on the whole recording at once."""

import copy
import functools
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import soundfile
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from core.arrays import EmbedSettings, ignore_progress
from core.audio.signal import Signal, open_signal
from core.checkpoints.load import load_model, randomised
from core.clock import FrameClock
from core.embed.encoders import build_encoder, encodec, w2v_bert, wav2vec2
from core.embed.engines import torch_runners
from core.embed.pipeline import plan, resolve_layers, stream_states
from core.errors import CheckpointError, InputError
from core.models.encodec import codec_of, layer_of_bandwidth
from tests.tiny_models import CODEC, CODECS, CONFIGS, GROUP, RAW_SAMPLES, save_tiny, tiny_model

RATE = 16_000
FAMILIES = tuple(CONFIGS)
BLOCK_MODELS = tuple(name for name in FAMILIES if name not in CODECS)
# Models whose features do not depend on the rest of the recording.
LOCAL = ("wav2vec2-stable", "hubert-stable", "wavlm-stable")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny models gain nothing from threads, and on a busy machine each operation would wait for all of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A function from a family's name to the folder of a tiny model of it."""
    root = tmp_path_factory.mktemp("models")

    def folder(family):
        if not (root / family).is_dir():
            save_tiny(root / family, family)
        return root / family

    return folder


@pytest.fixture(scope="module")
def speech(shared_data):
    """Eleven seconds of a voice, (176,000,) float32 at 16 kHz."""
    with open_signal(shared_data("whisper_jfk") / "jfk.flac", RATE) as signal:
        return signal.read(0, signal.n_samples)


def noise(n_samples, seed=0):
    """Noise that grows, on an offset: statistics of a part are not those of the whole."""
    rng = np.random.default_rng(seed)
    return (0.05 * np.linspace(0.2, 2, n_samples) * rng.standard_normal(n_samples) + 0.01).astype(np.float32)


@functools.cache
def loaded_once(folder):
    return load_model(folder, folder.name, from_user=True)


def make_encoder(folder, **preprocessor):
    """An encoder over a model of its own: each test may take it apart. Reading files takes ten times as long."""
    loaded = loaded_once(folder)
    fresh = copy.deepcopy(loaded.model)
    return build_encoder(replace(loaded, model=fresh, preprocessor=loaded.preprocessor | preprocessor))


@functools.cache
def stock(family):
    """The tiny model as transformers makes it, to compare with; nobody changes it."""
    return tiny_model(family)


def compute(encoder, samples, layers=None, **seconds):
    """States through the pipeline, (n_layers, frames, dim): in one window where no seconds are given.

    Without numbers all of a transformer's, and a codec's encoder output: its quantised forms jump where a distance
    rounds to the other side, so they have tests of their own.
    """
    spec = encoder.spec
    numbers = resolve_layers(layers or ("last" if spec.layer_names else "all"), spec.name, spec.n_layers, spec.last)
    wanted = EmbedSettings(**({"chunk_seconds": 1000.0} | seconds))
    with Signal.from_array(samples, encoder.spec.clock.sampling_rate) as signal:
        windows = plan(encoder.spec, signal.n_samples, wanted, "noise")
        runners = torch_runners(encoder.networks(numbers), "cpu", "fp32")
        return np.concatenate(list(stream_states(encoder, runners, signal, windows, ignore_progress)), axis=1)


def features(encoder, samples, step):
    """What the stream yields, read in overlapping pieces of ``step`` frames that move forward."""
    clock = encoder.spec.clock
    n_frames = clock.n_frames(len(samples))
    kept = []
    with Signal.from_array(samples, clock.sampling_rate) as signal:
        runners = torch_runners(encoder.networks((0,)), "cpu", "fp32")
        stream = encoder.open(signal, runners)
        for start in range(0, n_frames, step):
            before = max(0, start - step // 2)
            piece = stream.read(before, min(start + step, n_frames))
            kept.append(piece[start - before :])
    return np.concatenate(kept)


def codec_output(model, samples):
    """The encoder's output, (1, frames, dim), written out: what each frame of the 48 kHz codec is kept from."""
    sound = torch.from_numpy(samples)[None, None]
    if model.config.chunk_length is None:
        return model.encoder(sound).transpose(1, 2).numpy()
    n_frames = -(-len(samples) // 320)
    last = max(0, -(-(n_frames - 10) // 140) - 1)  # 150 frames a segment, of which 5 at each inner end are thrown away
    kept = []
    for frame in range(n_frames):
        start = max(0, min(140 * min(max(frame - 5, 0) // 140, last), n_frames - 150))
        if not kept or kept[-1][0] != start:
            piece = sound[..., 320 * start : 320 * (start + 150)]
            kept.append((start, model.encoder(piece.expand(1, 2, -1) / (piece.square().mean().sqrt() + 1e-8)), []))
        kept[-1][2].append(frame - start)
    return torch.cat([output[..., frames] for _, output, frames in kept], dim=-1).transpose(1, 2).numpy()


@torch.inference_mode()
def whole_file(family, model, samples, *, normalise=True):
    """The N+1 states of stock transformers for the whole recording, last one ``last_hidden_state``."""
    kind = model.config.model_type
    if kind == "encodec":
        return codec_output(model, samples)
    if kind == "whisper":
        extractor = transformers.WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
        inputs = extractor(samples, sampling_rate=RATE, return_tensors="pt")
        model = getattr(model, "encoder", model)
        inputs = {"input_features": inputs.input_features}
    elif kind == "wav2vec2-bert":
        inputs = transformers.SeamlessM4TFeatureExtractor()(samples, sampling_rate=RATE, return_tensors="pt")
    else:
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise)
        inputs = extractor(samples, sampling_rate=RATE, return_tensors="pt")
    out = model(**inputs, output_hidden_states=True)
    return torch.stack([*out.hidden_states[:-1], out.last_hidden_state])[:, 0].numpy()


def assert_close(got, expected, tolerance):
    """Largest difference, in standard deviations of each state, stays under the tolerance."""
    assert got.shape == expected.shape
    for layer, (mine, theirs) in enumerate(zip(got, expected, strict=True)):
        worst = np.abs(mine - theirs).max() / theirs.std()
        assert worst < tolerance, f"layer {layer}: {worst:.2g} standard deviations"


def as_many(expected, got):
    """Frames that transformers adds for padding (Whisper's 30 s, w2v-BERT's last odd one) are no frames here."""
    assert got.shape[1] <= expected.shape[1]
    return expected[:, : got.shape[1]]


@pytest.mark.parametrize("family", FAMILIES)
def test_states_equal_the_whole_file_on_noise(family, folders):
    encoder = make_encoder(folders(family))
    samples = noise(37_123)
    got = compute(encoder, samples)
    assert got.dtype == np.float32
    n_states = 1 if family in CODECS else encoder.spec.n_layers + 1
    assert got.shape == (n_states, encoder.spec.clock.n_frames(len(samples)), encoder.spec.dim)
    assert_close(got, as_many(whole_file(family, stock(family), samples), got), 1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_states_equal_the_whole_file_on_speech(family, folders, speech):
    encoder = make_encoder(folders(family))
    got = compute(encoder, speech)
    assert_close(got, as_many(whole_file(family, stock(family), speech), got), 1e-4)


@pytest.mark.parametrize("family", ["wavlm", "hubert-stable"])
def test_models_that_want_no_normalisation_get_none(family, folders):
    samples = noise(20_000)
    got = compute(make_encoder(folders(family), do_normalize=False), samples)
    model = stock(family)
    assert_close(got, whole_file(family, model, samples, normalise=False), 1e-4)
    if family == "hubert-stable":
        different = whole_file(family, model, samples, normalise=True)
        assert np.abs(got - different).max() > 0.01


@pytest.mark.parametrize("family", ["wav2vec2-stable", "hubert-stable", "wavlm-stable", "whisper"])
def test_the_last_state_comes_after_the_final_norm(family, folders):
    """For these families transformers' own hidden_states end before it, which would show here as another scale."""
    encoder = make_encoder(folders(family))
    norm = encoder.loaded.model.layer_norm if family == "whisper" else encoder.loaded.model.encoder.layer_norm
    weight, bias = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    last = compute(encoder, noise(20_000), "last")[0]
    plain = (last - bias) / weight
    assert np.allclose(plain.mean(axis=-1), 0, atol=1e-3)
    assert np.allclose(plain.std(axis=-1), 1, atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_only_parts_are_off(family, folders):
    loaded = load_model(folders(family), family, from_user=True)
    loaded.model.train()
    samples = noise(12_000)
    encoder = build_encoder(loaded)
    first, second = compute(encoder, samples), compute(encoder, samples)
    assert np.array_equal(first, second)
    assert_close(first, as_many(whole_file(family, stock(family), samples), first), 1e-4)


@pytest.mark.parametrize("family", BLOCK_MODELS)
def test_a_choice_of_layers_equals_rows_of_all_and_runs_no_more_blocks(family, folders):
    samples = noise(12_000)
    rows = compute(make_encoder(folders(family)), samples, "all")
    encoder = make_encoder(folders(family))
    model = encoder.loaded.model
    ran = set()
    for index, block in enumerate(model.layers if family == "whisper" else model.encoder.layers):
        block.register_forward_hook(lambda *_, index=index: ran.add(index))
    got = compute(encoder, samples, "0,1")
    assert np.array_equal(got, rows[:2])
    assert ran == {0}
    with pytest.raises(ValueError, match="Load the model again"):
        encoder.networks((encoder.spec.n_layers,))


def test_asking_twice_for_a_middle_layer_gives_it_twice(folders):
    encoder = make_encoder(folders("wav2vec2-stable"))
    samples = noise(12_000)
    first = compute(encoder, samples, "1")
    assert np.array_equal(compute(encoder, samples, "1"), first)


@settings(max_examples=12, deadline=None)
@given(n_samples=st.integers(400, 60_000), step=st.integers(1, 150), seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("family", RAW_SAMPLES)
def test_features_in_pieces_equal_the_whole_files(family, n_samples, step, seed, folders):
    """Also where a group norm looks at the whole recording: its statistics come from a first pass."""
    samples = noise(n_samples, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wav2vec2, "BLOCK_SECONDS", 0.5)
        patch.setattr(wav2vec2, "MOMENT_BLOCK", 4000)
        got = features(make_encoder(folders(family)), samples, max(step, 1 + n_samples // 6400))
    inputs = transformers.Wav2Vec2FeatureExtractor()(samples, sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        expected = stock(family).feature_extractor(inputs.input_values)[0].T.numpy()
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 1e-5 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("value", [0.0, 0.3])
@pytest.mark.parametrize("family", ["wav2vec2", "wav2vec2-stable", "w2v-bert", *CODECS, "whisper"])
def test_constant_input_gives_finite_states(family, value, folders):
    samples = np.full(9_000, value, np.float32)
    got = compute(make_encoder(folders(family)), samples)
    assert np.isfinite(got).all()
    if value == 0 or family in ("whisper", *CODECS):  # else transformers normalises its own rounding errors
        expected = as_many(whole_file(family, stock(family), samples), got)
        assert np.abs(got - expected).max() < 2e-3


@pytest.mark.parametrize("family", ["wav2vec2", "data2vec-audio", "wavlm-stable"])
def test_frame_counts_equal_the_models_own_formula(family):
    config = CONFIGS[family]()
    clock = FrameClock.from_convolutions(config.conv_kernel, config.conv_stride, RATE)
    lengths = np.concatenate([np.arange(1, 4_000), np.random.default_rng(0).integers(4_000, 60_000_000, 4_000)])
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    expected = model._get_feat_extract_output_lengths(torch.from_numpy(lengths)).numpy()
    assert [clock.n_frames(int(length)) for length in lengths] == expected.clip(0).tolist()


SHORTEST = {"w2v-bert": 560, "whisper": 1, "encodec": 1, "encodec-48khz": 1}
EDGES = (0, 1, 2, 159, 160, 161, 239, 319, 320, 321, 399, 400, 401, 639, 640, 641, 719, 720, 721, 6400)


@pytest.mark.parametrize("family", FAMILIES)
def test_real_frame_counts_around_every_edge(family, folders):
    """From exactly one frame on: what the stream yields, what the clock says, what transformers computes."""
    shortest = SHORTEST.get(family, 400)
    encoder, model = make_encoder(folders(family)), stock(family)
    assert encoder.spec.clock.min_samples == shortest
    assert encoder.spec.clock.n_frames(shortest - 1) == 0
    assert encoder.spec.clock.n_frames(shortest) == 1
    for n_samples in (shortest + edge for edge in (EDGES if family != "whisper" else EDGES[::3])):
        count = encoder.spec.clock.n_frames(n_samples)
        got = compute(encoder, noise(n_samples, seed=n_samples))
        assert got.shape[1] == count
        assert np.isfinite(got).all()
        if family == "w2v-bert":  # transformers completes the last odd pair with padding
            assert count == ((n_samples - 400) // 160 + 1) // 2
        elif family == "whisper":
            assert count == -(-n_samples // 320)
        else:
            assert whole_file(family, model, noise(n_samples))[0].shape[0] == count


def test_the_clock_agrees_with_a_trained_hubert(shared_data):
    folder = shared_data("fairseq_hubert") / "tests"
    n_samples = soundfile.info(folder / "6313-76958-0021.flac").frames
    (count,) = {len(np.load(folder / f"sample.{size}.npy")) for size in ("base.L9", "large.L20", "xlarge.L30")}
    config = transformers.HubertConfig()
    clock = FrameClock.from_convolutions(config.conv_kernel, config.conv_stride, RATE)
    assert clock.n_frames(n_samples) == count == 596


@pytest.mark.parametrize("family", [*RAW_SAMPLES, "w2v-bert"])
def test_windows_with_context_come_closer_than_windows_without(family, folders, speech):
    encoder = make_encoder(folders(family))
    exact = compute(encoder, speech)
    off = {}
    for context in (0.0, encoder.spec.context_seconds):
        got = compute(encoder, speech, chunk_seconds=1.0, context_seconds=context)
        assert got.shape == exact.shape
        off[context] = np.abs(got - exact).mean(axis=(1, 2)) / exact.std(axis=(1, 2))
    without, default = off.values()
    assert (default <= 0.5 * without).all(), off
    assert without[-1] > 1e-3


@pytest.mark.parametrize("family", RAW_SAMPLES)
def test_the_default_context_covers_the_positional_convolution(family, folders):
    """State 0 comes after it: in windows it equals the whole file's, so that only attention is left to the context."""
    encoder = make_encoder(folders(family))
    samples = noise(60_000)
    got = compute(encoder, samples, "0", chunk_seconds=0.5)
    assert_close(got, compute(make_encoder(folders(family)), samples, "0"), 1e-4)


@pytest.mark.parametrize(
    ("config", "reach_seconds"),
    [
        (transformers.Wav2Vec2Config(), 64 * 0.02),
        (transformers.Data2VecAudioConfig(), 5 * 9 * 0.02),
        (transformers.Wav2Vec2Config(num_conv_pos_embeddings=512), 256 * 0.02),
    ],
)
def test_context_of_published_sizes(config, reach_seconds):
    assert max(wav2vec2.CONTEXT_SECONDS, wav2vec2._positional_reach(config) * 0.02) >= reach_seconds
    assert np.isclose(wav2vec2._positional_reach(config) * 0.02, reach_seconds)


@pytest.mark.parametrize("block_seconds", [0.0, 0.2])
def test_encodec_in_pieces_equals_the_whole_file_at_every_length(block_seconds, folders, monkeypatch):
    """Blocks of 7 frames, the fewest that hold what the first frame's padding mirrors, and of 15."""
    monkeypatch.setattr(encodec, "BLOCK_SECONDS", block_seconds)
    encoder, model = make_encoder(folders("encodec")), stock("encodec")
    edges = (320 * frames + shift for frames in (*range(1, 9), 14, 15, 16, 21, 22, 30, 31) for shift in (-1, 0, 1))
    for n_samples in sorted({*range(1, 2001, 61), *edges}):
        samples = noise(n_samples, seed=n_samples)
        got = compute(encoder, samples, chunk_seconds=2 / 75, context_seconds=0.0)
        assert_close(got, whole_file("encodec", model, samples), 1e-4)


def test_encodec_carries_its_memory_through_a_long_recording(folders):
    encoder = make_encoder(folders("encodec"))
    samples = noise(24_000 * 31 + 17)
    expected = whole_file("encodec", stock("encodec"), samples)
    assert_close(compute(encoder, samples), expected, 1e-4)
    assert_close(compute(encoder, samples, chunk_seconds=3.0), expected, 1e-4)


SEGMENT_EDGES = (47_999, 48_000, 48_001, 48_320, 48_321, 92_800, 92_801, 96_001, 137_600, 137_601)


@settings(max_examples=12, deadline=None)
@given(n_samples=st.one_of(st.integers(1, 100_000), st.sampled_from(SEGMENT_EDGES)), step=st.integers(1, 200))
def test_every_length_of_the_48_khz_codec_has_its_frames_each_from_one_segment(n_samples, step, folders):
    encoder, model = make_encoder(folders("encodec-48khz")), stock("encodec-48khz")
    samples = noise(n_samples, seed=n_samples)
    got = features(encoder, samples, max(step, n_samples // 6400))
    assert len(got) == -(-n_samples // 320) == encoder.spec.clock.n_frames(n_samples)
    with torch.inference_mode():
        assert_close(got[None], codec_output(model, samples), 1e-4)


@pytest.fixture(scope="module")
def codecs():
    return {family: codec_of(tiny_model(family)) for family in CODECS}


@settings(max_examples=100, deadline=None)
@given(n_samples=st.integers(1, 4_000_000), family=st.sampled_from(CODECS))
def test_segments_tile_every_length_on_the_frame_grid(n_samples, family, codecs):
    codec = codecs[family]
    windows = codec.segments(n_samples)
    n_frames = -(-n_samples // 320)
    assert windows[0].keep_start == 0 and windows[-1].keep_stop == n_frames == codec.n_frames(n_samples)
    assert all(one.keep_stop == two.keep_start for one, two in pairwise(windows))
    if family == "encodec":
        assert len(windows) == 1
    else:
        assert {window.stop - window.start for window in windows} == {min(150, n_frames)}
        inner = [(w.keep_start - w.start, w.stop - w.keep_stop) for w in windows]
        assert all(left >= 5 for left, _ in inner[1:]) and all(right >= 5 for _, right in inner[:-1])


def test_up_to_one_second_is_the_48_khz_codecs_own_answer_and_ten_seconds_have_a_clock(folders):
    """The package and transformers lay segments of 148.5 frames' stride end to end: 1,515 frames in ten seconds."""
    encoder, model = make_encoder(folders("encodec-48khz")), stock("encodec-48khz")
    samples = noise(47_000)
    layers = tuple(range(encoder.spec.n_layers + 1))
    got = compute(encoder, samples, "all")
    stereo = torch.from_numpy(samples).expand(1, 2, -1)
    for layer, kbps in zip(layers[1:], model.config.target_bandwidths, strict=True):
        with torch.inference_mode():
            codes = model.encode(stereo, bandwidth=kbps).audio_codes
            expected = model.quantizer.decode(codes[0].transpose(0, 1))[0].T.numpy()
        assert np.array_equal(got[layer], expected)
    long = noise(480_000)
    assert compute(encoder, long).shape[1] == 1500
    with torch.inference_mode():
        own = model.encode(torch.from_numpy(long).expand(1, 2, -1), bandwidth=3.0)
    assert own.audio_codes.shape[0] * 150 - own.last_frame_pad_length == 1515


def test_loudness_changes_the_24_khz_codec_and_not_the_48_khz_one(folders):
    samples = noise(60_000)
    for family, limits in (("encodec", (0.01, 10)), ("encodec-48khz", (0, 1e-4))):
        loud, quiet = (compute(make_encoder(folders(family)), factor * samples) for factor in (1, 0.25))
        assert limits[0] <= np.abs(loud - quiet).max() / loud.std() <= limits[1]


@pytest.mark.parametrize("family", CODECS)
def test_quantised_states_are_transformers_own_at_every_bandwidth(family, folders):
    encoder, model = make_encoder(folders(family)), stock(family)
    spec, bandwidths = encoder.spec, model.config.target_bandwidths
    assert spec.n_layers == len(bandwidths)
    assert spec.layer_names[0] == "encoder output"
    got = compute(encoder, noise(80_000), "all")
    assert got.shape == (len(bandwidths) + 1, 250, spec.dim)
    output = torch.from_numpy(np.ascontiguousarray(got[0].T))[None]
    for kbps in bandwidths:
        layer = layer_of_bandwidth(spec.layer_names, kbps)
        with torch.inference_mode():
            expected = model.quantizer.decode(model.quantizer.encode(output, kbps))
        assert np.array_equal(got[layer], expected[0].T.numpy())
        assert np.array_equal(compute(encoder, noise(80_000), str(layer))[0], got[layer])
    errors = np.square(got[1:] - got[0]).mean(axis=(1, 2))
    assert len(np.unique(errors)) == len(bandwidths)
    with pytest.raises(InputError, match=f"has {bandwidths[0]:g}, "):
        layer_of_bandwidth(spec.layer_names, 5)
    with pytest.raises(InputError, match="no codec"):
        layer_of_bandwidth((), 6)


@pytest.mark.parametrize("family", CODECS)
def test_quantised_states_of_a_long_recording_do_not_depend_on_windows(family, folders):
    encoder = make_encoder(folders(family))
    samples = noise(encoder.spec.clock.sampling_rate * 12 + 17)
    whole, cut = (compute(encoder, samples, "all", chunk_seconds=seconds) for seconds in (100.0, 0.7))
    assert np.array_equal(whole[0], cut[0])
    # A distance may round to the other side where a window has another number of frames.
    assert (np.abs(whole - cut).max(axis=(0, 2)) < 1e-6).mean() > 0.999


@pytest.mark.parametrize("family", CODECS)
def test_a_codec_never_computes_more_at_once_for_a_longer_recording(family, folders):
    encoder, largest = make_encoder(folders(family)), {}
    rate = encoder.spec.clock.sampling_rate
    for seconds in (15, 60):
        sizes = []

        def local(samples, sizes=sizes):
            sizes.append(samples.size)
            frames = -(-samples.shape[1] // 320)
            shape = (len(samples), frames, 16) if family == "encodec-48khz" else (frames, encoder.lstm.input_size)
            return np.zeros(shape, np.float32)

        runners = torch_runners(encoder.networks((0,)), "cpu", "fp32") | {"local": local}
        with Signal.from_array(np.zeros(seconds * rate, np.float32), rate) as signal:
            stream = encoder.open(signal, runners)
            for start in range(0, seconds * rate // 320, 500):
                stream.read(start, min(start + 500, seconds * rate // 320))
        largest[seconds] = max(sizes)
        assert sum(sizes) < 1.25 * seconds * rate
    assert largest[15] == largest[60] <= 6 * rate


def test_last_is_a_codecs_encoder_output(folders):
    spec = make_encoder(folders("encodec")).spec
    assert resolve_layers("last", spec.name, spec.n_layers, spec.last) == (0,)
    assert resolve_layers("all", spec.name, spec.n_layers, spec.last) == (0, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"audio_channels": 2}, "facebook/encodec_24khz"),
        ({"use_causal_conv": False}, "facebook/encodec_24khz"),
        ({"normalize": True}, "facebook/encodec_48khz"),
        ({"chunk_length_s": 1.0001}, "whole number of frames"),
        ({"chunk_length_s": 0.04}, "longer segments"),
    ],
)
def test_other_codecs_are_refused(change, word, tmp_path):
    transformers.EncodecModel(transformers.EncodecConfig(**CODEC | change)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=word):
        make_encoder(tmp_path)


def test_the_trained_whisper_encoder_equals_its_reference(shared_data, speech):
    folder = shared_data("whisper_tiny_en_encoder")
    encoder = make_encoder(folder)
    with np.load(folder / "reference_jfk.npz", allow_pickle=False) as stored:
        reference = {key: stored[key] for key in stored}
    mel, rows, numbers = (reference[key] for key in ("mel", "last_hidden_state", "last_hidden_state_rows"))
    runners = torch_runners(encoder.networks((encoder.spec.n_layers,)), "cpu", "fp32")
    assert np.abs(runners["states"](mel[None])[0, numbers] - rows).max() < 1e-3
    with Signal.from_array(speech, RATE) as signal:
        assert np.abs(encoder.open(signal, runners).read(0, 550)[0] - mel).mean() < 2e-3  # another resampler
    states = compute(make_encoder(folder), speech)
    real = numbers < 550
    assert states.shape == (5, 550, 384)
    assert np.abs(states[-1, numbers[real]] - rows[real]).max() < 0.1 * rows.std()


def test_whisper_goes_on_after_thirty_seconds(shared_data, speech):
    """Its window is fixed: each kept frame equals what transformers makes of the thirty seconds around it."""
    folder = shared_data("whisper_tiny_en_encoder")
    encoder = make_encoder(folder)
    trained = load_model(folder, "stock", from_user=True).model
    samples = np.tile(speech, 6)[: round(64.3 * RATE)] * np.linspace(1, 0.2, round(64.3 * RATE), dtype=np.float32)
    got = compute(encoder, samples, "all", chunk_seconds=20.0)
    assert got.shape[1] == -(-len(samples) // 320)
    windows = plan(encoder.spec, len(samples), EmbedSettings(chunk_seconds=20.0), "speech").windows
    assert len(windows) == 3
    for window in windows:
        piece = samples[window.start * 320 : window.stop * 320]
        expected = whole_file("whisper", trained, piece)
        kept = slice(window.keep_start - window.start, window.keep_stop - window.start)
        assert_close(got[:, window.keep_start : window.keep_stop], expected[:, kept], 1e-3)


@settings(max_examples=20, deadline=None)
@given(n_samples=st.integers(560, 40_000), step=st.integers(1, 60), seed=st.integers(0, 2**32 - 1))
def test_filter_banks_in_pieces_equal_the_whole_files(n_samples, step, seed, folders):
    samples = noise(n_samples, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(w2v_bert, "BLOCK_SECONDS", 0.37)
        got = features(make_encoder(folders("w2v-bert")), samples, step)
    extractor = transformers.SeamlessM4TFeatureExtractor()
    expected = extractor(samples, sampling_rate=RATE, return_tensors="np").input_features[0]
    assert np.abs(got - expected[: len(got)]).max() < 2e-3


def clicked(samples, at):
    """The same recording with one sample out of line."""
    changed = samples.copy()
    changed[at] += 0.9
    return changed


@pytest.mark.parametrize("family", LOCAL)
@pytest.mark.parametrize("at", [0, 399, 400, 8_123, 15_999])
def test_a_click_changes_just_the_frames_whose_field_holds_it(family, at, folders):
    encoder = make_encoder(folders(family), do_normalize=False)
    quiet = 0.01 * noise(16_000)
    clock = encoder.spec.clock
    change = np.abs(features(encoder, clicked(quiet, at), 20) - features(encoder, quiet, 20)).max(axis=1)
    frames = np.arange(clock.n_frames(len(quiet)))
    onset = clock.onset(frames)
    inside = (onset <= at / RATE) & (at / RATE < onset + clock.field / RATE)
    assert (change[inside] > 1e-4).all()
    assert (change[~inside] == 0).all()


@pytest.mark.parametrize("family", BLOCK_MODELS)
def test_a_click_is_found_at_its_time(family, folders):
    """By the clock, the frame that a click changes most has its centre within one hop of the click."""
    encoder = make_encoder(folders(family), do_normalize=False)
    clock = encoder.spec.clock
    # Steady noise: where a group norm looks at the whole, a click turns all frames down a little, loud ones most.
    quiet = 0.05 * np.random.default_rng(0).standard_normal(2 * clock.sampling_rate).astype(np.float32)

    def early(samples):
        """The convolution stack's features; for families that begin with filters, the transformer's input."""
        return features(encoder, samples, 50) if family in RAW_SAMPLES else compute(encoder, samples, "0")[0]

    for at in np.linspace(0.3, 1.7, 5) * clock.sampling_rate:
        change = early(clicked(quiet, int(at))) - early(quiet)
        found = clock.centre(np.linalg.norm(change, axis=-1).argmax())
        assert abs(found - at / clock.sampling_rate) <= clock.stride_seconds, family


@pytest.mark.parametrize("at", [0, 319, 320, 24_000, 47_999])
def test_a_click_changes_nothing_before_its_frame_in_encodec(at, folders):
    """The codec is causal: the change begins in the very frame that, by the clock, holds the click."""
    encoder = make_encoder(folders("encodec"))
    quiet = 0.2 * noise(48_000)
    change = np.abs(compute(encoder, clicked(quiet, at)) - compute(encoder, quiet))[0].max(axis=-1)
    onset = encoder.spec.clock.onset(np.arange(len(change)))
    holding = int(np.flatnonzero(onset <= at / 24_000)[-1])
    # Mirrored padding lets the first 6 frames of a recording see each other.
    assert (change[:holding] == 0).all() or holding < 7
    assert change[holding] > 0


@pytest.mark.parametrize(("family", "key"), [("wav2vec2", "add_adapter"), ("wavlm", "add_adapter")])
def test_an_adapter_after_the_last_block_is_left_out_and_said(family, key, tmp_path):
    config = CONFIGS[family]()
    setattr(config, key, True)
    model = getattr(transformers, type(tiny_model(family)).__name__)(config).eval()
    model.save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    loaded = load_model(tmp_path, "adapted", from_user=True)
    assert key in loaded.warnings[0]
    samples = noise(12_000)
    got = compute(build_encoder(loaded), samples)
    model.adapter = None
    assert_close(got, whole_file(family, model, samples), 1e-4)


def test_language_adapters_inside_the_blocks_run(tmp_path):
    config = CONFIGS["wav2vec2-stable"]()
    config.adapter_attn_dim = 8
    model = transformers.Wav2Vec2Model(config).eval()
    model.save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    samples = noise(12_000)
    assert "encoder.layers.0.adapter_layer.linear_1.weight" in load_file(tmp_path / "model.safetensors")
    assert_close(compute(make_encoder(tmp_path), samples), whole_file("wav2vec2", model, samples), 1e-4)


@pytest.mark.parametrize("kind", ["relative", "rotary", None])
def test_every_kind_of_position_in_w2v_bert(kind, tmp_path):
    config = CONFIGS["w2v-bert"]()
    config.position_embeddings_type = kind
    model = transformers.Wav2Vec2BertModel(config).eval()
    model.save_pretrained(tmp_path)
    samples = noise(12_000)
    got = compute(make_encoder(tmp_path), samples)
    assert_close(got, as_many(whole_file("w2v-bert", model, samples), got), 1e-4)


def test_other_kernels_and_rates(tmp_path):
    """A short stack at 8 kHz: hop, field, times and states all follow the config."""
    shape = {"conv_dim": [16, 16, 16], "conv_kernel": [7, 5, 4], "conv_stride": [4, 3, 2]}
    config = transformers.Wav2Vec2Config(**GROUP | shape)
    model = transformers.Wav2Vec2Model(config).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 8_000, "do_normalize": True}))
    encoder = make_encoder(tmp_path)
    clock = encoder.spec.clock
    assert (clock.hop, clock.field, clock.sampling_rate) == (24, 7 + 4 * 4 + 12 * 3, 8_000)
    samples = noise(9_999)
    with torch.inference_mode():
        inputs = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        expected = model(torch.from_numpy(inputs)[None], output_hidden_states=True)
    last = expected.last_hidden_state[0].numpy()
    assert_close(compute(encoder, samples, "last"), last[None], 1e-4)


def test_a_model_without_blocks_is_refused(tmp_path):
    save_tiny(tmp_path, "wav2vec2")
    loaded = load_model(tmp_path, "empty", from_user=True)
    loaded.model.config.num_hidden_layers = 0
    with pytest.raises(CheckpointError, match="no transformer block"):
        build_encoder(loaded)


@pytest.mark.parametrize("family", FAMILIES)
def test_examples_fit_the_networks(family, folders):
    """Engines trace and check with them."""
    encoder = make_encoder(folders(family))
    layers = tuple(range(encoder.spec.n_layers + 1))
    with torch.inference_mode():
        for name, network in encoder.networks(layers).items():
            out = network(*encoder.example(name, 1.0))
            assert torch.isfinite(out).all()
            if name == "states":
                assert (out.shape[0], out.shape[2]) == (len(layers), encoder.spec.dim)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_random_weights_control_embeds_like_transformers_and_unlike_the_trained_model(folders, family):
    loaded = load_model(folders(family), family, from_user=True)
    control, samples = randomised(loaded, 0), noise(RATE)
    got, trained = (compute(build_encoder(one), samples) for one in (control, loaded))
    assert got.shape == trained.shape and np.isfinite(got).all()
    expected = whole_file(family, control.model, samples)
    assert_close(got[-1:], as_many(expected.reshape(-1, *expected.shape[-2:])[-1:], got), 2e-3)
    assert np.abs(got[-1] - trained[-1]).max() > 0.1 * trained[-1].std()
