"""The bundled Meg2Vec: pre-trained on simulated MEG of eight heads, probed on ten others.

One command does it all, and continues where it was when it is given again::

    python -m core.recipes.meg2vec_small --work WORK --output checkpoints
"""

from dataclasses import dataclass, replace
from pathlib import Path

from core import tasks
from core.recipes.simulated import Table, bundle, command_line, simulated_recordings

NAME = "meg2vec-small-simulated"
RECIPE = "python -m core.recipes.meg2vec_small"
CONTROLS = {
    "model": "this model",
    "random": "the same network, random weights",
    "band-power": "band power",
    "riemann": "tangent space of covariances (pyriemann)",
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what comes out.

    Attributes:
        preset: Of ``pretrain``.
        overrides: Settings that are not the preset's, ``key=value``.
        train_heads: Subjects to train on; one of them, by lot, is held out for the validation loss.
        probe_heads: Other subjects, whose labels are read from the layers.
        train_seconds: Of each recording.
        probe_seconds: Of each recording.
    """

    preset: str = "tiny"
    overrides: tuple[str, ...] = ()
    train_heads: tuple[int, ...] = tuple(range(9))
    probe_heads: tuple[int, ...] = tuple(range(20, 30))
    train_seconds: float = 300.0
    probe_seconds: float = 120.0


def run(work: Path, output: Path, recipe: Recipe | None = None) -> Path:
    """Simulate, prepare, train, probe and bundle."""
    recipe = recipe or Recipe()
    data = _prepared(work, recipe)
    settings = tasks.read_pretrain_settings(recipe.preset, recipe.overrides)
    settings = replace(settings, numpy_data_dir=str(data))
    folder = work / "run"
    result = tasks.pretrain_meg(tasks.PretrainRequest(settings, folder, resume=(folder / "run.json").exists()))
    trained = tasks.trained_checkpoint(result)
    probed = simulated_recordings(work / "probe", recipe.probe_heads, recipe.probe_seconds)
    found = tasks.probe_meg(tasks.ProbeRequest(str(trained), probed))
    return bundle(trained, output / NAME, RECIPE, [probe_table(found)])


def _prepared(work: Path, recipe: Recipe) -> Path:
    recordings = simulated_recordings(work / "train", recipe.train_heads, recipe.train_seconds)
    kept = (len(recordings) - 1) / len(recordings)
    tasks.prepare_meg(tasks.PrepareRequest(recordings, work / "data", split_ratio=kept))
    return work / "data"


def probe_table(found: tasks.ProbeFindings) -> Table:
    """What the linear probe says of the layers, beside its controls."""
    rows = []
    for score in found.scores:
        low, high = score.interval
        layer = "-" if score.layer is None else str(score.layer)
        rows.append([CONTROLS[score.name], layer, f"{score.score:.3f} [{low:.3f}, {high:.3f}]"])
    return {
        "title": "Linear probe: what is attended to",
        "note": f"Simulated. {len(found.classes)} labels, balanced accuracy over {len(found.recordings)} heads that no "
        f"training saw (n = {sum(found.counts.values())} windows of half a second; chance {found.chance:.3f}; the "
        "layer chosen on training heads only; 95 % over recordings). The labels are rhythms, which band power reads by "
        "itself: that the model beats its random weights is what the table is for.",
        "columns": ["features", "layer", "balanced accuracy [95 %]"],
        "rows": rows,
    }


if __name__ == "__main__":
    command_line(__doc__ or "", run)
