"""The tab "Sites" in a real browser, over made recordings and trainings in processes of their own."""


def test_from_a_recording_to_what_was_learned_of_its_sites(visit_sites, fake_app, tmp_path):
    page = visit_sites(fake_app)
    (tmp_path / "broken.edf").write_bytes(b"broken")
    page.choose(tmp_path / "broken.edf")
    assert "broken.edf is truncated" in page.wait_for_card("No result")
    page.start()
    page.page.locator("#places-facts").get_by_text("24 of 24 known").wait_for()
    page.page.locator("#places-further").click()
    page.tab = "sitetrain"
    page.page.locator("#sitetrain-grid").get_by_text("8 of 24 sites").wait_for()
    page.start()
    page.page.wait_for_selector("#sitetrain-live figure:nth-child(2) .js-plotly-plot")
    page.page.locator("#sitetrain-card").get_by_role("heading", name="Finished").wait_for()
    assert page.serious_faults() == []

    page.step("3 What it learned")
    page.page.locator("#learned-trained a[download='sites.zip']").wait_for()
    page.start()
    page.page.locator("#learned-facts").get_by_text("Left or right").wait_for()
    for gallery in ("matrices", "maps"):
        page.page.wait_for_selector(f"#learned-{gallery} .js-plotly-plot[data-strata]")
    assert page.site() == "E24"
    # A point of a map, and a row of the matrix: the first row is the last site.
    page.click_graph("#learned-maps figure:nth-child(1) .js-plotly-plot", "l.xaxis.l2p(d.x[4])", "l.yaxis.l2p(d.y[4])")
    page.wait_until(lambda: page.site() == "E5")
    assert "Most alike to E5" in page.page.locator("#learned-near").inner_text()
    page.click_graph(
        "#learned-matrices figure:nth-child(1) .js-plotly-plot", "l.xaxis._length / 2", "l.yaxis._length / 48"
    )
    page.wait_until(lambda: page.site() == "E24")
    assert page.serious_faults() == []

    page.step("4 Compare")
    page.start()
    page.page.locator("#compare-facts").get_by_text("E24 twice: 0.").wait_for()
    page.page.wait_for_selector("#compare-figures .js-plotly-plot")
    assert page.serious_faults() == []
    assert page.outside == []
    assert page.errors == []


def test_on_a_phone_nothing_is_wider_than_the_page(visit_sites, fake_app):
    page = visit_sites(fake_app, width=390)
    page.step("3 What it learned")
    page.page.wait_for_function("document.querySelector('#learned-model input')?.value")
    page.start()
    page.page.wait_for_selector("#learned-maps .js-plotly-plot[data-strata]")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
