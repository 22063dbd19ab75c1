"""Engines against torch in float32, and what is chosen, said and refused."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from core.checkpoints.load import load_model
from core.device import DeviceChoice
from core.embed import engines
from core.embed.encoders import build_encoder
from core.embed.engines import EngineRequest, build_runners
from core.errors import InputError, MissingPackage
from tests.tiny_models import save_tiny

CPU = DeviceChoice("cpu", "test")
LAYERS = (0, 3)


def request(engine="auto", precision="auto", device=CPU):
    return EngineRequest(engine, precision, device)


@pytest.fixture
def encoder(tmp_path):
    save_tiny(tmp_path, "wav2vec2")
    return build_encoder(load_model(tmp_path, "tiny", from_user=True))


def features(encoder, runners):
    inputs = [value.numpy() for value in encoder.example("local", 1.0)]
    return runners["states"](runners["local"](*inputs))


@pytest.mark.parametrize("family", ["wav2vec2", "wav2vec2-stable", "hubert", "wavlm", "data2vec-audio", "w2v-bert"])
def test_openvino_agrees_with_torch_for_lengths_it_was_not_traced_with(family, tmp_path):
    save_tiny(tmp_path, family)
    encoder = build_encoder(load_model(tmp_path, family, from_user=True))
    networks = encoder.networks(LAYERS)
    torch_states = engines.torch_runners(networks, "cpu", "fp32")["states"]
    openvino_states = engines.openvino_runners(networks, encoder, "fp32")["states"]
    for seconds in (0.1, 0.7, 3.3):
        (inputs,) = (value.numpy() for value in encoder.example("states", seconds))
        np.testing.assert_allclose(openvino_states(inputs), torch_states(inputs), atol=2e-4)


def test_auto_takes_openvino_on_the_cpu_and_says_why(encoder):
    runners, choice = build_runners(encoder, LAYERS, request())
    assert choice.engine == "openvino"
    assert "cosine to torch fp32" in choice.precision_reason
    reference = features(encoder, engines.torch_runners(encoder.networks(LAYERS), "cpu", "fp32"))
    assert engines._lowest_cosine(features(encoder, runners), reference) > 0.999


def test_an_engine_that_differs_is_dropped_with_a_sentence(encoder, monkeypatch):
    honest = engines.openvino_runners

    def wrong(networks, encoder, precision):
        runners = honest(networks, encoder, precision)
        return runners | {"states": lambda *inputs: runners["states"](*inputs)[::-1]}

    monkeypatch.setattr(engines, "openvino_runners", wrong)
    _, choice = build_runners(encoder, LAYERS, request(precision="fp32"))
    assert choice.engine == "torch"
    assert "openvino fp32 differs from torch fp32 (cosine" in choice.engine_reason


def test_an_engine_that_crashes_is_dropped_with_its_reason(encoder, monkeypatch):
    def crash(*_):
        raise RuntimeError("first line\nno such kernel")

    monkeypatch.setattr(engines, "openvino_runners", crash)
    _, choice = build_runners(encoder, LAYERS, request())
    assert choice.engine == "torch"
    assert "could not run (no such kernel)" in choice.engine_reason
    with pytest.raises(InputError, match="no such kernel"):
        build_runners(encoder, LAYERS, request("openvino"))


def test_what_is_asked_for_by_name_is_done_with_a_warning(encoder, monkeypatch):
    monkeypatch.setattr(engines, "MIN_COSINE", {"fp32": 2.0, "bf16": 2.0})
    _, choice = build_runners(encoder, LAYERS, request("openvino", "bf16"))
    assert (choice.engine, choice.precision) == ("openvino", "bf16")
    assert "asked for by name" in choice.warnings[0]


def test_values_that_are_not_finite_never_pass_the_check():
    states = np.ones((1, 2, 3))
    assert engines._lowest_cosine(states, states) == pytest.approx(1)
    states[0, 0, 0] = np.nan
    assert engines._lowest_cosine(states, np.ones((1, 2, 3))) == -1


def test_torch_in_float32_needs_no_check(encoder):
    _, choice = build_runners(encoder, LAYERS, request("torch", "fp32"))
    assert (choice.engine, choice.precision, choice.warnings) == ("torch", "fp32", ())


def test_openvino_runs_on_the_cpu_only(encoder):
    with pytest.raises(InputError, match="runs on the CPU"):
        build_runners(encoder, LAYERS, request("openvino", device=DeviceChoice("cuda", "test")))


def test_openvino_by_name_says_how_to_install_it(encoder, monkeypatch):
    monkeypatch.setattr(engines, "has_openvino", lambda: False)
    with pytest.raises(MissingPackage, match="pip install openvino"):
        build_runners(encoder, LAYERS, request("openvino"))


@pytest.mark.parametrize("bad", [{"engine": "onnx"}, {"precision": "fp8"}])
def test_unknown_names_are_refused(encoder, bad):
    with pytest.raises(InputError, match="expected one of"):
        build_runners(encoder, LAYERS, request(**bad))


def test_encodec_stays_on_torch(tmp_path):
    save_tiny(tmp_path, "encodec")
    encoder = build_encoder(load_model(tmp_path, "codec", from_user=True))
    _, choice = build_runners(encoder, (0,), request())
    assert choice.engine == "torch"


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_threads_that_share_an_encoder_get_their_own_states(encoder, engine):
    networks = encoder.networks((0, 1, 2, 3))
    runners = (
        engines.torch_runners(networks, "cpu", "fp32")
        if engine == "torch"
        else engines.openvino_runners(networks, encoder, "fp32")
    )
    width = encoder.local.n_features
    inputs = [np.random.default_rng(seed).standard_normal((300, width)).astype("f") for seed in range(4)] * 8
    expected = [runners["states"](value) for value in inputs[:4]] * 8
    with ThreadPoolExecutor(4) as pool:
        for got, due in zip(pool.map(runners["states"], inputs), expected, strict=True):
            np.testing.assert_allclose(got, due, atol=1e-5)


def test_fp32_is_not_the_short_float_of_cuda_convolutions():
    seen = []

    class Look(torch.nn.Module):
        def forward(self, values):
            seen.append(torch.backends.cudnn.allow_tf32)
            return values

    before = torch.backends.cudnn.allow_tf32
    engines.torch_runners({"look": Look()}, "cpu", "fp32")["look"](np.zeros(3, "f"))
    assert (seen, torch.backends.cudnn.allow_tf32) == ([False], before)


def test_openvino_reports_nothing_to_anybody():
    """Its telemetry forks a process that calls a server; openvino's own stand-in does neither."""
    from openvino.tools.ovc import convert_impl

    assert convert_impl.tm.__name__.endswith("stub")


SIGNALLED = """
import gc, signal, sys
from pathlib import Path
from tests.tiny_models import save_tiny
from core.checkpoints.load import load_model
from core.embed import engines
from core.embed.encoders import build_encoder
save_tiny(Path(sys.argv[1]), "wav2vec2")
encoder = build_encoder(load_model(Path(sys.argv[1]), "tiny", from_user=True))
networks = encoder.networks((1,))
first = engines.openvino_runners(networks, encoder, "fp32")
second = engines.openvino_runners(networks, encoder, "fp32")
for runners in (first, second):
    runners.clear()
gc.collect()
received = []
signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
signal.raise_signal(signal.SIGTERM)
assert received == [signal.SIGTERM]
"""


def test_a_signal_after_openvino_is_handled(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(tmp_path)], cwd=Path(__file__).parents[2], capture_output=True
    )
    assert run.returncode == 0, run.stderr.decode()
