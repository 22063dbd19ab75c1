"""The MEG part of ``core.tasks`` without MNE: made arrays about files that are really there."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core.analysis.comparison import compare_models
from core.arrays import EmbeddingInfo, EmbedResult, EmbedSettings, OnProgress, OutputSettings, Progress, ignore_progress
from core.clock import FrameClock
from core.errors import DataError, InputError
from core.sensors import MegDescription, Sensors
from core.tasks import LayersAnalysis, LayersRequest
from core.tasks.meg.requests import PrepareRequest, PrepareSummary, PretrainSettings, SimulateRequest, Simulation
from tests.emotion_fakes import FakeEmotionTasks
from tests.fakes import write
from tests.findings_fakes import make_analysis

PLACES = 34
"""Of the made helmet; each has a magnetometer and two gradiometers, as in a Neuromag."""

SUFFIXES = (".fif", ".con", ".sqd", ".npy", ".ds")
CLOCK = FrameClock(hop=40, field=55, sampling_rate=250)
LAYERS = (0, 1, 2, 3, 4)


def make_sensors(n_places: int = PLACES) -> tuple[Sensors, np.ndarray]:
    """A helmet of triplets, and its places on a plane, (channels, 2)."""
    turns = np.arange(n_places) * 2.399963  # the golden angle: even over a disc
    flat = np.repeat(np.sqrt((np.arange(n_places) + 0.5) / n_places)[:, None], 2, 1)
    flat *= np.stack([np.cos(turns), np.sin(turns)], axis=1)
    flat = np.repeat(flat, 3, axis=0)
    n = 3 * n_places
    names = tuple(f"MEG{place:03d}{coil}" for place in range(n_places) for coil in (1, 2, 3))
    positions = np.column_stack([flat * 0.1, np.full(n, 0.05)])
    return Sensors(names, ("mag", "grad", "grad") * n_places, positions, np.tile([0.0, 0, 1], (n, 1)), "made"), flat


def make_description(path: str = "rest_raw.fif", simulated: bool = False, n_points: int = 2_000) -> MegDescription:
    """A recording with a 10 Hz rhythm, a spectrum that falls off, and a loud channel that is marked as bad."""
    random, (sensors, flat) = np.random.default_rng(0), make_sensors()
    times = np.linspace(0, 60, n_points)
    values = random.normal(size=(len(sensors), n_points)) + np.sin(2 * np.pi * 0.3 * times)
    values *= np.where(np.array(sensors.kinds) == "mag", 400.0, 90.0)[:, None]
    values[4] *= 6
    frequencies = np.linspace(0, 125, 126)
    density = 1e3 / np.maximum(frequencies, 1.0) + 400 * np.exp(-((frequencies - 10) ** 2) / 4)
    quartiles = np.stack([density / 2, density, density * 2])
    return MegDescription(
        path, "Neuromag .fif", sensors, 250.0, 60.0, (sensors.names[4],), {"stim": 3, "eog": 2},
        {"speech": 12, "<i>silence</i>": 12}, simulated, ("It was recorded with MaxShield on.",), times,
        values.astype(np.float32), frequencies, {"mag": 9 * quartiles, "grad": quartiles}, flat,
    )  # fmt: skip


@dataclass(frozen=True)
class FakeMegTasks(FakeEmotionTasks):
    """All that the app needs done."""

    def find_meg(self, inputs: Sequence[Path]) -> Sequence[Path]:
        found = [one for path in inputs for one in ([path] if path.suffix else sorted(path.rglob("*")))]
        recordings = [path for path in found if path.suffix in SUFFIXES]
        if not recordings:
            raise InputError(f"Found no MEG recording in {inputs[0].name}; expected a .fif.")
        return recordings

    def simulate_meg(self, request: SimulateRequest, on_progress: OnProgress = ignore_progress) -> Simulation:
        for done in range(4):
            on_progress(Progress("simulate", done * request.seconds / 4, request.seconds))
            time.sleep(self.slowness)
        request.output.write_bytes(b"simulated")
        return Simulation(request.output, {"speech": 12, "silence": 12})

    def describe_meg(self, path: Path, numpy_rate: float | None = None) -> MegDescription:
        if path.suffix == ".npy" and numpy_rate is None:
            raise InputError(f"{path.name} does not say its sampling rate. Give it in Hz.")
        if path.stem.startswith("eeg"):
            raise DataError(f"{path.name} has no MEG channels: 60 EEG. Send a MEG recording.")
        return make_description(str(path), path.stem.startswith("simulated"))

    def prepare_meg(self, request: PrepareRequest, on_progress: OnProgress = ignore_progress) -> PrepareSummary:
        if request.preparation.layout == "ctf151":
            raise DataError("rest_raw.fif has 102 sensors; ctf151 wants 151. Take another layout.")
        for done in range(4):
            on_progress(Progress("prepare", done * 15.0, 60.0))
            time.sleep(self.slowness)
        request.output_dir.mkdir(parents=True)
        rows = tuple(
            {
                "name": path.name,
                "parts": ("train", "eval"),
                "segments": 3,
                "channels": "names",
                "bads": ("MEG0012",),
                "subject": "",
            }
            for path in request.inputs
        )
        warnings = ("5 s at the end are shorter than a segment and left out.",)
        return PrepareSummary(
            request.output_dir, {"train": 2, "eval": 1}, {"train": 40.0, "eval": 20.0}, rows, warnings
        )

    def read_pretrain_settings(self, name: str, changes: Sequence[str] = ()) -> PretrainSettings:
        settings = PretrainSettings(name=f"meg2vec-{name}", max_steps=60, warmup_steps=12, eval_every=30)
        given = dict(change.split("=") for change in changes)
        kinds = {key: type(getattr(settings, key)) for key in given}
        return replace(settings, **{key: kinds[key](value) for key, value in given.items()})

    def describe_window(self, settings: PretrainSettings, sampling_rate: int) -> str:
        frames = CLOCK.n_frames(round(settings.window_seconds * sampling_rate))
        if frames < 12:
            raise InputError(f"A window of {settings.window_seconds:g} s gives {frames} frames; expected 12 or more.")
        return f"Window: {settings.window_seconds:g} s at {sampling_rate} Hz = {frames} frames."

    def meg_layouts(self) -> Mapping[str, int]:
        return {"neuromag306": 306, "ctf151": 151}

    def embed(
        self,
        source: Path,
        settings: EmbedSettings,
        output: OutputSettings,
        on_progress: OnProgress = ignore_progress,
    ) -> EmbedResult:
        if source.suffix != ".fif":
            return super().embed(source, settings, output, on_progress)
        if not (Path(settings.model) / "model.safetensors").is_file():
            raise InputError(f"There is no model {settings.model!r}.")
        values = np.random.default_rng(0).normal(size=(len(LAYERS), 300, 16)).cumsum(axis=1).astype(np.float32)
        metadata = {"model_name": settings.model, "device": "cpu", "layers": list(LAYERS)}
        info = EmbeddingInfo(CLOCK, LAYERS, 300, 16, metadata)
        return EmbedResult(source, write(values, info, output, source.stem), info)

    def analyse_layers(self, request: LayersRequest, on_progress: OnProgress = ignore_progress) -> LayersAnalysis:
        if request.inputs[0].suffix != ".fif":
            return super().analyse_layers(request, on_progress)
        findings, points = make_analysis(n_models=1, n=100, with_tsne=False)
        return LayersAnalysis(findings, points, compare_models(findings))
