"""A training that trains nothing: ``python -m tests.fake_training emotion train ... --run DIR``.

It logs what a training logs, keeps its folds as one does, stops when it is asked to, and writes files where a head and
a report would be. With the seed 7 it waits after its first fold until it was stopped once; the seed 13 fails.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from core.arrays import Progress
from core.training.runs import STOPPED, RunFolder
from tests.scoring_fakes import make_metrics

FOLDS = 3
EPOCHS = 8


def read_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", nargs=2)
    for name in ("data", "output", "report", "run"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--head", default="linear")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_known_args()[0]


def train_folds(run: RunFolder, head: str, waits: bool) -> None:
    """Log all folds that no earlier process has logged."""
    lines = make_metrics(FOLDS + 1, EPOCHS)
    done = {row["fold"] for row in run.metrics() if "epoch" not in row}
    with run.stop_requests() as should_stop:
        for fold in sorted(set(range(FOLDS)) - done):
            run.progress(Progress("folds", fold, FOLDS, "folds"))
            while waits and fold and not done and not should_stop():
                time.sleep(0.02)
            if should_stop():
                sys.exit(STOPPED)
            for line in lines:
                if head == "mlp" and line["fold"] == fold:
                    run.log({"part": "main", **line})
            run.log({"part": "main", "fold": fold, "uar": 0.5 + fold / 10, "n": 9, "speakers": [f"<S{fold}>"]})
    run.progress(Progress("folds", FOLDS, FOLDS, "folds"))


def main() -> None:
    flags = read_flags()
    if flags.seed == 13:
        sys.exit(f"{flags.data} has clips of 1 speaker that can be used; at least 2 are needed.")
    train_folds(RunFolder(flags.run), flags.head, waits=flags.seed == 7)
    flags.output.mkdir()
    (flags.output / "config.json").write_text(json.dumps({"layer": "all", "command": sys.argv[1:]}))
    flags.report.mkdir()
    (flags.report / "report.html").write_text("<p>report</p>")


if __name__ == "__main__":
    main()
