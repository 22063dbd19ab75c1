"""What emotion heads are worth on speakers that they never heard, and what scoring costs: ``python -m bench.emotion``.

EmoDB (the first 2 s of each utterance, 10 speakers, each left out in turn) and RAVDESS (24 actors, groups of them left
out) come from STRATA_TEST_DATA (default ``../shared/data``), and so does the encoder of Whisper tiny.en. All runs
with default settings, as ``python -m core emotion evaluate`` would. Each score has its 95 % interval, a bootstrap over
speakers, and the baseline and shuffled labels beside it.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.embed import ROOT, Row, print_table, unpack
from core.arrays import EmbedSettings, Progress
from core.scoring import EmotionFindings, Estimate
from core.tasks import EmotionRequest, evaluate_emotion

BUNDLED = ROOT / "checkpoints" / "wav2vec2-small-whisper"
CORPORA = {"EmoDB": "emodb_2s", "RAVDESS": "ravdess"}
ANCHORS = {"EmoDB": "eGeMAPS .631, ComParE .765, best layer .886", "RAVDESS": "eGeMAPS .500, ComParE .594, best .740"}
TARGETS = {
    ("Whisper tiny.en", "EmoDB"): ">= .90",
    ("Whisper tiny.en", "RAVDESS"): ">= .76",
    ("bundled", "EmoDB"): "> .631 (eGeMAPS)",
    ("bundled", "RAVDESS"): "> .500 (eGeMAPS)",
}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where data, features and results lie."""

    work: Path
    features: Path
    folds: str


def corpora(place: Place, names: list[str]) -> dict[str, Path]:
    """Unpack the corpora."""
    return {name: _inside(unpack(CORPORA[name], place.work)) for name in names}


def models(place: Place, names: list[str]) -> dict[str, str]:
    """The encoders."""
    found = {"bundled": str(BUNDLED)}
    if "Whisper tiny.en" in names:
        found["Whisper tiny.en"] = str(_inside(unpack("whisper_tiny_en_encoder", place.work)))
    return {name: found[name] for name in names}


def _inside(folder: Path) -> Path:
    """The one folder that an archive holds."""
    inside = [path for path in folder.iterdir() if path.is_dir()]
    return inside[0] if len(inside) == 1 else folder


def measure(name: str, corpus: str, data: Path, model: str, place: Place) -> Iterator[Row]:
    """Evaluate one encoder on one corpus, twice: the second time everything but the scoring is read."""
    request = EmotionRequest(data, place.features, embed=EmbedSettings(model), folds=place.folds)
    first = evaluate_emotion(request, _said)
    began = time.perf_counter()
    found = evaluate_emotion(request)
    again = time.perf_counter() - began
    yield from _score_rows(name, corpus, found)
    took, n = found.model["embed_seconds"], found.model["n_embedded"]
    share = found.main.seconds / took
    whole = f"{again / took:.1%} with files, baseline and control"
    when = "now" if first.model["n_computed"] == n else "in an earlier run"
    yield Row(
        f"{corpus}, {name}: folds, fits and calibration of {n} clips against their embedding",
        f"{share:.1%} ({found.main.seconds:.2f} s of {took:.1f} s, measured {when}; {whole})",
        "< 5 %",
    )


def _score_rows(name: str, corpus: str, found: EmotionFindings) -> Iterator[Row]:
    main = found.main
    facts = f"{corpus}, {name}, n = {found.corpus['n']}, {found.corpus['n_speakers']} speakers"
    yield Row(f"{facts}: UAR", shown(main.uar), f"{TARGETS[name, corpus]} ({ANCHORS[corpus]})")
    yield Row(f"{facts}: WA, macro F1", f"{shown(main.wa)}, {shown(main.macro_f1)}", "-")
    yield Row(f"{facts}: ECE, 15 bins", f"{shown(main.ece)} (before: {main.ece_uncalibrated.value:.3f})", "<= .06")
    said = main.abstention
    yield Row(f"{facts}: answers at its thresholds", f"{said.coverage:.1%}, of them right {said.accuracy:.1%}", "-")
    yield Row(f"{facts}: UAR of the baseline ({found.baseline.name})", shown(found.baseline.uar), "-")
    if found.shuffled is not None:
        yield Row(f"{facts}: UAR of shuffled labels", shown(found.shuffled.uar), f"holds {main.chance:.3f}")
    for cross in found.cross:
        yield Row(
            f"{name}, {cross.train} to {cross.test}, {len(cross.labels)} classes, n = {cross.n}: UAR",
            shown(cross.uar),
            f"chance {1 / len(cross.labels):.3f}",
        )


def shown(score: Estimate) -> str:
    """Write a score with its interval."""
    if score.low is None or score.high is None:
        return f"{score.value:.3f}"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"


def _said(progress: Progress) -> None:
    if progress.done == progress.total:
        log.info("%s: %g %s", progress.stage, progress.total, progress.unit)


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", nargs="+", default=list(CORPORA), choices=list(CORPORA))
    parser.add_argument("--models", nargs="+", default=["Whisper tiny.en", "bundled"])
    parser.add_argument("--folds", default="auto", help="as in python -m core emotion evaluate")
    parser.add_argument("--work", type=Path, help="folder that keeps the features; else they are computed, and timed")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        place = Place(work, work / "features", options.folds)
        print_table(rows(place, options.corpora, options.models))


def rows(place: Place, corpus_names: list[str], model_names: list[str]) -> Iterator[Row]:
    """All lines of the table."""
    data = corpora(place, corpus_names)
    for name, model in models(place, model_names).items():
        for corpus, folder in data.items():
            yield from measure(name, corpus, folder, model, place)


if __name__ == "__main__":
    main()
