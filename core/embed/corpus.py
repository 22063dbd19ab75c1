"""Many recordings: embed them one after another or over several processes, skip what is done, and sum up.

:func:`run_corpus` does the items of :func:`list_inputs` that are not done yet. Under ``accelerate launch`` (or
torchrun) each process takes its share and process 0 writes the summary of all.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from core.arrays import EmbedResult, EmbedSettings, OnProgress, OutputSettings, Progress, ignore_progress
from core.embed.formats import json_bytes
from core.embed.inputs import KEPT_NAME, CorpusItem, is_corpus, list_inputs
from core.embed.recordings import is_unchanged, size_of
from core.embed.team import Team
from core.embed.writers import FAILED, check_folder, check_formats, output_path, replace_file
from core.errors import CheckpointError, DataError, MissingPackage, OutputError, StrataError

__all__ = [
    "CorpusItem",
    "CorpusSummary",
    "check_corpus",
    "is_corpus",
    "is_done",
    "list_inputs",
    "run_corpus",
    "settings_fingerprint",
]

log = logging.getLogger(__name__)

SUMMARY = f"{KEPT_NAME}.json"
# Written into the summary, so that a later run knows the file for its own and may replace it.
SUMMARY_KIND = "strata corpus summary"
# Settings that do not change the values.
NO_EFFECT = ("max_seconds",)


def settings_fingerprint(settings: EmbedSettings, formats: Iterable[str], model_hash: str) -> str:
    """Hash everything that decides what the files hold: settings, formats (in any order) and the model."""
    values = {key: value for key, value in asdict(settings).items() if key not in NO_EFFECT}
    values["chunk_seconds"] = float(settings.chunk_seconds)
    if settings.numpy_rate is None:  # what was embedded before there was such a setting is still done
        del values["numpy_rate"]
    facts = {"settings": values, "formats": sorted(set(formats)), "model_sha256": model_hash}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def is_done(source: Path, output: OutputSettings, fingerprint: str) -> bool:
    """Whether a recording's results are there and complete.

    Its JSON has to say the same content hash and settings, and every format has to lie beside it, or a ``.mat.failed``.

    Args:
        source: The recording; hashed only if all else agrees.
        output: Folder, base name and formats of this recording.
        fingerprint: :func:`settings_fingerprint` of what is asked for now.
    """
    base = output.base or source.stem
    content = read_json(output_path(output, base, "json"))
    if content is None or content.get("settings_fingerprint") != fingerprint:
        return False
    if not all(_is_there(output, base, name) for name in output.formats):
        return False
    return is_unchanged(source, content.get("input_sha256"))


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None for anything else."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _is_there(output: OutputSettings, base: str, name: str) -> bool:
    marker = output.folder / (base + FAILED)
    return output_path(output, base, name).is_file() or (name == "mat" and marker.is_file())


@dataclass(frozen=True)
class _Outcome:
    """What became of one item: ``status`` is done, skipped or failed."""

    index: int
    status: str
    files: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class CorpusSummary:
    """What became of a corpus.

    Attributes:
        n_done: Recordings embedded in this run.
        n_skipped: Recordings whose results were complete already.
        failures: ``{"file", "error"}`` for each recording that has no results.
        problems: ``{"file", "format", "problem"}`` for each single format that could not be written.
        files: Paths of every result, of this run and of earlier ones, in the order of the inputs.
        path: The summary's own file.
    """

    n_done: int
    n_skipped: int
    failures: list[dict[str, str]]
    problems: list[dict[str, str]]
    files: list[str]
    path: Path

    @property
    def exit_code(self) -> int:
        """0 where every recording has its results, 2 otherwise."""
        return 2 if self.failures else 0

    def to_json(self) -> dict[str, Any]:
        """Content of ``summary.json``."""
        counts = {"n_total": self.n_done + self.n_skipped + len(self.failures), "n_failed": len(self.failures)}
        facts = asdict(self) | {"path": str(self.path.absolute())}
        return {"kind": SUMMARY_KIND, **counts, **facts}


def run_corpus(
    items: Sequence[CorpusItem],
    embed_one: Callable[[CorpusItem], EmbedResult],
    output: OutputSettings,
    is_done: Callable[[CorpusItem], bool] = lambda _: False,
    on_progress: OnProgress = ignore_progress,
) -> CorpusSummary:
    """Embed every item that is not done, this process's share of them, and write ``summary.json``.

    A recording that fails is reported and the others go on; a model or a package that is missing ends the run, because
    every recording would fail alike.

    Args:
        items: From :func:`list_inputs`.
        embed_one: Embeds one recording and writes its results.
        output: Folder of the corpus, and whether files may be replaced.
        is_done: Tells which items to skip; not asked with ``force``.
        on_progress: Told the number of files that this process has finished, of its share.
    """
    check_corpus(output)
    team = Team()
    items = team.share(list(items))
    mine = deal(items, team.size)[team.rank]
    outcomes = []
    for count, index in enumerate(mine):
        on_progress(Progress("files", count, len(mine), "files"))
        outcomes.append(_do(index, items[index], embed_one, output, is_done))
    on_progress(Progress("files", len(mine), len(mine), "files"))
    summary = _summarise(items, team.gather(outcomes), output)
    if team.rank == 0:
        output.folder.mkdir(parents=True, exist_ok=True)
        replace_file(summary.path, json_bytes(summary.to_json()))
    team.wait()
    return summary


def check_corpus(output: OutputSettings) -> None:
    """Find out before any model is loaded what no recording of a corpus could get past.

    Raises:
        StrataError: Unknown format, a folder that cannot be written, or a ``summary.json`` there that is not one of
            ours (``force`` replaces it).
    """
    check_formats(output.formats)
    check_folder(output.folder)
    path = output.folder / SUMMARY
    if path.exists() and not output.force and (read_json(path) or {}).get("kind") != SUMMARY_KIND:
        raise OutputError(f"{path} is there and no corpus summary. Use --force to replace it, or another --output.")


def deal(items: Sequence[CorpusItem], size: int) -> list[list[int]]:
    """Deal the items' indices to ``size`` processes, the largest files first, each to the one with the least to do."""
    sizes = [_size(item) for item in items]
    hands: list[list[int]] = [[] for _ in range(size)]
    loads = [0] * size
    for index in sorted(range(len(items)), key=lambda index: -sizes[index]):
        lightest = loads.index(min(loads))
        hands[lightest].append(index)
        loads[lightest] += sizes[index] + 1  # the 1 spreads files that are empty or missing
    return [sorted(hand) for hand in hands]


def _size(item: CorpusItem) -> int:
    with suppress(OSError):
        return size_of(item.source)
    return 0


def _do(
    index: int,
    item: CorpusItem,
    embed_one: Callable[[CorpusItem], EmbedResult],
    output: OutputSettings,
    is_done: Callable[[CorpusItem], bool],
) -> _Outcome:
    """Do one item, whatever comes of it."""
    try:
        if item.error is not None:
            raise DataError(item.error)
        if not output.force and is_done(item):
            return _Outcome(index, "skipped", _files_there(item.output(output)))
        result = embed_one(item)
        return _Outcome(index, "done", {name: str(path) for name, path in result.files.items()}, dict(result.problems))
    except (CheckpointError, MissingPackage):
        raise
    except StrataError as error:
        log.warning("%s", error if str(item.source) in str(error) else f"{item.source}: {error}")
        return _Outcome(index, "failed", error=str(error))
    except Exception as error:  # a bug met by one recording must not cost the others
        log.exception("%s: unexpected error", item.source)
        return _Outcome(index, "failed", error=f"Unexpected {type(error).__name__}: {error}")


def _files_there(output: OutputSettings) -> dict[str, str]:
    paths = {name: output_path(output, output.base or "", name) for name in output.formats}
    return {name: str(path) for name, path in paths.items() if path.is_file()}


def _summarise(items: Sequence[CorpusItem], outcomes: Iterable[_Outcome], output: OutputSettings) -> CorpusSummary:
    """Merge the outcomes of all processes in the order of the items."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.index)
    name = {outcome.index: str(items[outcome.index].source) for outcome in ordered}
    return CorpusSummary(
        n_done=sum(outcome.status == "done" for outcome in ordered),
        n_skipped=sum(outcome.status == "skipped" for outcome in ordered),
        failures=[{"file": name[item.index], "error": item.error} for item in ordered if item.status == "failed"],
        problems=[
            {"file": name[item.index], "format": key, "problem": text}
            for item in ordered
            for key, text in item.problems.items()
        ],
        files=[path for item in ordered for path in item.files.values()],
        path=output.folder / SUMMARY,
    )
