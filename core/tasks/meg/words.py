"""What the MEG tasks made, in words and paths for a door."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from core.tasks.meg.requests import PrepareSummary, PretrainResult, PretrainSettings


def with_data(settings: PretrainSettings, folder: Path) -> PretrainSettings:
    """The same settings on other data: LibriBrain's folder where they use it, else a prepared one."""
    name = "data_dir" if settings.use_libribrain else "numpy_data_dir"
    changed: dict[str, Any] = {name: str(folder)}
    return replace(settings, **changed)


def prepared_as_text(summary: PrepareSummary) -> str:
    """A line for each part and for each way in which channels were fitted."""
    parts = ", ".join(
        f"{summary.segments[part]} segments ({summary.seconds[part]:.0f} s) in {part}" for part in summary.segments
    )
    ways = [str(recording["channels"]) for recording in summary.recordings]
    fitted = ", ".join(f"{ways.count(way)} {way}" for way in dict.fromkeys(ways))
    kept = f" {summary.skipped} were prepared before." if summary.skipped else ""
    return f"{parts}; channels of {len(ways)} recordings by: {fitted}.{kept}"


def trained_checkpoint(result: PretrainResult) -> Path:
    """The checkpoint with the lowest loss on held-out recordings, or the last one where none was scored yet."""
    folder = Path(result.folder)
    return folder / "best" if (folder / "best").is_dir() else folder / "last"
