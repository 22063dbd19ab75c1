"""Engines run an encoder's networks: torch on CUDA, MPS or CPU, OpenVINO on the CPU.

``auto`` takes OpenVINO on a CPU when it is installed, in bf16 where the processor has it; every choice but torch in
float32 is checked once against torch in float32 on a second of noise, and falls back with a sentence that says why.
"""

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import nn

from core.device import DeviceChoice, cpu_has_bf16
from core.embed.encoder import Encoder, Runner
from core.errors import InputError, MissingPackage

# Lowest cosine between a frame's state and torch float32's that an engine may show on the check's noise.
MIN_COSINE = {"fp32": 0.9999, "bf16": 0.9995}
CHECK_SECONDS = 1.0
_PRECISION_WORDS = {"bf16": "the processor has it", "fp32": "bf16 is missing here or failed the check"}


@dataclass(frozen=True)
class EngineChoice:
    """What runs and why; the reasons are sentences for the metadata and the screen."""

    engine: str
    precision: str
    engine_reason: str
    precision_reason: str
    warnings: tuple[str, ...] = ()


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

    Where the wish leaves no candidate that agrees, the first one that runs is taken, with a warning: what a person asks
    for by name is done.

    Raises:
        InputError: an unknown name, or a choice that cannot run at all.
        MissingPackage: OpenVINO asked for by name and not installed.
    """
    networks = encoder.networks(layers)
    reference_runners = torch_runners(networks, "cpu", "fp32")
    reference: np.ndarray | None = None
    tried: list[Trial] = []
    for engine, precision in candidates(request, encoder):
        if (engine, precision, request.device.device) == ("torch", "fp32", "cpu"):
            tried.append(Trial(engine, precision, reference_runners))
            return _take(tried[-1], tried, request)
        reference = _check_states(reference_runners, encoder) if reference is None else reference
        tried.append(_try(networks, encoder, (engine, precision, request.device.device), reference))
        if tried[-1].agrees:
            return _take(tried[-1], tried, request)
    ran = [trial for trial in tried if trial.runners is not None]
    if not ran:
        problems = "; ".join(trial.problem for trial in tried)
        raise InputError(f"{problems}. Use --engine auto --precision auto, or --engine torch --precision fp32.")
    return _take(ran[0], tried, request)


@dataclass(frozen=True)
class Trial:
    """One engine at one precision: its runners where it ran, and its lowest cosine to the reference."""

    engine: str
    precision: str
    runners: dict[str, Runner] | None
    lowest: float | None = None
    error: str = ""

    @property
    def agrees(self) -> bool:
        """Whether it ran and is close enough to torch float32 (the reference itself has no cosine)."""
        return self.runners is not None and (self.lowest is None or self.lowest >= MIN_COSINE[self.precision])

    @property
    def problem(self) -> str:
        """A sentence on why it was not taken."""
        if self.runners is None:
            return f"{self.engine} {self.precision} could not run ({self.error})"
        return f"{self.engine} {self.precision} differs from torch fp32 (cosine {self.lowest:.5f})"


def _try(networks: dict[str, nn.Module], encoder: Encoder, how: tuple[str, str, str], reference: np.ndarray) -> Trial:
    """Compile and check; anything that an engine throws counts as not running."""
    engine, precision, device = how
    try:
        if engine == "openvino":
            runners = openvino_runners(networks, encoder, precision)
        else:
            runners = torch_runners(networks, device, precision)
        lowest = _lowest_cosine(_check_states(runners, encoder), reference)
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError) as error:
        return Trial(engine, precision, None, error=_last_line(error))
    return Trial(engine, precision, runners, lowest)


def _take(trial: Trial, tried: list[Trial], request: EngineRequest) -> tuple[dict[str, Runner], EngineChoice]:
    """Say why this one, after which refusals."""
    others = [other.problem for other in tried if not other.agrees and other is not trial]
    notes = () if trial.agrees else (f"{trial.problem}; it was asked for by name and used all the same.",)
    asked = "asked for" if request.engine != "auto" else "the fastest here that agrees with torch fp32"
    wanted = "asked for" if request.precision != "auto" else _PRECISION_WORDS[trial.precision]
    agreement = (
        "it is the reference itself"
        if trial.lowest is None
        else (f"lowest cosine to torch fp32 on {CHECK_SECONDS:g} s of noise {trial.lowest:.6f}")
    )
    choice = EngineChoice(trial.engine, trial.precision, "; ".join([asked, *others]), f"{wanted}; {agreement}", notes)
    assert trial.runners is not None
    return trial.runners, choice


def candidates(request: EngineRequest, encoder: Encoder) -> Iterator[tuple[str, str]]:
    """Yield (engine, precision) in the order to try them; explicit wishes leave no alternative."""
    _check_name("engine", request.engine, ("auto", "torch", "openvino"))
    _check_name("precision", request.precision, ("auto", "fp32", "bf16"))
    on_cpu = request.device.device == "cpu"
    if request.engine == "openvino":
        _require_openvino(request, encoder)
    engines = [request.engine]
    if request.engine == "auto":
        engines = ["openvino", "torch"] if on_cpu and encoder.traceable and has_openvino() else ["torch"]
    for engine in engines:
        for precision in _precisions(request, on_cpu):
            yield engine, precision


def _require_openvino(request: EngineRequest, encoder: Encoder) -> None:
    if request.device.device != "cpu":
        raise InputError(f"The openvino engine runs on the CPU; got device {request.device.device}. Use --device cpu.")
    if not encoder.traceable:
        raise InputError(f"{encoder.spec.name} runs on the torch engine only. Use --engine torch or auto.")
    if not has_openvino():
        raise MissingPackage("The openvino engine needs the package openvino: pip install openvino.")


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


def torch_runners(networks: dict[str, nn.Module], device: str, precision: str) -> dict[str, Runner]:
    """Run networks in torch, one thread at a time; bf16 is autocast, so that norms and sums stay in float32.

    fp32 means float32: torch by itself lets convolutions on CUDA round their inputs to TF32's 10 bits.
    """
    lock = Lock()  # the states are collected by hooks on the blocks, which two threads would share

    def runner(network: nn.Module) -> Runner:
        def run(*inputs: np.ndarray) -> np.ndarray:
            autocast = torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")
            with lock, torch.inference_mode(), _exact_convolutions(), autocast:
                network.to(device)
                return network(*(torch.from_numpy(value).to(device) for value in inputs)).float().cpu().numpy()

        return run

    return {name: runner(network) for name, network in networks.items()}


@contextmanager
def _exact_convolutions() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@lru_cache(maxsize=1)
def _openvino_core() -> Any:
    """The one core of the process, which is never let go.

    Its CPU plugin gives the thread that loads it another stack for signals. A core that goes takes that memory with
    it and leaves the thread pointing there: the next signal, such as Ctrl-C, would end the process with a segmentation
    fault (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


def openvino_runners(networks: dict[str, nn.Module], encoder: Encoder, precision: str) -> dict[str, Runner]:
    """Compile networks for the CPU with OpenVINO, with a dynamic time axis."""
    import openvino

    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    core = _openvino_core()

    def runner(name: str, network: nn.Module) -> Runner:
        with torch.inference_mode(), warnings.catch_warnings():
            # Tracing warns of Python branches and of its own age; what it made is checked against torch right after.
            warnings.simplefilter("ignore")
            example = encoder.example(name, CHECK_SECONDS)
            converted = openvino.convert_model(network, example_input=example)
        converted.reshape(_shapes(example, encoder.time_axis[name]))
        request = core.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": hint}).create_infer_request()
        lock = Lock()  # a request serves one thread at a time

        def run(*inputs: np.ndarray) -> np.ndarray:
            with lock:
                request.infer(list(inputs))
                return request.get_output_tensor(0).data.copy()

        return run

    return {name: runner(name, network) for name, network in networks.items()}


def _shapes(example: tuple[torch.Tensor, ...], time_axis: int | None) -> dict[int, list[int]]:
    """Shapes of a network's inputs with the first one's time axis free (-1); kernels and biases keep theirs."""
    shapes = {index: list(value.shape) for index, value in enumerate(example)}
    if time_axis is not None:
        shapes[0][time_axis] = -1
    return shapes


def _check_states(runners: dict[str, Runner], encoder: Encoder) -> np.ndarray:
    """States of a second of noise through all networks, (n_layers, frames, dim)."""
    with encoder.noise(CHECK_SECONDS) as signal:
        n_frames = encoder.spec.clock.n_frames(signal.n_samples)
        return runners["states"](encoder.open(signal, runners).read(0, n_frames))[:, :n_frames]


def _lowest_cosine(states: np.ndarray, reference: np.ndarray) -> float:
    """Lowest cosine over frames and layers; -1 where anything is not finite."""
    if not np.isfinite(states).all():
        return -1.0
    dot = (states * reference).sum(-1, dtype=np.float64)
    norms = np.linalg.norm(states, axis=-1).astype(np.float64) * np.linalg.norm(reference, axis=-1)
    return float((dot / np.maximum(norms, np.finfo(np.float64).tiny)).min())


def _last_line(error: BaseException) -> str:
    """The innermost cause, which engines print last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
