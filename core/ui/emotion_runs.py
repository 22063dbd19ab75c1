"""Trainings on labelled voices: what is kept of them, and the command that trains."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.errors import InputError
from core.scoring import CorpusSettings, EmotionFindings, LabelledCorpus
from core.tasks.emotion import EmotionRequest
from core.training.runs import Run
from core.ui.trainings import KeptTraining, KeptTrainings


@dataclass(frozen=True)
class Voices:
    """What was read from what a page sent, and with which settings."""

    settings: CorpusSettings
    corpus: LabelledCorpus


@dataclass
class Training(KeptTraining):
    """Labelled voices that a page sent, and what was trained on them.

    Attributes:
        read: Who speaks in which clip, and how; None before they were read.
        request: What was asked for last.
        findings: What the last one found, once somebody has asked for it.
    """

    kind = "emotion head"
    when_stopped = (
        "Finished folds and features are kept. “Resume” goes on where it stopped; “Train” begins again with the "
        "settings as they are now, on the features that are there."
    )
    read: Voices | None = None
    request: EmotionRequest | None = None
    findings: EmotionFindings | None = None

    @property
    def voices(self) -> Voices:
        """What was read, or InputError before that."""
        if self.read is None:
            raise InputError("There are no labelled voices yet. Send a zip, or recordings with a CSV list.")
        return self.read

    @property
    def features(self) -> Path:
        """Where the clips' features are kept."""
        return self.folder / "features"

    @property
    def head(self) -> Path:
        """Where the last process writes the head."""
        return self.output / "head"

    @property
    def report(self) -> Path:
        """Where the last process writes report, figures and tables."""
        return self.output / "report"

    def outputs(self, run: Run) -> Mapping[str, Path]:
        """Return the head and the report that a run wrote."""
        folder = self.results[run.id]
        made = {"head": folder / "head", "report.html": folder / "report" / "report.html"}
        return {name: path for name, path in made.items() if path.exists()}


class Trainings(KeptTrainings[Training]):
    """The trainings on labelled voices of all pages."""

    def _new(self, number: str, folder: Path, sent: tuple[str, ...]) -> Training:
        return Training(number, folder, sent)

    def _gone(self) -> str:
        return "There are no labelled voices here, or they are no longer kept. Send them under “Train”."

    def head(self, number: str | None) -> Path | None:
        """Return the folder of the head that a training wrote; None where there is none yet."""
        training = self.find(number)
        is_there = training is not None and training.run is not None and self.status(training).state == "finished"
        return training.head if training is not None and is_there else None

    def start(self, training: Training, request: EmotionRequest, mapping: str) -> None:
        """Start the training of a head.

        Args:
            training: The voices.
            request: What is asked.
            mapping: The mapping of ``request`` as the command line takes it; empty for none.

        Raises:
            InputError: this training or another one is under way.
        """
        self.begin(training, lambda: command_of(training, request, mapping), request.data.name)
        training.request, training.findings = request, None


def command_of(training: Training, request: EmotionRequest, mapping: str) -> list[str]:
    """Write a request as what the command line takes."""
    flags = {
        "data": request.data, "output": training.head, "report": training.report, "features-dir": request.features_dir,
        "scheme": request.corpus.scheme, "model": request.embed.model, "device": request.embed.device,
        "engine": request.embed.engine, "precision": request.embed.precision, "head": request.head.head,
        "layer": request.head.layer, "pooling": request.head.pooling, "folds": request.folds, "seed": request.head.seed,
        **({"mapping": mapping} if mapping else {}),
    }  # fmt: skip
    # With a sign of equality, a value that begins with a dash is no flag.
    given = [f"--{name}={value}" for name, value in flags.items()]
    return ["emotion", "train", *given, *(["--skip-missing"] if request.corpus.skip_missing else []), "--json"]
