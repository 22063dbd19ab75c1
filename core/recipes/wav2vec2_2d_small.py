"""The bundled model of recording sites: trained on simulated MEG of several heads on the sensors of a real helmet.

One command does it all, and continues where it was when it is given again::

    python -m core.recipes.wav2vec2_2d_small --work WORK --output checkpoints
"""

from dataclasses import dataclass
from pathlib import Path

from core import tasks
from core.recipes.simulated import Table, bundle, command_line, simulated_recordings

NAME = "wav2vec2-2d-small-simulated"
RECIPE = "python -m core.recipes.wav2vec2_2d_small"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what comes out.

    Attributes:
        preset: Of ``sites train``.
        overrides: Settings that are not the preset's, ``key=value``.
        heads: Subjects to train on.
        seconds: Of each recording.
    """

    preset: str = "tiny"
    overrides: tuple[str, ...] = ()
    heads: tuple[int, ...] = (20, 21)
    seconds: float = 240.0


def run(work: Path, output: Path, recipe: Recipe | None = None) -> Path:
    """Simulate, train, measure and bundle."""
    recipe = recipe or Recipe()
    recordings = simulated_recordings(work / "recordings", recipe.heads, recipe.seconds)
    settings = tasks.read_site_settings(recipe.preset, recipe.overrides)
    folder = work / "run"
    request = tasks.SiteTrainRequest(recordings, folder, settings, resume=(folder / "run.json").exists())
    trained = tasks.trained_checkpoint(tasks.train_sites(request))
    found = tasks.site_similarity(tasks.SimilarityRequest(str(trained)))
    return bundle(trained, output / NAME, RECIPE, [similarity_table(found)])


def similarity_table(found: tasks.SiteSimilarity) -> Table:
    """How the learned vectors go with where the sites are, beside the same before training."""
    rows = [
        [what, f"{agreement.spearman:.3f}", f"{agreement.p:.4f}"]
        for what, agreement in (
            ("learned similarity with minus the distance", found.distance),
            ("the same before training", found.untrained_distance),
            ("correlation of the raw signals with minus the distance", found.signal_distance),
        )
        if agreement is not None
    ]
    rows += [
        [
            f"{one.what} by five nearest neighbours (shuffled: 95 % below {one.shuffled[2]:.3f})",
            f"{one.accuracy:.3f}",
            "",
        ]
        for one in found.recoveries
    ]
    return {
        "title": "What was learned of where the sites are",
        "note": f"Simulated. {len(found.names)} sites; Spearman over pairs, p of Mantel's permutation test.",
        "columns": ["measure", "value", "p"],
        "rows": rows,
    }


if __name__ == "__main__":
    command_line(__doc__ or "", run)
