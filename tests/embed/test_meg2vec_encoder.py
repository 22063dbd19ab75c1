"""Meg2Vec behind the encoder contract: windows equal the whole recording, on every engine."""

import copy
import functools
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.arrays import EmbedSettings, ignore_progress
from core.checkpoints.load import load_model
from core.device import DeviceChoice
from core.embed.encoders import build_encoder
from core.embed.encoders.meg2vec import build_model_input, convolved_moments, noise_sensors
from core.embed.engines import EngineRequest, build_runners, has_openvino, torch_runners
from core.embed.pipeline import plan, stream_states
from core.errors import CheckpointError, InputError
from core.models.sensor_attention import SensorTensors
from tests.tiny_meg import N_CHANNELS, VARIANTS, meg_noise, model_input_for, save_tiny_meg, tiny_meg

CPU = DeviceChoice("cpu", "a test")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """A function from a variant to an encoder of its own."""

    @functools.cache
    def loaded(variant):
        folder = tmp_path_factory.mktemp("meg") / variant
        save_tiny_meg(folder, variant)
        return load_model(folder, variant, from_user=True)

    def encoder(variant="channels"):
        once = loaded(variant)
        return build_encoder(replace(once, model=copy.deepcopy(once.model)))

    return encoder


def compute(encoder, recording, **seconds):
    """All states through the pipeline, (layers, frames, dim)."""
    settings = EmbedSettings(**{"chunk_seconds": 1000.0} | seconds)
    windows = plan(encoder.spec, recording.n_samples, settings, "noise")
    runners = torch_runners(encoder.networks(tuple(range(encoder.spec.n_layers + 1))), "cpu", "fp32")
    return np.concatenate(list(stream_states(encoder, runners, recording, windows, ignore_progress)), axis=1)


@torch.inference_mode()
def whole(variant, recording):
    """The states of the model itself on the whole recording."""
    sensors = SensorTensors.of([recording.sensors]) if variant == "positions" else None
    values = torch.from_numpy(recording.values)[None]
    out = tiny_meg(variant).meg2vec(values, sensors=sensors, output_hidden_states=True)
    return torch.stack([*out.hidden_states[:-1], out.last_hidden_state])[:, 0].numpy()


def test_the_spec_says_what_the_config_says(load):
    spec = load().spec
    assert (spec.modality, spec.n_layers, spec.dim) == ("meg", 3, 32)
    assert (spec.clock.hop, spec.clock.field, spec.clock.sampling_rate) == (40, 60, 250)
    assert spec.context_seconds >= 4 * 40 / 250
    assert any("simulated" in note for note in spec.notes)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n_samples", [60, 2513, 12_345])
def test_states_equal_the_whole_recordings(variant, n_samples, load):
    recording = meg_noise(n_samples, 9 if variant == "positions" else N_CHANNELS)
    got, expected = compute(load(variant), recording), whole(variant, recording)
    assert got.shape == expected.shape == (4, (n_samples - 60) // 40 + 1, 32)
    assert np.abs(got - expected).max() < 1e-5 * max(1, expected.std() * 10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_windows_see_the_same_features_as_the_whole(variant, load, monkeypatch):
    """State 0 sees features and the positional convolution only, so that context makes windows equal the whole."""
    monkeypatch.setattr("core.embed.encoders.meg2vec.BLOCK_SECONDS", 3.0)
    recording = meg_noise(12_345, 9 if variant == "positions" else N_CHANNELS)
    got = compute(load(variant), recording, chunk_seconds=8.0)
    expected = whole(variant, recording)
    assert got.shape == expected.shape
    assert np.abs(got[0] - expected[0]).max() < 1e-5
    own = compute(load(variant), replace(recording, values=recording.values[:, :2500]), chunk_seconds=8.0)
    different = np.abs(own[0, :30] - expected[0, :30]).max()  # a control: a part's own statistics are others
    assert different > 0.05 if variant != "stable" else different < 1e-5


def test_moments_are_those_of_the_whole_convolution():
    recording, kernel = meg_noise(5003), torch.randn(7, N_CHANNELS, 10, generator=torch.Generator().manual_seed(0))
    made = torch.nn.functional.conv1d(torch.from_numpy(recording.values).double(), kernel.double(), stride=5).numpy()
    for block in (1, 100, 4096):
        mean, variance = convolved_moments(recording.read, 5003, kernel, 5, block)
        np.testing.assert_allclose(mean, made.mean(axis=1), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(variance, made.var(axis=1), rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_engines_agree(engine, variant, load):
    if engine == "openvino" and not has_openvino():
        pytest.skip("openvino is not installed")
    encoder = load(variant)
    runners, choice = build_runners(encoder, (0, 3), EngineRequest(engine, "fp32", CPU))
    assert (choice.engine, choice.warnings) == (engine, ())
    recording = meg_noise(2513, 9 if variant == "positions" else N_CHANNELS)
    stream = encoder.open(recording, runners)
    got = runners["states"](stream.read(0, 62))
    np.testing.assert_allclose(got, whole(variant, recording)[[0, 3]], atol=1e-4)


def test_a_recording_of_another_kind_is_refused(load):
    encoder, recording = load(), meg_noise(500)
    with pytest.raises(InputError, match=r"takes 6 channels .* got a recording with 7\. Bring it"):
        encoder.open(replace(recording, sensors=noise_sensors(7)), {})
    swapped = recording.sensors.take([0, 2, 1, 3, 4, 5])
    with pytest.raises(InputError, match="channel 2 is N002, not N001"):
        encoder.open(replace(recording, sensors=swapped), {})
    with pytest.raises(InputError, match="takes 250 Hz; got a recording at 1000 Hz"):
        encoder.open(replace(recording, sampling_rate=1000), {})


def test_any_number_of_channels_goes_where_positions_are_known(load):
    shapes = {compute(load("positions"), meg_noise(900, n)).shape for n in (3, 6, 40)}
    assert shapes == {(4, 22, 32)}


def test_the_models_input_comes_back(load):
    for variant in VARIANTS:
        loaded = load(variant).loaded
        assert build_model_input(loaded).fingerprint() == model_input_for(loaded.model.config).fingerprint()
    with pytest.raises(CheckpointError, match=r"channels: preprocessor_config\.json cannot be used"):
        build_model_input(replace(load().loaded, preprocessor={"sampling_rate": 16_000}))
