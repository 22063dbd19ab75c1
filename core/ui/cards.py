"""The small pieces of HTML of the page: what it shows before, while and after a run. All foreign text is escaped."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from core.arrays import EmbedResult
from core.embed.recordings import MegInfo, RecordingInfo
from core.ui.progress import in_words

EMPTY = """
<div class="strata-card strata-empty">
  <svg viewBox="0 0 240 64" aria-hidden="true"><path d="M4 32h14l5-12 7 26 8-40 9 50 8-36 7 22 6-14 6 9 5-5h14l6-16 7 30
  8-38 9 44 8-28 6 12 6-8 5 4h18l5-10 6 20 7-28 7 32 6-18 5 4h18" /></svg>
  <h2>Nothing embedded yet</h2>
  <p>Choose a recording, or try an example. You will see its waveform, its spectrogram, what the model makes of each
  moment, and the path of the frames through the model's space. Click anywhere in a plot to hear that moment.</p>
</div>
"""


def working(what: str) -> str:
    """Say what is under way."""
    return f'<div class="strata-card strata-working" role="status"><h2>{escape(what)}</h2></div>'


def failed(problem: str) -> str:
    """Say why there is no result."""
    return f'<div class="strata-card strata-failed" role="alert"><h2>No result</h2><p>{escape(problem)}</p></div>'


def stopped() -> str:
    """Say that the visitor stopped the run."""
    told = "Nothing was kept. Change what you like and start again."
    return f'<div class="strata-card" role="status"><h2>Stopped</h2><p>{told}</p></div>'


def note(text: str) -> str:
    """Show a remark in small print."""
    return f'<p class="strata-note">{escape(text)}</p>'


def about_limits(max_minutes: float, max_upload_mb: float) -> str:
    """Say what may be sent."""
    limits = f"up to {in_words(max_minutes * 60)} and {max_upload_mb:,.0f} MB"
    what = "Any common audio or video format, for MEG models .fif, .con or .sqd"
    return f'<p class="strata-note">{what}; {limits}.</p>'


def about_recording(info: RecordingInfo) -> str:
    """Say what a chosen file holds: ``11.0 s, 16,000 Hz, 1 channel``, of MEG ``10.0 s, 1,000 Hz, 306 MEG channels``."""
    kind = "MEG channel" if isinstance(info, MegInfo) else "channel"
    facts = [] if info.duration_seconds is None else [f"{info.duration_seconds:,.1f} s"]
    facts += [f"{info.sampling_rate:,g} Hz", f"{info.n_channels} {kind}" + ("s" if info.n_channels > 1 else "")]
    return f'<p class="strata-note">{escape(", ".join(facts))}</p>'


def how_to_read(text: str) -> str:
    """Show a remark that opens on demand."""
    return f'<details class="strata-how-to"><summary>How to read this</summary><p>{escape(text)}</p></details>'


def problem_note(problem: str) -> str:
    """Say in small print why something cannot be used or made."""
    return f'<p class="strata-note strata-bad" role="alert">{escape(problem)}</p>'


def facts(result: EmbedResult) -> str:
    """Say what was computed, how, and what to mind."""
    told = result.info.metadata
    notes = [*told.get("warnings", []), *(f"No .{kind} file: {why}" for kind, why in result.problems.items())]
    listed = "".join(f"<li>{escape(str(note))}</li>" for note in notes)
    minded = f'<ul class="strata-warnings">{listed}</ul>' if notes else ""
    return f'<div class="strata-facts"><p>{_what(result)}</p><p class="strata-how">{_how(told)}</p>{minded}</div>'


def _what(result: EmbedResult) -> str:
    info, told = result.info, result.info.metadata
    tuned = ", fine-tuned" if told.get("fine_tuned") else ""
    stride = f"one each {info.clock.stride_seconds * 1_000:g} ms"
    return (
        f"<strong>{info.n_frames:,} frames of {info.dim:,} values</strong>, {stride}, from {_layers(info.layers)} of "
        f"<strong>{escape(model_name(str(told.get('model_name', ''))))}</strong>{tuned}: {escape(result.source.name)}."
    )


def _layers(layers: Sequence[int]) -> str:
    if len(layers) == 1:
        return f"layer {layers[0]}"
    return f"{len(layers)} layers ({layers[0]} to {layers[-1]})"


def _how(told: dict[str, Any]) -> str:
    parts = [_chosen(kind, told) for kind in ("device", "engine", "precision") if told.get(kind)]
    taken, length = told.get("seconds_taken"), told.get("duration_seconds")
    if taken and length:
        parts.append(
            f"{length:,.1f} s of {_material(told)} in {_seconds(taken)}, {length / taken:,.1f} times real time."
        )
    return " ".join(parts)


def _material(told: dict[str, Any]) -> str:
    return "MEG" if told.get("modality") == "meg" else "sound"


def _chosen(kind: str, told: dict[str, Any]) -> str:
    """Return, say, "Engine openvino: the fastest here that agrees."."""
    reason = f": {told[f'{kind}_reason']}" if told.get(f"{kind}_reason") else ""
    return f"{kind.capitalize()} <strong>{escape(str(told[kind]))}</strong>{escape(reason)}."


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 10 else in_words(value)


def model_name(model: str) -> str:
    """Show a model given by a folder by the folder's name."""
    return Path(model).name if Path(model).is_absolute() else model
