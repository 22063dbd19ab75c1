"""Windows through real networks: counts, closeness to the whole file, seams, tails and settings."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.arrays import EmbedSettings, ignore_progress
from core.audio.signal import Signal
from core.checkpoints.load import load_model
from core.embed.encoders import build_encoder
from core.embed.engines import torch_runners
from core.embed.pipeline import plan, resolve_layers, stream_states
from core.errors import DataError, InputError
from tests.tiny_models import save_tiny

RATE = 16_000


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """A base-style model (group norm over time) behind the contract, and transformers' own."""
    folder = tmp_path_factory.mktemp("group")
    stock = save_tiny(folder, "wav2vec2")
    encoder = build_encoder(load_model(folder, "group", from_user=True))
    return encoder, torch_runners(encoder.networks((0, 1, 2, 3)), "cpu", "fp32"), stock


@pytest.fixture(scope="module")
def speech(shared_data):
    import soundfile

    path = next(shared_data("fairseq_hubert").rglob("*.flac"))
    return soundfile.read(path, dtype="float32")[0]


def embed(encoder, runners, samples, chunk_seconds=20.0, context_seconds=None):
    with Signal.from_array(samples, RATE) as signal:
        windows = plan(
            encoder.spec, len(samples), EmbedSettings(chunk_seconds=chunk_seconds, context_seconds=context_seconds), "x"
        )
        return np.concatenate(list(stream_states(encoder, runners, signal, windows, ignore_progress)), axis=1)


def normalised(samples):
    return (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)


def whole(stock, samples):
    with torch.inference_mode():
        output = stock(torch.from_numpy(normalised(samples))[None], output_hidden_states=True)
    return np.stack([state[0].numpy() for state in [*output.hidden_states[:-1], output.last_hidden_state]])


def test_the_clock_gives_the_596_frames_of_the_trained_hubert(group, speech):
    encoder, runners, _ = group
    assert embed(encoder, runners, speech, 3.0).shape[1] == 596


@settings(max_examples=40, deadline=None)
@given(st.integers(400, 40_000), st.floats(0.02, 2.0), st.floats(0, 0.7))
def test_every_length_chunk_and_context_gives_the_whole_files_frames(group, n, chunk, context):
    encoder, runners, _ = group
    samples = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    assert embed(encoder, runners, samples, chunk, context).shape[1] == (n - 400) // 320 + 1


def test_conv_features_in_windows_equal_the_whole_files(group, speech):
    encoder, runners, stock = group
    loud_at_the_end = speech * np.linspace(0.01, 1, len(speech), dtype=np.float32)
    with torch.inference_mode():
        expected = stock.feature_extractor(torch.from_numpy(normalised(loud_at_the_end))[None])[0].T.numpy()
    with Signal.from_array(loud_at_the_end, RATE) as signal:
        stream = encoder.open(signal, runners)
        parts = [stream.read(start, min(start + 90, 596)) for start in range(0, 596, 90)]
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-5)


def test_the_documents_chunks_are_further_from_the_whole_file_than_windows_at_every_layer(group, speech):
    encoder, runners, stock = group
    expected = whole(stock, speech)
    windows = np.abs(embed(encoder, runners, speech, 3.0, 1.0) - expected).mean(axis=(1, 2))
    step = 3 * RATE
    chunks = [whole(stock, speech[at : at + step]) for at in range(0, len(speech), step)]
    index = np.concatenate([np.arange(part.shape[1]) + at * 150 for at, part in enumerate(chunks)])
    document = np.abs(np.concatenate(chunks, axis=1) - expected[:, index]).mean(axis=(1, 2))
    assert (document > 10 * windows)[0]
    assert (document > windows).all()


def test_a_tail_under_400_samples_belongs_to_the_last_window(group):
    encoder, runners, stock = group
    samples = np.random.default_rng(0).standard_normal(RATE + 399).astype(np.float32)
    with pytest.raises(RuntimeError):  # the documented loop loses the whole file here
        stock(torch.from_numpy(samples[RATE:])[None])
    assert embed(encoder, runners, samples, 1.0, 0.0).shape[1] == (len(samples) - 400) // 320 + 1


def test_silence_and_a_constant_stay_finite(group):
    encoder, runners, _ = group
    for value in (0.0, 0.5):
        assert np.isfinite(embed(encoder, runners, np.full(RATE, value, np.float32), 0.5)).all()


def test_memory_of_a_window_does_not_depend_on_the_recording(group):
    encoder, _, _ = group
    lengths = [
        {window.stop - window.start for window in plan(encoder.spec, minutes * 60 * RATE, EmbedSettings(), "x").windows}
        for minutes in (5, 60)
    ]
    assert lengths[0] == lengths[1] == {1150}


@pytest.mark.parametrize(("wanted", "layers"), [("last", (3,)), ("all", (0, 1, 2, 3)), ("2,0", (0, 2)), ("1,1", (1,))])
def test_layers_by_name_and_number(group, wanted, layers):
    assert resolve_layers(wanted, "tiny", group[0].spec.n_layers) == layers


@pytest.mark.parametrize("wanted", ["4", "-1", "first", "", "0,,1"])
def test_layers_that_are_not_there_are_refused(group, wanted):
    with pytest.raises(InputError, match="layers"):
        resolve_layers(wanted, "tiny", group[0].spec.n_layers)


@pytest.mark.parametrize("bad", [{"chunk_seconds": 0.0}, {"chunk_seconds": float("nan")}, {"context_seconds": -1.0}])
def test_window_settings_out_of_range_are_refused(group, bad):
    with pytest.raises(InputError, match="seconds"):
        plan(group[0].spec, RATE, EmbedSettings(**bad), "x")


def test_a_recording_shorter_than_a_frame_is_refused(group):
    with pytest.raises(DataError, match="at least 400"):
        plan(group[0].spec, 399, EmbedSettings(), "clip.wav")


def test_progress_reaches_the_end(group):
    encoder, runners, _ = group
    seen = []
    samples = np.zeros(3 * RATE, np.float32)
    with Signal.from_array(samples, RATE) as signal:
        windows = plan(encoder.spec, len(samples), EmbedSettings(chunk_seconds=0.5, context_seconds=0.1), "x")
        for _ in stream_states(encoder, runners, signal, windows, seen.append):
            pass
    assert [step.done for step in seen] == sorted(step.done for step in seen)
    assert seen[-1].done == seen[-1].total == 3.0


def test_a_window_longer_than_any_recording_is_the_recording(group):
    windows = plan(group[0].spec, RATE, EmbedSettings(chunk_seconds=1e308, context_seconds=1e308), "x").windows
    assert [(window.keep_start, window.keep_stop) for window in windows] == [(0, 49)]
