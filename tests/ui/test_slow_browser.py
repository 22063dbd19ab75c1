"""What is under way is told and can be stopped, in a real browser, over a fake encoder that takes its time.

In a file of their own, these tests share one server.
"""

import re

import numpy as np

from tests.ui.page import MAP


def test_progress_is_told_and_stop_ends_the_run(visit, slow_app):
    page = visit(slow_app)
    page.example("Two voices")
    page.page.get_by_text(re.compile("Embed: . of 5 s, about . s left")).first.wait_for()
    page.page.locator("#embed-stop").click()
    page.wait_for_card("Stopped")
    assert page.page.locator("#embed-start").is_enabled()
    page.example("Two voices")
    page.wait_for_result()


def test_a_map_is_watched_and_stopped_and_a_second_look_is_instant(visit_layers, slow_app):
    page = visit_layers(slow_app)
    page.example("Sentence and two voices")
    page.page.get_by_text(re.compile("Embed: ")).first.wait_for()
    page.wait_for_result()
    page.watch()
    seen: list[list[float]] = []
    page.wait_until(lambda: "iteration" in page.note())

    def moved_twice() -> bool:
        places = page.places(MAP) if page.graph(MAP, "Boolean(graph?._fullData)") else []
        if places and places not in seen:
            seen.append(places)
        return len(seen) > 2

    page.wait_until(moved_twice)
    page.page.locator("#layers-stop-watching").click()
    page.wait_until(lambda: "stopped" in page.note())
    assert np.std(page.places(MAP)) > 0
    page.page.locator("#layers-watch:enabled").wait_for()
    # The same recording with the same model takes three seconds less.
    page.start()
    page.page.wait_for_selector("#layers-results", state="hidden")
    page.wait_until(lambda: page.page.locator("#layers-results").is_visible(), 3)
    page.wait_for_result()
    # The page steers the new maps as it did the old ones.
    page.wait_until(lambda: page.page.locator(".strata-colour option").count() > 2)
    page.page.locator(".strata-layer").fill("6")
    page.wait_until(lambda: page.page.locator(".strata-slider output").inner_text() == "6 of 6")
    # A map that needs more rows says so where the map would be.
    page.page.get_by_label("Perplexity").fill("200")
    page.watch()
    page.page.locator("#layers-map-note").get_by_text("Set it to 99 or less").wait_for()
    assert page.errors == []


def test_stop_ends_an_analysis(visit_layers, slow_app):
    page = visit_layers(slow_app)
    page.example("Three clips")
    page.page.get_by_text(re.compile("Embed: ")).first.wait_for()
    page.page.locator("#layers-stop").click()
    page.wait_for_card("Stopped")
    assert page.page.locator("#layers-start").is_enabled()
