"""The tab "Emotion" in a real browser, over made scores and trainings in processes of their own."""

import json
import re
import zipfile

import numpy as np
import soundfile

from tests.ui.conftest import ROOT
from tests.ui.page import CLIPS, TIMELINE

EXAMPLES = ROOT / "assets" / "examples"


def test_from_the_first_click_to_a_head_of_ones_own(visit_emotion, fake_app, tmp_path):
    page = visit_emotion(fake_app)
    page.part("Classify")
    page.example("A sentence")
    page.wait_for_timeline()
    answer, use = page.page.locator("#classify-answer"), page.page.locator("#classify-answer .strata-use")
    assert re.search(r"fear\s+80 % sure", answer.inner_text())
    # What it is not for stands in the first view, beside the answer.
    assert use.bounding_box()["y"] < 600
    # A click plays the window under it, and the cursor moves with the sound.
    page.click_graph(TIMELINE, "l.xaxis.l2p(4.5)", "l.yaxis._length / 2")
    page.wait_until(lambda: 3.5 < page.plays("emotion-player", "audio.currentTime") < 5.7)
    cursor = page.page.locator(f"{TIMELINE} .strata-cursor")
    page.wait_until(lambda: cursor.evaluate("box => parseFloat(box.style.left)") > 100)
    # Another threshold is another answer, without a request to the queue.
    asked = []
    page.page.on("request", lambda request: asked.append(request.url) if "queue/join" in request.url else None)
    page.page.locator("#classify-threshold input[type=range]").fill("0.95")
    answer.get_by_text("No answer: unsure").wait_for()
    page.wait_until(lambda: "95 %" in answer.inner_text())
    assert asked == []
    said = json.loads(page.download("one_sentence_emotion.json", tmp_path).read_text())
    assert said["predictions"][0]["threshold"] == 0.95

    page.part("Train")
    page.example("Made voices")
    page.page.locator("#train-about").get_by_text("6 speakers", exact=True).wait_for()
    page.page.get_by_label("Network (mlp)").click()
    page.page.get_by_text("Layers, folds and device").click()
    page.page.get_by_label("Seed").fill("7")
    page.start()
    page.page.locator("#train-folds-done").get_by_text("so far").wait_for()
    page.page.wait_for_selector("#train-curves .js-plotly-plot")
    page.page.locator("#train-stop").click()
    page.wait_for_card("Finished folds")
    # Another page of the same browser goes on with it.
    page.page.reload()
    page.page.get_by_role("tab", name="Emotion").click()
    page.part("Train")
    page.wait_for_card("Finished folds")
    assert "54 clips" in page.page.locator("#train-about").inner_text()
    page.page.locator("#train-resume").click()
    page.page.wait_for_selector("#train-figures .js-plotly-plot")
    headline = page.page.locator("#train-headline").inner_text()
    assert all(told in headline for told in ("This head", "Baseline", "Shuffled labels", "Chance"))
    with zipfile.ZipFile(page.download("head.zip", tmp_path)) as archive:
        assert archive.namelist() == ["head/config.json"]

    page.part("Map")
    page.start()
    page.page.wait_for_selector(f"{CLIPS}[data-strata]")
    page.wait_for_buttons()
    page.click_graph(CLIPS, "l.xaxis.l2p(d.x[0])", "l.yaxis.l2p(d.y[0])")
    near = page.page.locator(".strata-near button")
    near.first.wait_for()
    page.wait_until(lambda: page.plays("emotion_map-player", "audio.currentTime") > 0)
    first = page.page.locator("#emotion_map-player .strata-heard").inner_text()
    near.first.click()
    page.wait_until(lambda: page.page.locator("#emotion_map-player .strata-heard").inner_text() != first)
    assert np.load(page.download("embeddings.npy", tmp_path)).shape[0] == 54

    # The new head is the first of the list, and speaks.
    page.part("Classify")
    assert page.page.locator("#classify-head input").input_value() == "Trained on this page"
    page.example("Two voices")
    page.page.locator("#classify-answer").get_by_text("trained").wait_for()
    assert page.outside == []
    assert page.errors == []


def test_nothing_serious_for_axe_on_a_phone_in_the_dark(visit_emotion, fake_app, tmp_path):
    page = visit_emotion(fake_app, theme="dark", width=390)

    def check() -> None:
        page.wait_for_buttons()
        # Gradio's own: a button in the button that takes more files, and the waveform of its player.
        assert page.serious_faults("#train-source", "#classify-source") == []
        assert page.page.evaluate("document.documentElement.scrollWidth") <= 390

    page.part("Classify")
    check()
    soundfile.write(tmp_path / "unlike.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 80_000), 16_000)
    # What is sent is listened to at once.
    page.page.locator("#classify-source input[type=file]").set_input_files(tmp_path / "unlike.wav")
    page.wait_for_timeline()
    assert "No answer: unlike anything it learned from" in page.page.locator("#classify-answer").inner_text()
    check()
    page.part("Train")
    page.example("Made voices")
    page.page.locator("#train-about").get_by_text("6 speakers", exact=True).wait_for()
    page.start()
    page.page.wait_for_selector("#train-figures .js-plotly-plot")
    check()
    page.part("Map")
    page.start()
    page.page.wait_for_selector(f"{CLIPS}[data-strata]")
    check()
