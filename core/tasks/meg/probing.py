"""What a linear probe reads from a trained Meg2Vec, beside random weights, band power and tangent space.

Each example is a window, and an annotation that is longer than one holds several side by side: of the model's states
their mean and standard deviation over its frames. Labels are probed
with whole recordings held out; ``subject`` and ``session`` are the leakage probe, which asks how well a recording can
be told from another whatever happens in it.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from core.analysis.meg_controls import tangent_rows
from core.analysis.recording_probe import Examples, Held, Rows, held_gain, held_score, hold_out
from core.analysis.scores import confusion
from core.arrays import EmbedSettings, OnProgress, Progress, ignore_progress
from core.checkpoints.find import find_model
from core.clock import FrameClock
from core.embed.encoder import EncoderSpec
from core.embed.pipeline import plan, stream_states
from core.embed.recordings import MEG, SIMULATED, hash_recording, open_model_input, require_modality
from core.errors import DataError, InputError
from core.models.model_input import from_preprocessor
from core.scoring import Estimate
from core.tasks.encoders import ReadyEncoder, Source, ready_encoder
from core.tasks.meg.probe_examples import (
    BAND_POWER,
    CONTROLS,
    GAP_SECONDS,
    MODEL,
    RANDOM,
    RIEMANN,
    TARGETS,
    Cut,
    Labelled,
    OpenRecording,
    ProbeRecording,
    cut_recording,
    learnable,
    open_unread,
    split_examples,
    who_and_when,
)
from core.tasks.meg.requests import ProbeFindings, ProbeRequest, ProbeScore

if TYPE_CHECKING:
    from core.meg.signal import MegSignal

_T = TypeVar("_T")

_UNITS = {"examples": "recordings", "recordings": "recordings", "probe": "kinds of features"}

POOLING = "mean and standard deviation over the frames of a window"


def probe_meg(request: ProbeRequest, on_progress: OnProgress = ignore_progress) -> ProbeFindings:
    """Probe a trained model.

    Args:
        request: Model, recordings, what to probe for, controls.
        on_progress: Told of the stages ``examples``, ``recordings`` and ``probe``.

    Raises:
        InputError: a setting that cannot be used, or fewer than two recordings.
        DataError: the recordings lack labels, or do not say whose they are.
        StrataError: model or recordings cannot be read.
    """
    check_request(request)
    kept, notes = _distinct(request.recordings)
    request = replace(request, recordings=kept)
    check_request(request)
    looked = look(request, on_progress)
    reader = model_reader(request, on_progress)
    split_examples(looked, request.target, reader.gap_seconds)  # what would fail at the end, fails before the hours
    return probe_recordings(request, replace(reader, warnings=(*reader.warnings, *notes)), on_progress)


def check_request(request: ProbeRequest) -> None:
    """Refuse what no recording can change.

    Raises:
        InputError: with what to do.
    """
    if request.target not in TARGETS:
        raise InputError(f"Got the target {request.target!r}; expected {', '.join(TARGETS)}.")
    if unknown := [name for name in request.controls if name not in CONTROLS]:
        raise InputError(f"Got the control {', '.join(unknown)}; expected some of {', '.join(CONTROLS)}.")
    if not (np.isfinite(request.window_seconds) and request.window_seconds >= 0.1):
        raise InputError(f"Got windows of {request.window_seconds:g} s; expected at least 0.1 s.")
    if request.seed < 0:
        raise InputError(f"Got seed {request.seed}; expected 0 or more.")
    if (count := len({path.resolve() for path in request.recordings})) < 2:
        raise InputError(f"Got {count} recordings; a probe needs at least 2, one to train on and one to test.")


def _distinct(recordings: Sequence[Path]) -> tuple[tuple[Path, ...], list[str]]:
    """Recordings of different content: one that counts twice would be trained on and tested."""
    first: dict[str, Path] = {}
    notes = []
    for path in dict.fromkeys(recordings):
        if not path.exists():
            raise InputError(f"{path} does not exist. Check the spelling, and the folder you started in.")
        before = first.setdefault(hash_recording(path), path)
        if before != path:
            notes.append(f"{path.name} holds the same as {before.name}; it counts once.")
    return tuple(first.values()), notes


@dataclass(frozen=True)
class Reader:
    """What gives recordings with their states.

    Attributes:
        layers: Numbers of the layers in the states, in their order.
        open: Opens one, with the states of the model, and of the random control if it is wanted.
        warnings: What to mind of the model.
        sight_seconds: How far from a frame the farthest sample is that its states may have seen.
    """

    layers: tuple[int, ...]
    open: OpenRecording
    warnings: tuple[str, ...] = ()
    sight_seconds: float = 0.0

    @property
    def gap_seconds(self) -> float:
        """Between tested blocks and training windows of one recording: no state of these has seen those."""
        return max(GAP_SECONDS, self.sight_seconds)


def look(request: ProbeRequest, on_progress: OnProgress) -> Labelled:
    """The examples that recordings will give, from what their files say of themselves: nothing is embedded.

    Raises:
        DataError: the recordings lack labels, or do not say whose they are.
    """
    bare = replace(request, controls=())
    open_recording = partial(open_unread, numpy_rate=request.numpy_rate)
    cuts = [_cut(path, bare, open_recording) for path in _counted(request.recordings, "examples", on_progress)]
    every = Labelled.of(cuts, request.window_seconds)
    return every.take(learnable(every, request.target)[0])


def probe_recordings(request: ProbeRequest, reader: Reader, on_progress: OnProgress) -> ProbeFindings:
    """Do what :func:`probe_meg` does, with recordings that are opened by what is handed in."""
    check_request(request)
    cuts = [_cut(path, request, reader.open) for path in _counted(request.recordings, "recordings", on_progress)]
    every = Labelled.of(cuts, request.window_seconds)
    kept, left_out = learnable(every, request.target)
    labelled = every.take(kept)
    examples, classes, drawn = split_examples(labelled, request.target, reader.gap_seconds)
    kinds = (MODEL, *(name for name in CONTROLS if name in request.controls))
    found = {name: _probed(name, cuts, kept, examples) for name in _counted(kinds, "probe", on_progress)}
    counts = Counter(labelled.labels.tolist())
    return ProbeFindings(
        request.target,
        classes,
        {name: counts[name] for name in classes},
        tuple(path.name for path in request.recordings),
        len(examples.folds),
        1 / len(classes),
        tuple(_score(name, one, examples, reader.layers, request.seed) for name, one in found.items()),
        (*reader.warnings, *_what_to_mind(request, cuts, drawn), *left_out),
        _facts(request, examples, found, drawn) | _facts_of(reader, request.target),
    )


def _counted(items: Sequence[_T], stage: str, on_progress: OnProgress) -> Iterator[_T]:
    for number, item in enumerate(items):
        on_progress(Progress(stage, number, len(items), _UNITS[stage]))
        yield item
    on_progress(Progress(stage, len(items), len(items), _UNITS[stage]))


# ------------------------------------------------------------------------------------------------ features of examples


def _cut(path: Path, request: ProbeRequest, open_recording: OpenRecording) -> Cut:
    signals = [name for name in (BAND_POWER, RIEMANN) if name in request.controls]
    with open_recording(path) as recording:
        _require_known(path, recording, request.target)
        return cut_recording(recording, request.target, request.window_seconds, signals)


def _require_known(path: Path, recording: ProbeRecording, target: str) -> None:
    known = {"label": True, "subject": bool(recording.subject), "session": bool(recording.session)}
    if not known[target]:
        entity = target[:3]
        raise DataError(
            f"{path.name} does not say its {target}. Name it {entity}-..., as BIDS does, such as {entity}-01."
        )


@dataclass(frozen=True)
class _Probed:
    """What was said from one kind of features: with means and standard deviations, and with means alone."""

    held: Held | None
    means: Held | None = None
    note: str = ""


def _probed(name: str, cuts: Sequence[Cut], kept: np.ndarray, examples: Examples) -> _Probed:
    """Run the probe on one kind of features."""
    parts = [cut.features[name] for cut in cuts if name in cut.features]
    axis = 1 if name in (MODEL, RANDOM) else 0
    if len({part.shape[:axis] + part.shape[axis + 1 :] for part in parts}) > 1:
        return _Probed(None, note="The recordings have different sensors, so their features cannot be compared.")
    values = np.take(np.concatenate(parts, axis=axis), kept, axis=axis)
    if name == RIEMANN:
        return _Probed(hold_out(lambda train: [tangent_rows(values, train)], examples))
    if name == BAND_POWER:
        return _Probed(hold_out(_same(values[None]), examples))
    means = values[:, :, : values.shape[2] // 2]
    return _Probed(hold_out(_same(values), examples), hold_out(_same(means), examples))


def _same(values: np.ndarray) -> Rows:
    """Features that nothing has to be fitted for."""
    layers = list(values)
    return lambda _: layers


# -------------------------------------------------------------------------------------------------------------- scores


def _score(name: str, probed: _Probed, examples: Examples, layers: Sequence[int], seed: int) -> ProbeScore:
    if probed.held is None:
        return ProbeScore(name, None, float("nan"), (0.0, 1.0), (), probed.note)
    held, estimate = probed.held, held_score(probed.held.said, examples, seed)
    if probed.means is None:
        return ProbeScore(name, None, estimate.value, _ends(estimate), (), probed.note)
    by_layer = tuple(held_score(said, examples, seed).value for said in held.by_layer)
    return ProbeScore(
        name,
        layers[Counter(held.layers).most_common(1)[0][0]],
        estimate.value,
        _ends(estimate),
        by_layer,
        _layer_note(held, probed.means, examples, layers),
    )


def _ends(estimate: Estimate) -> tuple[float, float]:
    """An interval that says nothing where nothing is known."""
    if estimate.low is None or estimate.high is None:
        return 0.0, 1.0
    return estimate.low, estimate.high


def _layer_note(held: Held, means: Held, examples: Examples, layers: Sequence[int]) -> str:
    chosen = ", ".join(str(layers[place]) for place in held.layers)
    varied = f" Layers chosen in the folds: {chosen}." if len(set(held.layers)) > 1 else ""
    return f"From means over frames alone: {held_score(means.said, examples).value:.3f}.{varied}"


def _facts(request: ProbeRequest, examples: Examples, found: Mapping[str, _Probed], drawn: str) -> dict[str, Any]:
    """What a report needs beside the scores; ``gains`` are the model's over each control on the same examples."""
    model = found[MODEL].held
    assert model is not None
    others = {name: probed.held for name, probed in found.items() if name != MODEL and probed.held is not None}
    gains = {name: held_gain(model.said, held.said, examples, request.seed) for name, held in others.items()}
    tested = model.said >= 0
    return {
        "model": request.model,
        "n_examples": len(examples.codes),
        "window_seconds": request.window_seconds,
        "pooling": POOLING,
        "interval_over": drawn,
        "n_drawn": len(np.unique(examples.units)),
        "held_out": "whole recordings" if request.target == "label" else "contiguous blocks of each recording",
        "seed": request.seed,
        "gains": {name: {"value": one.value, "low": one.low, "high": one.high} for name, one in gains.items()},
        "confusion": confusion(examples.codes[tested], model.said[tested], examples.n_classes).tolist(),
    }


def _facts_of(reader: Reader, target: str) -> dict[str, Any]:
    return {"layers": list(reader.layers), "gap_seconds": None if target == "label" else reader.gap_seconds}


def _what_to_mind(request: ProbeRequest, cuts: Sequence[Cut], drawn: str) -> list[str]:
    found = []
    if any(cut.simulated for cut in cuts):
        found.append(f"{sum(cut.simulated for cut in cuts)} of {len(cuts)} recordings are simulated.")
    if drawn != "recordings":
        found.append(
            f"With {len(cuts)} recordings, intervals are over {drawn}: they say how well these recordings are known, "
            "not what another recording would give. Five recordings are enough for that."
        )
    if beyond := sum(cut.beyond for cut in cuts):
        found.append(f"{beyond} labels are left out: their window of {request.window_seconds:g} s ends too late.")
    if request.target != "label":
        found.append(
            f"The {request.target} of a window is that of its recording: what tells recordings apart (noise, the "
            "head's position, the day) counts as well."
        )
    return found


# ------------------------------------------------------------------------------------------------------------ the model


def model_reader(request: ProbeRequest, on_progress: OnProgress) -> Reader:
    """Make a model ready, and its random control if that is wanted."""
    settings = EmbedSettings(
        model=request.model, layers=request.layers, device=request.device, numpy_rate=request.numpy_rate
    )
    found = find_model(request.model)
    sources = {MODEL: Source(found)} | ({RANDOM: Source(found, request.seed)} if RANDOM in request.controls else {})
    ready = {name: ready_encoder(source, settings, on_progress) for name, source in sources.items()}
    model, spec = ready[MODEL], ready[MODEL].encoder.spec
    if spec.modality != MEG:
        raise InputError(f"{request.model} is no MEG model. Choose one that pretrain made.")
    settings = narrowed(settings, request, spec)
    wanted = from_preprocessor(model.loaded.preprocessor)

    @contextmanager
    def open_recording(path: Path) -> Iterator[ProbeRecording]:
        require_modality(path, MEG, request.model)
        with open_model_input(path, wanted, settings) as signal:
            states = {name: _states(one, signal, settings, path) for name, one in ready.items()}
            yield _as_recording(path, signal, states, spec.clock, request)

    simulated = (SIMULATED[0],) if wanted.simulated else ()
    seen = seen_in_training(model.loaded.folder, request.recordings)
    warnings = (*simulated, *seen, *model.loaded.warnings, *model.choice.warnings)
    return Reader(model.layers, open_recording, warnings, sight_seconds(spec, settings.chunk_seconds))


def narrowed(settings: EmbedSettings, request: ProbeRequest, spec: EncoderSpec) -> EmbedSettings:
    """Shorter chunks for a leakage probe, whose training windows lie beside the tested ones in one recording."""
    if request.target == "label":
        return settings
    return replace(settings, chunk_seconds=max(request.window_seconds, spec.context_seconds))


def sight_seconds(spec: EncoderSpec, chunk_seconds: float) -> float:
    """How far from a frame's middle the farthest sample is that its states may have seen.

    The transformer sees all frames of its window, at most chunk and context on both sides; the outermost of these sees
    half a field more.
    """
    clock = spec.clock
    frames = max(1, clock.frames_in(chunk_seconds)) + 2 * clock.frames_in(spec.context_seconds)
    return frames * clock.stride_seconds + clock.field / 2 / clock.sampling_rate


def seen_in_training(folder: Path, recordings: Sequence[Path]) -> tuple[str, ...]:
    """A warning if the model in a folder was pre-trained on some of the recordings, as its training.json says."""
    try:
        training = json.loads((folder / "training.json").read_bytes())
        data, train = training["data"], set(training["split"]["train"])
        pairs = zip(data["recordings"], data["recordings_sha256"], strict=True)
        hashes = {sha256 for name, sha256 in pairs if name in train}
    except (OSError, ValueError, KeyError, TypeError):
        return ()  # of a model that was made elsewhere nothing is known
    count = sum(hash_recording(path) in hashes for path in recordings)
    told = f"The model was pre-trained on {count} of these {len(recordings)} recordings (without labels): "
    return (told + "on new ones it may do worse, and the controls would not.",) if count else ()


def _states(ready: ReadyEncoder, signal: "MegSignal", settings: EmbedSettings, path: Path) -> np.ndarray:
    """States of a whole recording, (layers, frames, dim) float32."""
    windows = plan(ready.encoder.spec, signal.n_samples, settings, str(path))
    blocks = stream_states(ready.encoder, ready.runners, signal, windows, ignore_progress)
    return np.concatenate(list(blocks), axis=1)


def _as_recording(
    path: Path, signal: "MegSignal", states: Mapping[str, np.ndarray], clock: FrameClock, request: ProbeRequest
) -> ProbeRecording:
    """Who was recorded is looked up only where it is asked for."""
    subject, session = ("", "") if request.target == "label" else who_and_when(path, request.numpy_rate)
    simulated = bool(signal.facts.get("simulated"))
    return ProbeRecording(
        signal.n_samples, signal.sampling_rate, signal.labels, signal.read, states, clock, subject, session, simulated
    )
