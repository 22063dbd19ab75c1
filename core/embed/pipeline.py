"""From a recording and an encoder to a stream of states, window by window, in constant memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.arrays import EmbedSettings, OnProgress, Progress
from core.clock import Window, plan_windows
from core.embed.encoder import Encoder, EncoderSpec, Runners
from core.errors import InputError


@dataclass(frozen=True)
class WindowPlan:
    """Windows over a recording and the seconds they were planned with."""

    windows: tuple[Window, ...]
    n_frames: int
    chunk_seconds: float
    context_seconds: float


def resolve_layers(wanted: str, name: str, n_layers: int, last: int | None = None) -> tuple[int, ...]:
    """Turn ``last``, ``all`` or ``0,6,12`` into ascending layer numbers of the model ``name``.

    Args:
        wanted: The text.
        name: For messages.
        n_layers: Highest number N; there are layers 0 to N.
        last: The layer that ``last`` means, where it is not N: a codec's encoder output, before its quantised forms.
    """
    if wanted == "last":
        return (n_layers if last is None else last,)
    if wanted == "all":
        return tuple(range(n_layers + 1))
    try:
        layers = sorted({int(part) for part in wanted.split(",")})
    except ValueError:
        raise InputError(f"Got layers {wanted!r}; expected last, all or numbers such as 0,6,12.") from None
    beyond = [layer for layer in layers if not 0 <= layer <= n_layers]
    if beyond:
        raise InputError(
            f"{name} has layers 0 to {n_layers} (0 is the transformer's input); got {', '.join(map(str, beyond))}."
        )
    return tuple(layers)


def plan(spec: EncoderSpec, n_samples: int, settings: EmbedSettings, what: str) -> WindowPlan:
    """Cut a recording into windows on the frame grid; see :func:`core.clock.plan_windows`.

    Raises:
        DataError: the recording is shorter than one frame.
        InputError: chunk or context out of range, or longer than the model's longest window.
    """
    clock = spec.clock
    n_frames = clock.require_frames(n_samples, what)
    context_seconds = spec.context_seconds if settings.context_seconds is None else settings.context_seconds
    for name, value, least in (
        ("chunk", settings.chunk_seconds, 1 / clock.frame_rate),
        ("context", context_seconds, 0),
    ):
        if not (np.isfinite(value) and value >= least):
            raise InputError(f"Got --{name}-seconds {value:g}; expected a number of at least {least:g} s.")
    longest = n_samples / clock.sampling_rate  # more changes nothing, and would overflow in the end
    chunk, context = (clock.frames_in(min(value, longest + 1)) for value in (settings.chunk_seconds, context_seconds))
    chunk = max(1, chunk)
    if spec.max_frames is not None and chunk + 2 * context > spec.max_frames:
        chunk = spec.max_frames - 2 * context
        if chunk < 1:
            raise InputError(
                f"{spec.name} takes at most {spec.max_frames / clock.frame_rate:g} s at a time; got a context of "
                f"{context_seconds:g} s on each side. Use a smaller --context-seconds."
            )
    if spec.max_frames is not None:
        context = (spec.max_frames - chunk) // 2  # the model computes its full window anyway: fill it with real sound
    windows = tuple(plan_windows(n_frames, chunk, context))
    return WindowPlan(windows, n_frames, chunk / clock.frame_rate, context / clock.frame_rate)


def stream_states(
    encoder: Encoder, runners: Runners, signal: Any, window_plan: WindowPlan, on_progress: OnProgress
) -> Iterator[np.ndarray]:
    """Yield the kept states of each window, (n_layers, kept frames, dim) float32, in order and without gaps.

    ``signal`` is what the encoder takes: of sound or of MEG.
    """
    clock = encoder.spec.clock
    stream = encoder.open(signal, runners)
    total = signal.n_samples / clock.sampling_rate
    for window in window_plan.windows:
        states = runners["states"](stream.read(window.start, window.stop))
        yield states[:, window.keep_start - window.start : window.keep_stop - window.start]
        on_progress(Progress("embed", total * window.keep_stop / window_plan.n_frames, total))
