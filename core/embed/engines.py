"""Engines run an encoder's networks: torch on CUDA, MPS or CPU, OpenVINO on the CPU.

``auto`` takes OpenVINO on a CPU when it is installed, in bf16 where the processor has it; every choice but torch in float32 is
checked once against torch in float32 on a second of noise, and falls back with a sentence that says why.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from core.audio.signal import Signal
from core.device import DeviceChoice, cpu_has_bf16
from core.embed.encoder import Encoder, Runner
from core.errors import InputError, MissingPackage

# Lowest cosine between a frame's state and torch float32's that an engine may show on the check's noise.
MIN_COSINE = {"fp32": 0.9999, "bf16": 0.9995}
CHECK_SECONDS = 1.0


@dataclass(frozen=True)
class EngineChoice:
    """What runs and why; the reasons are sentences for the metadata and the screen."""

    engine: str
    precision: str
    engine_reason: str
    precision_reason: str


@dataclass(frozen=True)
class EngineRequest:
    """What was asked for: ``auto`` or a name for each, on a device that is already chosen."""

    engine: str
    precision: str
    device: DeviceChoice


def build_runners(
    encoder: Encoder, layers: tuple[int, ...], request: EngineRequest
) -> tuple[dict[str, Runner], EngineChoice]:
    """Compile the encoder's networks on the first candidate that loads and agrees with torch in float32.

    Raises:
        InputError: an unknown name, or an explicit choice that cannot run or does not agree.
        MissingPackage: OpenVINO asked for by name and not installed.
    """
    networks = encoder.networks(layers)
    reference = _check_states(torch_runners(networks, "cpu", "fp32"), encoder)
    refusals: list[str] = []
    for engine, precision in candidates(request):
        if (engine, precision, request.device.device) == ("torch", "fp32", "cpu"):
            runners = torch_runners(networks, "cpu", "fp32")
            return runners, _describe(engine, precision, request, refusals, lowest=None)
        try:
            runners = _compile(networks, encoder, engine, precision, request.device.device)
            lowest = _lowest_cosine(_check_states(runners, encoder), reference)
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            refusals.append(f"{engine} {precision} could not run ({_first_line(error)})")
            continue
        if lowest >= MIN_COSINE[precision]:
            return runners, _describe(engine, precision, request, refusals, lowest)
        refusals.append(f"{engine} {precision} differs from torch fp32 (cosine {lowest:.5f} < {MIN_COSINE[precision]})")
    raise InputError(f"{'; '.join(refusals)}. Use --engine auto --precision auto, or --engine torch --precision fp32.")


def candidates(request: EngineRequest) -> Iterator[tuple[str, str]]:
    """Yield (engine, precision) in the order to try them; explicit wishes leave no alternative."""
    _check_name("engine", request.engine, ("auto", "torch", "openvino"))
    _check_name("precision", request.precision, ("auto", "fp32", "bf16"))
    on_cpu = request.device.device == "cpu"
    if request.engine == "openvino" and not on_cpu:
        raise InputError(f"The openvino engine runs on the CPU; got device {request.device.device}. Use --device cpu.")
    if request.engine == "openvino" and not has_openvino():
        raise MissingPackage("The openvino engine needs the package openvino: pip install openvino.")
    engines = [request.engine]
    if request.engine == "auto":
        engines = ["openvino", "torch"] if on_cpu and has_openvino() else ["torch"]
    for engine in engines:
        for precision in _precisions(request, on_cpu):
            yield engine, precision


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def _precisions(request: EngineRequest, on_cpu: bool) -> tuple[str, ...]:
    if request.precision != "auto":
        return (request.precision,)
    has_bf16 = cpu_has_bf16() if on_cpu else request.device.device == "cuda" and torch.cuda.is_bf16_supported()
    return ("bf16", "fp32") if has_bf16 else ("fp32",)


def _check_name(what: str, got: str, known: tuple[str, ...]) -> None:
    if got not in known:
        raise InputError(f"Got {what} {got!r}; expected one of {', '.join(known)}.")


def _describe(
    engine: str, precision: str, request: EngineRequest, refusals: list[str], lowest: float | None
) -> EngineChoice:
    asked = "asked for" if request.engine != "auto" else "fastest that passed the check" if lowest else "the reference"
    agreement = f"lowest cosine to torch fp32 on {CHECK_SECONDS:g} s of noise {lowest:.6f}" if lowest else "the reference itself"
    why = "asked for" if request.precision != "auto" else "the processor has it" if precision == "bf16" else "no faster one fits"
    after = f"; {'; '.join(refusals)}" if refusals else ""
    return EngineChoice(engine, precision, f"{asked}{after}", f"{why}; {agreement}")


def _compile(networks: dict[str, nn.Module], encoder: Encoder, engine: str, precision: str, device: str) -> dict[str, Runner]:
    if engine == "openvino":
        return openvino_runners(networks, encoder, precision)
    return torch_runners(networks, device, precision)


def torch_runners(networks: dict[str, nn.Module], device: str, precision: str) -> dict[str, Runner]:
    """Run networks in torch; bf16 is autocast, so that norms and sums stay in float32."""

    def runner(network: nn.Module) -> Runner:
        def run(*inputs: np.ndarray) -> np.ndarray:
            network.to(device)
            with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                return network(*(torch.from_numpy(value).to(device) for value in inputs)).float().cpu().numpy()

        return run

    return {name: runner(network) for name, network in networks.items()}


def openvino_runners(networks: dict[str, nn.Module], encoder: Encoder, precision: str) -> dict[str, Runner]:
    """Compile networks for the CPU with OpenVINO, with a dynamic time axis."""
    import openvino

    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    core = openvino.Core()

    def runner(name: str, network: nn.Module) -> Runner:
        with torch.inference_mode():
            converted = openvino.convert_model(network, example_input=encoder.example(name, CHECK_SECONDS))
        request = core.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": hint}).create_infer_request()

        def run(*inputs: np.ndarray) -> np.ndarray:
            request.infer(list(inputs))
            return request.get_output_tensor(0).data.copy()

        return run

    return {name: runner(name, network) for name, network in networks.items()}


def _check_states(runners: dict[str, Runner], encoder: Encoder) -> np.ndarray:
    """States of a second of noise through all networks, (n_layers, frames, dim)."""
    rate = encoder.spec.clock.sampling_rate
    noise = np.random.default_rng(0).standard_normal(round(CHECK_SECONDS * rate)).astype(np.float32)
    n_frames = encoder.spec.clock.n_frames(len(noise))
    with Signal.from_array(noise, rate) as signal:
        return runners["states"](encoder.open(signal, runners).read(0, n_frames))[:, :n_frames]


def _lowest_cosine(states: np.ndarray, reference: np.ndarray) -> float:
    """Lowest cosine over frames and layers; -1 where anything is not finite."""
    if not np.isfinite(states).all():
        return -1.0
    dot = (states * reference).sum(-1, dtype=np.float64)
    norms = np.linalg.norm(states, axis=-1).astype(np.float64) * np.linalg.norm(reference, axis=-1)
    return float((dot / np.maximum(norms, np.finfo(np.float64).tiny)).min())


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__
