"""The layers part of ``core.tasks`` without a network: made findings about recordings that are really there."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from core.analysis.comparison import compare_models
from core.arrays import OnProgress, Progress, ignore_progress
from core.audio.reader import probe
from core.embed.inputs import list_inputs
from core.errors import DataError
from core.findings import RowTable, Similarity
from core.tasks import LayersAnalysis, LayersRequest
from tests.fakes import FakeTasks
from tests.findings_fakes import MODELS, make_analysis

FRAMES_A_SECOND = 50


@dataclass(frozen=True)
class FakeAppTasks(FakeTasks):
    """All that the app needs done; layers are analysed at once where the features folder has the recordings already."""

    n_points = 300

    def analyse_layers(self, request: LayersRequest, on_progress: OnProgress = ignore_progress) -> LayersAnalysis:
        recordings = [item.source for item in list_inputs(request.inputs)]
        self._features(recordings, request.features_dir, on_progress)
        settings = request.settings
        findings, points = make_analysis(
            n_models=2 if request.compare else 1, n=min(self.n_points, settings.max_points), with_tsne=False,
            control=settings.control, n_recordings=len(recordings),
        )  # fmt: skip
        names = dict(zip(MODELS, (request.embed.model, request.compare), strict=True))
        facts = tuple(recording(path) for path in recordings)
        models = tuple(
            replace(
                found,
                model=named(found.model, names),
                table=real_times(found.table, facts),
                similarity=renamed(found.similarity, names),
            )
            for found in findings.models
        )
        points = {
            named(name, names): replace(value, table=real_times(value.table, facts)) for name, value in points.items()
        }
        cross = findings.cross and renamed(findings.cross, names)
        findings = replace(findings, models=models, cross=cross, recordings=facts, settings=settings, failures=())
        return LayersAnalysis(findings, points, compare_models(findings))

    def _features(self, recordings: Sequence[Path], folder: Path, on_progress: OnProgress) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for place, path in enumerate(recordings):
            if path.stem == "broken":
                raise DataError(f"{path.name} is empty. Record it again.")
            kept = folder / f"{path.stem}.npz"
            on_progress(Progress("embed", place, len(recordings), "recordings"))
            if not kept.exists():
                time.sleep(10 * self.slowness)
                on_progress(Progress("embed", place + 0.5, len(recordings), "recordings"))
                np.savez(kept, layer_0=np.zeros((1, 1)))

    def summarise_layers(self, analysis: LayersAnalysis) -> dict[str, Any]:
        settings, models = analysis.findings.settings, analysis.findings.models
        return {
            "span": settings.span, "similarity": settings.similarity, "n_recordings": len(analysis.findings.recordings),
            "alignments": sorted(path.name for path in settings.alignments.iterdir()) if settings.alignments else [],
            "models": [
                {"model": model.model, "tsne": [layer.tsne is not None for layer in model.projections]}
                for model in models
            ],
        }  # fmt: skip

    def write_layers(
        self, analysis: LayersAnalysis, folder: Path, on_progress: OnProgress = ignore_progress, *, force: bool = False
    ) -> dict[str, Path]:
        for name in ("figures", "data"):
            (folder / name).mkdir(parents=True, exist_ok=force)
        files = {
            "report": folder / "report.html",
            "summary": folder / "summary.json",
            "pca": folder / "figures" / "pca.svg",
            "numbers": folder / "data" / "summary.json",
            "points": folder / "data" / "points.csv",
        }
        for place, (name, path) in enumerate(files.items()):
            on_progress(Progress("writing", place, len(files), "files"))
            path.write_text(json.dumps(self.summarise_layers(analysis)) if name == "summary" else f"<p>{name}</p>")
        return files


def recording(path: Path) -> dict[str, Any]:
    seconds = probe(path).duration_seconds or 0.0
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "name": path.name, "path": str(path), "sha256": digest, "seconds": seconds,
        "frames": int(seconds * FRAMES_A_SECOND),
    }  # fmt: skip


def named(model: str, names: Mapping[str, str]) -> str:
    for made, real in names.items():
        if model == made or model.startswith(f"{made} ("):
            return model.replace(made, real)
    return model


def renamed(similarity: Similarity, names: Mapping[str, str]) -> Similarity:
    return replace(similarity, models=tuple(named(model, names) for model in similarity.models))


def real_times(table: RowTable, facts: tuple[dict[str, Any], ...]) -> RowTable:
    """Spread the rows of each recording evenly over its length, so that a click finds sound."""
    start = np.zeros(len(table))
    for place, fact in enumerate(facts):
        mine = table.recording == place
        start[mine] = np.linspace(0, fact["seconds"] - 0.05, mine.sum())
    return replace(table, recordings=tuple(fact["name"] for fact in facts), start=start, stop=start + 0.025)
