"""Figures on paper exist under the document's names, hold what they must say, and are not blank."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib import image

from core.errors import InputError, OutputError
from core.figures import paper
from core.figures.paper import missing_figures, write_figures
from core.figures.sheets.matrices import layer_similarity
from core.figures.sheets.points import MOST_CLASSES, colour_points
from core.figures.sheets.sheet import COLOURS, DOUBLE, MARKERS, Style, chosen_layers, sparse, write_sheets
from core.figures.sheets.subject import Subject
from tests.findings_fakes import make_findings, without_times

MODEL = "facebook_wav2vec2-base"
NAMES = (
    "feature_distributions",
    "layer_similarity",
    "pca_visualization",
    "tsne_visualization",
    "feature_variance",
    "properties",
)


@pytest.fixture(scope="module")
def findings():
    return make_findings(n_layers=25, n=120)


@pytest.fixture(scope="module")
def files(findings, tmp_path_factory):
    return write_figures(findings, tmp_path_factory.mktemp("figures"))


@pytest.fixture(scope="module")
def texts(files):
    return {name: svg_texts(path) for name, path in files.items() if path.suffix == ".svg"}


def drawings(findings):
    """What :func:`write_figures` would draw, by name."""
    return dict(paper._drawings(findings))


def drawn_texts(findings, stem, folder):
    """The texts of one figure; a whole set takes seconds."""
    return svg_texts(write_sheets([(stem, drawings(findings)[stem])], folder, ("svg",))[f"{stem}.svg"])


def svg_texts(path):
    """All texts of an SVG, in their order, with lines of one text joined."""
    markup = path.read_text(encoding="utf-8")
    found = [re.sub(r"<[^>]+>", "", part) for part in re.findall(r"<text[^>]*>(.*?)</text>", markup, re.S)]
    return [text.strip() for text in found]


def joined(texts):
    return " ".join(texts)


def test_every_figure_of_the_document_is_there_in_both_formats(files):
    assert set(files) == {f"{name}_{MODEL}.{suffix}" for name in NAMES for suffix in ("png", "svg")}
    folder = next(iter(files.values())).parent
    assert {path.name for path in folder.iterdir()} == set(files)


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_print_size_and_not_blank(files, name):
    pixels = image.imread(files[f"{name}_{MODEL}.png"])[..., :3]
    assert abs(pixels.shape[1] - (125 / 25.4 if name == "layer_similarity" else DOUBLE) * 300) <= 2
    inked = (pixels < 0.9).any(axis=-1)
    assert 0.01 < inked.mean() < 0.8
    # Ink in the drawing as well as in title and caption, and white paper in the corners.
    height = len(inked)
    assert inked[height // 4 : height // 2].any()
    assert not inked[-2:].any()
    assert not inked[:2].any()


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_says_its_model_and_its_n(texts, name):
    found = joined(texts[f"{name}_{MODEL}.svg"])
    assert "facebook/wav2vec2-base" in found
    shown = 120 if name in ("layer_similarity", "pca_visualization", "tsne_visualization") else 480
    assert f"n = {shown} frames of 3 recordings" in found


def test_floors_are_stated(findings, texts):
    floor = findings.models[0].similarity.noise_floor
    assert f"Noise floor {floor:.3f} at 120 rows" in joined(texts[f"layer_similarity_{MODEL}.svg"])
    projection = findings.models[0].projections[24]
    label = f"PC 1: {100 * projection.explained[0]:.1f} % (noise {100 * projection.noise_floor[0]:.1f} %)"
    assert label in texts[f"pca_visualization_{MODEL}.svg"]
    assert "noise floor" in joined(texts[f"properties_{MODEL}.svg"])


def test_layers_stand_in_numeric_order(texts):
    numbers = [int(text) for text in texts[f"layer_similarity_{MODEL}.svg"] if text.isdecimal()]
    assert numbers == [*range(0, 25, 2)] * 2
    panels = [text for text in texts[f"pca_visualization_{MODEL}.svg"] if re.fullmatch(r"Layer \d+", text)]
    assert panels == [f"Layer {layer}" for layer in (0, 5, 10, 14, 19, 24)]
    assert "layers 0, 5, 10, 14, 19, 24 of 25" in joined(texts[f"pca_visualization_{MODEL}.svg"])
    ticks = [int(text) for text in texts[f"feature_distributions_{MODEL}.svg"] if text.isdecimal()]
    assert [tick for tick in ticks if tick > 9][:8] == [10, 12, 14, 16, 18, 20, 22, 24]


def test_two_models_are_drawn_against_each_other(tmp_path):
    findings = make_findings(n_models=2, n_layers=4, n=60, control=True)
    second, both = f"{MODEL}-960h", f"{MODEL}_vs_{MODEL}-960h"
    expected = {f"{name}_{model}" for name in NAMES[:5] for model in (MODEL, second)}
    expected |= {f"layer_similarity_{model}_random_weights" for model in (MODEL, second)}
    assert set(drawings(findings)) == expected | {f"layer_similarity_{both}", f"properties_{both}"}
    shown = joined(drawn_texts(findings, f"properties_{both}", tmp_path))
    for found in findings.models:
        assert found.model in shown
    assert "(fine-tuned)" in shown
    assert "Layer of facebook/wav2vec2-base-960h (fine-tuned)" in drawn_texts(
        findings, f"layer_similarity_{both}", tmp_path
    )


def test_a_missing_tsne_is_no_file_but_a_reason(tmp_path):
    findings = make_findings(n_layers=2, n=40, with_tsne=False, with_curves=False)
    files = write_figures(findings, tmp_path, ("svg",))
    assert f"tsne_visualization_{MODEL}.svg" not in files
    assert f"properties_{MODEL}.svg" not in files
    assert missing_figures(findings) == {f"tsne_visualization_{MODEL}": "Not asked for."}
    assert missing_figures(make_findings(n_layers=2, n=40)) == {}


def matrix_axes(**similarity):
    found = make_findings(n_layers=7, n=60).models[0]
    found = replace(found, similarity=replace(found.similarity, **similarity))
    with Style():
        return layer_similarity(Subject(found, 3, "frame")).axes[0], found


def test_groups_of_layers_are_outlined():
    axes, _ = matrix_axes(clusters=((0, 1), (2, 3, 4), (5, 6)))
    boxes = {(patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height()) for patch in axes.patches}
    assert boxes == {(-0.5, -0.5, 2, 2), (1.5, 1.5, 3, 3), (4.5, 4.5, 2, 2)}


def test_cells_within_the_noise_are_crossed():
    matrix = np.eye(7)
    matrix[2, 5] = 0.09
    matrix[3, 4] = -0.09
    matrix[6, 0] = -0.5  # far from noise, though below the floor
    matrix[matrix == 0] = 0.11
    axes, _ = matrix_axes(matrix=matrix, noise_floor=0.1)
    crossed = {(round(line.get_ydata().mean()), round(line.get_xdata().mean())) for line in axes.lines}
    assert crossed == {(2, 5), (3, 4)}
    assert len(axes.lines) == 4


def test_rows_run_down_and_columns_across():
    matrix = np.full((7, 7), 0.5)
    matrix[1, 6] = 0.75
    axes, _ = matrix_axes(matrix=matrix)
    marked = next(text for text in axes.texts if text.get_text() == "0.75")
    assert marked.get_position() == (6, 1)
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first layer is on top


def test_points_take_the_best_label_there_is():
    found = make_findings(n_layers=1).models[0]
    assert colour_points(found).name == "phone (8)"
    without = {kind: values for kind, values in found.table.labels.items() if kind != "phone"}
    assert colour_points(replace(found, table=replace(found.table, labels=without))).name == "speaker (3)"
    assert colour_points(replace(found, table=replace(found.table, labels={}))).name == "recording (3)"
    alone = make_findings(n_layers=1, n=60, n_recordings=1).models[0]
    timed = colour_points(replace(alone, table=replace(alone.table, labels={})))
    assert timed.name == "time in the recording"
    np.testing.assert_array_equal(timed.scale, alone.table.start)


def test_points_without_times_are_drawn_in_their_order(tmp_path):
    findings = without_times(make_findings(n_layers=2, n=60, n_recordings=1))
    alone = replace(findings.models[0], table=replace(findings.models[0].table, labels={}))
    colouring = colour_points(alone)
    assert colouring.name == "order, since the features tell no times"
    np.testing.assert_array_equal(colouring.scale, np.arange(60))
    texts = drawn_texts(replace(findings, models=(alone,)), f"pca_visualization_{MODEL}", tmp_path)
    assert any("the features tell no times" in text for text in texts)


def test_rare_and_missing_labels_are_grey_and_counted():
    found = make_findings(n_layers=1, n=60).models[0]
    names = np.array([f"p{min(place // 4, 11)}" for place in range(60)])
    names[:3] = ""
    coloured = colour_points(replace(found, table=replace(found.table, labels={"phone": names})))
    assert coloured.name == "phone, the 8 most frequent of 12"
    assert coloured.classes[0][0] == "p11"
    assert [name for name, _ in coloured.classes][-2:] == ["4 others", "no phone"]
    assert np.sum([chosen for _, chosen in coloured.classes], axis=0).tolist() == [1] * 60
    assert len(COLOURS) == len(MARKERS) == MOST_CLASSES


def test_colours_are_told_apart_in_grey_or_by_their_marker():
    assert len(set(COLOURS)) == len(set(MARKERS)) == len(COLOURS)


@pytest.mark.parametrize("n", [1, 2, 6, 7, 13, 25, 49])
def test_few_layers_are_chosen_and_few_are_numbered(n):
    chosen = chosen_layers(range(n))
    assert len(chosen) == min(n, 6)
    assert (chosen[0], chosen[-1]) == (0, n - 1)
    assert list(chosen) == sorted(set(chosen))
    assert len(sparse(range(n))) <= 13


@pytest.mark.parametrize(
    "options", [{"n_layers": 1, "n": 5, "dim": 2, "n_recordings": 1}, {"n_layers": 2, "n": 30, "dim": 1}]
)
def test_small_findings_can_be_drawn(options):
    for draw in drawings(make_findings(**options)).values():
        with Style():
            draw().draw_without_rendering()


def test_dims_that_do_not_vary_are_counted(tmp_path):
    findings = make_findings(n_layers=2, n=40)
    found = findings.models[0]
    still = replace(found.statistics[0], variances=np.where(np.arange(16) < 3, 0.0, found.statistics[0].variances))
    found = replace(found, statistics=(still, found.statistics[1]))
    texts = drawn_texts(replace(findings, models=(found,)), f"feature_variance_{MODEL}", tmp_path)
    assert "Left out: 3 values of dims" in joined(texts)


def test_dollars_in_a_name_are_no_formula(tmp_path):
    findings = make_findings(n_layers=2, n=40, with_tsne=False)
    found = replace(findings.models[0], model="a/$x_1$ & <b>")
    texts = drawn_texts(replace(findings, models=(found,)), "layer_similarity_a_x_1_b", tmp_path)
    assert "a/$x_1$ &amp; &lt;b&gt;" in joined(texts)


@pytest.fixture(scope="module")
def small():
    """Findings with one layer: each of their figures is drawn in a third of a second."""
    return make_findings(n_layers=1, n=40, with_tsne=False, with_curves=False)


def test_drawing_again_gives_the_same_bytes_and_leaves_no_trace(tmp_path, small):
    before = dict(matplotlib.rcParams)
    first = {name: path.read_bytes() for name, path in write_figures(small, tmp_path).items()}
    assert {name: path.read_bytes() for name, path in write_figures(small, tmp_path).items()} == first
    assert dict(matplotlib.rcParams) == before


def test_threads_do_not_spoil_each_others_style(tmp_path, small):
    some, before = list(drawings(small).items())[:3], dict(matplotlib.rcParams)

    def write(name):
        files = write_sheets(some, tmp_path / name, ("svg",))
        return {name: path.read_bytes() for name, path in files.items()}

    alone = write("alone")
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(write, ("first", "second"))) == [alone, alone]
    assert dict(matplotlib.rcParams) == before


def test_bad_requests_are_refused(tmp_path, findings):
    with pytest.raises(InputError, match="png, svg"):
        write_figures(findings, tmp_path, ("gif",))
    with pytest.raises(InputError, match="none"):
        write_figures(findings, tmp_path, ())
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file"):
        write_figures(findings, tmp_path / "file")
