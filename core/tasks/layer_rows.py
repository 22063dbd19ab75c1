"""What a layerwise analysis is asked, and from there to its rows: features of every model, with labels."""

from dataclasses import dataclass, replace
from pathlib import Path

from core.alignment.read import read_alignments
from core.alignment.segments import Alignment
from core.analysis.rows import FrameRows, SpanRows
from core.analysis.tsne import LEAST_PERPLEXITY
from core.arrays import EmbedSettings, OnProgress
from core.checkpoints.find import find_model
from core.embed.inputs import CorpusItem, list_inputs
from core.errors import InputError
from core.findings import SIMILARITIES, SPANS, LayersSettings
from core.tasks.encoders import Source
from core.tasks.features import FeatureRun, compute_features, read_features


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
        InputError: an unknown span or similarity, a span without alignments, or a perplexity that is none.
    """
    settings = request.settings
    for what, value, known in (("span", settings.span, SPANS), ("similarity", settings.similarity, SIMILARITIES)):
        if value not in known:
            raise InputError(f"Got the {what} {value!r}; expected one of {', '.join(known)}.")
    if settings.span != "frame" and settings.alignments is None:
        raise InputError(f"The span {settings.span} needs alignments. Name their folder with --alignments.")
    if not settings.perplexity >= LEAST_PERPLEXITY:
        least = f"{LEAST_PERPLEXITY:g}"
        raise InputError(f"Got a perplexity of {settings.perplexity:g}; expected at least {least}, such as 30 or 9.")
    if not request.inputs and (request.compare is not None or settings.control):
        raise InputError("Got no recording; a second model and a control need recordings. Name them.")


def feature_runs(request: LayersRequest, on_progress: OnProgress) -> list[FeatureRun]:
    """Features of the model, of the one to compare with, then of the controls; of the same recordings each."""
    if not request.inputs:
        return [read_features(request.features_dir, request.settings.num_files)]
    items = list_inputs(list(request.inputs))[: request.settings.num_files]
    if request.settings.alignments is not None:  # before the model runs for an hour
        read_alignments(request.settings.alignments, [item.source.stem for item in items])
    runs = []
    for source in _sources(request):
        embed = replace(request.embed, model=source.found.name)
        run = compute_features(source, items, embed, request.features_dir, on_progress)
        items = list(run.items)  # what failed once is not tried again
        runs.append(run)
    kept = set(items)
    failures = tuple(failure for run in runs for failure in run.failures)
    return [_only(run, kept, failures) for run in runs]


def _sources(request: LayersRequest) -> list[Source]:
    names = [request.embed.model] if request.compare is None else [request.embed.model, request.compare]
    found = [find_model(name) for name in names]
    if len(found) == 2 and found[0].folder == found[1].folder:
        raise InputError(f"Got {found[0].name} twice. Name another model to compare with, or use --control.")
    controls = [Source(model, request.settings.seed) for model in found] if request.settings.control else []
    return [Source(model) for model in found] + controls


def _only(run: FeatureRun, kept: set[CorpusItem], failures: tuple[dict[str, str], ...]) -> FeatureRun:
    """Keep the recordings that every model could take."""
    pairs = [(item, file) for item, file in zip(run.items, run.files, strict=True) if item in kept]
    return replace(
        run, items=tuple(item for item, _ in pairs), files=tuple(file for _, file in pairs), failures=failures
    )


def choose_rows(run: FeatureRun, settings: LayersSettings) -> FrameRows | SpanRows:
    """Open the rows that the settings ask for: frames, phones or words, of the layers wanted."""
    alignments = {} if settings.alignments is None else _alignments(run, settings.alignments)
    marks = {kind: _marks(run, kind) for kind in ("speaker", "label")}
    layers = _layer_numbers(settings.layers, run)
    if settings.span == "frame":
        return FrameRows(run.files, alignments, marks=marks, layers=layers)
    return SpanRows(run.files, alignments, settings.span, marks=marks, layers=layers)


def _alignments(run: FeatureRun, folder: Path) -> dict[str, Alignment]:
    found = read_alignments(folder, [file.stem for file in run.files])
    return {file.name: found[file.stem] for file in run.files if file.stem in found}


def _marks(run: FeatureRun, kind: str) -> dict[str, str]:
    values = ((file.name, getattr(item, kind)) for item, file in zip(run.items, run.files, strict=True))
    return {name: value for name, value in values if value}


def _layer_numbers(wanted: str, run: FeatureRun) -> list[int] | None:
    """Read ``all`` (None) or numbers; which of them exist, the rows know."""
    if wanted == "all":
        return None
    try:
        return [int(part) for part in wanted.split(",")]
    except ValueError:
        raise InputError(f"Got layers {wanted!r}; expected all or numbers such as 0,6,12.") from None
