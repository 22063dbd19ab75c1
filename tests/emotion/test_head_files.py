"""From a head to its folder and back, and a card that says what was measured and nothing else."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from core.checkpoints.load import checkpoint_hashes
from core.emotion.head_files import EncoderFacts, head_config, read_head, training_facts, write_head
from core.scoring import INTENDED_USE, Estimate
from tests.checkpoints.test_heads import FORMS
from tests.emotion.heads_made import ENCODER, LABELS, make_head
from tests.scoring_fakes import make_emotion
from tests.tiny_models import save_tiny


def measured(**changes):
    return replace(make_emotion(n_classes=len(LABELS), n_speakers=4), **changes)


def write(folder, head, findings=None, card=None):
    findings = findings or measured()
    config = head_config(head, findings.main.labels, ENCODER, 1.25)
    return write_head(folder, head, config, training_facts(findings, head, card))


@pytest.mark.parametrize("form", FORMS)
def test_a_head_says_the_same_after_its_folder(tmp_path, form):
    head = make_head(**FORMS[form])
    saved = read_head(write(tmp_path / "mine", head))
    features = np.random.default_rng(0).normal(size=(len(head.layers), 50, 6)).astype(np.float32)
    np.testing.assert_allclose(saved.head.logits(features), head.logits(features), atol=1e-4)
    np.testing.assert_allclose(saved.head.probabilities(features), head.probabilities(features), atol=1e-5)
    assert (saved.head.temperature, saved.head.threshold) == (head.temperature, head.threshold)
    assert saved.labels == measured().main.labels
    assert (saved.name, saved.model, saved.config.least_seconds) == ("mine", "tiny", 1.25)
    if head.reference is None:
        assert saved.head.reference is None
    else:
        assert (saved.head.reference.rest, saved.head.reference.threshold) == (0.4, 2.5)
        np.testing.assert_allclose(saved.head.reference.axes, head.reference.axes, atol=1e-6)
    if head.attention is not None:
        np.testing.assert_allclose(saved.head.attention, head.attention, rtol=1e-6)


def test_facts_are_those_of_the_findings():
    findings, head = measured(), make_head()
    facts = training_facts(findings, head)
    assert facts == json.loads(json.dumps(facts, allow_nan=False))
    metrics = facts["metrics"]
    assert metrics["head"]["uar"] == {
        "value": findings.main.uar.value, "low": findings.main.uar.low, "high": findings.main.uar.high
    }  # fmt: skip
    assert metrics["n"] == len(findings.main.truth)
    assert metrics["n_speakers"] == 4
    assert metrics["head"]["confusion"] == findings.main.confusion.tolist()
    assert [fold["speakers"] for fold in facts["folds"]] == [list(fold.speakers) for fold in findings.main.folds]
    assert facts["data"]["fingerprint"] == findings.corpus["fingerprint"]
    assert facts["data"]["mapping"] == dict(findings.corpus["mapping"])
    assert facts["calibration"]["temperature"] == head.temperature
    assert facts["warnings"] == list(findings.warnings)
    assert facts["seed"] == findings.settings["seed"]


def test_a_number_that_is_none_is_a_dash_and_not_a_crash(tmp_path):
    findings = measured()
    empty = replace(findings.main, recalls=(Estimate(float("nan")), *findings.main.recalls[1:]))
    text = (write(tmp_path / "mine", make_head(), replace(findings, main=empty)) / "README.md").read_text()
    assert f"| {empty.labels[0]} | – |" in text


def share(value):
    return f"{value:.3f}".removeprefix("0")


def test_the_card_says_what_was_measured_first_the_uar(tmp_path):
    findings = measured()
    text = (write(tmp_path / "mine", make_head(), findings) / "README.md").read_text()
    main, beside, shuffled = findings.main, findings.baseline, findings.shuffled
    uar = f"{share(main.uar.value)} [{share(main.uar.low)}, {share(main.uar.high)}]"
    after = text.split("## Measured")[1]
    assert after.index(uar) < after.index("WA")
    for row in (main, beside, shuffled):
        assert (
            f"| {share(row.uar.value)} [{share(row.uar.low)}, {share(row.uar.high)}] | {share(row.wa.value)}" in after
        )
    assert beside.name in after and shuffled.name in after
    for label, recall in zip(main.labels, main.recalls, strict=True):
        assert f"| {label} | {share(recall.value)} [" in after
    for cross in findings.cross:
        assert f"| {cross.train} | {cross.test} | {len(cross.labels)} |" in after
    assert f"n = {len(main.truth)} clips of 4 speakers; chance 0.250" in after
    assert f"a confidence of {make_head().threshold:.2f}" in after
    assert findings.warnings[0] in text
    assert INTENDED_USE in text


def test_the_card_has_its_sections_in_order_and_a_licence(tmp_path):
    yaml = pytest.importorskip("yaml")
    text = (write(tmp_path / "mine", make_head()) / "README.md").read_text()
    titles = re.findall(r"^##? (.+)$", text, re.MULTILINE)
    wanted = ["mine", "Use", "How far to trust it", "Intended use", "Measured", "Training", "Data and licence"]
    assert titles == wanted
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "unknown"
    assert front["pipeline_tag"] == "audio-classification"
    assert "nobody has said" in text
    card = {"license": "cc-by-4.0", "language": ["de"], "summary": "For a test.", "data": ["EmoDB: CC0."]}
    text = (write(tmp_path / "other", make_head(), card=card) / "README.md").read_text()
    assert yaml.safe_load(text.split("---")[1])["license"] == "cc-by-4.0"
    assert "# other\n\nFor a test." in text
    assert "- EmoDB: CC0." in text
    assert "nobody has said" not in text


def test_a_head_that_nobody_measured_says_so(tmp_path):
    head = make_head()
    folder = write_head(tmp_path / "mine", head, head_config(head, LABELS, ENCODER), {"seed": 1})
    assert "Nobody has measured this head" in (folder / "README.md").read_text()


def test_labels_cannot_break_the_cards_tables(tmp_path):
    findings = measured()
    names = ("a|b", *findings.main.labels[1:])
    findings = replace(findings, main=replace(findings.main, labels=names))
    text = (write(tmp_path / "mine", make_head(), findings) / "README.md").read_text()
    assert r"| a\|b | " in text


def test_the_use_snippet_runs_with_the_encoder_that_the_head_goes_with(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "tiny"
    save_tiny(folder, "wav2vec2")
    hashes = checkpoint_hashes(folder, "tiny", from_user=True)
    facts = EncoderFacts("tiny", *hashes, 16_000, str(folder))
    head = replace(make_head(layers=(0, 2), dim=64, reference=False), threshold=0.0)
    (tmp_path / "checkpoints").mkdir()
    write_head(tmp_path / "checkpoints" / "mine", head, head_config(head, LABELS, facts), {"seed": 0})
    text = (tmp_path / "checkpoints" / "mine" / "README.md").read_text()
    monkeypatch.chdir(tmp_path)
    soundfile.write("clip.wav", 0.1 * np.sin(0.1 * np.arange(16_000)), 16_000)
    exec(re.search(r"```python\n(.+?)```", text, re.DOTALL)[1], {})
    said = capsys.readouterr().out
    assert any(f"clip.wav {label} " in said for label in LABELS)
