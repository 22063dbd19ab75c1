"""What an evaluation of emotion leaves on disk: one HTML file, tables that read back exactly, figures for print."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.embed.formats import json_bytes
from core.errors import InputError
from core.figures.emotion.exports import emotion_tables, timeline_csv, write_emotion_tables
from core.figures.emotion.paper import write_emotion_figures, write_map_figures
from core.figures.emotion.report import emotion_report_html
from core.figures.emotion.summary import emotion_summary
from core.figures.sheets.emotion_scores import scores_sheet
from core.figures.sheets.sheet import Style
from core.figures.tables import Table
from core.scoring import INTENDED_USE, Estimate
from tests.figures.test_report import HOSTILE, Page
from tests.scoring_fakes import make_emotion, make_map, make_metrics, make_prediction


@pytest.fixture(scope="module")
def findings():
    return make_emotion(each=2)


@pytest.fixture(scope="module")
def page(findings):
    return Page(emotion_report_html(findings, make_metrics(), [Table("Extra", ("a",), ((1,),))], ["summary.json"]))


def hostile(findings):
    """The same with a hostile name wherever a name comes from outside."""
    labels = (HOSTILE, *findings.main.labels[1:])
    evaluations = {}
    for role in ("main", "baseline", "shuffled"):
        one = getattr(findings, role)
        folds = tuple(replace(fold, speakers=(HOSTILE,)) for fold in one.folds)
        speakers = np.array([HOSTILE] * len(one.speakers))
        clips = (HOSTILE,) * len(one.clips)
        evaluations[role] = replace(one, name=HOSTILE, labels=labels, folds=folds, speakers=speakers, clips=clips)
    return replace(
        findings,
        **evaluations,
        corpus={"name": HOSTILE, "mapping": {HOSTILE: HOSTILE}, "counts": {HOSTILE: 1}, HOSTILE: HOSTILE},
        model={HOSTILE: HOSTILE},
        settings={HOSTILE: HOSTILE},
        cross=tuple(replace(one, train=HOSTILE, test=HOSTILE, labels=labels) for one in findings.cross),
        warnings=(HOSTILE,),
        failures=({"file": HOSTILE, "error": HOSTILE},),
    )


# The report


def test_parts_stand_in_their_order(page):
    links = [one["href"] for one in page.named("a")]
    parts = ("scores", "classes", "folds", "belief", "cross", "layers", "training", "measured", "use", "failures")
    assert links == [f"#{name}" for name in (*parts, "more", "files")]
    figures = [one["data-figure"] for one in page.named("figure")]
    assert figures[:2] == ["figure-scores", "figure-confusion"]
    assert len(figures) == 9
    for name in figures:
        assert json.loads(page.scripts[name], parse_constant=pytest.fail)["data"]


def test_warnings_come_before_the_score(page):
    text = " ".join(page.texts)
    assert text.index("The same 10 sentences are spoken") < text.index("The score") < text.index("UAR (mean recall)")


@pytest.mark.parametrize(
    "told",
    [
        "Every clip was predicted by a head that never heard its speaker.",
        "1 file could not be used",
        "above chance (14.3 %)",
        "the head is above the baseline",
        "always saying the most frequent class would reach",
        "10 folds, 1 tested speaker in each. No speaker stands on two sides of a fold",
        "Every draw used the seed 0.",
        "cd" * 32,
        "broken.wav holds no sound",
        INTENDED_USE,
        "Labels of the data and their classes",
        "summary.json",
        "Extra",
    ],
)
def test_the_reader_is_told(page, told):
    assert told in " ".join(page.texts)


def test_a_report_needs_neither_control_nor_corpora_nor_layers(findings):
    bare = replace(
        findings,
        shuffled=None,
        cross=(),
        failures=(),
        warnings=(),
        main=replace(findings.main, folds=tuple(replace(one, layer_weights={}) for one in findings.main.folds)),
    )
    page = Page(emotion_report_html(bare))
    assert len(page.named("figure")) == 6
    assert any("Not tested on another corpus" in text for text in page.texts)
    assert not any("shuffled" in text for text in page.texts)


def test_hostile_names_stay_text_and_nothing_is_asked_from_another_machine(findings):
    html = emotion_report_html(hostile(findings), [], [Table(HOSTILE, (HOSTILE,), ((HOSTILE,),))], [HOSTILE])
    page = Page(html)
    assert not page.named("img")
    assert html.count("</script>") == len(page.named("script"))
    assert sum(HOSTILE in text for text in page.texts) > 20
    assert not any("src" in attributes for _, attributes in page.elements)
    policy = next(one["content"] for one in page.named("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


# Numbers


def read(content):
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_the_summary_begins_with_the_keys_of_the_verb(findings):
    found = emotion_summary(findings)
    keys = ["uar", "uar_ci", "wa", "macro_f1", "ece", "n", "n_speakers", "chance", "folds"]
    assert list(found)[:9] == keys
    assert json.loads(json_bytes(found)) == found
    main = findings.main
    assert found["uar"] == main.uar.value
    assert found["uar_ci"] == [main.uar.low, main.uar.high]
    assert (found["n"], found["n_speakers"]) == (138, 10)
    assert found["folds"][2]["speakers"] == ["S02"]
    assert found["confusion"] == main.confusion.tolist()
    assert found["recalls"]["fear"]["recall"] == main.recalls[3].value
    assert found["baseline"]["uar"] == findings.baseline.uar.value
    assert found["cross"][1]["uar_within_ci"] == [main.uar.low, main.uar.high]
    assert found["abstention"]["coverage"] == main.abstention.coverage
    assert found["corpus"]["fingerprint"] == "cd" * 32


def test_what_is_not_known_is_null(findings):
    few = emotion_summary(make_emotion(2, 2, shuffled=False))
    assert (few["uar_ci"], few["shuffled"]) == (None, None)
    broken = replace(findings, main=replace(findings.main, macro_f1=Estimate(float("nan"))))
    assert emotion_summary(broken)["macro_f1"] is None


def test_predictions_read_back_exactly(findings):
    main = findings.main
    rows = read(emotion_tables(findings)["predictions.csv"])
    shares = np.array([[float(row[f"p_{label}"]) for label in main.labels] for row in rows])
    np.testing.assert_array_equal(shares, main.probabilities)
    assert [row["true"] for row in rows] == [main.labels[code] for code in main.truth]
    assert [row["said"] for row in rows] == [main.labels[code] for code in main.probabilities.argmax(axis=1)]
    # Each clip by the threshold of the fold that its speaker was tested in: the share that is kept is the coverage.
    kept = np.mean([row["abstained"] == "no" for row in rows])
    assert kept == pytest.approx(main.abstention.coverage)


def test_other_tables_hold_all_classifiers(findings, tmp_path):
    files = write_emotion_tables(findings, tmp_path / "new")
    tables = {name: read(Path(path).read_bytes()) for name, path in files.items()}
    assert set(tables) == {
        "predictions.csv", "scores.csv", "folds.csv", "recalls.csv", "confusion.csv", "cross_corpus.csv"
    }  # fmt: skip
    uars = {row["classifier"]: float(row["value"]) for row in tables["scores.csv"] if row["score"] == "uar"}
    assert uars == {
        "main": findings.main.uar.value,
        "baseline": findings.baseline.uar.value,
        "control": findings.shuffled.uar.value,
    }
    assert [int(row["anger"]) for row in tables["confusion.csv"]] == findings.main.confusion[:, 0].tolist()
    assert len(tables["folds.csv"]) == 30 and len(tables["recalls.csv"]) == 21
    assert tables["cross_corpus.csv"][0]["uar_of_own_folds"] == "0.71"


def test_a_timeline_reads_back_exactly():
    said = make_prediction("sure")
    whole, *rows = read(timeline_csv(said))
    assert whole["said"] == said.clip.label
    assert [row["why_not"] for row in rows] == [one.why for one in said.timeline]
    assert [float(row["p_anger"]) for row in rows] == [one.probabilities[0] for one in said.timeline]


def test_spreadsheets_see_no_formula(findings):
    odd = replace(findings.main, clips=("=1+1", *findings.main.clips[1:]))
    assert read(emotion_tables(replace(findings, main=odd))["predictions.csv"])[0]["clip"] == "'=1+1"


# Paper


def test_all_figures_are_written_for_print(findings, tmp_path):
    files = write_emotion_figures(findings, tmp_path, ("svg",))
    stems = ("scores", "confusion_matrix", "recalls", "folds", "calibration", "layer_weights", "cross_corpus")
    assert list(files) == [f"{stem}.svg" for stem in stems]
    texts = {name: re.sub(r"\s*<[^>]+>\s*", " ", path.read_text()) for name, path in files.items()}
    for name in ("scores.svg", "confusion_matrix.svg", "recalls.svg", "calibration.svg"):
        assert "n = 138 clips of 10 speakers" in " ".join(texts[name].split()), name
    assert "made_corpus → another_corpus" in texts["cross_corpus.svg"]
    with pytest.raises(InputError, match="png, svg or pdf"):
        write_emotion_figures(findings, tmp_path, ("gif",))


def test_a_figure_is_the_same_in_every_format_and_every_time(tmp_path):
    made = make_map(2, 2, 2)
    small = replace(made, maps={"PCA": made.maps["PCA"]}, notes={})
    first = {name: path.read_bytes() for name, path in write_map_figures(small, tmp_path).items()}
    assert list(first) == ["embedding_map.png", "embedding_map.svg", "embedding_map.pdf"]
    assert first["embedding_map.png"].startswith(b"\x89PNG")
    assert first["embedding_map.pdf"].startswith(b"%PDF")
    again = write_map_figures(small, tmp_path)
    assert {name: path.read_bytes() for name, path in again.items()} == first


def test_two_speakers_and_two_classes_are_drawn_without_intervals():
    few = make_emotion(2, 2, shuffled=False, cross=False)
    with Style():
        sheet = scores_sheet(few)
    assert any("No intervals: too few speakers." in text.get_text().replace("\n", " ") for text in sheet.texts)
    assert [label.get_text() for label in sheet.axes[0].get_yticklabels()] == [
        "a-speech-model",
        "baseline: log-mel statistics",
    ]
