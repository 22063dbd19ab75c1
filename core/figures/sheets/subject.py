"""Which model a sheet is about, and what its caption says of the rows."""

from dataclasses import dataclass

from core.analysis.comparison import training_mark
from core.findings import ModelFindings


@dataclass(frozen=True)
class Subject:
    """A model and what a caption says of where its rows come from."""

    found: ModelFindings
    n_recordings: int
    span: str

    @property
    def title(self) -> str:
        """The model's name, marked where labels took part in its training."""
        return title_of(self.found)

    def counted(self, n: int) -> str:
        """Say a count of rows: ``n = 1,200 frames of 3 recordings``."""
        rows = self.span if n == 1 else f"{self.span}s"
        recordings = "recording" if self.n_recordings == 1 else "recordings"
        return f"n = {n:,} {rows} of {self.n_recordings:,} {recordings}"


def title_of(found: ModelFindings) -> str:
    """Return a model's name, marked where labels took part in its training; a control's name says what it is."""
    mark = training_mark(found)
    return f"{found.model} ({mark})" if mark else found.model
