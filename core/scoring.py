"""What an emotion classifier learns from, what it says of a clip, and what it was found to be worth: frozen records.

Classes have numbers: the place of their name in ``labels``, which is sorted. ``n`` counts clips. A *head* is what is
trained on top of an encoder that stays as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HEADS = ("linear", "mlp")
POOLINGS = ("mean_std", "mean", "max", "std", "multi", "attention", "learned")
"""How frames become one vector: ``multi`` is mean, max and std, ``attention`` the document's softmax of the channel
mean, ``learned`` an attention that is trained with the head."""

INTENDED_USE = (
    "For research, teaching and trying out. Not for decisions about people: what a voice sounds like is not what a "
    "person feels, and heads are wrong more often than their confidence suggests on any voice unlike those that they "
    "heard. In the European Union, inferring emotions at work and in education is prohibited (AI Act, Regulation (EU) "
    "2024/1689, Article 5(1)(f)), but for medical or safety reasons."
)
"""What is said beside every result: in the card, on the command line and on the page."""


@dataclass(frozen=True)
class Clip:
    """One labelled stretch of a recording.

    Attributes:
        source: The recording.
        name: What results call it; each of a corpus's names occurs once.
        speaker: Who speaks; never empty.
        label: The class, after the mapping.
        given: The class as the data calls it.
        start: Seconds at which the clip begins; None for the recording's beginning.
        stop: Seconds at which it ends; None for the recording's end.
        split: ``train``, ``validation`` or ``test`` as the data says; empty where it does not.
        text: Which sentence is spoken, as a code or as words; empty where it is not known.
    """

    source: Path
    name: str
    speaker: str
    label: str
    given: str
    start: float | None = None
    stop: float | None = None
    split: str = ""
    text: str = ""


@dataclass(frozen=True)
class CorpusSettings:
    """How a corpus is read.

    Attributes:
        scheme: ``auto``, or one that names files, such as ``ravdess``; see ``core.emotion.corpora``.
        mapping: Class of each label that the data gives; None takes the scheme's own names. A label that is mapped to
            an empty name is left out; with a mapping, one that it does not name is an error.
        skip_missing: Whether a file that is missing or cannot be read is left out and named; else it is an error.
    """

    scheme: str = "auto"
    mapping: Mapping[str, str] | None = None
    skip_missing: bool = False


@dataclass(frozen=True)
class LabelledCorpus:
    """Clips with speakers and classes.

    Attributes:
        name: The folder's, the archive's or the list's.
        scheme: How it was read.
        clips: In order of name.
        mapping: Class of each label that the data gives, as it was applied.
        failures: ``{"file", "error"}`` for each file that is left out.
        warnings: What whoever reads a score of it should know.
    """

    name: str
    scheme: str
    clips: tuple[Clip, ...]
    mapping: Mapping[str, str]
    failures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes that occur, sorted."""
        return tuple(sorted({clip.label for clip in self.clips}))

    @property
    def codes(self) -> np.ndarray:
        """(n,) int64, number of each clip's class."""
        numbers = {label: number for number, label in enumerate(self.labels)}
        return np.array([numbers[clip.label] for clip in self.clips], dtype=np.int64)

    @property
    def speakers(self) -> np.ndarray:
        """(n,) strings, who speaks in each clip."""
        return np.array([clip.speaker for clip in self.clips], dtype=str)


@dataclass(frozen=True)
class HeadSettings:
    """How a head is trained.

    Attributes:
        head: ``linear``, which has a closed form, or ``mlp``, the document's (dim-256-128-classes, ReLU, dropout .3).
        layer: ``all`` for a mixture of the layers that is learned, or a layer's number.
        pooling: One of POOLINGS; ``learned`` needs the head ``mlp``.
        class_weights: Whether each class counts alike, however many clips it has.
        transductive: Whether features are put on each speaker's own scale, with the tested speakers' clips as well:
            a score that no single clip of a stranger can reach.
        seed: Of every draw.
        learning_rate: Of the ``mlp`` head.
        encoder_learning_rate: Of the encoder, where it is trained as well; 0 leaves it as it is.
        epochs: Of the ``mlp`` head, at most.
        patience: Epochs without a better validation loss after which it stops.
        batch_size: Clips a step.
    """

    head: str = "linear"
    layer: str = "all"
    pooling: str = "mean_std"
    class_weights: bool = True
    transductive: bool = False
    seed: int = 0
    learning_rate: float = 1e-3
    encoder_learning_rate: float = 0.0
    epochs: int = 100
    patience: int = 10
    batch_size: int = 32

    @property
    def tunes_encoder(self) -> bool:
        """Whether the encoder learns as well, so that each head has an encoder of its own."""
        return self.encoder_learning_rate > 0


@dataclass(frozen=True)
class Estimate:
    """A score with its 95 % interval, a bootstrap over speakers; the ends are None where speakers are too few."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Fold:
    """Who is trained on and who is tested; no speaker stands on two sides.

    Attributes:
        train: (n_train,) numbers of the clips.
        test: (n_test,) numbers of the clips.
    """

    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class FoldScore:
    """One fold.

    Attributes:
        speakers: Those tested.
        n: Clips tested.
        uar: Mean recall of the classes that occur among them.
        wa: Share of clips that are right.
        temperature: That was fitted on validation speakers.
        threshold: Confidence below which the fold's head abstains.
        layer_weights: Share of each layer in the mixture, by the layer's number.
    """

    speakers: tuple[str, ...]
    n: int
    uar: float
    wa: float
    temperature: float
    threshold: float
    layer_weights: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Reliability:
    """How confidence and being right agree, in bins of alike numbers of clips.

    Attributes:
        confidence: (bins,) mean probability of the class that was said.
        accuracy: (bins,) share that is right.
        counts: (bins,) clips.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Abstention:
    """What is gained by keeping silent where confidence is low, and where a clip is unlike those that were trained on.

    Attributes:
        threshold: Confidence below which nothing is said: the median of the folds', each set on training speakers.
        coverage: Share of clips of which something is said, each by its own fold's threshold and distance; stretches
            without sound, or too short, are not among a corpus's clips.
        accuracy: Share of those that is right.
        curve: (points, 3) threshold, coverage and accuracy, over all thresholds, whatever the distance.
        unlike: Share of clips, sure or not, that is farther from the fold's training clips than its head allows.
    """

    threshold: float
    coverage: float
    accuracy: float
    curve: np.ndarray
    unlike: float = 0.0


@dataclass(frozen=True)
class Evaluation:
    """What one classifier is worth on one corpus; every clip was predicted by a head that never heard its speaker.

    Attributes:
        name: What was evaluated: a model, the baseline, or a control.
        labels: Names of the classes.
        truth: (n,) numbers of the true classes.
        probabilities: (n, classes) after calibration; rows sum to 1.
        uncalibrated: (n, classes) before.
        speakers: (n,) who speaks.
        clips: (n,) names.
        uar: Mean recall over classes (unweighted average recall).
        wa: Share that is right (weighted accuracy).
        macro_f1: Mean over classes of the harmonic mean of precision and recall.
        ece: Expected calibration error, 15 bins of alike numbers of clips.
        ece_uncalibrated: The same before calibration.
        recalls: Of each class.
        confusion: (classes, classes) clips: rows are the truth, columns what was said.
        chance: UAR of guessing: one over the number of classes.
        majority: WA of always saying the most frequent class of the training speakers.
        folds: One by one.
        reliability: After calibration.
        reliability_uncalibrated: Before.
        abstention: At the thresholds of the folds.
        seconds: Of wall time for folds and fits, without the embeddings; a fold that was kept counts what it took.
        ece_by_chance: What a perfectly calibrated classifier of as many clips would be measured to have as ``ece``.
        warnings: What limits these numbers, as sentences.
    """

    name: str
    labels: tuple[str, ...]
    truth: np.ndarray
    probabilities: np.ndarray
    uncalibrated: np.ndarray
    speakers: np.ndarray
    clips: tuple[str, ...]
    uar: Estimate
    wa: Estimate
    macro_f1: Estimate
    ece: Estimate
    ece_uncalibrated: Estimate
    recalls: tuple[Estimate, ...]
    confusion: np.ndarray
    chance: float
    majority: float
    folds: tuple[FoldScore, ...]
    reliability: Reliability
    reliability_uncalibrated: Reliability
    abstention: Abstention
    seconds: float = 0.0
    ece_by_chance: float = 0.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class CrossScore:
    """Trained on one corpus, tested on another, on the classes that both have.

    Attributes:
        train: Name of the corpus that was trained on.
        test: Name of the corpus that was tested.
        labels: Classes that both have.
        n: Clips tested.
        n_speakers: Speakers tested.
        uar: Over the shared classes, of clips that have one.
        ece: With the temperature of the training corpus.
        within: UAR on the same clips, of the corpus's own folds, whose heads were trained on all of its classes and
            are asked which of the shared ones it is; None where it was not computed.
        warnings: What limits these numbers, as sentences.
    """

    train: str
    test: str
    labels: tuple[str, ...]
    n: int
    n_speakers: int
    uar: Estimate
    ece: Estimate
    within: Estimate | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class EmotionFindings:
    """All that an evaluation found.

    Attributes:
        corpus: Facts: name, scheme, n, n_speakers, seconds, clips by class, mapping, fingerprint.
        model: Facts: name, hash, layers, dim, sampling rate.
        settings: Facts: head, pooling, layer, folds, seed.
        main: The head asked for.
        baseline: The same folds with a linear head on statistics of the log-mel spectrogram (or eGeMAPS); never left
            out.
        shuffled: The control: the same folds with labels shuffled within speakers. Like the baseline it has a linear
            head on pooled features, whatever the head asked for: it shows what folds and scores find where nothing
            is, not what the training of another head does.
        cross: Trained here and tested elsewhere, and the other way round.
        warnings: What limits the numbers, as sentences.
        failures: ``{"file", "error"}`` for each file that could not be used.
        gain: UAR above the baseline's, of the same speakers; its interval is narrower than those of the two scores.
    """

    corpus: Mapping[str, Any]
    model: Mapping[str, Any]
    settings: Mapping[str, Any]
    main: Evaluation
    baseline: Evaluation
    shuffled: Evaluation | None
    cross: tuple[CrossScore, ...] = ()
    warnings: tuple[str, ...] = ()
    failures: tuple[dict[str, str], ...] = ()
    gain: Estimate | None = None


@dataclass(frozen=True)
class Said:
    """What a head says of one stretch of sound.

    Attributes:
        start: Seconds.
        stop: Seconds.
        probabilities: (classes,) calibrated.
        label: The most likely class; empty where it abstains.
        why: Why it abstains, in a word: ``silence``, ``short``, ``unsure`` or ``unlike``; empty where it does not.
        distance: From the training clips, in units of the threshold that 95 % of held-out speakers' clips stay below.
    """

    start: float
    stop: float
    probabilities: np.ndarray
    label: str
    why: str = ""
    distance: float = 0.0


@dataclass(frozen=True)
class Prediction:
    """What a head says of a recording.

    Attributes:
        source: The recording.
        labels: Names of the classes.
        clip: Of the whole of it.
        timeline: Of windows that slide over it, in order; empty where it is not longer than one.
        threshold: Confidence below which the head abstains.
        head: Name of the head.
        model: Name of the encoder.
        warnings: What limits it, as sentences.
    """

    source: Path
    labels: tuple[str, ...]
    clip: Said
    timeline: tuple[Said, ...]
    threshold: float
    head: str
    model: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Neighbour:
    """A clip beside another: its number, and their cosine."""

    clip: int
    cosine: float


@dataclass(frozen=True)
class ClusterScore:
    """How clusters agree with what is known.

    Attributes:
        method: ``k-means`` or ``DBSCAN``.
        n_clusters: Found; without noise.
        noise: Share of clips that DBSCAN puts in no cluster.
        silhouette: Of the clusters; NaN with fewer than two.
        ari: Adjusted Rand index, by ``emotion`` and ``speaker``.
        nmi: Normalised mutual information, by ``emotion`` and ``speaker``.
        settings: What the method was given.
    """

    method: str
    n_clusters: int
    noise: float
    silhouette: float
    ari: Mapping[str, float]
    nmi: Mapping[str, float]
    settings: Mapping[str, float]


@dataclass(frozen=True)
class EmbeddingMap:
    """Clips as points.

    Attributes:
        maps: By name (``PCA``, ``t-SNE``, ``UMAP``): (n, 2) float32.
        notes: By the same names: what to know of each.
        labels: (n,) classes.
        speakers: (n,) who speaks.
        clips: (n,) names.
        cosine: (n, n) float32, cosine of every two clips after the mean was taken away.
        euclidean: (n, n) float32 distances.
        neighbours: The nearest ones of each clip, nearest first.
        clusters: How clusters agree with emotions and with speakers.
        silhouettes: Silhouette of the ``emotion`` and the ``speaker`` labels themselves.
        neighbour_shares: Share of 10 nearest neighbours with the same ``emotion``, the same ``speaker``, and what both
            would be by chance (``emotion by chance``, ``speaker by chance``).
    """

    maps: Mapping[str, np.ndarray]
    notes: Mapping[str, str]
    labels: np.ndarray
    speakers: np.ndarray
    clips: tuple[str, ...]
    cosine: np.ndarray
    euclidean: np.ndarray
    neighbours: tuple[tuple[Neighbour, ...], ...]
    clusters: tuple[ClusterScore, ...]
    silhouettes: Mapping[str, float]
    neighbour_shares: Mapping[str, float]
