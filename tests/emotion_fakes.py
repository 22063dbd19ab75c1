"""The emotion part of ``core.tasks`` without a network: made scores about recordings that are really there."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from core import tasks
from core.arrays import OnProgress, Progress, ignore_progress
from core.audio.reader import probe
from core.checkpoints.heads import HeadEntry
from core.errors import CheckpointError, DataError
from core.scoring import CorpusSettings, EmbeddingMap, EmotionFindings, LabelledCorpus, Neighbour, Prediction
from core.tasks import Classified, ClassifySettings, EmotionEmbeddings, EmotionRequest
from core.ui.emotion_views import at_threshold
from tests.layers_fakes import FakeAppTasks
from tests.scoring_fakes import labels_of, make_emotion, make_map, make_prediction

KINDS = ("unsure", "silence", "short", "unlike")
"""A recording that is named after one of these gets no answer for that reason."""


@dataclass(frozen=True)
class FakeEmotionTasks(FakeAppTasks):
    """All that the app needs done."""

    def list_heads(self) -> Sequence[HeadEntry]:
        return [HeadEntry("fake-head", "bundled", Path("fake-head"), labels_of(7), "fake-encoder", 0.7)]

    def classify_emotion(
        self,
        sources: Sequence[Path | str],
        checkpoint: str = "",
        settings: ClassifySettings | None = None,
        on_progress: OnProgress = ignore_progress,
    ) -> Classified:
        if checkpoint != "fake-head" and not (Path(checkpoint) / "config.json").is_file():
            raise CheckpointError(f"There is no head {checkpoint!r}. Take 'fake-head'.")
        (source,), settings = map(Path, sources), settings or ClassifySettings()
        if source.stem == "broken":
            return Classified((), ({"file": str(source), "error": f"{source.name} is empty. Record it again."},))
        seconds = probe(source).duration_seconds or 0.0
        for tenth in range(11):
            on_progress(Progress("embed", seconds * tenth / 10, seconds))
            time.sleep(self.slowness)
        kind = next((kind for kind in KINDS if source.stem.startswith(kind)), "sure")
        made = make_prediction(kind, seconds=seconds)
        head = checkpoint if checkpoint == "fake-head" else "trained"
        return Classified((at_threshold(replace(made, source=source, head=head), settings.threshold),), ())

    def predictions_as_json(self, outcome: Classified) -> dict[str, Any]:
        return tasks.predictions_as_json(outcome)

    def timeline_rows(self, one: Prediction):
        return tasks.timeline_rows(one)

    def read_mapping(self, text: str | Path) -> Mapping[str, str]:
        return tasks.read_mapping(text)

    def read_corpus(self, data: Path, settings: CorpusSettings, folder: Path) -> LabelledCorpus:
        return tasks.read_corpus(data, settings, folder)

    def read_emotion(self, folder: Path) -> EmotionFindings:
        if not (folder / "report.html").is_file():
            raise DataError(f"{folder} holds no findings. Evaluate again.")
        return make_emotion()

    def summarise_emotion(self, findings: EmotionFindings) -> dict[str, Any]:
        return tasks.summarise_emotion(findings)

    def embed_emotion(
        self, request: EmotionRequest, output: Path, on_progress: OnProgress = ignore_progress, *, force: bool = False
    ) -> EmotionEmbeddings:
        corpus = tasks.read_corpus(request.data, request.corpus, request.features_dir)
        for done in range(len(corpus.clips)):
            on_progress(Progress("embed", done, len(corpus.clips), "clips"))
            time.sleep(self.slowness / 5)
        values = np.random.default_rng(0).standard_normal((len(corpus.clips), 8)).astype(np.float32)
        output.mkdir(parents=True)
        files = {name: output / f"{name}.npy" for name in ("sources", "embeddings", "labels")}
        np.save(files["embeddings"], values)
        np.save(files["labels"], corpus.codes)
        np.save(files["sources"], np.array([clip.name for clip in corpus.clips]))
        return EmotionEmbeddings(files, map_of(corpus, values), corpus)


def map_of(corpus: LabelledCorpus, values: np.ndarray) -> EmbeddingMap:
    """A map of values (n, 8) of a corpus's clips; its clusters are those of another one."""
    centred = values - values.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosine = unit @ unit.T
    order = np.argsort(-cosine, axis=1)
    return replace(
        make_map(),
        maps={"PCA": centred[:, :2], "t-SNE": 5 * centred[:, 2:4]},
        notes={"PCA": "31.4 % and 12.9 % of the variance", "t-SNE": "perplexity 30"},
        labels=np.array([clip.label for clip in corpus.clips]),
        speakers=corpus.speakers,
        clips=tuple(clip.name for clip in corpus.clips),
        cosine=cosine,
        euclidean=np.linalg.norm(values[:, None] - values[None], axis=2),
        neighbours=tuple(
            tuple(Neighbour(int(other), float(cosine[row, other])) for other in order[row] if other != row)[:10]
            for row in range(len(order))
        ),
    )
