"""What the MEG tasks made, in words."""

from pathlib import Path

from core.tasks.meg.requests import PrepareSummary
from core.tasks.meg.words import prepared_as_text


def test_a_prepared_folder_in_words():
    recordings = ({"channels": "names"}, {"channels": "interpolated"}, {"channels": "names"})
    summary = PrepareSummary(Path("p"), {"train": 9, "eval": 3}, {"train": 90.0, "eval": 30.0}, recordings, skipped=1)
    assert prepared_as_text(summary) == (
        "9 segments (90 s) in train, 3 segments (30 s) in eval; channels of 3 recordings by: 2 names, 1 interpolated. "
        "1 were prepared before."
    )
