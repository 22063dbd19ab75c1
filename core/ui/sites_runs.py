"""Recordings of sites that visitors sent, and the models that were trained on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import InputError
from core.tasks.sites.requests import SiteDescription, SiteUploads
from core.training.runs import Run
from core.ui.trainings import KeptTraining, KeptTrainings

NO_RECORDING = "There is no recording here, or it is no longer kept. Send one in step 1, or take the simulated one."
MODEL = "sites"
"""Name of a downloaded checkpoint."""


@dataclass(frozen=True)
class SitesAsked:
    """What a training is to be: the preset to begin with, and the settings that differ from it, by name."""

    preset: str
    changes: Mapping[str, str | int | float]


@dataclass
class SiteStudy(KeptTraining):
    """Recordings that a page sent or had simulated, and what was trained on them.

    Attributes:
        uploads: The recordings, and the table of sites; the first recording is described.
        montage: For recordings without positions; empty for none.
        numpy_rate: Hz of recordings that do not say theirs.
        description: Of the first recording; None before it was read.
    """

    kind = "Sites training"
    when_stopped = "The last checkpoint is kept. “Resume” goes on where it stopped."
    uploads: SiteUploads | None = None
    montage: str = ""
    numpy_rate: float | None = None
    description: SiteDescription | None = None

    @property
    def described(self) -> SiteDescription:
        """What is in the recording, or InputError before it was read."""
        if self.description is None:
            raise InputError(NO_RECORDING)
        return self.description

    @property
    def sent_files(self) -> SiteUploads:
        """What was sent, or InputError where there is nothing."""
        if self.uploads is None:
            raise InputError(NO_RECORDING)
        return self.uploads

    def outputs(self, run: Run) -> Mapping[str, Path]:
        """Return the checkpoint of a run."""
        folder = self.checkpoint(run)
        return {} if folder is None else {MODEL: folder}


class SiteStudies(KeptTrainings[SiteStudy]):
    """The studies of all pages."""

    def _new(self, number: str, folder: Path, sent: tuple[str, ...]) -> SiteStudy:
        return SiteStudy(number, folder, sent)

    def _gone(self) -> str:
        return NO_RECORDING

    def start(self, study: SiteStudy, asked: SitesAsked) -> None:
        """Start a training.

        Raises:
            InputError: there is no recording, or a training is under way.
        """
        name = f"{asked.preset} on {Path(study.described.path).name}"
        self.begin(study, lambda: command_of(study, asked), name)


def command_of(study: SiteStudy, asked: SitesAsked) -> Sequence[str]:
    """Write what a training is to be as what the command line takes."""
    sent = study.sent_files
    flags = {
        "output": study.output / "model", "preset": asked.preset, "sites": sent.table, "montage": study.montage,
        "numpy-rate": study.numpy_rate,
    }  # fmt: skip
    given = [f"--{name}={value}" for name, value in flags.items() if value]
    changes = [f"--set={name}={value}" for name, value in asked.changes.items()]
    return ["sites", "train", "--data", *map(str, sent.recordings), *given, *changes]
