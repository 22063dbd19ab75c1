"""Heads with an encoder of their own: it is fine-tuned in each fold, on the clips that the fold's head is trained on.

An encoder that had been tuned once on all clips would have heard the labels of those that are tested. So each fold
tunes its own, writes it as a checkpoint is written, and hears the tested clips through it as ``classify`` hears any
recording. Speakers that the tuning did not train on are heard so too: calibration comes from them.
"""

import hashlib
import json
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.arrays import EmbedSettings, Progress
from core.audio.signal import Signal
from core.checkpoints.find import Found, find_model
from core.emotion.head import Examples, Head, Trainer
from core.errors import InputError, OutputError, StrataError
from core.scoring import INTENDED_USE
from core.tasks.emotion.clips import Arrays, EncoderExtractor, HashedClip, computed
from core.tasks.emotion.examples import Voices, pooled
from core.tasks.emotion.requests import EmotionRequest
from core.tasks.emotion.watch import Watch
from core.tasks.encoders import Source

if TYPE_CHECKING:
    from core.emotion.head_files import EncoderFacts
    from core.models.loaded import LoadedModel

FOLDER = "encoder"
"""Of the tuned encoder, in the head's folder."""

IN_EACH_FOLD = "fine-tuned in each fold, on its training speakers"
"""What settings say of the encoder."""

_CLIPS_APART = (
    "The encoder was fine-tuned anew in each fold, with the head and on its training speakers alone: no clip was heard "
    "by an encoder that had been trained on its speaker. The baseline takes no encoder."
)
_CONTROL = (
    "The control with shuffled labels took the encoder as it was before fine-tuning, which would have cost as much "
    "again for each shuffle: it checks the folds, not the fine-tuning."
)


def tuning_notes(request: EmotionRequest) -> tuple[str, ...]:
    """What whoever reads a score of a tuned encoder should know."""
    if not request.head.tunes_encoder:
        return ()
    return (_CLIPS_APART, _CONTROL) if request.shuffled else (_CLIPS_APART,)


def tuning_key(clips: Sequence[HashedClip], request: EmotionRequest) -> str:
    """Hash of the clips and of the encoder before it is tuned: a fold that was kept is of these."""
    heard = [(one.sha256, one.clip.start, one.clip.stop) for one in clips]
    decides = [heard, Source(find_model(request.embed.model)).model_hash(), asdict(replace(request.embed, model=""))]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def trained_on(voices: Voices, request: EmotionRequest, first: int = 0) -> Examples:
    """What heads are trained on: features, or the clips' numbers where each head's encoder makes its own features.

    Args:
        voices: The corpus.
        request: Whether the encoder is tuned.
        first: Number of the first clip.
    """
    given = voices.examples
    if not request.head.tunes_encoder:
        return given
    numbers = np.arange(first, first + len(given), dtype=np.float64)
    return Examples((0,), numbers[None, :, None], given.codes, given.speakers, given.n_classes)


def _numbers(examples: Examples) -> list[int]:
    return [int(number) for number in examples.features[0, :, 0]]


# ---------------------------------------------------------------------------------------------------------------- sound


@dataclass
class SoundExtractor:
    """Samples themselves, as an extractor; ``settings`` say which channel is meant."""

    settings: EmbedSettings
    sampling_rate: int
    name: str = "sound"
    key: str = "sound"

    def __call__(self, signal: Signal, what: str) -> Arrays:
        """Return ``samples`` (time,) float32."""
        return {"samples": signal.read(0, signal.n_samples)}


class Sounds(Sequence[np.ndarray]):
    """Samples of clips in a file without a name: in memory, an hour of them would take 230 MB.

    Args:
        file: Samples of all clips, one after the other, float32.
        places: Where each begins and how many there are, in samples.
    """

    def __init__(self, file: Any, places: Sequence[tuple[int, int]]) -> None:
        self._file, self._places = file, tuple(places)

    @classmethod
    def decoded(cls, clips: Sequence[HashedClip], extractor: SoundExtractor, watch: Watch) -> "Sounds":
        """Decode all clips.

        Raises:
            StrataError: a clip cannot be read.
        """
        file = tempfile.TemporaryFile()  # noqa: SIM115 (it lasts as long as the sounds do)
        places, at = [], 0
        for done, (_, outcome) in enumerate(computed(clips, range(len(clips)), extractor)):
            watch.on_progress(Progress("read the clips", done, len(clips), "clips"))
            if isinstance(outcome, StrataError):
                raise outcome
            file.write(outcome["samples"].astype(np.float32).tobytes())
            places.append((at, len(outcome["samples"])))
            at += len(outcome["samples"])
        return cls(file, places)

    def take(self, rows: Sequence[int]) -> "Sounds":
        """Some of them, in another order."""
        return Sounds(self._file, [self._places[row] for row in rows])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, row: Any) -> Any:
        begin, count = self._places[row]
        self._file.seek(4 * begin)
        return np.frombuffer(bytearray(self._file.read(4 * count)), dtype=np.float32)  # writable, as torch wants it

    @property
    def n_samples(self) -> int:
        """Of all clips together."""
        return sum(count for _, count in self._places)


# --------------------------------------------------------------------------------------------------------- what is made


class TunedEncoder:
    """An encoder that was tuned with a head, as its checkpoint folder, and what it makes of clips.

    The folder is gone once nobody holds this any more.

    Args:
        folder: The checkpoint, alone in a folder of its own.
        head: That was trained with it.
        clips: All clips, which examples name by their numbers.
        extractor: Computes their features with it.
    """

    def __init__(self, folder: Path, head: Head, clips: Sequence[HashedClip], extractor: EncoderExtractor) -> None:
        self.folder, self._head, self._clips, self._extractor = folder, head, clips, extractor
        self._kept: dict[int, np.ndarray] = {}
        weakref.finalize(self, shutil.rmtree, folder.parent, ignore_errors=True)

    def features(self, numbers: Sequence[int]) -> np.ndarray:
        """Pooled layers (n_layers, n, dim) of clips, by the way that any recording takes.

        Raises:
            StrataError: a clip cannot be heard.
        """
        missing = [number for number in numbers if number not in self._kept]
        told = self._extractor.on_progress
        for done, (number, outcome) in enumerate(computed(self._clips, missing, self._extractor)):
            told(Progress("embed with the fine-tuned encoder", done, len(missing), "clips"))
            if isinstance(outcome, StrataError):
                raise outcome
            self._kept[number] = self._pooled(outcome)
        return np.stack([self._kept[number] for number in numbers], axis=1)

    def _pooled(self, arrays: Arrays) -> np.ndarray:
        rows = np.isin(arrays["layers"], self._head.layers)
        if self._head.attention is not None:
            return self._head.pool(arrays["frames"][rows]).astype(np.float32)
        return pooled(arrays["pooled"][rows], self._head.pooling)


@dataclass(frozen=True, kw_only=True)
class TunedHead(Head):
    """A head and the encoder that was tuned with it. Its examples are the clips' numbers."""

    encoder: TunedEncoder

    def pooled(self, examples: Examples) -> Examples:
        """Examples with what the encoder makes of their clips."""
        return replace(examples, layers=self.layers, features=self.encoder.features(_numbers(examples)))


def tuned_facts(head: TunedHead, before: "EncoderFacts") -> "EncoderFacts":
    """What a head says of the encoder that was tuned with it."""
    from core.checkpoints.load import checkpoint_hashes

    weights, config = checkpoint_hashes(head.encoder.folder, FOLDER, from_user=True)
    return replace(before, name=f"{before.name} (fine-tuned)", sha256=weights, config_sha256=config, folder=FOLDER)


# ------------------------------------------------------------------------------------------------------------- training


def tuned_head(voices: Voices, request: EmotionRequest, watch: Watch) -> TunedHead:
    """Tune on all speakers, of whom a fifth says when to stop and what the head is calibrated by.

    What is unlike the training clips is measured by that fifth as well: the encoder knows the others' voices.
    """
    from core.emotion.evaluate import finished

    examples = trained_on(voices, request)
    found = finished(Tuner(voices.clips, request, watch, "final")(-1)(examples), examples)
    assert isinstance(found, TunedHead)
    return found


def discard_state(watch: Watch, part: str, fold: int) -> None:
    """Remove what a finished tuning would go on with: weights several times over, for each fold."""
    if (folder := _state(watch, part, fold)) is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _state(watch: Watch, part: str, fold: int) -> Path | None:
    return watch.place(f"states/{part}/{'all' if fold < 0 else f'{fold:02d}'}")


@dataclass(frozen=True)
class Tuner:
    """Makes the trainer of each fold, by its number; -1 is the fit on all speakers.

    Attributes:
        clips: Those that examples name by their numbers.
        request: Encoder, settings, and where there is room for encoders.
        watch: Told of each epoch.
        part: What is trained, for the curves.
    """

    clips: tuple[HashedClip, ...]
    request: EmotionRequest
    watch: Watch
    part: str

    def __call__(self, fold: int) -> Trainer:
        """Make a trainer, which takes as many threads as there are now."""
        import torch

        return partial(self._train, fold, torch.get_num_threads())

    @cached_property
    def loaded(self) -> "LoadedModel":
        """The encoder before it is tuned."""
        from core.checkpoints.load import load_model

        found = find_model(self.request.embed.model)
        return load_model(found.folder, found.name, from_user=found.from_user)

    @cached_property
    def sounds(self) -> Sounds:
        """Of all clips, at the encoder's rate."""
        return Sounds.decoded(self.clips, SoundExtractor(self.request.embed, self.sampling_rate), self.watch)

    @cached_property
    def sampling_rate(self) -> int:
        """Hz that the encoder wants."""
        from core.embed.encoders import build_encoder

        return build_encoder(self.loaded).spec.clock.sampling_rate

    def _train(self, fold: int, n_threads: int, examples: Examples, /) -> TunedHead:
        """Tune an encoder with a head, and hear with it, as it was written, whom it was not trained on."""
        from core.device import pick_device
        from core.emotion.finetune import FineTuning, finetune
        from core.emotion.network import threads

        numbers = _numbers(examples)
        device = pick_device(self.request.embed.device).device
        own = examples.codes, examples.speakers, examples.n_classes
        task = FineTuning(self.sounds.take(numbers), *own, self.request.head, device)
        with threads(n_threads), _told_of_divergence(self.request.head.encoder_learning_rate):
            told = partial(self._tell, fold)
            model, head = finetune(self.loaded, task, _state(self.watch, self.part, fold), told, self.watch.should_stop)
        encoder = self._written(model, head, task)
        if (held := head.held_out) is not None:
            heard = encoder.features([numbers[row] for row in held.rows])
            head = replace(head, held_out=replace(held, logits=head.logits(heard)))
        return TunedHead(**{field.name: getattr(head, field.name) for field in fields(Head)}, encoder=encoder)

    def _tell(self, fold: int, metrics: Mapping[str, Any]) -> None:
        """Tell a line of the curves and how far it is."""
        from core.training.runs import Stopped

        self.watch.tell({"part": self.part, "fold": fold, **metrics})
        stage = "fine-tune on all speakers" if fold < 0 else f"fine-tune for fold {fold + 1}"
        with suppress(Stopped):  # the training asks by itself, and saves before it stops
            self.watch.on_progress(Progress(stage, metrics["epoch"], self.request.head.epochs, "epochs"))

    def _written(self, model: Any, head: Head, task: Any) -> TunedEncoder:
        """Write the encoder as a checkpoint, beside the features, where there is room for such things."""
        from core.checkpoints.save import save_checkpoint

        try:
            home = Path(tempfile.mkdtemp(prefix="tuned-", dir=self.request.features_dir))
        except OSError as error:
            raise OutputError(
                f"A fine-tuned encoder cannot be kept in {self.request.features_dir}: {error.strerror}. Name another "
                "--features-dir."
            ) from error
        try:
            facts = self._facts(model, head, task)
            save_checkpoint(home / FOLDER, model, facts, self._card(), preparation=self.loaded.preprocessor)
            embed = replace(self.request.embed, model=str(home / FOLDER))
            source = Source(Found(self.loaded.name, home / FOLDER, "folder"))
            extractor = EncoderExtractor(source, embed, head.attention is not None, self.watch.on_progress)
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise
        return TunedEncoder(home / FOLDER, head, self.clips, extractor)

    def _facts(self, model: Any, head: Head, task: Any) -> dict[str, Any]:
        """What the encoder's own checkpoint says of its training."""
        held = 0 if head.held_out is None else len(head.held_out.rows)
        per_epoch = -(-(len(task.codes) - held) // task.settings.batch_size)
        history = [
            {"step": round(entry["epoch"] * per_epoch), **{k: v for k, v in entry.items() if k != "epoch"}}
            for entry in head.notes["histories"][0]
        ]
        planned = task.settings.epochs * per_epoch
        hours = task.clips.n_samples / self.sampling_rate / 3600
        return {
            "recipe": "python -m core emotion train --head mlp --encoder-learning-rate "
            f"{task.settings.encoder_learning_rate:g}",
            "seed": task.settings.seed,
            "settings": asdict(task.settings),
            "base": {"name": self.loaded.name, "sha256": self.loaded.sha256},
            "updates": history[-1]["step"] if history else planned,
            "updates_planned": planned,
            "device": task.device,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "data": {"hours": hours, "clips": len(task.codes), "sha256": tuning_key(self.clips, self.request)},
            "split": {"held_out_text": head.notes["held_out"]},
            "history": history,
        }

    def _card(self) -> dict[str, Any]:
        """What the encoder's own card says, which is read by whoever finds it alone."""
        said = self.request.card
        head = "the emotion head in the folder above this one"
        return {
            "license": said.get("license", "unknown"),
            "tags": ["speech", "emotion"],
            "summary": f"{self.loaded.name}, fine-tuned together with {head}.",
            "snippet": 'from core.tasks import classify_emotion\n\nclassify_emotion(["clip.wav"], "HEAD")',
            "trust": f"It was only measured with {head}: see its card.",
            "intended_use": INTENDED_USE,
            "data": list(said.get("data", ["See the head's card."])),
            "attribution": list(said.get("attribution", [])),
        }


@contextmanager
def _told_of_divergence(rate: float) -> Iterator[None]:
    """Say in a user's words that a training came to numbers that are none."""
    from core.training.loop import Diverged

    try:
        yield
    except Diverged as error:
        raise InputError(
            f"Fine-tuning with an encoder learning rate of {rate:g} came to values that are not finite. Use a smaller "
            "one, such as 1e-5."
        ) from error
