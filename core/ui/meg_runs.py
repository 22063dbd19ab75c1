"""Recordings of MEG that visitors sent, what was prepared of them, and the models that were trained on that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import InputError
from core.sensors import MegDescription, Preparation
from core.tasks.meg.requests import PrepareSummary
from core.training.runs import Run
from core.ui.trainings import KeptTraining, KeptTrainings

NO_RECORDING = "There is no recording here, or it is no longer kept. Send one, or take the simulated one."


@dataclass(frozen=True)
class Asked:
    """What a pre-training is to be.

    Attributes:
        preset: Name of the settings to begin with.
        changes: Settings that differ from them, by name.
    """

    preset: str
    changes: Mapping[str, str | int | float]


@dataclass
class Study(KeptTraining):
    """Recordings that a page sent or had simulated, and what was made of them.

    Attributes:
        recordings: What was found in what was sent; the first one is described.
        numpy_rate: Hz of recordings that do not say theirs.
        description: Of the chosen recording; None before it was read.
        prepared: What the prepared folder holds; None before.
        preparation: How the last one was prepared.
        preparations: Folders prepared so far; a training may still read an earlier one.
    """

    kind = "MEG pre-training"
    when_stopped = "The last checkpoint is kept. “Resume” goes on where it stopped."
    recordings: tuple[Path, ...] = ()
    numpy_rate: float | None = None
    description: MegDescription | None = None
    prepared: PrepareSummary | None = None
    preparation: Preparation = field(default_factory=Preparation)
    preparations: int = 0

    @property
    def described(self) -> MegDescription:
        """What is in the recording, or InputError before it was read."""
        if self.description is None:
            raise InputError(NO_RECORDING)
        return self.description

    @property
    def ready(self) -> PrepareSummary:
        """What was prepared, or InputError before that."""
        if self.prepared is None:
            raise InputError("Nothing is prepared yet. Press “Prepare” in step 2 first.")
        return self.prepared

    def next_folder(self) -> Path:
        """Return a folder for what is prepared next."""
        self.preparations += 1
        return self.folder / f"prepared-{self.preparations}"

    def outputs(self, run: Run) -> Mapping[str, Path]:
        """Return the checkpoint of a run."""
        folder = self.checkpoint(run)
        return {} if folder is None else {"meg2vec": folder}


class Studies(KeptTrainings[Study]):
    """The studies of all pages."""

    def _new(self, number: str, folder: Path, sent: tuple[str, ...]) -> Study:
        return Study(number, folder, sent)

    def _gone(self) -> str:
        return NO_RECORDING

    def start(self, study: Study, asked: Asked) -> None:
        """Start a pre-training.

        Raises:
            InputError: nothing is prepared, or a training is under way.
        """
        name = f"{asked.preset} on {study.described.path.rpartition('/')[2]}"
        self.begin(study, lambda: command_of(study, asked), name)


def command_of(study: Study, asked: Asked) -> Sequence[str]:
    """Write what a pre-training is to be as what the command line takes."""
    flags = {
        "config": asked.preset, "data_dir": study.ready.folder, "output_dir": study.output / "model",
    }  # fmt: skip
    changes = [f"--set={name}={value}" for name, value in asked.changes.items()]
    return ["pretrain", *(f"--{name}={value}" for name, value in flags.items()), *changes]
