"""A training that trains nothing: ``python -m tests.fake_training emotion train ... --run DIR``, ``pretrain ...``
or ``sites train ...``.

It logs what a training logs, keeps its folds or steps as one does, stops when it is asked to, and writes files where a
head and a report, or a checkpoint, would be. With the seed 7 it waits after its first fold, or a third of its steps,
until it was stopped once; the seed 13 fails.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from core.arrays import Progress
from core.training.runs import STOPPED, RunFolder
from tests.pretrain_lines import make_lines
from tests.scoring_fakes import make_metrics

FOLDS = 3
EPOCHS = 8


def read_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", nargs="+")
    for name in ("data", "output", "report", "run"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--data_dir", type=Path)
    parser.add_argument("--output_dir", type=Path)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--head", default="linear")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_known_args()[0]


def take_steps(run: RunFolder, flags: argparse.Namespace) -> None:
    """Log all steps that no earlier process has logged, and write a checkpoint at the end and when stopped."""
    settings = dict(one.split("=") for one in flags.set)
    n_steps, seed = int(settings["max_steps"]), int(settings["seed"])
    if seed == 13:
        sys.exit(f"{flags.data_dir} holds no windows. Prepare again.")
    before = max((row["step"] for row in run.metrics()), default=0)
    lines = [line for line in make_lines(n_steps) if line["step"] > before]
    with run.stop_requests() as should_stop:
        for line in lines:
            run.progress(Progress("train", line["step"], n_steps, "steps"))
            while seed == 7 and line["step"] > n_steps / 3 and not before and not should_stop():
                time.sleep(0.02)
            if should_stop():
                write_checkpoint(flags.output_dir / "last")
                sys.exit(STOPPED)
            run.log(line)
            if flags.verb == ["sites", "train"] and line["split"] == "eval":
                look_at_sites(flags.run, line["step"])
    write_checkpoint(flags.output_dir / "best")


def look_at_sites(folder: Path, step: int) -> None:
    """Write what is seen of three sites at an evaluation."""
    import numpy as np

    alike = np.eye(3, dtype=np.float16) + np.float16(step / 1000)
    np.savez(folder / "similarity.npz", step=step, names=np.array(["E1", "<E2>", "E3"]), similarity=alike)
    row = {"step": step, "split": "eval", "loss": {"E1": 4.1, "<E2>": 3.0, "E3": 4.6}}
    with (folder / "sites.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def write_checkpoint(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"command": sys.argv[1:]}))
    (folder / "model.safetensors").write_bytes(b"weights")


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
    if flags.verb == ["pretrain"]:
        take_steps(RunFolder(flags.run), flags)
        return
    if flags.verb == ["sites", "train"]:
        flags.output_dir = flags.output
        take_steps(RunFolder(flags.run), flags)
        return
    if flags.seed == 13:
        sys.exit(f"{flags.data} has clips of 1 speaker that can be used; at least 2 are needed.")
    train_folds(RunFolder(flags.run), flags.head, waits=flags.seed == 7)
    flags.output.mkdir()
    (flags.output / "config.json").write_text(json.dumps({"layer": "all", "command": sys.argv[1:]}))
    flags.report.mkdir()
    (flags.report / "report.html").write_text("<p>report</p>")


if __name__ == "__main__":
    main()
