"""What a model learned about where its sites are, beside the same model before training."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core.analysis.site_agreement import FEWEST_SITES, mantel
from core.analysis.site_recovery import hemispheres, places_of, recover
from core.analysis.sites import (
    hierarchical_order,
    nearest_sites,
    site_distances,
    site_maps,
    site_similarity_matrix,
)
from core.arrays import OnProgress, Progress, ignore_progress
from core.errors import InputError
from core.figures.sites.paper import write_site_figures
from core.figures.sites.tables import write_site_tables
from core.meg.layouts import flat_positions
from core.records import to_plain
from core.tasks.result_folder import DATA, FIGURES, Step, check_results_target, write_results
from core.tasks.sites.loading import TrainedSites, load_trained_sites, site_embeddings
from core.tasks.sites.requests import Agreement, Recovery, SimilarityRequest, SiteSimilarity

KIND = "strata sites"
"""Written into the summary, so that a later run knows the files that it lists for ours and may remove them."""

NO_POSITION = "no position"
UNSEEN = "in no training grid"


def site_similarity(request: SimilarityRequest, on_progress: OnProgress = ignore_progress) -> SiteSimilarity:
    """Analyse the site embeddings of a trained model, and write what was found if a folder is given.

    Pairs at one place (the sensors of a MEG triplet) have no distance to tell, and are left out of its statistics.
    Sites that no training grid held stay in the matrix but not in the statistics: their embeddings are as they were
    drawn. So do sites without a position, in statistics of distance.

    Args:
        request: Model, folder, permutations.
        on_progress: Told of the stages ``sites`` and ``write``.

    Raises:
        InputError: A number that cannot be used.
        CheckpointError: The model cannot be read, or knows nothing of sites.
        OutputError: The folder cannot be written, or holds results and ``force`` is not given.
    """
    _check(request)
    if request.output_dir is not None:
        check_results_target(request.output_dir, force=request.force)
    found = analyse_sites(load_trained_sites(request.model), request, on_progress)
    if request.output_dir is None:
        return found
    files = write_site_similarity(found, request.output_dir, on_progress, force=request.force)
    return replace(found, files=files)


def analyse_sites(
    trained: TrainedSites, request: SimilarityRequest, on_progress: OnProgress = ignore_progress
) -> SiteSimilarity:
    """Do what :func:`site_similarity` does, of a model in memory, without writing."""
    sites, n = trained.site_input.sites, len(trained.site_input.sites)
    embeddings = site_embeddings(trained.loaded.model, n)
    matrices = {"learned": site_similarity_matrix(embeddings), "untrained": site_similarity_matrix(trained.untrained)}
    places = places_of(sites.positions)
    near = np.where(places[:, None] == places[None, :], np.nan, -site_distances(sites.positions))
    matrices |= {"signal": np.asarray(trained.signal_correlation), "near": near}
    on_progress(Progress("sites", 1, 3, "steps"))
    seen, located = trained.seen > 0, np.isfinite(sites.positions).all(axis=1)

    def agree(first: str, second: str, kept: np.ndarray) -> Agreement | None:
        return agreement(matrices[first], matrices[second], (kept, places), request)

    recoveries = _recoveries(trained, embeddings, request)
    on_progress(Progress("sites", 2, 3, "steps"))
    return SiteSimilarity(
        model=trained.loaded.name,
        names=sites.names,
        ids=tuple(range(1, n + 1)),
        similarity=matrices["learned"],
        untrained=matrices["untrained"],
        order=hierarchical_order(matrices["learned"]),
        nearest=nearest_sites(matrices["learned"], sites.names),
        positions=sites.positions,
        flat=_flat(trained),
        regions=trained.site_input.regions,
        kinds=sites.kinds,
        distance=agree("learned", "near", seen & located),
        untrained_distance=agree("untrained", "near", seen & located),
        signal=agree("learned", "signal", seen),
        signal_distance=agree("signal", "near", seen & located),
        recoveries=recoveries,
        maps=site_maps(embeddings, request.seed),
        excluded=_excluded(sites.names, {UNSEEN: ~seen, NO_POSITION: ~located}),
        unseen=tuple(np.array(sites.names)[~seen].tolist()),
        warnings=(*trained.loaded.warnings, *_warnings(trained, seen, located)),
        facts=_facts(trained, request),
    )


def agreement(
    first: np.ndarray, second: np.ndarray, which: tuple[np.ndarray, np.ndarray], request: SimilarityRequest
) -> Agreement | None:
    """Correlate two measures of pairs of sites.

    Args:
        first: (sites, sites); NaN where a pair is not known or does not count.
        second: The same.
        which: (sites,) bool, sites that count, and (sites,) numbers of places, whose sensors are permuted as one.
        request: How many permutations, and their seed.

    Returns:
        None where too few sites count, no pair is known, or one of them does not vary.
    """
    kept, places = which
    own = np.ix_(kept, kept)
    if kept.sum() < FEWEST_SITES:
        return None
    spearman, p = mantel(first[own], second[own], request.permutations, request.seed, places[kept])
    pairs = np.triu_indices(int(kept.sum()), 1)
    n_pairs = int(np.isfinite(first[own] + second[own])[pairs].sum())
    return Agreement(spearman, p, n_pairs) if np.isfinite(spearman) else None


def summarise_sites(found: SiteSimilarity) -> dict[str, Any]:
    """Put together what ``summary.json`` and ``--json`` say; None where a number is not known."""
    recoveries = {one.what: to_plain(one) for one in found.recoveries}
    return {
        "kind": KIND,
        "model": found.model,
        "n_sites": len(found.names),
        "spearman_distance": _number(found.distance, "spearman"),
        "p": _number(found.distance, "p"),
        "n_pairs": _number(found.distance, "n_pairs"),
        "spearman_untrained": _number(found.untrained_distance, "spearman"),
        "p_untrained": _number(found.untrained_distance, "p"),
        "spearman_signal": _number(found.signal, "spearman"),
        "p_signal": _number(found.signal, "p"),
        "spearman_signal_distance": _number(found.signal_distance, "spearman"),
        "recovery": recoveries,
        "order": [found.names[place] for place in found.order.tolist()],
        "excluded": dict(found.excluded),
        "unseen": list(found.unseen),
        "warnings": list(found.warnings),
        "facts": to_plain(found.facts),
    }


def write_site_similarity(
    found: SiteSimilarity, folder: Path, on_progress: OnProgress = ignore_progress, *, force: bool = False
) -> dict[str, Path]:
    """Write figures, tables and the summary; ``summary.json`` comes last.

    Returns:
        Paths by name.

    Raises:
        OutputError: The folder cannot be written, holds results and ``force`` is not given, or the disk is full.
    """
    steps: list[Step] = [
        lambda: write_site_figures(found, folder / FIGURES),
        lambda: write_site_tables(found, folder / DATA),
    ]
    return write_results(folder, steps, summarise_sites(found), on_progress, force=force)


def _check(request: SimilarityRequest) -> None:
    if request.permutations < 1:
        raise InputError(f"Got {request.permutations} permutations; expected at least 1, such as 10000.")
    if request.neighbours < 1:
        raise InputError(f"Got {request.neighbours} neighbours; expected at least 1, such as 5.")
    if request.seed < 0:
        raise InputError(f"Got seed {request.seed}; expected 0 or more.")


def _recoveries(trained: TrainedSites, embeddings: np.ndarray, request: SimilarityRequest) -> tuple[Recovery, ...]:
    positions, seen = trained.site_input.sites.positions, trained.seen > 0
    questions: Mapping[str, np.ndarray] = {
        "hemisphere": hemispheres(positions),
        "region": np.array(trained.site_input.regions, dtype=np.str_),
    }
    places = places_of(positions)
    found = []
    for what, labels in questions.items():
        told = np.where(seen, labels, "")
        vote = recover(embeddings, told, places, request.neighbours, request.permutations, request.seed)
        if vote is not None:
            found.append(Recovery(what, vote.accuracy, vote.shuffled, vote.p, vote.n, vote.classes))
    return tuple(found)


def _flat(trained: TrainedSites) -> np.ndarray:
    """Places on a flat map; sites that lie on no sphere are seen straight from above."""
    sites = trained.site_input.sites
    flat = flat_positions(sites)
    known = np.isfinite(sites.positions).all(axis=1)
    return flat if np.isfinite(flat[known]).all() else np.asarray(sites.positions[:, :2])


def _excluded(names: tuple[str, ...], reasons: Mapping[str, np.ndarray]) -> dict[str, str]:
    told = {name: [reason for reason, own in reasons.items() if own[at]] for at, name in enumerate(names)}
    return {name: ", ".join(found) for name, found in told.items() if found}


def _warnings(trained: TrainedSites, seen: np.ndarray, located: np.ndarray) -> list[str]:
    n, n_used = len(seen), int((seen & located).sum())
    found = {
        "The model knows one site only; there is nothing to compare it with.": n == 1,
        f"{(~seen).sum()} of {n} sites were in no training grid; their embeddings are random.": not seen.all(),
        f"{(~located).sum()} of {n} sites have no position; distances leave them out.": not located.all(),
        f"Distances need {FEWEST_SITES} sites that have a position; there are {n_used}.": n_used < FEWEST_SITES,
        "The model was trained on simulated recordings.": trained.site_input.simulated,
    }
    return [words for words, holds in found.items() if holds]


def _facts(trained: TrainedSites, request: SimilarityRequest) -> dict[str, Any]:
    return {
        "sha256": trained.loaded.sha256,
        "permutations": request.permutations,
        "neighbours": request.neighbours,
        "seed": request.seed,
        "grids": to_plain(trained.site_input.patches),
        "seen": trained.seen.tolist(),
        "simulated": trained.site_input.simulated,
    }


def _number(found: Agreement | None, name: str) -> float | None:
    return None if found is None else getattr(found, name)
