"""The tab "MEG" in a real browser, over made recordings and trainings in processes of their own."""

import zipfile

import numpy as np

from tests.ui.page import choose_tab


def test_from_a_recording_to_what_its_model_makes_of_it(visit_meg, fake_app, tmp_path):
    page = visit_meg(fake_app)
    facts = page.page.locator("#recording-facts")
    (tmp_path / "eeg_raw.fif").write_bytes(b"no MEG")
    page.step("1 Recording")
    page.choose(tmp_path / "eeg_raw.fif")
    assert "eeg_raw.fif has no MEG channels: 60 EEG. Send a MEG recording." in page.wait_for_card("No result")
    page.simulate()
    assert "simulated" in facts.locator(".strata-badge").inner_text()
    figures = page.page.locator("#recording-figures figure")
    for number in range(3):
        figures.nth(number).scroll_into_view_if_needed()
        figures.nth(number).locator(".js-plotly-plot").wait_for()
    # The pointer names the sensors of a place.
    page.click_graph(
        "#recording-figures figure:nth-child(3) .js-plotly-plot", "l.xaxis.l2p(d.x[1])", "l.yaxis.l2p(d.y[1])"
    )
    hover = figures.nth(2).locator(".hoverlayer")
    assert "MEG0011 (magnetometer)" in hover.text_content()

    page.go_on()
    page.page.locator("#prepare-high input").fill("200")
    page.start()
    assert "Got a band of 1 to 200 Hz at 250 Hz" in page.wait_for_card("No result")
    page.page.locator("#prepare-high input").fill("40")
    page.prepare()
    page.go_on()
    page.page.locator("#pretrain-frames").get_by_text("62 frames").wait_for()
    page.seed(7)
    # By keyboard, as all of the page.
    page.page.locator("#pretrain-start").press("Enter")
    page.page.wait_for_selector("#pretrain-curves figure:nth-child(4)", state="attached")
    page.page.locator("#pretrain-stop").click()
    page.wait_for_state("Stopped")
    # Another page of the same browser goes on with it.
    page.page.reload()
    choose_tab(page.page, "MEG")
    facts.get_by_text("102 sensors").wait_for()
    page.step("3 Pre-train")
    page.wait_for_state("Stopped")
    page.page.locator("#pretrain-resume").click()
    page.wait_for_state("Finished")
    assert "60 steps" in page.card()

    page.step("4 Use")
    with zipfile.ZipFile(page.download("meg2vec.zip", tmp_path)) as archive:
        assert "meg2vec/model.safetensors" in archive.namelist()
    assert "--model ./meg2vec" in page.page.locator("#use-commands").inner_text()
    page.start()
    page.page.wait_for_selector("#use-path .js-plotly-plot")
    page.page.locator("#use-facts").get_by_text("5 layers (0 to 4)").wait_for()
    page.page.locator("#use-figures .js-plotly-plot").first.wait_for()
    page.tab = "use-embeddings"
    with page.page.expect_download() as waiting:
        page.page.locator("#use-embeddings a[download='simulated_raw.npy']").first.click()
    waiting.value.save_as(tmp_path / "values.npy")
    assert np.load(tmp_path / "values.npy").shape == (5, 300, 16)
    assert page.outside == []
    assert page.errors == []
