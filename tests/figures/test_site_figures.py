"""Figures of sites: what they show is what was found, for few and for many sites."""

import base64
import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from core.figures.sites.comparing import band_starts, comparison_figure, row_ticks
from core.figures.sites.distance import binned_medians, distance_figure, pair_distances
from core.figures.sites.embedding import colourings, embedding_figure
from core.figures.sites.findings import agreement_text
from core.figures.sites.matrix import live_figure, named_places, similarity_figure, untrained_figure
from core.figures.sites.paper import scattered
from core.figures.sites.places import space_figure, spread_places, topomap_figure
from core.figures.sites.tables import site_files
from core.tasks.sites.requests import Agreement, CompareFindings, SiteSimilarity


@dataclass
class Unpacked:
    """What plotly.js reads of a packed array."""

    values: np.ndarray

    def __init__(self, packed):
        kind = {"f4": "<f4", "i4": "<i4"}[packed["dtype"]]
        values = np.frombuffer(base64.b64decode(packed["bdata"]), kind)
        self.values = values.reshape([int(n) for n in packed["shape"].split(", ")]) if "shape" in packed else values


def made(n=9):
    rng = np.random.default_rng(0)
    positions = rng.normal(size=(n, 3)) * 0.05
    rows = rng.normal(size=(n, 4))
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    names = ("<b>Fz</b>", *(f"E{number}" for number in range(1, n)))
    maps = {"pca2": rows[:, :2], "pca3": rows[:, :3]}
    nearest = dict.fromkeys(names, (("E1", 0.5),))
    agreed = Agreement(0.618, 0.0001, n * (n - 1) // 2)
    return SiteSimilarity(
        "model", names, tuple(range(1, n + 1)), units @ units.T, np.eye(n), rng.permutation(n), nearest, positions,
        positions[:, :2], ("",) * n, ("eeg",) * n, agreed, None, None, None, (), maps,
    )  # fmt: skip


def test_the_matrix_stands_in_order_with_its_names_on_the_untrained_ones_scale():
    found = made()
    learned, untrained = (draw(found)["data"][0] for draw in (similarity_figure, untrained_figure))
    assert np.allclose(Unpacked(learned["z"]).values, found.similarity[np.ix_(found.order, found.order)])
    assert np.allclose(Unpacked(untrained["z"]).values, np.eye(9))
    assert learned["x"] == untrained["x"]
    assert learned["x"].index("&lt;b&gt;Fz&lt;/b&gt;") == found.order.tolist().index(0)
    assert [(one["zmin"], one["zmax"]) for one in (learned, untrained)] == [(-1, 1)] * 2


@pytest.mark.parametrize("n", [1, 8, 64, 306])
def test_names_thin_out(n):
    assert 1 <= len(named_places(n)) <= 22
    shown = live_figure([f"E{i}" for i in range(n)], np.eye(n), 1_200)
    assert shown["layout"]["title"]["text"] == "Sites after step 1,200"
    assert len(shown["layout"]["xaxis"]["ticktext"]) == len(named_places(n))


def test_every_figure_is_json():
    found = made()
    found = replace(found, positions=np.where(np.arange(9)[:, None] == 2, np.nan, found.positions))
    figures = [similarity_figure(found), distance_figure(found), topomap_figure(found, 1), space_figure(found, 1)]
    figures += [embedding_figure(found, kind, by) for kind in ("pca2", "pca3") for by in colourings(found)]
    for figure in figures:
        json.dumps(figure, allow_nan=False)


def test_colours_of_the_map_are_similarities_to_the_chosen_site():
    found = made()
    for figure in (topomap_figure(found, 4), space_figure(found, 4)):
        dots = figure["data"][0]
        assert np.allclose(Unpacked(dots["marker"]["color"]).values, found.similarity[4])
        assert dots["customdata"] == list(range(9))
    ring = topomap_figure(found, 4)["data"][1]
    assert Unpacked(ring["x"]).values[0] == pytest.approx(found.flat[4, 0])


def test_nothing_without_positions():
    found = made()
    unknown = np.full((9, 3), np.nan)
    found = replace(found, positions=unknown, flat=unknown[:, :2])
    assert [topomap_figure(found, 0), space_figure(found, 0), distance_figure(found)] == [None] * 3
    assert colourings(found) == ("none",)
    assert embedding_figure(found)["data"]
    assert embedding_figure(found, "tsne2") is None
    assert b"nan" not in site_files(found)["order.csv"]


def test_sensors_of_one_place_are_drawn_around_it():
    flat = np.repeat(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), [3, 1, 1], axis=0)
    spread = spread_places(flat)
    assert np.allclose(spread[3:], flat[3:])
    assert np.allclose(spread[:3].mean(axis=0), 0)
    assert len(np.unique(np.round(spread, 3), axis=0)) == 5


def test_distances_are_millimetres_and_medians_of_all_pairs():
    assert pair_distances(np.array([[0, 0, 0], [0.03, 0.04, 0]])).tolist() == [50.0]
    x, y = binned_medians(np.arange(9.0), np.arange(9.0) ** 2, bins=3)
    assert (x.tolist(), y.tolist()) == ([1, 4, 7], [1, 16, 49])
    told = distance_figure(made())["layout"]["title"]["subtitle"]["text"]
    assert told == "Spearman with −distance: 0.62 (p &lt; 0.001)<br>before training: unknown"
    assert agreement_text(Agreement(-0.2, 0.5, 3)) == "−0.2 (p = 0.5)"


def test_chosen_sites_are_far_apart():
    places = np.array([[0, 1.0], [0, 0.9], [0, -1], [np.nan, 0], [1, 0]])
    assert scattered(places, 3) == [0, 2, 4]


def test_tokens_and_input_share_time_and_frequencies():
    times, rows = np.array([1.0, 2.0, 3.0]), np.array([5.0, 10.0, 15.0, 20.0])
    found = CompareFindings("m", ("a", "b"), "a", 0.1, (0.1,), 0.0, 0.5, np.ones((4, 3)), np.zeros((8, 6)), rows, times)
    changed, given = comparison_figure(found)["data"]
    assert (changed["x0"], changed["dx"], given["x0"], given["dx"]) == (1.0, 1.0, 0.75, 0.5)
    assert row_ticks(rows, 4)[0].tolist() == [0, 1, 2, 3]
    assert row_ticks(rows, 8)[0].tolist() == [0.5, 2.5, 4.5, 6.5]
    assert band_starts(np.tile(rows, 2)).tolist() == [0, 4]
    json.dumps(comparison_figure(replace(found, map=np.zeros((4, 3)))), allow_nan=False)


def test_where_a_token_row_is_a_site_the_compared_one_is_named():
    same, times = np.full(4, 20.5), np.arange(3.0)
    found = CompareFindings("m", ("a", "b"), "a", 0.1, (0.1,), 0.0, 0.5, np.ones((4, 3)), np.zeros((8, 6)), same, times)
    drawn = comparison_figure(found)["layout"]["yaxis"]
    assert (drawn["tickvals"], drawn["ticktext"], drawn["title"]["text"]) == ([0.0], ["a"], "sites")
