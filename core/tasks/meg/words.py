"""What the MEG tasks made, in words for a door."""

from core.tasks.meg.requests import PrepareSummary


def prepared_as_text(summary: PrepareSummary) -> str:
    """A line for each part and for each way in which channels were fitted."""
    parts = ", ".join(
        f"{summary.segments[part]} segments ({summary.seconds[part]:.0f} s) in {part}" for part in summary.segments
    )
    ways = [str(recording["channels"]) for recording in summary.recordings]
    fitted = ", ".join(f"{ways.count(way)} {way}" for way in dict.fromkeys(ways))
    kept = f" {summary.skipped} were prepared before." if summary.skipped else ""
    return f"{parts}; channels of {len(ways)} recordings by: {fitted}.{kept}"
