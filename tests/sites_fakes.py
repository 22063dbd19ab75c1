"""The part of ``core.tasks`` on sites without MNE and torch: made arrays about files that are really there."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core.arrays import OnProgress, Progress, ignore_progress
from core.checkpoints.find import ModelEntry
from core.errors import CheckpointError, DataError, InputError
from core.sensors import Sensors
from core.tasks.sites.describing import find_sites
from core.tasks.sites.requests import (
    Agreement,
    CompareFindings,
    CompareRequest,
    Recovery,
    SimilarityRequest,
    SiteDescription,
    SiteSettings,
    SiteSimilarity,
    SiteUploads,
)
from tests.meg_fakes import FakeMegTasks

N_SITES = 24


def make_sites(n: int = N_SITES, kind: str = "eeg", placed: bool = True) -> Sensors:
    """Two rings of electrodes on a sphere of 9 cm."""
    turns = 2 * np.pi * (np.arange(n) + 0.5) / n
    up = np.where(np.arange(n) % 2, 0.3, 0.8)
    flat = np.sqrt(1 - up**2)
    places = 0.09 * np.column_stack([flat * np.cos(turns), flat * np.sin(turns), up])
    names = tuple(f"E{number}" for number in range(1, n + 1))
    return Sensors(names, (kind,) * n, places if placed else np.full((n, 3), np.nan), np.full((n, 3), np.nan))


def make_similarity(model: str = "sites", simulated: bool = False) -> SiteSimilarity:
    """What a model that has learned geometry is found to hold."""
    sites = make_sites()
    gaps = np.linalg.norm(sites.positions[:, None] - sites.positions[None], axis=2)
    alike, n = np.exp(-((gaps / 0.06) ** 2)), len(sites)
    untrained = np.random.default_rng(0).normal(scale=0.05, size=(n, n))
    untrained = (untrained + untrained.T) / 2 + np.eye(n)
    ranks = np.argsort(-alike - 9 * np.eye(n), axis=1)[:, ::-1][:, ::-1]
    nearest = {
        name: tuple((sites.names[other], float(alike[row, other])) for other in ranks[row] if other != row)[:5]
        for row, name in enumerate(sites.names)
    }
    agreed = Agreement(0.82, 0.0001, n * (n - 1) // 2)
    return SiteSimilarity(
        model, sites.names, tuple(range(1, n + 1)), alike, untrained, np.arange(n)[::-1], nearest, sites.positions,
        sites.positions[:, :2] / 0.09, ("front",) * (n // 2) + ("back",) * (n // 2), sites.kinds, agreed,
        Agreement(0.01, 0.4, agreed.n_pairs), Agreement(0.7, 0.0001, agreed.n_pairs),
        Agreement(0.79, 0.0001, agreed.n_pairs),
        (Recovery("hemisphere", 0.92, (0.45, 0.5, 0.67), 0.0001, n, ("left", "right")),),
        {"pca2": sites.positions[:, :2], "pca3": sites.positions}, facts={"simulated": simulated},
        warnings=("The model was trained on simulated recordings.",) if simulated else (),
    )  # fmt: skip


@dataclass(frozen=True)
class FakeSitesTasks(FakeMegTasks):
    """All that the app needs done."""

    def list_models(self, *, ask_hub: bool = True) -> Sequence[ModelEntry]:
        return [*super().list_models(ask_hub=ask_hub), ModelEntry("sites-tiny-eeg", "bundled", modality="grid")]

    def find_sites(self, inputs: Sequence[Path]) -> SiteUploads:
        return find_sites(inputs)

    def list_montages(self) -> Sequence[str]:
        return ("standard_1005", "biosemi64")

    def describe_sites(
        self, path: Path, montage: str = "", numpy_rate: float | None = None, table: Path | None = None
    ) -> SiteDescription:
        if path.suffix == ".npy" and numpy_rate is None:
            raise InputError(f"{path.name} does not say its sampling rate. Give it in Hz.")
        if path.stem == "broken":
            raise DataError(f"{path.name} is truncated: its end is missing. Copy it again from its source.")
        n = {"one": 1, "stereo": 2}.get(path.stem, N_SITES)
        simulated, placed = path.stem.startswith("simulated"), bool(montage) or path.suffix == ".fif"
        sites = make_sites(n, "audio" if path.suffix == ".wav" else "mag" if simulated else "eeg", placed)
        rate = 16_000.0 if path.suffix == ".wav" else 128.0
        warnings = () if placed else (f"{path.name} has no positions. Give --montage or a table of sites.",)
        return SiteDescription(
            str(path), "EDF", sites, sites.positions[:, :2] / 0.09, ("",) * n, rate, 48.0,
            {"EOG<1>": "no brain signal by its name"}, simulated, warnings,
        )  # fmt: skip

    def read_site_settings(self, config: str | Path, overrides: Sequence[str] = ()) -> SiteSettings:
        settings = SiteSettings(
            name=f"sites-{config}", grid_height=64, grid_width=64, sites_per_grid=8, max_steps=60, warmup_steps=12,
            eval_every=30, checkpoint_every=30,
        )  # fmt: skip
        given = dict(change.split("=") for change in overrides)
        kinds = {key: type(getattr(settings, key)) for key in given}
        return replace(settings, **{key: kinds[key](value) for key, value in given.items()})

    def site_similarity(self, request: SimilarityRequest, on_progress: OnProgress = ignore_progress) -> SiteSimilarity:
        for done in range(3):
            on_progress(Progress("sites", done, 3, "steps"))
            time.sleep(self.slowness)
        if request.model == "speech":
            raise CheckpointError("speech is a wav2vec2 model; expected one of recording sites.")
        request.output_dir.mkdir(parents=True)
        files = {name: request.output_dir / name for name in ("similarity.csv", "sites.npz", "site_map.svg")}
        for path in files.values():
            path.write_bytes(b"made")
        return replace(make_similarity(Path(request.model).name), files=files)

    def compare_sites(self, request: CompareRequest, on_progress: OnProgress = ignore_progress) -> CompareFindings:
        if request.start_seconds > 120:
            raise InputError(f"Got a start at {request.start_seconds:g} s; expected 0 to 120 s.")
        random, (first, second) = np.random.default_rng(0), request.sites
        different = 0.0 if first == second else 0.25
        return CompareFindings(
            Path(request.model).name, request.sites, request.source or first, different, (different / 2, different),
            0.0, different / 2, different * random.random((16, 16)), random.normal(size=(64, 64)).astype(np.float32),
            np.tile([10.0, 30.0], 8), np.arange(16) / 4, warnings=(f"The input begins at {request.start_seconds} s.",),
        )  # fmt: skip
