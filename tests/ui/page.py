"""The tab "Embed" as a visitor uses it."""

import time
from pathlib import Path
from typing import Any

TIMEOUT_MS = 120_000
PLOTS = {"timeline": "#embed-timeline .js-plotly-plot", "path": "#embed-path .js-plotly-plot"}


class EmbedPage:
    """Attributes: ``outside`` and ``errors``, requests to other machines and exceptions of scripts so far."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.outside, self.errors = page, [], []
        page.set_default_timeout(TIMEOUT_MS)
        page.on("request", self._note_request)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#embed-start")
        page.wait_for_function("document.querySelector('#embed-model input')?.value")

    def _note_request(self, request: Any) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.outside.append(request.url)

    def choose(self, recording: Path) -> None:
        with self.page.expect_response(lambda response: "/upload" in response.url):
            self.page.locator("#embed-source input[type=file]").set_input_files(recording)
        self.page.wait_for_selector("#embed-source .filename")

    def model(self, name: str) -> None:
        field = self.page.get_by_label("Model")
        field.click()
        field.fill(name)
        field.press("Enter")

    def layers(self, name: str) -> None:
        self.page.get_by_label("Layers").click()
        self.page.get_by_role("option", name=name, exact=True).click()

    def start(self) -> None:
        self.page.locator("#embed-start").click()

    def example(self, name: str) -> None:
        self.page.get_by_role("button", name=name).click()

    def wait_for_result(self) -> None:
        self.page.wait_for_selector("#embed-results", state="visible")
        for plot in PLOTS.values():
            self.page.wait_for_function(f"document.querySelector('{plot}')?.dataset.strata !== undefined")
        # The start button comes back last.
        self.page.wait_for_function("!document.querySelector('#embed-start')?.disabled")

    def card(self) -> str:
        return self.page.locator("#embed-card").inner_text()

    def wait_for_card(self, text: str) -> str:
        self.page.locator("#embed-card").get_by_text(text).wait_for()
        return self.card()

    def plot(self, name: str, expression: str) -> Any:
        """Evaluate JavaScript with ``graph``, the plot's element."""
        return self.page.evaluate(
            f"(() => {{ const graph = document.querySelector('{PLOTS[name]}'); return {expression} }})()"
        )

    def player(self, expression: str) -> Any:
        """Evaluate JavaScript with ``audio``, the player's element."""
        return self.page.evaluate(
            f"(() => {{ const audio = document.querySelector('#embed-player audio'); return {expression} }})()"
        )

    def wait_until(self, condition: Any, seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not happen in time"
            self.page.wait_for_timeout(50)

    def click_timeline(self, seconds: float, row: str = "yaxis4") -> None:
        self._click("timeline", f"l.xaxis.l2p({seconds})", f"l.{row}._offset - l.yaxis._offset + l.{row}._length / 2")

    def click_frame(self, index: int) -> None:
        self._click("path", f"l.xaxis.l2p(d.x[{index}])", f"l.yaxis.l2p(d.y[{index}])")

    def _click(self, plot: str, x: str, y: str) -> None:
        """Click at pixels of a plot's axes, given as JavaScript over its layout ``l`` and its first trace ``d``."""
        self.page.locator(PLOTS[plot]).scroll_into_view_if_needed()
        self.page.wait_for_timeout(300)
        place = self.plot(
            plot,
            "(() => { const l = graph._fullLayout, d = graph._fullData[0], b = graph.getBoundingClientRect(); "
            f"return [b.left + l.xaxis._offset + {x}, b.top + l.yaxis._offset + {y}] }})()",
        )
        self.page.mouse.move(*place)
        self.page.wait_for_timeout(300)
        self.page.mouse.click(*place)

    def download(self, name: str, folder: Path) -> Path:
        with self.page.expect_download() as waiting:
            self.page.locator(f"#embed-files a[download='{name}']").first.click()
        waiting.value.save_as(folder / name)
        return folder / name
