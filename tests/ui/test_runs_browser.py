"""The tab "Runs" in a real browser, on a phone in the dark, with every state of "MEG" on the way there."""

from tests.ui.page import choose_tab


def test_nothing_serious_for_axe_and_runs_are_their_owners(visit_meg, fake_app):
    page = visit_meg(fake_app, theme="dark", width=390)

    def check() -> None:
        # Gradio's own: a button in the button that takes more files.
        assert page.serious_faults("#recording-source") == []
        assert page.page.evaluate("document.documentElement.scrollWidth") <= 390

    page.open_runs()
    page.page.get_by_role("heading", name="No runs yet").wait_for()
    choose_tab(page.page, "MEG")
    page.simulate()
    page.page.locator("#recording-figures .js-plotly-plot").first.wait_for()
    check()
    page.go_on()
    page.prepare()
    page.page.get_by_role("button", name="Sensors").click()
    check()
    page.go_on()
    page.seed(7)
    page.start()
    page.page.wait_for_selector("#pretrain-curves .js-plotly-plot")
    check()
    page.open_runs()
    page.page.locator("#runs-list").get_by_text("running").wait_for()
    page.page.wait_for_selector("#runs-curves .js-plotly-plot")
    page.page.locator("#runs-stop").click()
    page.wait_for_state("Stopped")
    page.page.locator("#runs-list").get_by_text("stopped").wait_for()
    # What is done here shows there.
    page.page.locator("#runs-resume").click()
    page.wait_for_state("Finished")
    page.page.locator("button.label-wrap:visible", has_text="Settings").click()
    assert "max_steps" in page.page.locator("#runs-settings").inner_text()
    page.page.locator("#runs-files a[download='metrics.jsonl']").first.wait_for()
    check()
    choose_tab(page.page, "MEG")
    page.step("3 Pre-train")
    page.wait_for_state("Finished")
    page.step("4 Use")
    page.page.locator("#use-offer").get_by_text("after 60 steps").wait_for()
    check()

    somebody = visit_meg(fake_app)
    somebody.open_runs()
    somebody.page.get_by_role("heading", name="No runs yet").wait_for()
    assert somebody.page.locator("#runs-list label").count() == 0

    page.open_runs()
    page.page.locator("#runs-remove").click()
    page.page.locator("#runs-yes").click()
    page.page.get_by_role("heading", name="No runs yet").wait_for()
    assert page.outside == []
    assert page.errors == []
