"""The tab "Embed" in a real browser, over the fake encoder."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.io import loadmat

from core.arrays import EmbedSettings, OutputSettings
from tests.fakes import CLOCK, DIM, N_LAYERS, FakeTasks
from tests.ui.page import EmbedPage

RATE = 22_050


@pytest.fixture
def recording(tmp_path) -> Path:
    """Three seconds, a tone in the middle one; the name has a space and a letter beyond ASCII."""
    t = np.arange(3 * RATE) / RATE
    samples = np.where((t >= 1) & (t < 2), 0.5 * np.sin(2 * np.pi * 1_000 * t), 0.0)
    soundfile.write(tmp_path / "tön e.wav", samples, RATE)
    return tmp_path / "tön e.wav"


def test_upload_plots_and_downloads(visit, fake_app, recording, tmp_path):
    page = visit(fake_app)
    page.choose(recording)
    page.page.get_by_text("3.0 s, 22,050 Hz, 1 channel").wait_for()
    page.start()
    page.wait_for_result()

    n_frames = CLOCK.n_frames(3 * 16_000)
    assert f"{n_frames} frames of {DIM} values" in page.page.locator("#embed-facts").inner_text()
    assert page.plot("timeline", "graph._fullLayout.xaxis.range") == [0, 3]
    assert page.plot("path", "graph._fullData[0].x.length") == n_frames
    # The tone is loudest at its pitch and time, in the very numbers that the browser draws.
    column = "graph._fullData[3].x.findIndex(t => t > 1.5)"
    loudest = page.plot("timeline", f"(() => {{ const s = graph._fullData[3], c = {column}; "
                        "const z = s.z.map(row => row[c]); return s.y[z.indexOf(Math.max(...z))] })()")  # fmt: skip
    assert abs(float(loudest.removesuffix(" Hz").replace(",", "")) - 1_000) < 60

    expected = FakeTasks().embed(
        recording, EmbedSettings("fake-encoder"), OutputSettings(tmp_path / "x"), lambda _: None
    )
    values = np.load(page.download("tön e.npy", tmp_path / "got"))
    np.testing.assert_array_equal(values, expected.embeddings())
    np.testing.assert_array_equal(loadmat(page.download("tön e.mat", tmp_path / "got"))["embeddings"], values)
    facts = json.loads(page.download("tön e.json", tmp_path / "got").read_text())
    assert facts["num_frames"] == len(values)
    assert page.outside == []
    assert page.errors == []


@pytest.fixture(scope="module")
def test_sounds(chromium, fake_app):
    """A page with a finished run over the example "Test sounds": the first click on a fresh page."""
    page = EmbedPage(chromium.new_page(viewport={"width": 1280, "height": 1000}), fake_app)
    page.example("Test sounds")
    page.wait_for_result()
    yield page
    page.page.close()


@pytest.mark.parametrize("row", ["yaxis2", "yaxis3", "yaxis4"])
def test_a_click_plays_that_moment_and_the_cursor_follows(test_sounds, row):
    page = test_sounds
    page.page.get_by_label("A click plays").select_option("0.5")
    page.player("audio.currentTime = 0")
    page.click_timeline(5.0, row)
    page.wait_until(lambda: 4.95 < page.player("audio.currentTime") < 6)
    page.wait_until(lambda: page.player("audio.paused"))
    # Half a second was asked for; the cursor stands where the player stopped.
    stopped = page.player("audio.currentTime")
    assert 5.4 < stopped < 7  # a busy machine stops late, never early
    place = page.plot("timeline", "parseFloat(graph.querySelector('.strata-cursor').style.left)")
    at = page.plot("timeline", f"graph._fullLayout.xaxis._offset + graph._fullLayout.xaxis.l2p({stopped})")
    assert place == pytest.approx(at, abs=2)


def test_a_click_on_a_frame_of_the_path_plays_it(test_sounds):
    page = test_sounds
    times = page.plot("path", "Array.from(graph._fullData[0].customdata, row => row[0])")
    # The frame that lies farthest out cannot be covered by another.
    farthest = page.plot(
        "path", "(() => { const x = Array.from(graph._fullData[0].x); return x.indexOf(Math.max(...x)) })()"
    )
    page.player("audio.currentTime = 0")
    page.click_frame(farthest)
    page.wait_until(lambda: page.player("audio.currentTime") >= times[farthest] - 0.05)
    assert times[farthest] == pytest.approx(CLOCK.centre(farthest), abs=1e-3)


def test_zooming_the_timeline_fades_the_other_frames(test_sounds):
    page = test_sounds
    page.page.evaluate(
        "Plotly.relayout(document.querySelector('#embed-timeline .js-plotly-plot'), {'xaxis.range': [5, 6]})"
    )
    times = np.array(page.plot("path", "Array.from(graph._fullData[0].customdata, row => row[0])"))
    inside = np.flatnonzero((times >= 5) & (times <= 6)).tolist()
    page.wait_until(lambda: page.plot("path", "graph._fullData[0].selectedpoints") == inside)


def test_another_layer_is_drawn_without_computing_again(visit, fake_app):
    page = visit(fake_app)
    page.layers("All")
    page.example("A sentence")
    page.wait_for_result()
    title = "graph._fullLayout.title.text"
    assert page.plot("path", title).startswith(f"PCA of layer {N_LAYERS},")
    first = page.plot("path", "Array.from(graph._fullData[0].x)")
    page.page.locator("#embed-layer label", has_text="1").click()
    page.wait_until(
        lambda: (page.plot("path", f"graph?._fullLayout ? {title} : ''") or "").startswith("PCA of layer 1,")
    )
    assert page.plot("path", "Array.from(graph._fullData[0].x)") != first
    page.page.get_by_label("3-D").click()
    page.wait_until(lambda: page.plot("path", "graph?._fullData?.[0].type") == "scatter3d")
    assert page.errors == []


def test_text_renamed_to_wav_gives_one_sentence(visit, fake_app, tmp_path):
    text = tmp_path / "notes.wav"
    text.write_text("these are not samples\n" * 50)
    page = visit(fake_app)
    page.choose(text)
    page.start()
    told = page.wait_for_card("No result")
    assert "notes.wav is not audio that can be read" in told
    assert "/" not in told
    assert page.page.locator("#embed-start").is_enabled()
    assert not page.page.locator("#embed-results").is_visible()
    # After a failure the page works as before.
    page.example("Two voices")
    page.wait_for_result()


def test_all_controls_can_be_reached_by_keyboard_and_no_recording_gives_a_sentence(visit, fake_app):
    page = visit(fake_app)
    reached = set()
    for _ in range(25):
        page.page.keyboard.press("Tab")
        reached.add(page.page.evaluate(
            "(() => { const e = document.activeElement; return e.getAttribute('aria-label') || e.innerText || e.id })()"
        ).strip())  # fmt: skip
    assert {"A sentence", "Two voices", "Test sounds", "Model", "Layers", "Embed"} <= reached
    page.start()
    assert "There is no recording yet." in page.wait_for_card("No result")


def test_too_long_and_too_large_are_said_at_once(visit, fake_app, tmp_path):
    soundfile.write(tmp_path / "long.flac", np.zeros(16_000 * 75, dtype=np.float32), 16_000)
    page = visit(fake_app)
    page.choose(tmp_path / "long.flac")
    page.page.locator("#embed-about").get_by_text(
        "long.flac is 1 min 15 s long; this app takes up to 1 min."
    ).wait_for()
    page.start()
    assert "this app takes up to 1 min" in page.wait_for_card("No result")
    (tmp_path / "large.wav").write_bytes(bytes(9_000_000))
    page.page.reload()
    page.page.wait_for_selector("#embed-start")
    page.page.locator("#embed-source input[type=file]").set_input_files(tmp_path / "large.wav")
    page.page.get_by_text("exceed the maximum allowed size").first.wait_for()


def test_a_recording_from_the_microphone_becomes_the_chosen_file(visit, fake_app):
    page = visit(fake_app)
    page.page.get_by_role("tab", name="Microphone").click()
    microphone = page.page.locator("#embed-microphone")
    microphone.get_by_role("button", name="Record").click()
    page.page.wait_for_timeout(1_500)
    microphone.get_by_role("button", name="Stop").first.click()
    page.page.locator("#embed-source").get_by_text("recording_2").wait_for()
    page.start()
    page.wait_for_result()
    assert page.errors == []


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing_serious_and_a_phone_needs_no_sideways_scrolling(visit, fake_app, theme, width):
    page = visit(fake_app, theme=theme, width=width)
    assert page.serious_faults() == []
    page.layers("All")
    page.example("A sentence")
    page.wait_for_result()
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.plot("timeline", "graph._fullData[3].showscale") is (width > 390)
    page.page.get_by_text("Device, precision and files").click()
    page.page.get_by_text("All facts about this run").click()
    assert page.serious_faults() == []
    page.page.get_by_role("tab", name="Microphone").click()
    assert page.serious_faults() == []
