"""LibriBrain (Özdogan et al. 2025) through its own package pnpl, as windows for pre-training.

Where pnpl 0.2.0 would surprise, this module decides: the run keys are those of the settings and its list of runs is not
fetched from the web; a run that is not there is refused (pnpl warns and goes on); evaluation is standardised by the
training runs' statistics (pnpl takes each part's own); nothing is written into the files (pnpl tries to keep its
statistics there). Sensor positions are not in the files: they come from the layout, by name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.arrays import OnProgress, Progress, ignore_progress
from core.errors import DataError, InputError, MissingPackage
from core.meg.channels import match
from core.meg.layouts import layout
from core.meg.preprocess import Moments, standardise, statistics_of
from core.meg.quiet import quiet_mne
from core.meg.window_data import Segment
from core.sensors import ModelInput, Preparation, Sensors, Statistics

LAYOUT = "neuromag306"
RunKey = tuple[str, str, str, str]
"""Subject, session, task and run."""

PIECE_SECONDS = 60.0
"""Read at once for the statistics."""


@dataclass(frozen=True)
class LibriBrainSettings:
    """Which part of LibriBrain to read, and how.

    Attributes:
        data_dir: Holds ``{task}/derivatives/serialised/*_meg.h5``.
        train, eval: Run keys; none may be in both.
        standardize: Z-score by the training runs' statistics; else only clip at ``clip`` (tesla are then far below it).
        download: Let pnpl fetch missing runs.
        clip: Standard deviations beyond which values are cut; pnpl's own choice by default.
    """

    data_dir: Path
    train: tuple[RunKey, ...]
    eval: tuple[RunKey, ...]
    standardize: bool = True
    download: bool = False
    clip: float = 10.0


@dataclass(frozen=True)
class Run:
    """A run on disk: its key, its samples, its rate and band in Hz, and the row of each of the layout's sensors."""

    key: RunKey
    path: Path
    n_times: int
    sampling_rate: float
    band: tuple[float, float]
    rows: tuple[int, ...]

    @property
    def name(self) -> str:
        """As its file is named."""
        return "sub-{}_ses-{}_task-{}_run-{}".format(*self.key)


class LibriBrainData:
    """LibriBrain's runs as :class:`core.meg.window_data.WindowData`; each run is one segment."""

    def __init__(self, dataset: Any, runs: dict[str, tuple[Run, ...]], model_input: ModelInput) -> None:
        self._dataset = dataset
        self._parts = runs
        self._runs = {run.name: run for part in runs.values() for run in part}
        self._model_input = model_input

    @property
    def model_input(self) -> ModelInput:
        """Rate, band, layout and statistics."""
        return self._model_input

    @property
    def fingerprint(self) -> str:
        """Hash of the input and of which runs are in which part."""
        runs = {part: [[run.name, run.n_times] for run in held] for part, held in self._parts.items()}
        content = json.dumps([self._model_input.fingerprint(), runs], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def facts(self) -> dict[str, Any]:
        """Where the data come from and how much there is."""
        rate = self._model_input.preparation.sampling_rate
        return {
            "dataset": "LibriBrain",
            "recordings": sorted(self._runs),
            "segments": {part: len(held) for part, held in self._parts.items()},
            "seconds": {part: sum(run.n_times for run in held) / rate for part, held in self._parts.items()},
            "simulated": False,
            "fingerprint": self.fingerprint,
        }

    def __getstate__(self) -> dict[str, Any]:
        """What goes to a process that reads windows: it opens the files itself."""
        self._dataset.close_h5_files()
        return self.__dict__

    def segments(self, part: str) -> tuple[Segment, ...]:
        """The runs of a part.

        Raises:
            InputError: the part is neither ``train`` nor ``eval``.
        """
        if part not in self._parts:
            raise InputError(f"Got part {part!r}; expected {' or '.join(self._parts)}.")
        return tuple(Segment(run.name, run.name, run.n_times) for run in self._parts[part])

    def read(self, segment: Segment, start: int, stop: int) -> np.ndarray:
        """Standardised samples in the layout's order: (channels, stop - start) float32.

        Raises:
            InputError: the samples are not all inside the run.
            DataError: some are not finite.
        """
        if not 0 <= start <= stop <= segment.n_times:
            raise InputError(f"Got samples {start} to {stop} of {segment.name}; expected 0 to {segment.n_times}.")
        values = _read(self._dataset, self._runs[segment.name], start, stop)
        clip = self._model_input.preparation.clip
        return standardise(values, self._model_input.statistics, self.sensors(segment), clip)

    def sensors(self, segment: Segment) -> Sensors:
        """The layout's, for every run."""
        assert self._model_input.sensors is not None  # open_libribrain gave them
        return self._model_input.sensors


def open_libribrain(settings: LibriBrainSettings, on_progress: OnProgress = ignore_progress) -> LibriBrainData:
    """Open runs of LibriBrain, and compute the statistics of those that train.

    Raises:
        MissingPackage: pnpl is not installed.
        InputError: no runs, runs in both parts, or runs that are not on disk.
        DataError: a file is damaged, or its channels or its rate are not the others'.
    """
    _check_keys(settings)
    dataset = _open(settings)
    runs = {part: tuple(_run(dataset, key) for key in _keys(settings, part)) for part in ("train", "eval")}
    rates = {run.sampling_rate for part in runs.values() for run in part}
    if len(rates) > 1:
        raise DataError(f"The runs have rates of {', '.join(f'{rate:g}' for rate in sorted(rates))} Hz; expected one.")
    statistics = _statistics(dataset, runs["train"], on_progress) if settings.standardize else _no_statistics()
    preparation = _preparation(runs["train"][0], settings)
    dataset.close_h5_files()  # a process that is forked now opens its own
    return LibriBrainData(dataset, runs, ModelInput(preparation, layout(LAYOUT), statistics))


def _keys(settings: LibriBrainSettings, part: str) -> list[RunKey]:
    """Run keys of a part as tuples of text, however a YAML file wrote them."""
    return [(str(a), str(b), str(c), str(d)) for a, b, c, d in getattr(settings, part)]


def _check_keys(settings: LibriBrainSettings) -> None:
    for part in ("train", "eval"):
        keys = getattr(settings, part)
        if not keys or any(len(key) != 4 for key in keys):
            raise InputError(
                f"Got {len(keys)} LibriBrain runs for {part}; expected keys of subject, session, task and run, such as "
                '["0", "1", "Sherlock1", "1"].'
            )
    both = sorted(set(_keys(settings, "train")) & set(_keys(settings, "eval")))
    if both:
        raise InputError(f"The runs {both} are to train and to evaluate. Take them out of one of the two.")


@dataclass
class _WholeRuns:
    """A task for pnpl that cuts nothing: pre-training chooses its own windows, and asks for no labels."""

    tmin: float = 0.0
    tmax: float = 1.0

    def collect_samples(self, dataset: Any) -> list[tuple]:
        return [(*key, 0.0, 0) for key in dataset.run_keys]

    def get_label(self, sample: tuple) -> int:
        return int(sample[5])

    @property
    def label_info(self) -> dict:
        return {"classes": [], "label_to_id": {}}


def _open(settings: LibriBrainSettings) -> Any:
    # pnpl reads this when it is asked for its list of runs: without it the list would come from a website.
    os.environ["PNPL_REMOTE_CONSTANTS_DISABLED"] = "true"
    try:
        from pnpl.datasets import LibriBrain
    except (ImportError, AttributeError) as error:
        raise MissingPackage("LibriBrain needs the package pnpl, which is not installed: pip install pnpl.") from error
    if not settings.download:
        _require_runs(settings)
    keys = _keys(settings, "train") + _keys(settings, "eval")
    with quiet_mne(settings.data_dir):
        return LibriBrain(
            data_path=str(settings.data_dir),
            task=_WholeRuns(),
            include_run_keys=keys,
            standardize=False,
            clipping_boundary=None,
            preload_files=False,
            download=settings.download,
        )


def _require_runs(settings: LibriBrainSettings) -> None:
    from pnpl.datasets.mixins import ContinuousH5Mixin

    paths = ContinuousH5Mixin()
    paths.data_path, paths.preprocessing = str(settings.data_dir), "bads+headpos+sss+notch+bp+ds"
    keys = _keys(settings, "train") + _keys(settings, "eval")
    wanted = [Path(paths.get_h5_path(*key)) for key in keys]
    absent = [path for path in wanted if not path.is_file()]
    if absent:
        raise InputError(
            f"{len(absent)} of {len(wanted)} LibriBrain runs are not there, the first is {absent[0]}. Correct the run "
            "keys or data_dir, or set libribrain_download to true."
        )


def _run(dataset: Any, key: RunKey) -> Run:
    path = Path(dataset.get_h5_path(*key))
    with quiet_mne(path):
        held = dataset.get_h5_dataset(key)
        said = dict(held.file.attrs)
        n_rows, n_times = held.shape
    names, kinds = (_words(path, said, field) for field in ("channel_names", "channel_types"))
    if not len(names) == len(kinds) == n_rows:
        raise DataError(
            f"{path} has {n_rows} rows, {len(names)} names and {len(kinds)} types; expected as many of each."
        )
    nowhere = np.full((n_rows, 3), np.nan)
    rows = match(Sensors(names, kinds, nowhere, nowhere), layout(LAYOUT))
    if (rows < 0).any():
        raise DataError(f"{path} lacks {int((rows < 0).sum())} of the {len(rows)} sensors of {LAYOUT}. Fetch it again.")
    band = (float(said.get("highpass_cutoff", 0.0)), float(said.get("lowpass_cutoff", np.inf)))
    return Run(key, path, int(n_times), float(said["sample_frequency"]), band, tuple(rows.tolist()))


def _words(path: Path, said: dict[str, Any], field: str) -> tuple[str, ...]:
    """LibriBrain writes lists as one text with commas."""
    if field not in said or "sample_frequency" not in said:
        raise DataError(f"{path} has no attribute {field} or sample_frequency; expected a file of LibriBrain.")
    value = said[field]
    words = value.split(",") if isinstance(value, str) else [str(one) for one in value]
    return tuple(word.strip() for word in words)


def _read(dataset: Any, run: Run, start: int, stop: int) -> np.ndarray:
    """Samples in SI units in the layout's order: (channels, stop - start)."""
    with quiet_mne(run.path):
        values = np.asarray(dataset.get_h5_dataset(run.key)[:, start:stop])[list(run.rows)]
    if not np.isfinite(values).all():
        raise DataError(f"{run.path} holds NaN or infinite values between samples {start} and {stop}. Fetch it again.")
    return values


def _pieces(run: Run) -> Iterator[tuple[int, int]]:
    step = max(1, int(PIECE_SECONDS * run.sampling_rate))
    return ((start, min(start + step, run.n_times)) for start in range(0, run.n_times, step))


def _statistics(dataset: Any, runs: tuple[Run, ...], on_progress: OnProgress) -> Statistics:
    moments = Moments(len(layout(LAYOUT)))
    done, total = 0.0, sum(run.n_times / run.sampling_rate for run in runs)
    for run in runs:
        for start, stop in _pieces(run):
            moments.add(_read(dataset, run, start, stop))
            done += (stop - start) / run.sampling_rate
            on_progress(Progress("statistics", done, total))
    return statistics_of(moments)


def _no_statistics() -> Statistics:
    n_channels = len(layout(LAYOUT))
    return Statistics(np.zeros(n_channels), np.ones(n_channels))


def _preparation(run: Run, settings: LibriBrainSettings) -> Preparation:
    """What another recording has to undergo to be like these: their rate and the band that their files name."""
    low, high = run.band
    rate = round(run.sampling_rate)
    return Preparation(
        sampling_rate=rate,
        l_freq=low if low > 0 else None,
        h_freq=high if high < rate / 2 else None,
        layout=LAYOUT,
        clip=settings.clip,
    )
