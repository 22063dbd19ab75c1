"""What the tab "MEG" shows: what is in a recording, what was prepared, how to go on. All foreign text is escaped."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from core.figures.plotly_json import Figure
from core.sensors import MegDescription
from core.tasks.meg.requests import PrepareSummary
from core.ui import cards
from core.ui.emotion_views import EMPTY, warned
from core.ui.layers_views import table
from core.ui.progress import in_words
from core.ui.settings import UiSettings

SHOWN = 8
"""Names of channels and labels that are listed at most."""

KINDS = {"mag": "magnetometer", "grad": "gradiometer"}
HELMET = (
    '<path d="M76 54c-6-30 12-48 44-48s50 18 44 48M92 44h.1M100 26h.1M120 20h.1M140 26h.1M148 44h.1M120 40h.1" '
    'stroke-linecap="round" />'
)

EMPTY_RECORDING = EMPTY.format(
    size="",
    drawing=HELMET,
    title="No recording yet",
    text="MEG measures the brain's magnetic field with some three hundred sensors around the head. Send a recording, "
    "or take the simulated one. You will see which sensors it has, what they measured, and which of them look wrong.",
)
EMPTY_PREPARE = EMPTY.format(
    size="strata-lower",
    drawing='<path d="M20 32c8-30 12 30 20 0s12 20 20 0 8-26 16 0M104 32h28M126 26l8 6-8 6" />'
    '<path d="M160 14h24v36h-24zM192 14h24v36h-24z" />',
    title="Nothing prepared yet",
    text="Preparing filters the recording, brings it to one rate and to the sensors that the model expects, and sets a "
    "part aside that the model never trains on. Take a recording in step 1 first.",
)
EMPTY_TRAIN = EMPTY.format(
    size="strata-lower",
    drawing='<path d="M30 8v46h190M30 14c20 26 40 30 70 32s60 3 118 4" />',
    title="No training yet",
    text="The model learns from the recording itself: moments are hidden from it, and it learns to tell what belongs "
    "there from what comes from elsewhere. No labels are needed. Prepare a recording in step 2 first.",
)
EMPTY_USE = EMPTY.format(
    size="strata-lower",
    drawing='<path d="M40 10h160M52 21h136M40 32h160M60 43h120M40 54h160" />',
    title="No trained model yet",
    text="Once a training has kept a checkpoint (the model as a folder), it can embed this recording here, and you can "
    "take it with you. Train one in step 3 first.",
)

HEADS = {"channels": "sensors matched", "bads": "bad channels"}
"""Columns of what was prepared, where the task's word says little."""

FITTED = {
    "names": "by name",
    "interpolated": "by interpolation",
    "padded": "by name, zeros elsewhere",
    "native": "the recording's own",
}
"""How the recording's sensors were brought to the model's."""

SIMULATED = '<span class="strata-badge">simulated</span>'
"""Stands beside everything that no brain has produced."""

ABOUT_SENSORS = (
    "Magnetometers measure the field itself, in femtotesla (fT); gradiometers measure how it differs between two "
    "nearby coils, in fT per centimetre, and so see less of what is far away. A bad channel is one that whoever "
    "recorded it marked as broken or noisy. A label is a mark in the recording, such as a stimulus."
)


# -------------------------------------------------------------------------------------------------------- recording


def about_limits(settings: UiSettings) -> str:
    """Say what may be sent."""
    return cards.note(
        f"Neuromag .fif, KIT .con or .sqd, or .npy (channels × times); CTF .ds and BTi folders as a zip. Up to "
        f"{settings.max_upload_mb:,.0f} MB and {in_words(settings.max_seconds)}. Several files count as several "
        "recordings; parts of a split .fif belong together."
    )


def about_recording(found: MegDescription) -> str:
    """Say what is in a recording: sensors, rate, duration, bad channels, other channels, labels, and what to mind."""
    badge = f" {SIMULATED}" if found.simulated else ""
    name = escape(Path(found.path).name)
    facts = [f"<strong>{name}</strong>{badge}", escape(found.format), _sensors(found), _time(found)]
    lists = [
        ("Bad channels", ", ".join(_some(found.bads)) or "none marked"),
        ("Other channels", ", ".join(f"{count} {kind}" for kind, count in found.other_channels.items()) or "none"),
        ("Labels", ", ".join(_some([f"{label} ({count:,})" for label, count in found.labels.items()])) or "none"),
    ]
    listed = "".join(f"<div><dt>{what}</dt><dd>{escape(told)}</dd></div>" for what, told in lists)
    return (
        f'<div class="strata-facts strata-meg"><p>{", ".join(facts)}.</p><dl>{listed}</dl>{warned(found.warnings)}'
        f"{cards.how_to_read(ABOUT_SENSORS)}</div>"
    )


def _sensors(found: MegDescription) -> str:
    counts = {kind: len(found.sensors.of_kind(kind)) for kind in KINDS}
    parts = [_counted(count, KINDS[kind]) for kind, count in counts.items() if count]
    system = f" ({escape(found.sensors.system)})" if found.sensors.system else ""
    return f"<strong>{_counted(len(found.sensors), 'sensor')}</strong>{system}: {' and '.join(parts)}"


def _time(found: MegDescription) -> str:
    return f"{found.sampling_rate:,.6g} Hz, <strong>{escape(_length(found.seconds))}</strong>"


def _length(seconds: float) -> str:
    return in_words(seconds) if seconds >= 10 else f"{seconds:.1f} s"


def _some(names: Sequence[str]) -> list[str]:
    more = len(names) - SHOWN
    return [*names[:SHOWN], *([f"and {more} more"] if more > 0 else [])]


def figures(found: MegDescription) -> list[tuple[Figure, str]]:
    """Draw the recording: channels over time, spectra, and the map of sensors where their places are known."""
    from core.figures.meg import recording

    drawn = [
        (recording.butterfly_figure(found), recording.butterfly_caption(found)),
        (recording.spectra_figure(found), recording.spectra_caption(found)),
    ]
    sensors = recording.sensor_figure(found)
    if sensors is not None:
        drawn.append((sensors, recording.sensor_caption(found)))
    return [(_marked(figure, found.simulated), caption) for figure, caption in drawn]


def _marked(figure: Figure, simulated: bool) -> Figure:
    """Say in a figure's title that its data are simulated: pictures travel without their page."""
    if simulated:
        title = figure["layout"]["title"]
        figure["layout"]["title"] = {**title, "text": f"{title['text']} (simulated)"}
    return figure


# ---------------------------------------------------------------------------------------------------------- prepare


def prepared(summary: PrepareSummary, simulated: bool) -> str:
    """Say what was prepared: segments and seconds of both parts, what was done to each recording, what to mind."""
    parts = [
        f"<strong>{_counted(summary.segments.get(part, 0), 'segment')}</strong> "
        f"({escape(_length(summary.seconds.get(part, 0.0)))}) {purpose}"
        for part, purpose in (("train", "to train on"), ("eval", "held out to evaluate on"))
    ]
    badge = f" {SIMULATED}" if simulated else ""
    return (
        f'<div class="strata-facts strata-meg"><p>{" and ".join(parts)}.{badge}</p>{_recordings(summary.recordings)}'
        f"{warned(summary.warnings)}</div>"
    )


def _recordings(recordings: Sequence[Mapping[str, Any]]) -> str:
    """List what was done to each recording; the task names its own columns, and empty ones are left out."""
    found = [{name: _cell(_fitted(name, value)) for name, value in row.items()} for row in recordings]
    names = list(dict.fromkeys(name for row in found for name, told in row.items() if told))
    rows = ([row.get(name, "") for name in names] for row in found)
    return table([HEADS.get(name, name.replace("_", " ")) for name in names], rows, "strata-prepared") if names else ""


def _fitted(name: str, value: Any) -> Any:
    return FITTED.get(value, value) if name == "channels" else value


def _cell(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_cell(one)}" for name, one in value.items())
    return ", ".join(_some([_cell(one) for one in value])) if isinstance(value, Iterable) else f"{value}"


# ------------------------------------------------------------------------------------------------------ train and use


def about_caps(settings: UiSettings) -> str:
    """Say how long a training may be here; empty where there is no limit."""
    caps = [
        *([f"{settings.max_steps:,.0f} steps"] if np.isfinite(settings.max_steps) else []),
        *([in_words(settings.max_training_minutes * 60)] if np.isfinite(settings.max_training_minutes) else []),
    ]
    if not caps:
        return ""
    return cards.note(f"Many share this machine: a training ends after {' or '.join(caps)}, with a checkpoint.")


def commands(recordings: Sequence[Path], name: str) -> str:
    """Return the commands that use a downloaded checkpoint, with the recording's own name."""
    recording = shlex.quote(recordings[0].name if recordings else "RECORDING.fif")
    return "\n".join(
        [
            f"unzip {name}.zip",
            f"python -m core embed {recording} --model ./{name} --layers all --output embeddings",
            f"python -m core layers {recording} --model ./{name} --output layers",
        ]
    )


def about_checkpoint(preset: str, step: str, simulated: bool) -> str:
    """Say which model is at hand."""
    badge = f" {SIMULATED}" if simulated else ""
    learned = ", learned from simulated data" if simulated else ""
    told = f"after {escape(step)}" if step else "as it began"
    return f'<div class="strata-facts"><p><strong>{escape(preset)}</strong> {told}{learned}.{badge}</p></div>'


def _counted(n: int, one: str) -> str:
    return f"{n:,} {one}" + ("" if n == 1 else "s")
