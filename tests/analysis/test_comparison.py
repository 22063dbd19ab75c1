"""Each line of the comparison table, with findings planted on both sides of its threshold."""

from dataclasses import replace

import numpy as np
import pytest

from core.analysis.comparison import (
    NO_INTERVAL,
    OVERLAP,
    compare_models,
    compared,
    counts_compare,
    rank_trend,
    rises_at_top,
    sharp_boundaries,
    training_mark,
    variance_peak,
)
from core.analysis.statistics import effective_rank
from tests.findings_fakes import make_findings


def two(first=lambda model: model, second=lambda model: model, **options):
    """Findings of two models that differ by nothing but what is planted."""
    made = make_findings(n_models=2, n=60, with_tsne=False, **options)
    model = made.models[0]
    planted = (first(replace(model, model="A")), second(replace(model, model="B")))
    return replace(made, models=planted, cross=replace(made.cross, models=("A", "B")))


def row(findings, aspect):
    return next(row for row in compare_models(findings) if row.aspect == aspect)


def statistics(**values):
    """Plant values of the layers' statistics: a sequence, one a layer, or one for all."""

    def plant(model):
        layers = [
            replace(layer, **{name: value[place] if np.ndim(value) else value for name, value in values.items()})
            for place, layer in enumerate(model.statistics)
        ]
        return replace(model, statistics=tuple(layers))

    return plant


def similarity(**values):
    return lambda model: replace(model, similarity=replace(model.similarity, **values))


def curve(name, **values):
    def plant(model):
        planted = [replace(c, **values) if c.name == name else c for c in model.curves]
        return replace(model, curves=tuple(planted))

    return plant


def stepped(steps, width=0.01):
    """A similarity whose neighbours are as given, the rest far below, with an interval of +- width."""
    n = len(steps) + 1
    matrix = np.full((n, n), 0.3)
    np.fill_diagonal(matrix, 1)
    for place, step in enumerate(steps):
        matrix[place, place + 1] = matrix[place + 1, place] = step
    return {"matrix": matrix, "low": matrix - width, "high": matrix + width}


def test_equal_models_are_never_told_apart():
    for line in compare_models(two()):
        if line.aspect != "Most similar layers":
            assert line.first == line.second
            assert " is higher in " not in line.verdict
            assert " against " not in line.verdict
            assert "Wider in" not in line.verdict


def test_training_states():
    assert row(two(), "Training state").verdict == "Same training state."
    tuned = row(two(second=lambda model: replace(model, fine_tuned=True)), "Training state")
    assert tuned.second == "fine-tuned"
    assert "not marked as fine-tuned against fine-tuned" in tuned.verdict


def test_stages():
    assert row(two(), "Processing stages").verdict == "Same groups."
    fewer = row(two(second=similarity(clusters=((0, 1, 2), (3, 4, 5, 6)))), "Processing stages")
    assert fewer.second == "2 groups of layers: 0–2, 3–6; groups have no interval"
    assert fewer.verdict.startswith("3 groups against 2 groups")
    moved = row(two(second=similarity(clusters=((0,), (1, 2, 3), (4, 5, 6)))), "Processing stages")
    assert moved.verdict.startswith("As many groups, with other borders")


@pytest.mark.parametrize("mean, centred", [(0.099, True), (0.101, False)])
def test_zero_centred(mean, centred):
    planted = statistics(mean=[0, 0, 0, -mean, 0, 0, 0], std=1.0)
    line = row(two(statistics(mean=0.0, std=1.0), planted), "Zero-centred features")
    assert line.second.startswith("zero-centred" if centred else "not zero-centred")
    assert "at layer 3" in line.second
    assert line.verdict.startswith("Both are" if centred else "Only A is")


@pytest.mark.parametrize("top, stands_out", [(1.11, True), (1.09, False)])
def test_the_peak_of_the_deviation(top, stands_out):
    first = statistics(std=[1, 1, 1, 1, 1, 2, 1])
    line = row(two(first, statistics(std=[1, 1, top, 1, 1, 1, 1])), "Largest deviation")
    assert line.first.startswith("layer 5 (std 2), stands out: 2.00 times")
    assert line.verdict == ("Layer 5 against layer 2." if stands_out else "Not told apart: no peak stands out in B.")


def test_the_same_peak():
    planted = statistics(std=[1, 1, 1, 1, 1, 2, 1])
    assert row(two(planted, planted), "Largest deviation").verdict == "Same layer, 5."


@pytest.mark.parametrize("factor, differs", [(1.55, True), (1.45, False)])
def test_the_range_of_variances(factor, differs):
    quantiles = {"0": 1.0, "0.05": 1.0, "0.25": 1.0, "0.5": 1.0, "0.75": 1.0, "0.95": 4.0, "1": 5.0}
    wider = {**quantiles, "0.95": 4.0 * factor}
    line = row(two(statistics(variance_quantiles=quantiles), statistics(variance_quantiles=wider)), "Variance range")
    assert line.verdict.startswith("Wider in B" if differs else "No difference over a factor")


def test_the_range_of_variances_is_free_of_scale():
    first = make_findings(n=60).models[0].statistics[0].variance_quantiles
    scaled = {at: 100 * value for at, value in first.items()}
    line = row(two(statistics(variance_quantiles=first), statistics(variance_quantiles=scaled)), "Variance range")
    assert line.verdict.startswith("No difference")


@pytest.mark.parametrize("drop, width, sharp", [(0.11, 0.005, True), (0.09, 0.005, False), (0.11, 0.06, False)])
def test_sharp_boundaries(drop, width, sharp):
    planted = two(second=similarity(**stepped([0.9, 0.9, 0.9 - drop, 0.9, 0.9, 0.9], width))).models[1]
    assert sharp_boundaries(planted.similarity) == (((2, 3),) if sharp else ())


def test_boundaries_of_one_model_only_are_named_where_intervals_are_apart():
    smooth, sharp = stepped([0.9] * 6), stepped([0.9, 0.9, 0.6, 0.9, 0.9, 0.9])
    line = row(two(similarity(**smooth), similarity(**sharp)), "Similarity of neighbouring layers")
    assert line.verdict == "Steps much below the others in one model only: none against 2–3."
    assert line.second.startswith("steps much below the others at 2–3")
    # 0.81 is just no sharp boundary and 0.79 just one: the two are not told apart.
    near, just = stepped([0.9, 0.9, 0.805, 0.9, 0.9, 0.9]), stepped([0.9, 0.9, 0.79, 0.9, 0.9, 0.9])
    assert row(two(similarity(**near), similarity(**just)), line.aspect).verdict == OVERLAP
    assert row(two(similarity(**smooth), similarity(**smooth)), line.aspect).verdict.startswith("No step much below")


@pytest.mark.parametrize("top, width, rises", [(0.36, 0.01, True), (0.34, 0.01, False), (0.36, 0.04, False)])
def test_the_rise_at_the_top(top, width, rises):
    parts = stepped([0.9] * 6, width)
    parts["matrix"][0, 6] = top
    parts["low"], parts["high"] = parts["matrix"] - width, parts["matrix"] + width
    assert rises_at_top(two(second=similarity(**parts)).models[1].similarity) is rises


@pytest.mark.parametrize("other, verdict", [(0.6, "is higher in B, by 0.30"), (0.31, OVERLAP)])
def test_first_and_last_layer(other, verdict):
    first, second = stepped([0.9] * 6), stepped([0.9] * 6)
    for name in second:
        second[name][0, 6] += other - 0.3
    line = row(two(similarity(**first), similarity(**second)), "Similarity of first and last layer")
    assert verdict in line.verdict


def test_two_similarities_within_the_floor_are_not_told_apart():
    planted = similarity(**stepped([0.9] * 6), noise_floor=0.35)
    line = row(two(planted, planted), "Similarity of first and last layer")
    assert line.verdict == "Both within the noise floor."
    assert "not above the noise floor of 0.35" in line.first


@pytest.mark.parametrize("share, differs", [(0.36, True), (0.34, False)])
def test_explained_variance_is_compared_over_its_floor(share, differs):
    def plant(first, floor):
        def planted(model):
            axes = {"explained": np.array([first, 0.0]), "noise_floor": np.array([floor, 0.0])}
            return replace(model, projections=tuple(replace(layer, **axes) for layer in model.projections))

        return planted

    line = row(two(plant(0.3, 0.1), plant(share, 0.1)), "Variance on two principal axes")
    assert line.verdict.startswith("At the last layer more over noise in B" if differs else "No difference")
    # Three points always lie on two axes: the floor does as well, and nothing is left to compare.
    line = row(two(plant(1.0, 1.0), plant(0.3, 0.3)), "Variance on two principal axes")
    assert line.verdict.startswith("No difference")


@pytest.mark.parametrize("last, trend", [(12.5, "rises"), (11.5, "level"), (8.5, "level"), (8.0, "falls")])
def test_the_trend_of_the_rank(last, trend):
    planted = two(second=statistics(effective_rank=[10, 10, 10, 10, 10, 10, last]))
    assert rank_trend(planted.models[1]) == trend


def test_opposite_trends_are_named():
    up, down = statistics(effective_rank=[1, 2, 3, 4, 5, 6, 7]), statistics(effective_rank=[7, 6, 5, 4, 3, 2, 1])
    assert row(two(up, down), "Effective rank").verdict.startswith("Rises against falls")
    assert row(two(up, up), "Effective rank").verdict.startswith("Both rise from first to last layer; largest 7.0")


@pytest.mark.parametrize("other, differs", [(0.41, True), (0.39, False)])
def test_anisotropy(other, differs):
    line = row(two(statistics(anisotropy=0.3), statistics(anisotropy=other)), "Anisotropy")
    assert line.verdict.startswith("Largest value larger in B" if differs else "Largest values differ by less")


def planted_curve(top, width=0.05, **more):
    values = np.full(7, 0.3)
    values[4] = top
    return curve("phone_accuracy", values=values, low=values - width, high=values + width, **more)


@pytest.mark.parametrize(
    "other, verdict",
    [
        (0.82, "The best layer's value is higher in B, by 0.12."),
        (0.78, OVERLAP),
        (0.62, OVERLAP),
        (0.58, "The best layer's value is higher in A, by 0.12."),
    ],
)
def test_properties_are_compared_by_their_intervals(other, verdict):
    line = row(two(planted_curve(0.7), planted_curve(other)), "Phone probe")
    assert line.first.startswith("best at layer 4: 0.70 [0.65, 0.75]; apart from all other layers; shuffled labels")
    assert "chance 0.20" in line.first
    assert line.verdict == verdict


def test_layers_with_overlapping_intervals_are_named():
    values = np.array([0.3, 0.3, 0.3, 0.68, 0.7, 0.3, 0.3])
    planted = curve("phone_accuracy", values=values, low=values - 0.05, high=values + 0.05)
    assert "not told apart from layer 3;" in row(two(planted), "Phone probe").first


@pytest.mark.parametrize("control, word", [(0.5, "above random weights"), (0.65, "not told apart from random weights")])
def test_a_property_stands_beside_its_control(control, word):
    made = make_findings(n=60, control=True)
    model, weights = made.models
    findings = replace(made, models=(planted_curve(0.7)(model), planted_curve(control)(weights)))
    line = row(findings, "Phone probe")
    assert word in line.first
    if word.startswith("above"):
        assert "0.50 [0.45, 0.55], by 0.20" in line.first
    assert compared(findings)[1].control


def test_one_recording_has_no_intervals_and_the_table_says_so():
    findings = two(second=curve("phone_accuracy", values=np.full(7, 0.1)), n_recordings=1)
    assert row(findings, "Phone probe").verdict == NO_INTERVAL
    assert "no interval" in row(findings, "Phone probe").first
    assert row(findings, "Similarity of neighbouring layers").verdict == NO_INTERVAL
    assert row(findings, "Similarity of first and last layer").verdict == NO_INTERVAL


N_FREE = [
    "Processing stages",
    "Zero-centred features",
    "Largest deviation",
    "Variance range",
    "Similarity of neighbouring layers",
    "Similarity of first and last layer",
    "Anisotropy",
]
N_BOUND = ["Variance on two principal axes", "Effective rank", "Phone probe"]


def counts(n, stride=0.02):
    """Plant one count of rows wherever there is one."""

    def plant(model):
        layers = tuple(replace(layer, n_fitted=n) for layer in model.projections)
        curves = tuple(replace(one, n=n) for one in model.curves)
        facts = {**model.facts, "frame_stride": stride}
        model = replace(model, projections=layers, curves=curves, facts=facts, n_frames=n, n_rows=n, n_used=n)
        return similarity(n=n)(model)

    return plant


def test_a_frame_of_padding_refuses_nothing():
    findings = two(counts(366), counts(370))
    for aspect in N_FREE + N_BOUND:
        verdict = row(findings, aspect).verdict
        assert "Not compared" not in verdict and verdict.endswith(" From 366 against 370 rows.")
    assert row(findings, "Rows").verdict == "Rows differ by 1.1 %."


@pytest.mark.parametrize("n, compares", [(160, True), (150, False)])
def test_frame_rates_of_50_and_75_compare_what_does_not_depend_on_rows(n, compares):
    """The fakes have 16 dims: from 160 rows on, ranks and fits hardly depend on the count."""
    findings = two(counts(n), counts(n * 3 // 2, 1 / 75))
    for aspect in N_FREE:
        assert "Not compared" not in row(findings, aspect).verdict
    for aspect in N_BOUND:
        assert row(findings, aspect).verdict.startswith("Not compared: it depends on the number") is not compares
    assert row(findings, "Rows").verdict == "Rows differ by 33.3 %; frame rates differ, 50 against 75 a second."


def test_words_of_models_with_unlike_rates_are_as_many():
    findings = two(counts(366), lambda model: replace(counts(366, 1 / 75)(model), n_frames=549))
    assert row(findings, "Rows").verdict == "Same number of rows; frame rates differ, 50 against 75 a second."


@pytest.mark.parametrize(
    "first, second, compare",
    [
        ((100, 64), (110, 64), True),
        ((100, 64), (111, 64), False),
        ((640, 64), (1_280, 64), True),
        ((639, 64), (1_278, 64), False),
        ((640, 64), (1_281, 64), False),
        # Each model needs rows for its own dims.
        ((3_840, 384), (5_760, 128), True),
        ((2_000, 384), (3_000, 128), False),
    ],
)
def test_counts_that_compare(first, second, compare):
    assert counts_compare(first, second) is compare
    assert counts_compare(second, first) is compare


def test_a_rank_moves_with_the_rows_where_counts_are_refused_and_not_where_they_compare():
    """White noise of 64 dims at counts on both sides of the rule: its rank is 64 times exp(-dims / (2 rows))."""
    rank = {n: effective_rank(np.linalg.eigvalsh(np.cov(noise(n).T))) for n in (64, 96, 640, 1_280)}
    assert counts_compare((640, 64), (1_280, 64)) and rank[1_280] / rank[640] < 1.03
    assert not counts_compare((64, 64), (96, 64)) and rank[96] / rank[64] > 1.15
    assert rank[640] == pytest.approx(64 * np.exp(-64 / 1_280), rel=0.01)


def noise(n):
    return np.random.default_rng(n).standard_normal((n, 64))


@pytest.mark.parametrize(
    "n_layers, refused",
    [
        (1, ["Processing stages", "Largest deviation", "Effective rank"]),
        (2, ["Similarity of first and last layer"]),
        (3, ["Similarity of neighbouring layers"]),
        (4, []),
    ],
)
def test_a_codec_has_few_layers_to_compare(n_layers, refused):
    """A layer is like itself, which says nothing beside the first and last of another model."""
    planted = replace(two(), models=(two().models[0], make_findings(n_layers=n_layers, n=60).models[0]))
    verdicts = {line.aspect: line.verdict for line in compare_models(planted)}
    assert all(verdicts[aspect].startswith("Not compared: it takes at least") for aspect in refused)
    allowed = {aspect for aspect, verdict in verdicts.items() if "it takes at least" not in verdict}
    assert allowed >= {"Zero-centred features", "Variance range", "Anisotropy"}
    assert bool(refused) == any("it takes at least" in verdict for verdict in verdicts.values())


def test_pwcca_keeps_axes_by_the_rows_and_compares_like_counts_only():
    def planted(n):
        return lambda model: similarity(kind="pwcca")(counts(n)(model))

    verdict = row(two(planted(100), planted(150)), "Similarity of first and last layer").verdict
    assert verdict.startswith("Not compared: it depends on the number of rows, 100 against 150.")


def test_other_recordings_are_not_compared():
    def elsewhere(model):
        names = tuple(f"other_{name}" for name in model.table.recordings)
        return replace(model, table=replace(model.table, recordings=names))

    findings = two(second=elsewhere)
    for aspect in N_FREE + N_BOUND:
        assert row(findings, aspect).verdict == "Not compared: the recordings differ."


def test_an_interval_that_is_not_a_number_is_none():
    """Fewer than five groups give a value and no interval; what is said of it must not claim one."""
    values = np.full(7, 0.3)
    for ends in (None, np.full(7, np.nan)):
        line = row(two(curve("phone_accuracy", values=values, low=ends, high=ends, shuffled=ends)), "Phone probe")
        assert line.first.startswith("largest 0.30 at layer 0, 0.30 at layer 1; no interval; chance")
        assert "nan" not in line.first and line.verdict == NO_INTERVAL
    assert "two" not in NO_INTERVAL


@pytest.mark.parametrize(
    "change, aspect",
    [
        (lambda model: replace(model, n_used=40), "Effective rank"),
        (curve("phone_accuracy", n=40), "Phone probe"),
        (curve("phone_accuracy", split="block"), "Phone probe"),
        (lambda model: replace(model, curves=()), "Phone probe"),
        (curve("phone_accuracy", values=np.full(7, np.nan)), "Phone probe"),
    ],
)
def test_what_does_not_match_is_not_compared(change, aspect):
    assert row(two(second=change), aspect).verdict.startswith("Not compared")


def test_what_was_skipped_says_why():
    planted = two(second=lambda model: replace(model, curves=(), skipped={"phone_cca": "No alignments."}))
    assert row(planted, "Phone CCA").second == "not computed: No alignments."


def test_two_models_are_told_their_most_similar_layers():
    matrix = np.full((7, 7), 0.2)
    matrix[2, 5] = 0.9
    findings = two()
    parts = {"matrix": matrix, "low": matrix - 0.02, "high": matrix + 0.02, "noise_floor": 0.1}
    line = row(replace(findings, cross=replace(findings.cross, **parts)), "Most similar layers")
    assert (line.first, line.second) == ("layer 2", "layer 5")
    assert line.verdict.startswith("CKA 0.90 [0.88, 0.92]; apart from all other pairs; noise floor 0.10 at 60 rows")
    noise = replace(findings, cross=replace(findings.cross, **{**parts, "noise_floor": 0.95}))
    assert "not above the noise floor" in row(noise, "Most similar layers").verdict


@pytest.mark.parametrize("n_layers", [1, 2, 3, 7])
def test_one_model_is_described_in_one_column(n_layers):
    for line in compare_models(make_findings(n_layers=n_layers, n=40)):
        assert line.first
        assert line.second == line.verdict == ""


def test_findings_that_hold_no_numbers_are_described():
    nan = np.full((7, 7), np.nan)
    planted = similarity(matrix=nan, low=nan, high=nan)
    for line in compare_models(two(planted, planted)):
        assert " is higher in " not in line.verdict


def test_the_peak_of_one_layer_alone():
    assert variance_peak(make_findings(n_layers=1, n=40).models[0]) == (0, 1.0)


def test_no_line_names_causes_or_meanings():
    words = ("because", "suggest", "specializ", "specialis", "linguistic", "due to", "better", "understand", "reflect")
    for line in compare_models(make_findings(n_models=2, control=True, n=60)):
        text = f"{line.first} {line.second} {line.verdict}".lower()
        assert not [word for word in words if word in text]


# What is not told apart is named


def test_pairs_that_are_not_told_apart_from_the_most_similar_one_are_named():
    matrix = np.full((7, 7), 0.2)
    matrix[5, 3], matrix[4, 3], matrix[6, 3] = 0.798, 0.790, 0.780
    findings = two()
    cross = replace(findings.cross, matrix=matrix, low=matrix - 0.03, high=matrix + 0.03, noise_floor=0.1)
    assert "; not told apart from pairs 4 / 3 and 6 / 3;" in row(replace(findings, cross=cross), MOST_SIMILAR).verdict
    alone = replace(cross, low=None, high=None)
    assert "no interval that tells it from others" in row(replace(findings, cross=alone), MOST_SIMILAR).verdict


MOST_SIMILAR = "Most similar layers"


def one_group(matrix, **more):
    ends = {"low": matrix - 0.01, "high": matrix + 0.01} | more
    return similarity(matrix=matrix, clusters=(tuple(range(7)),), **ends)


FADING = 1 - np.abs(np.subtract.outer(np.arange(7), np.arange(7))) * 0.09


def test_one_group_is_either_alike_or_fades():
    line = row(two(one_group(np.full((7, 7), 0.996)), one_group(FADING)), "Processing stages")
    assert line.first == "all layers alike (CKA at least 0.99)"
    assert line.second == "no groups: CKA falls without steps, to 0.46"
    assert line.verdict == "No groups in either; layers are all alike in A only."
    assert row(two(second=one_group(FADING)), "Processing stages").verdict.startswith("3 groups against no groups;")


@pytest.mark.parametrize(
    "n_recordings, width, doubt", [(2, 0.01, "from 2 recordings only"), (3, 0.9, "up to 1.8 wide")]
)
def test_groups_and_least_similar_layers_are_not_claimed_from_little(n_recordings, width, doubt):
    planted = one_group(FADING, low=FADING - width, high=FADING + width)
    findings = two(planted, planted, n_recordings=n_recordings)
    for aspect in ("Processing stages", "Similarity of first and last layer"):
        assert "not claimed, " in row(findings, aspect).first and doubt in row(findings, aspect).first
    assert row(findings, "Processing stages").verdict == "Not told apart: groups are not claimed for A, B."
    sure = row(two(one_group(FADING)), "Processing stages").first + row(two(one_group(FADING)), "Rows").first
    assert "not claimed" not in sure


def test_the_least_similar_layers_are_named_with_those_not_told_apart():
    planted = FADING.copy()
    planted[0, 4:] = 0.7, 0.69, 0.71
    text = row(
        two(one_group(planted, low=planted - 0.015, high=planted + 0.015)), "Similarity of first and last layer"
    ).first
    assert "least 0.69 [0.67, 0.70] at layer 5, not told apart from layers 4 and 6;" in text
    text = row(two(one_group(planted, low=None, high=None)), "Similarity of first and last layer").first
    assert "least 0.69 at layer 5, 0.70 at 4, no interval;" in text


def test_the_rank_tells_first_largest_and_last():
    planted = statistics(effective_rank=[56, 70, 90, 116, 115, 90, 83])
    line = row(two(planted, planted), "Effective rank")
    assert line.first.startswith(
        "rises from 56.0 at layer 0 to 83.0 at layer 6, of 16 dims; largest 116.0 at layer 3, 115.0"
    )
    assert line.verdict == "Both rise from first to last layer; largest 116.0 at layer 3; ranks have no interval."


def test_whisper_is_not_called_fine_tuned():
    model = two().models[0]
    whisper = replace(model, fine_tuned=True, facts={"architecture": "WhisperModel"})
    marks = [training_mark(one) for one in (model, replace(model, fine_tuned=True), whisper)]
    assert marks == ["", "fine-tuned", "trained on labels"]
