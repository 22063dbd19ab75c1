"""What a layerwise analysis is asked, and from there to its rows: features of every model, with labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.alignment.read import read_alignments
from core.alignment.segments import Alignment, Segment, from_annotations
from core.analysis.features import FeatureFile
from core.analysis.rows import FrameRows, SpanRows
from core.analysis.tsne import LEAST_PERPLEXITY
from core.arrays import EmbedSettings, OnProgress
from core.checkpoints.find import Found, ModelEntry, describe_model, find_model
from core.checkpoints.load import weight_files
from core.embed.inputs import CorpusItem, list_inputs
from core.embed.pipeline import resolve_layers
from core.embed.recordings import AUDIO, TAKES, check_settings
from core.errors import DataError, InputError
from core.findings import SIMILARITIES, SPANS, LayersSettings
from core.tasks.encoders import Source
from core.tasks.features import FeatureRun, compute_features, hash_items, read_features, spoken_names

ALIGNED = ("phone", "word")
"""Spans that need alignments; labels are a MEG recording's own annotations."""

FEWEST_ROWS = 10
"""Rows that anything can be said of."""

LARGEST_SEED = 2**32 - 1_000
"""Libraries take 32 bits, and some draws add a small number."""


@dataclass(frozen=True)
class LayersRequest:
    """What to analyse.

    Attributes:
        inputs: Recordings, folders, CSV lists; empty to read the features that lie in ``features_dir``.
        embed: The model, and how it runs; its ``layers`` are not used.
        settings: What to find out.
        features_dir: Folder that keeps the features.
        compare: Second model, on the same recordings.
    """

    inputs: tuple[Path, ...]
    embed: EmbedSettings
    settings: LayersSettings
    features_dir: Path
    compare: str | None = None


def check_request(request: LayersRequest) -> None:
    """Refuse before anything is computed what no recording could get past.

    Raises:
        InputError: an unknown span or similarity, a span without alignments, layers or numbers that are none.
    """
    settings = request.settings
    for what, value, known in (("span", settings.span, SPANS), ("similarity", settings.similarity, SIMILARITIES)):
        if value not in known:
            raise InputError(f"Got the {what} {value!r}; expected one of {', '.join(known)}.")
    if settings.span in ALIGNED and settings.alignments is None:
        raise InputError(f"The span {settings.span} needs alignments. Name their folder with --alignments.")
    _check_numbers(settings)
    _layer_numbers(settings.layers)
    if not request.inputs and (request.compare is not None or settings.control):
        raise InputError("Got no recording; a second model and a control need recordings. Name them.")


def _check_numbers(settings: LayersSettings) -> None:
    if not settings.perplexity >= LEAST_PERPLEXITY:
        least = f"{LEAST_PERPLEXITY:g}"
        raise InputError(f"Got a perplexity of {settings.perplexity:g}; expected at least {least}, such as 30 or 9.")
    for flag, value in (("max-points", settings.max_points), ("max-frames", settings.max_frames)):
        if value is not None and value < FEWEST_ROWS:
            raise InputError(f"Got --{flag} {value}; expected {FEWEST_ROWS} or more, such as 5000.")
    if not 0 <= settings.seed <= LARGEST_SEED:
        raise InputError(f"Got --seed {settings.seed}; expected a whole number from 0 to {LARGEST_SEED}.")


def feature_runs(request: LayersRequest, on_progress: OnProgress) -> list[FeatureRun]:
    """Features of the model, of the one to compare with, then of the controls; of the same recordings each."""
    if not request.inputs:
        return [read_features(request.features_dir, request.settings.num_files, request.embed.model)]
    sources, modality = _sources(request)
    if request.settings.span == "label" and modality == AUDIO:
        raise InputError(
            f"The span label is for annotations of MEG; {sources[0].name} takes sound. Use another --span."
        )
    items = list_inputs(list(request.inputs), modality)[: request.settings.num_files]
    _alignments(items, request.settings)  # before a model runs for an hour
    recordings, notes = hash_items(items)
    runs = []
    for source in sources:
        embed = replace(request.embed, model=source.found.name)
        run = compute_features(source, recordings, embed, request.features_dir, on_progress)
        usable = set(run.items)
        recordings = [recording for recording in recordings if recording.item in usable]  # no failure is tried twice
        runs.append(run)
    kept = {recording.item for recording in recordings}
    failures = tuple(failure for run in runs for failure in run.failures)
    return [replace(_only(run, kept), failures=failures, notes=tuple(notes)) for run in runs]


def _sources(request: LayersRequest) -> tuple[list[Source], str]:
    """The models asked for, then their controls, and the modality that they take.

    Raises:
        InputError: one model twice, two of one name or of two modalities, or two that the similarity cannot compare.
    """
    names = [request.embed.model] if request.compare is None else [request.embed.model, request.compare]
    found = [find_model(name) for name in names]
    entries = [describe_model(model) for model in found]
    for entry in entries:
        check_settings(entry.modality, request.embed)
        if entry.n_layers is not None:
            resolve_layers(request.settings.layers, entry.name, entry.n_layers)
    if len(found) == 2:
        _check_pair(found)
        _check_modalities(entries)
        _check_dims(entries, request.settings.similarity)
    controls = [Source(model, request.settings.seed) for model in found] if request.settings.control else []
    sources = [Source(model) for model in found] + controls
    for source in sources:
        source.model_hash()  # a folder without weights is refused before the other model has run
    return sources, entries[0].modality


def _check_pair(found: Sequence[Found]) -> None:
    first, second = found
    weights = [weight_files(model.folder, model.name, allow_bin=not model.from_user) for model in found]
    if weights[0] == weights[1]:
        raise InputError(f"Got {first.name} twice. Name another model to compare with, or use --control.")
    if first.name == second.name:
        raise InputError(
            f"Both models are called {first.name} ({first.folder} and {second.folder}). Rename one of the folders."
        )


def _check_modalities(entries: Sequence[ModelEntry]) -> None:
    first, second = entries
    if first.modality != second.modality:
        raise InputError(
            f"{first.name} takes {TAKES[first.modality]} and {second.name} takes {TAKES[second.modality]}; two models "
            "are compared on the same recordings. Name two models of one kind."
        )


def _check_dims(entries: Sequence[ModelEntry], similarity: str) -> None:
    first, second = entries
    if similarity == "cosine" and first.dim and second.dim and first.dim != second.dim:
        raise InputError(
            f"{first.name} has {first.dim} dims and {second.name} has {second.dim}; a cosine needs as many of both. "
            "Use --similarity cka."
        )


def _only(run: FeatureRun, kept: set[CorpusItem]) -> FeatureRun:
    """Keep the recordings that every model could take."""
    pairs = [(item, file) for item, file in zip(run.items, run.files, strict=True) if item in kept]
    return replace(run, items=tuple(item for item, _ in pairs), files=tuple(file for _, file in pairs))


def choose_rows(run: FeatureRun, settings: LayersSettings) -> FrameRows | SpanRows:
    """Open the rows that the settings ask for: frames, phones or words, of the layers wanted."""
    found = _alignments(run.items, settings)
    names = zip(spoken_names(run.items), run.files, strict=True)
    alignments = {file.name: found[name] for name, file in names if name in found}
    _require_annotations(run, settings.span)
    alignments |= {file.name: _annotated(file, alignments.get(file.name)) for file in run.files if _annotations(file)}
    # What a list says of a whole recording comes before annotations, unless these are the rows.
    marks = {kind: _marks(run, kind) for kind in ("speaker", "label") if kind != settings.span}
    layers = _layer_numbers(settings.layers)
    if settings.span == "frame":
        return FrameRows(run.files, alignments, marks=marks, layers=layers)
    return SpanRows(run.files, alignments, settings.span, marks=marks, layers=layers)


def _alignments(items: Sequence[CorpusItem], settings: LayersSettings) -> dict[str, Alignment]:
    """Alignments by the recordings' spoken names; those without one are missing, which a span then refuses.

    Raises:
        StrataError: a file that cannot be read, that could be of several recordings, or without the span's segments.
    """
    if settings.alignments is None:
        return {}
    found = read_alignments(settings.alignments, spoken_names(items))
    for alignment in found.values():
        if settings.span in ALIGNED and settings.span not in alignment.tiers:
            held = ", ".join(alignment.tiers) or "nothing"
            raise DataError(f"{alignment.source} holds {held}; the span {settings.span} needs {settings.span}s.")
    return found


def _require_annotations(run: FeatureRun, span: str) -> None:
    without = [file for file in run.files if not _annotations(file)]
    if span == "label" and without:
        raise DataError(
            f"{without[0].recording_path} has no annotations; the span label needs them. Leave this recording out, or "
            "use --span frame."
        )


def _annotations(file: FeatureFile) -> tuple[Segment, ...]:
    """What a MEG recording's own annotations say was when."""
    found = file.metadata.get("annotations") or ()
    return from_annotations([tuple(one) for one in found], file.duration_seconds or 0.0)


def _annotated(file: FeatureFile, alignment: Alignment | None) -> Alignment:
    """Add a recording's own annotations to its alignment, if it has one, as labels."""
    alignment = alignment or Alignment(file.recording_path, {})
    return replace(alignment, tiers={**alignment.tiers, "label": _annotations(file)})


def _marks(run: FeatureRun, kind: str) -> dict[str, str]:
    values = ((file.name, getattr(item, kind)) for item, file in zip(run.items, run.files, strict=True))
    return {name: value for name, value in values if value}


def _layer_numbers(wanted: str) -> list[int] | None:
    """Read ``all`` (None) or numbers; which of them exist, the rows know."""
    if wanted == "all":
        return None
    try:
        return [int(part) for part in wanted.split(",")]
    except ValueError:
        raise InputError(f"Got layers {wanted!r}; expected all or numbers such as 0,6,12.") from None
