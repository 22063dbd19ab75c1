"""What trains in processes of its own, for tests: ``python -m tests.training.loop_worker together|killed FOLDER``.

``together`` is one of several processes that were started with torch.distributed's variables (RANK, WORLD_SIZE, ...).
"""

import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from core.errors import StrataError
from core.training.loop import Hooks, LoopSettings, train
from core.training.precision import make_accelerator
from core.training.runs import stop_requests
from core.training.state import read_state
from core.training.workers import Workers

SETTINGS = LoopSettings(
    updates=6, warmup=0, decay_fraction=0.0, log_every=1, checkpoint_every=3, learning_rate=1e-2, windows=16
)
BATCH = 24
KILLS = 5


def make_model(dropout=0.0, hidden=8):
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Dropout(dropout), nn.Linear(hidden, 1))


def make_step(number=0, count=1, micro_batches=1):
    """A step whose parts of one global batch are of unlike sizes, and whose loss is divided by all examples."""
    sizes = torch.arange(1, count * micro_batches + 1)
    bounds = [0, *(sizes.cumsum(0) * BATCH // sizes.sum()).tolist()]

    def step(model, update):
        x = torch.randn(BATCH, 4, generator=torch.Generator().manual_seed(update))
        for place in range(number * micro_batches, (number + 1) * micro_batches):
            own = x[bounds[place] : bounds[place + 1]]
            loss = (model(own) - own.sum(1, keepdim=True)).square().sum() / BATCH
            yield {"loss": loss, "examples": torch.tensor(len(own)), "temperature": 2.0}

    return step


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# ------------------------------------------------------------------------------------------------ several processes


class Together:
    """One of several processes: what it trains, and what it has to say of it."""

    def __init__(self, folder):
        self.folder = folder
        self.accelerator = make_accelerator("cpu", "fp32")
        self.number, self.count = self.accelerator.process_index, self.accelerator.num_processes

    def train(self, name, micro_batches=1, dropout=0.0, updates=6, should_stop=lambda: False):
        model, exported = make_model(dropout), []
        settings = replace(SETTINGS, micro_batches=micro_batches, updates=updates)
        hooks = Hooks(
            validate=lambda m: {"loss": 1.0 + self.number},
            on_checkpoint=lambda m, p: exported.append([p.update, sorted(m.state_dict())]),
            should_stop=should_stop,
        )
        step = make_step(self.number, self.count, micro_batches)
        progress, done = train(model, step, settings, self.folder / name, hooks, self.accelerator)
        return {
            "weights": weights(model).tolist(),
            "update": progress.update,
            "done": done,
            "exported": exported,
            "history": progress.history,
        }

    def stopped_after_two(self):
        """Only the last process asks for it, and resumes later as the others do."""
        calls = iter(range(100))
        return self.train("resumed", dropout=0.5, should_stop=lambda: self.number == 1 and next(calls) >= 2)

    def refused(self, name, **others):
        try:
            self.train(name, **others)
        except StrataError as error:
            return str(error)

    def until_told(self):
        with stop_requests(self.folder / f"stop-{self.number}") as should_stop:
            (self.folder / f"ready-{self.number}").touch()
            return self.train("told", updates=10**7, should_stop=should_stop)

    def everything(self):
        said = {
            "plain": self.train("plain"),
            "accumulated": self.train("accumulated", micro_batches=2),
            "dropout": self.train("dropout", dropout=0.5),
            "two": self.stopped_after_two(),
        }
        torch.manual_seed(99)  # whatever a new process did before
        return said | {
            "resumed": self.train("resumed", dropout=0.5),
            "in use": self.refused("in-use"),
            "other": self.refused("plain", micro_batches=2),
            "sums": Workers(self.accelerator).added_up({"n": torch.tensor(self.number + 1.0), "rate": 0.5}),
            "told": self.until_told(),
        }


def together(folder):
    worker = Together(folder)
    said = worker.everything()
    (folder / f"said-{worker.number}.json").write_text(json.dumps(said))


# ------------------------------------------------------------------------------------------------------- kill -9


def train_large(folder):
    """Train with a state of two megabytes after each update."""
    model = make_model(dropout=0.5, hidden=30_000)
    train(model, make_step(), replace(SETTINGS, checkpoint_every=1, updates=16), folder)
    return model


def killed(folder):
    """Kill a training while it writes its state, again and again; then let it come to its end."""
    whole = weights(train_large(folder.with_name("whole")))  # first: what torch imports meanwhile, children need not
    delays, reached, partial = random.Random(0), [], folder / "state.pt.partial"
    for _ in range(KILLS):
        child = os.fork()
        if not child:
            train_large(folder)
            os._exit(0)
        seen = reached[-1] if reached else 0
        while not partial.exists() or not (folder / "state.pt").exists() or step_of(folder) <= seen:
            time.sleep(0.0005)
        time.sleep(delays.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        reached.append(read_state(folder / "state.pt")["progress"]["update"])
    same = torch.equal(weights(train_large(folder)), whole)
    print(json.dumps({"reached": reached, "same": same}))


def step_of(folder):
    """Updates that the lines of a run tell of."""
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


if __name__ == "__main__":
    {"together": together, "killed": killed}[sys.argv[1]](Path(sys.argv[2]))
