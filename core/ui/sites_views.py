"""What the tab "Sites" shows: what is in a recording, a training, what was learned. All foreign text is escaped."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from core.figures.plotly_json import Figure
from core.tasks.sites.requests import CompareFindings, Recovery, SiteDescription, SiteSettings, SiteSimilarity
from core.ui import cards
from core.ui.emotion_views import EMPTY, warned
from core.ui.layers_views import table
from core.ui.meg_views import SIMULATED
from core.ui.progress import in_words
from core.ui.settings import UiSettings

SHOWN = 8
"""Channels that are listed at most."""

SNAPSHOT, LINES = "similarity.npz", "sites.jsonl"
"""What a training writes at each evaluation: how alike sites are, and the held-out scores of each."""

KINDS = {
    "eeg": "EEG", "ecog": "ECoG", "seeg": "sEEG", "dbs": "DBS", "mag": "magnetometer", "grad": "gradiometer",
    "audio": "microphone",
}  # fmt: skip

DRAWING = (
    '<path d="M94 34a26 26 0 1 1 52 0a26 26 0 1 1-52 0M114 9l6-7 6 7" />'
    '<path d="M108 24h.1M132 24h.1M120 34h.1M104 38h.1M136 38h.1M112 50h.1M128 50h.1" stroke-linecap="round" />'
)
MATRIX = '<path d="M94 6h52v52h-52zM107 6v52M120 6v52M133 6v52M94 19h52M94 32h52M94 45h52" />'

EMPTY_RECORDING = EMPTY.format(
    size="", drawing=DRAWING, title="No recording yet",
    text="A site is where something was measured: an electrode, a MEG sensor, a microphone. Send a recording of "
    "several sites, or take the simulated one. You will see which sites it has and where they are.",
)  # fmt: skip
EMPTY_TRAIN = EMPTY.format(
    size="strata-lower", drawing=MATRIX, title="No training yet",
    text="The model sees several sites at once, parts of them hidden, and learns to tell what belongs there. It is "
    "never told where a site is: each has a vector that is learned, and alike sites end up with alike vectors. Take "
    "a recording in step 1 first.",
)  # fmt: skip
EMPTY_LEARNED = EMPTY.format(
    size="strata-lower", drawing=MATRIX, title="Nothing analysed yet",
    text="Choose a model that was trained on sites, and see which sites it takes for alike, whether that goes with "
    "where they are, and what the same model said before training.",
)  # fmt: skip
EMPTY_COMPARE = EMPTY.format(
    size="strata-lower", drawing='<path d="M30 12h70v42h-70zM140 12h70v42h-70zM108 33h24M126 27l6 6-6 6" />',
    title="Nothing compared yet",
    text="The model is shown the same input twice, once as if it came from one site and once from another. The map "
    "shows where its states differ. Analyse a model in step 3 first.",
)  # fmt: skip

ABOUT_SITES = (
    "Positions come from the file, or from a montage: a list of where electrodes of a name usually sit. Channels that "
    "are marked as bad, or that measure no brain (eyes, heart, triggers), are left out."
)
ABOUT_NUMBERS = (
    "Spearman is the rank correlation over all pairs of sites. p is Mantel's: it permutes sites, since pairs that "
    "share a site are not independent. Raw signals say what is there to be learned without a model: how signals of "
    "two sites correlate. Nearest sites vote on side or region, each site left out in turn; shuffled labels show what "
    "luck does."
)


# -------------------------------------------------------------------------------------------------------- recording


def about_limits(settings: UiSettings) -> str:
    """Say what may be sent."""
    return cards.note(
        f"EEG, ECoG, sEEG or MEG (.edf, .bdf, .fif, .vhdr with its two files, .set), .npy (channels × times), or sound "
        f"of several channels; folders as a zip. Up to {settings.max_upload_mb:,.0f} MB and "
        f"{in_words(settings.max_seconds)}. A .tsv or .csv beside says where sites are: name, x, y, z in metres, "
        "region."
    )


def about_recording(found: SiteDescription, n_recordings: int) -> str:
    """Say what is in a recording: sites, kinds, positions, what is left out, its length, and what to mind."""
    badge = f" {SIMULATED}" if found.simulated else ""
    count = f", first of {n_recordings} recordings" if n_recordings > 1 else ""
    name = escape(Path(found.path).name)
    told = (
        f"<strong>{name}</strong>{badge}{count}, {escape(found.format)}, <strong>{_counted(len(found.sites))}</strong>"
    )
    regions = sorted(set(found.regions) - {""})
    lists = [
        ("Kinds", ", ".join(f"{count} {KINDS.get(kind, kind)}" for kind, count in Counter(found.sites.kinds).items())),
        ("Positions", f"{found.n_placed} of {len(found.sites)} known"),
        ("Left out", ", ".join(_some(list(found.left_out))) or "none"),
        ("Length", f"{_length(found.seconds)} at {found.sampling_rate:,.6g} Hz"),
        *([("Regions", ", ".join(_some(regions)))] if regions else []),
    ]
    listed = "".join(f"<div><dt>{what}</dt><dd>{escape(said)}</dd></div>" for what, said in lists)
    return (
        f'<div class="strata-facts strata-meg"><p>{told}.</p><dl>{listed}</dl>{warned(_minded(found))}'
        f"{cards.how_to_read(ABOUT_SITES)}</div>"
    )


def _minded(found: SiteDescription) -> Sequence[str]:
    """Return the warnings; what a command line's flag mends is said in the page's words."""
    return [one.replace("Give --montage or a table of sites.", "Choose a montage.") for one in found.warnings]


def places(found: SiteDescription) -> list[tuple[Figure, str]]:
    """Draw where the sites are; nothing where that is not known."""
    from core.figures.sites.recording import PLACES_CAPTION, places_figure

    drawn = places_figure(found)
    return [] if drawn is None else [(drawn, PLACES_CAPTION)]


def _counted(n: int) -> str:
    return f"{n:,} site" + ("" if n == 1 else "s")


def _some(names: Sequence[str]) -> list[str]:
    more = len(names) - SHOWN
    return [*names[:SHOWN], *([f"and {more} more"] if more > 0 else [])]


def _length(seconds: float) -> str:
    return in_words(seconds) if seconds >= 10 else f"{seconds:.1f} s"


# ------------------------------------------------------------------------------------------------------------ train


def about_grid(settings: SiteSettings, n_sites: int) -> str:
    """Say what the model sees at once."""
    patches = settings.patches
    return cards.note(
        f"At once: {min(patches.sites_per_grid, n_sites)} of {_counted(n_sites)}, {patches.seconds:g} s, "
        f"{patches.rows_per_site} rows of frequency each from {patches.l_freq:g} to {patches.h_freq:g} Hz; "
        f"{settings.mask_prob:.0%} of it is hidden."
    )


def live(folder: Path, metrics: Sequence[Mapping[str, Any]]) -> list[tuple[Figure, str]]:
    """Draw what a training has learned of its sites so far: how alike they are, and the loss of each.

    Args:
        folder: Of the run.
        metrics: Of the run, for the loss of guessing.
    """
    from core.figures.sites import matrix, recording

    drawn = []
    snapshot, losses = _snapshot(folder / SNAPSHOT), _last_line(folder / LINES)
    if snapshot is not None:
        drawn.append((matrix.live_figure(*snapshot), matrix.CAPTION.replace("a hierarchical clustering", "their ids")))
    if losses is not None:
        chance = next((row["chance"] for row in reversed(metrics) if row.get("chance")), None)
        drawn.append((recording.losses_figure(losses["loss"], losses["step"], chance), recording.LOSSES_CAPTION))
    return drawn


def _snapshot(path: Path) -> tuple[list[str], np.ndarray, int] | None:
    """Return names, (sites, sites) similarity and step; None before the first evaluation."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        return [str(name) for name in file["names"]], file["similarity"].astype(np.float64), int(file["step"])


def _last_line(path: Path) -> dict[str, Any] | None:
    """Return the scores of the last evaluation; None before the first, and where its line is still being written."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    try:
        found: dict[str, Any] | None = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return found if found and found.get("loss") else None


# ---------------------------------------------------------------------------------------------------------- learned


def about_learned(found: SiteSimilarity) -> str:
    """Say what was learned, in numbers beside what they are to be compared with."""
    badge = f" {SIMULATED}" if found.facts.get("simulated") else ""
    excluded = f"; {len(found.excluded)} left out of distances" if found.excluded else ""
    name = escape(cards.model_name(found.model))
    head = f"<p><strong>{name}</strong>, {_counted(len(found.names))}{excluded}.{badge}</p>"
    rows = [*_agreements(found), *(_recovery(one) for one in found.recoveries)]
    numbers = table(["What", "Learned", "To compare with"], rows, "strata-comparison")
    return (
        f'<div class="strata-facts strata-meg">{head}{numbers}{warned(found.warnings)}'
        f"{cards.how_to_read(ABOUT_NUMBERS)}</div>"
    )


def _agreements(found: SiteSimilarity) -> list[list[str]]:
    from core.figures.sites.findings import agreement_text as told

    pairs = f", {found.distance.n_pairs:,} pairs" if found.distance else ""
    beside = f"before training {told(found.untrained_distance)}; raw signals {told(found.signal_distance)}"
    return [
        ["Spearman with −distance", told(found.distance) + pairs, beside],
        ["Spearman with the raw signals’ correlation", told(found.signal), ""],
    ]


def _recovery(one: Recovery) -> list[str]:
    from core.figures.sites.findings import p_text

    what = {"hemisphere": "Left or right, by the nearest sites", "region": "Region, by the nearest sites"}[one.what]
    low, middle, high = one.shuffled
    return [
        what,
        f"{one.accuracy:.0%} of {_counted(one.n)} ({p_text(one.p)}), {len(one.classes)} classes",
        f"shuffled labels {middle:.0%} (quartile {low:.0%}, 95th percentile {high:.0%})",
    ]


def matrices(found: SiteSimilarity) -> list[tuple[Figure, str]]:
    """Draw the similarity that was learned, the same before training, and how it goes with distance."""
    from core.figures.sites import distance, matrix

    drawn = [(matrix.similarity_figure(found), matrix.CAPTION), (matrix.untrained_figure(found), matrix.CAPTION)]
    far = distance.distance_figure(found)
    return [*drawn, *([(far, distance.CAPTION)] if far is not None else [])]


def maps(found: SiteSimilarity, chosen: int) -> list[tuple[Figure, str]]:
    """Draw similarity to a site where the sites are, flat and in space; nothing where no position is known."""
    from core.figures.sites import places

    drawn = (places.topomap_figure(found, chosen), places.space_figure(found, chosen))
    return [(_steady(figure), places.CAPTION) for figure in drawn if figure is not None]


def embeddings(found: SiteSimilarity, colour: str) -> list[tuple[Figure, str]]:
    """Draw the maps of the embeddings."""
    from core.figures.sites import embedding

    drawn = (embedding.embedding_figure(found, kind, colour) for kind in embedding.KINDS)
    return [(_steady(figure), embedding.CAPTION) for figure in drawn if figure is not None]


def colours(found: SiteSimilarity) -> tuple[str, ...]:
    """Name what the maps of the embeddings can be coloured by, best first."""
    from core.figures.sites.embedding import colourings

    return colourings(found)


def _steady(figure: Figure) -> Figure:
    """Keep a figure turned as it is when its colours change."""
    figure["layout"]["uirevision"] = "same"
    return figure


def nearest(found: SiteSimilarity, chosen: int) -> str:
    """List the sites that are most alike to one, with the distance to each."""
    name, places_of = found.names[chosen], {name: place for place, name in enumerate(found.names)}
    gaps = 1_000 * np.linalg.norm(found.positions - found.positions[chosen], axis=1)
    rows = []
    for other, similarity in found.nearest[name]:
        gap = gaps[places_of[other]]
        rows.append([other, f"{similarity:.2f}", f"{gap:.0f} mm" if np.isfinite(gap) else "unknown"])
    head = f"<p>Most alike to <strong>{escape(name)}</strong>:</p>"
    listed = table(["Site", "Cosine", "Distance"], rows, "strata-comparison")
    return f'<div class="strata-facts" aria-live="polite">{head}{listed}</div>'


def commands(name: str, recording: str) -> str:
    """Return the commands that do the same with a downloaded checkpoint."""
    return "\n".join(
        [
            f"unzip {name}.zip",
            f"python -m core sites similarity ./{name} --output results",
            f"python -m core sites compare ./{name} --input {recording} --sites 1,2",
        ]
    )


# ---------------------------------------------------------------------------------------------------------- compare


def about_comparison(found: CompareFindings) -> str:
    """Say by how much the states differ."""
    first, second = (escape(name) for name in found.sites)
    layers = [[str(layer), f"{value:.4g}"] for layer, value in enumerate(found.by_layer)]
    told = (
        f"Signal of <strong>{escape(found.source)}</strong> as {first} or as {second}: mean |difference| "
        f"<strong>{found.mean_difference:.4g}</strong>, {found.relative:.1%} of the mean |state|. {first} twice: "
        f"<strong>{found.same_site:g}</strong>."
    )
    by_layer = table(["Layer", "Mean |difference|"], layers, "strata-comparison")
    return f'<div class="strata-facts strata-meg"><p>{told}</p>{by_layer}{warned(found.warnings)}</div>'


def comparison(found: CompareFindings) -> list[tuple[Figure, str]]:
    """Draw the map over tokens above the input."""
    from core.figures.sites import comparing

    return [(comparing.comparison_figure(found), comparing.CAPTION)]
