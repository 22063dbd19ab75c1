"""Take README's pictures of the app: ``python assets/screenshots.py [RECORDING] [FOLDER] [TAB ...]``.

It starts ``python app.py`` in Debian's Chromium, embeds the recording (or an example) with all layers of the bundled
encoder, analyses the layers on the three examples, trains a head on the made voices, pre-trains a tiny model on the
simulated MEG recording, trains another on its sites, and writes ``embed.png``, ``layers.png``, ``emotion.png``,
``meg.png``, ``sites.png`` and, but for the last two, the same in dark. Names of tabs after RECORDING and FOLDER take
only theirs. It needs requirements-dev.txt.
"""

import io
import shutil
import subprocess
import sys
import time
import urllib.request
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PORT = 7_899
SIZE = {"width": 1_280, "height": 1_000}
ENDS = {
    "embed": "footer",
    "layers": "#layers-maps",
    "emotion": "#train-figures figure:nth-child(4)",
    "meg": "#pretrain-curves figure:nth-child(4)",
    "sites": "#learned-maps",
}
"""What each picture ends with."""

LIGHT_ONLY = ("meg", "sites")
STEPS = 100
"""Of the pre-training that is shown."""

SITES_STEPS = 600
"""Of the training on sites: the tiny preset's."""

FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def wait_for_server(address: str, seconds: float = 120.0) -> None:
    """Return once the server answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"{address} did not answer.")


def embed(page: Any, recording: Path) -> None:
    """Embed all layers of a recording and wait for the plots."""
    page.wait_for_selector("#embed-start")
    page.wait_for_function("document.querySelector('#embed-model input')?.value")
    page.get_by_label("Layers").locator("visible=true").click()
    page.get_by_role("option", name="All", exact=True).click()
    page.locator("#embed-source input[type=file]").set_input_files(recording)
    page.wait_for_selector("#embed-source .filename")
    page.locator("#embed-start").click()
    page.wait_for_selector("#embed-path .js-plotly-plot[data-strata]", timeout=300_000)
    page.evaluate("document.querySelector('#embed-player audio').currentTime = 3.35")
    page.wait_for_timeout(2_000)


def layers(page: Any) -> None:
    """Analyse the examples, and show the fourth layer with its t-SNE, coloured by recording."""
    page.get_by_role("tab", name="Layers").click()
    page.get_by_role("button", name="Three clips").click()
    page.wait_for_selector("#layers-pca .js-plotly-plot[data-strata]", timeout=300_000)
    page.locator(".strata-layer").fill("4")
    page.locator(".strata-colour").select_option("recording")
    page.locator("#layers-watch").click()
    page.wait_for_function("document.querySelector('#layers-map-note').innerText.includes('kept')", timeout=120_000)
    page.wait_for_timeout(2_000)


def emotion(page: Any) -> None:
    """Train a linear head on the made voices, and show what it is worth beside baseline, shuffled labels and chance."""
    page.get_by_role("tab", name="Emotion").click()
    page.locator("#emotion-parts").get_by_role("tab", name="Train").click()
    page.wait_for_function("document.querySelector('#train-model input')?.value")
    page.get_by_role("button", name="Made voices").click()
    page.locator("#train-about").get_by_text("6 speakers", exact=True).wait_for()
    page.locator("#train-start").click()
    draw(page, "#train-figures")


def meg(page: Any) -> None:
    """Take the simulated recording, prepare it, pre-train a tiny model on it, and show how that went."""
    page.get_by_role("tab", name="MEG").click()
    page.locator("#recording-start").click()
    page.locator("#recording-further").click(timeout=300_000)
    page.locator("#prepare-start").click()
    page.locator("#prepare-further").click(timeout=300_000)
    page.locator("#pretrain-frames").get_by_text("frames").wait_for()
    page.locator("#pretrain-steps input").fill(str(STEPS))
    page.locator("#pretrain-start").click()
    page.locator("#pretrain-card").get_by_role("heading", name="Finished").wait_for(timeout=900_000)
    draw(page, "#pretrain-curves")


def sites(page: Any) -> None:
    """Train a tiny model on the sites of the simulated recording, and show what it learned of them."""
    page.get_by_role("tab", name="Sites").click()
    page.locator("#places-start").click()
    page.locator("#places-further").click(timeout=300_000)
    page.locator("#sitetrain-grid").get_by_text("At once").wait_for(timeout=60_000)
    page.locator("#sitetrain-steps input").fill(str(SITES_STEPS))
    page.locator("#sitetrain-steps input").press("Tab")
    page.locator("#sitetrain-start").click()
    page.locator("#sitetrain-card").get_by_role("heading", name="Finished").wait_for(timeout=3_600_000)
    page.get_by_role("tab", name="3 What it learned").click()
    page.locator("#learned-start").click()
    page.wait_for_selector("#learned-maps figure:nth-child(2) .js-plotly-plot", timeout=300_000)
    page.wait_for_timeout(2_000)


def draw(page: Any, gallery: str) -> None:
    """Bring the first four figures into view, one after the other: they are drawn only then."""
    for number in range(1, 5):
        figure = f"{gallery} figure:nth-child({number})"
        page.wait_for_selector(figure, timeout=900_000)
        page.locator(figure).scroll_into_view_if_needed()
        page.wait_for_selector(f"{figure} .js-plotly-plot")
    page.wait_for_timeout(2_000)


def whole(page: Any, selector: str) -> dict[str, float]:
    """The page from its top down to the end of an element."""
    box = page.locator(selector).bounding_box()
    return {"x": 0, "y": 0, "width": SIZE["width"], "height": box["y"] + box["height"]}


def save_small(picture: bytes, path: Path) -> None:
    """Write a PNG with a palette of 256 colours: a third of the size, and hardly a difference that one would see."""
    shown = Image.open(io.BytesIO(picture)).convert("RGB")
    shown.convert("P", palette=Image.Palette.ADAPTIVE, colors=256).save(path, optimize=True)


def main(recording: Path, folder: Path, wanted: list[str]) -> None:
    """Write all pictures, or those of the tabs that are wanted."""
    folder.mkdir(parents=True, exist_ok=True)
    themes = {"light": "", "dark": "_dark"}
    tabs = {
        "embed": lambda page: embed(page, recording),
        "layers": layers,
        "emotion": emotion,
        "meg": meg,
        "sites": sites,
    }
    shown = {name: tabs[name] for name in wanted or tabs}
    server = subprocess.Popen([sys.executable, "app.py", "--port", str(PORT)], cwd=ROOT)
    try:
        wait_for_server(f"http://127.0.0.1:{PORT}")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            for (theme, ending), (name, show) in product(themes.items(), shown.items()):
                if ending and name in LIGHT_ONLY:
                    continue
                page = browser.new_page(viewport=SIZE)
                page.goto(f"http://127.0.0.1:{PORT}/?__theme={theme}")
                show(page)
                page.mouse.move(5, 5)
                page.evaluate("scrollTo(0, 0)")
                page.wait_for_timeout(500)
                save_small(
                    page.screenshot(full_page=True, clip=whole(page, ENDS[name])), folder / f"{name}{ending}.png"
                )
                page.close()
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    arguments = [Path(argument) for argument in sys.argv[1:]]
    main(
        arguments[0] if arguments else ROOT / "assets" / "examples" / "one_sentence.flac",
        arguments[1] if len(arguments) > 1 else ROOT / "assets" / "readme",
        sys.argv[3:],
    )
