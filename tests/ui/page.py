"""The tabs as a visitor uses them."""

import time
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import TimeoutError as Unready

TIMEOUT_MS = 300_000
"""Long enough for a machine with much else to do, where the first run, which waits for the rehearsal, took 130 s."""

TIMELINE = "#classify-timeline .js-plotly-plot"
CLIPS = "#map-map .js-plotly-plot"
PCA = "#layers-pca .js-plotly-plot"
MAP = "#layers-map .js-plotly-plot"
FAULTS_ALONE = {"resultTypes": ["violations"]}
"""axe applies all of its rules, but does not describe the thousands of elements that keep them."""
AT_REST = """async () => {
    const frame = () => new Promise(requestAnimationFrame);
    await frame();
    await frame();
    const ending = document.getAnimations().filter(one => one.effect.getComputedTiming().endTime < Infinity);
    await Promise.allSettled(ending.map(one => one.finished));
}"""
"""Until colours that change slowly, as those of a button that comes back, and what slides into view have got there."""
PLOTS = {"timeline": "#embed-timeline .js-plotly-plot", "path": "#embed-path .js-plotly-plot"}


def choose_tab(within: Any, name: str, tries: int = 600) -> None:
    """Click a tab; on a phone those that do not fit lie behind a button, once the page has found out which."""
    tab, more = within.get_by_role("tab", name=name), within.get_by_role("button", name="More tabs")
    for _ in range(tries):
        try:
            if tab.first.is_visible():
                return tab.first.click(timeout=5_000)
            if more.first.is_visible():
                more.first.click(timeout=5_000)
                return within.locator(".overflow-dropdown").first.get_by_role("button", name=name).click(timeout=5_000)
        except Unready:
            continue
        time.sleep(0.5)
    raise AssertionError(f"There is no tab {name}.")


class TabPage:
    """A page with one tab open.

    Attributes: ``outside`` and ``errors``, requests to other machines and exceptions of scripts so far.
    """

    tab = ""
    title = ""
    ready: tuple[str, ...] = ()

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.outside, self.errors = page, [], []
        page.set_default_timeout(TIMEOUT_MS)
        page.on("request", self._note_request)
        page.on("pageerror", lambda error: self.errors.append(error.stack or str(error)))
        page.goto(address)
        choose_tab(page, self.title)
        start, filled = self.ready or (f"#{self.tab}-start", f"#{self.tab}-model input")
        page.wait_for_selector(start)
        if filled:
            page.wait_for_function(f"document.querySelector('{filled}')?.value")

    def _note_request(self, request: Any) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.outside.append(request.url)

    def choose(self, *files: Path) -> None:
        with self.page.expect_response(lambda response: "/upload" in response.url):
            self.page.locator(f"#{self.tab}-source input[type=file]").set_input_files(files)
        self.page.wait_for_selector(f"#{self.tab}-source .filename")

    def start(self) -> None:
        self.page.locator(f"#{self.tab}-start").click()

    def example(self, name: str) -> None:
        self.page.get_by_role("button", name=name).locator("visible=true").click()

    def wait_for_buttons(self) -> None:
        """The start button comes back last."""
        self.page.wait_for_function(f"!document.querySelector('#{self.tab}-start')?.disabled")

    def card(self) -> str:
        return self.page.locator(f"#{self.tab}-card").inner_text()

    def wait_for_card(self, text: str) -> str:
        self.page.locator(f"#{self.tab}-card").get_by_text(text).wait_for()
        return self.card()

    def player(self, expression: str) -> Any:
        """Evaluate JavaScript with ``audio``, the player's element."""
        selector = f"#{self.tab}-player audio"
        return self.page.evaluate(
            f"(() => {{ const audio = document.querySelector('{selector}'); return {expression} }})()"
        )

    def graph(self, selector: str, expression: str) -> Any:
        """Evaluate JavaScript with ``graph``, a plot's element."""
        return self.page.evaluate(
            f"(() => {{ const graph = document.querySelector('{selector}'); return {expression} }})()"
        )

    def wait_until(self, condition: Any, seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not happen in time"
            self.page.wait_for_timeout(50)

    def click_graph(self, selector: str, x: str, y: str) -> None:
        """Click at pixels of a plot's axes, given as JavaScript over its layout ``l`` and its first trace ``d``."""
        self.page.locator(selector).scroll_into_view_if_needed()
        self.page.wait_for_timeout(300)
        place = self.graph(
            selector,
            "(() => { const l = graph._fullLayout, d = graph._fullData[0], b = graph.getBoundingClientRect(); "
            f"return [b.left + l.xaxis._offset + {x}, b.top + l.yaxis._offset + {y}] }})()",
        )
        self.page.mouse.move(*place)
        self.page.wait_for_timeout(300)
        self.page.mouse.click(*place)

    def serious_faults(self, *exclude: str) -> list[str]:
        """What axe finds serious or critical on the whole page but for some selectors: rule and element."""
        self.page.evaluate(AT_REST)
        context = {"exclude": [[selector] for selector in exclude]} if exclude else None
        found = Axe().run(self.page, context, FAULTS_ALONE).response["violations"]
        return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found if v["impact"] in ("serious", "critical")]

    def download(self, name: str, folder: Path) -> Path:
        with self.page.expect_download() as waiting:
            self.page.locator(f"#{self.tab}-files a[download='{name}']").first.click()
        waiting.value.save_as(folder / name)
        return folder / name


class EmbedPage(TabPage):
    """The tab "Embed"."""

    tab, title = "embed", "Embed"

    def model(self, name: str) -> None:
        field = self.page.locator("#embed-model input")
        field.click()
        field.fill(name)
        # Gradio's list throws where its options become fewer while it is open: the layers of this model come first.
        with self.page.expect_response(lambda response: "/run/" in response.url):
            field.press("Enter")

    def layers(self, name: str) -> None:
        self.page.get_by_label("Layers").locator("visible=true").click()
        self.page.get_by_role("option", name=name, exact=True).click()

    def wait_for_result(self) -> None:
        self.page.wait_for_selector("#embed-results", state="visible")
        for plot in PLOTS.values():
            self.page.wait_for_function(f"document.querySelector('{plot}')?.dataset.strata !== undefined")
        self.wait_for_buttons()

    def plot(self, name: str, expression: str) -> Any:
        return self.graph(PLOTS[name], expression)

    def click_timeline(self, seconds: float, row: str = "yaxis4") -> None:
        y = f"l.{row}._offset - l.yaxis._offset + l.{row}._length / 2"
        self.click_graph(PLOTS["timeline"], f"l.xaxis.l2p({seconds})", y)

    def click_frame(self, index: int) -> None:
        self.click_graph(PLOTS["path"], f"l.xaxis.l2p(d.x[{index}])", f"l.yaxis.l2p(d.y[{index}])")


class EmotionPage(TabPage):
    """The tab "Emotion": three parts, each with widgets of its own."""

    tab, title = "emotion", "Emotion"
    ready = ("#classify-start", "#classify-head input")

    def part(self, name: str) -> None:
        """Open a part: "Classify", "Train" or "Map"; what follows is done there."""
        choose_tab(self.page.locator("#emotion-parts"), name)
        self.tab = name.lower()
        self.page.wait_for_selector(f"#{self.tab}-start")

    def wait_for_timeline(self) -> None:
        self.page.wait_for_selector(f"{TIMELINE}[data-strata]")
        self.wait_for_buttons()

    def plays(self, player: str, expression: str) -> Any:
        """Evaluate JavaScript with ``audio``, an element of one of the two players."""
        return self.graph(f"#{player} audio", expression.replace("audio", "graph"))


class MegPage(TabPage):
    """The tab "MEG": four steps, each with widgets of its own."""

    tab, title = "meg", "MEG"
    ready = ("#recording-start", "")

    def step(self, name: str) -> None:
        """Open a step: "1 Recording", "2 Prepare", "3 Pre-train" or "4 Use"; what follows is done there."""
        choose_tab(self.page.locator("#meg-parts"), name)
        self.tab = {"1": "recording", "2": "prepare", "3": "pretrain", "4": "use"}[name[0]]

    def simulate(self) -> None:
        """Take the simulated recording, and wait for what is told of it."""
        self.step("1 Recording")
        self.start()
        self.page.locator("#recording-facts").get_by_text("102 sensors").wait_for()

    def go_on(self) -> None:
        """Follow the button to the next step."""
        self.page.locator(f"#{self.tab}-further").click()
        self.tab = {"recording": "prepare", "prepare": "pretrain"}[self.tab]
        self.page.wait_for_selector(f"#{self.tab}-start")

    def prepare(self) -> None:
        """Prepare what was taken, and wait for what is told of it."""
        self.start()
        self.page.locator("#prepare-facts").get_by_text("held out").wait_for()

    def seed(self, number: int) -> None:
        self.page.get_by_text("Seed and device").click()
        field = self.page.locator("#pretrain-seed input")
        field.fill(str(number))
        field.press("Tab")  # it counts once the field is left
        self.page.wait_for_timeout(500)

    def wait_for_state(self, name: str) -> None:
        """Wait for the heading of the card: "Stopped" or "Finished"."""
        self.page.locator(f"#{self.tab}-card").get_by_role("heading", name=name).wait_for()

    def open_runs(self) -> None:
        choose_tab(self.page, "Runs")
        self.tab = "runs"


class SitesPage(TabPage):
    """The tab "Sites": four steps, each with widgets of its own."""

    tab, title = "places", "Sites"
    ready = ("#places-start", "")

    def step(self, name: str) -> None:
        """Open a step: "1 Recording", "2 Train", "3 What it learned" or "4 Compare"; what follows is done there."""
        choose_tab(self.page.locator("#sites-parts"), name)
        self.tab = {"1": "places", "2": "sitetrain", "3": "learned", "4": "compare"}[name[0]]
        self.page.wait_for_selector(f"#{self.tab}-start")

    def site(self) -> str:
        """The site that all others are compared with."""
        return self.page.locator("#learned-site input").input_value()


class LayersPage(TabPage):
    """The tab "Layers"."""

    tab, title = "layers", "Layers"

    def wait_for_result(self) -> None:
        self.page.wait_for_selector("#layers-results", state="visible")
        self.page.wait_for_function(f"document.querySelector('{PCA}')?.dataset.strata !== undefined")
        self.wait_for_buttons()

    def places(self, selector: str) -> list[float]:
        """The horizontal places of a map's points."""
        return self.graph(selector, "Array.from(graph._fullData[0].x)")

    def watch(self) -> None:
        self.page.locator("#layers-watch").click()

    def note(self) -> str:
        return self.page.locator("#layers-map-note").inner_text()

    def wait_for_map(self) -> None:
        self.wait_until(lambda: "neighbours kept" in self.note(), 60)
        self.wait_until(lambda: self.graph(MAP, "graph?.dataset.strata !== undefined"))

    def lasso(self, selector: str) -> None:
        """Draw a lasso around the middle of a map."""
        self.page.locator(".strata-lasso").click()
        self.page.locator(selector).scroll_into_view_if_needed()
        self.page.wait_for_timeout(300)
        box = self.page.locator(f"{selector} .nsewdrag").first.bounding_box()
        x, y, size = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["height"] / 5
        self.page.mouse.move(x - size, y - size)
        self.page.mouse.down()
        for right, down in ((1, -1), (1, 1), (-1, 1), (-1, -1)):
            self.page.mouse.move(x + right * size, y + down * size, steps=4)
        self.page.mouse.up()
