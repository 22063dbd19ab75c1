"""A server in a process of its own, and a real browser to look at it."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.ui.page import EmbedPage, EmotionPage, LayersPage, MegPage, SitesPage, TabPage

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300  # 7 s, and 90 s were seen on a machine with much else to do


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a browser twice the time of other tests: on a machine with much else to do it is what slows down most."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(600))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(log: Path, *command: str, **environment: str) -> Iterator[str]:
    """Start ``python *command PORT``, yield its address once it answers, and stop it."""
    port = free_port()
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, *command, str(port)], cwd=ROOT, env=os.environ | environment, stdout=out, stderr=out
        )
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(address, server, log)
            yield address
        finally:
            server.terminate()
            server.wait(timeout=30)


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"The server did not answer:\n{log.read_text()}")


@pytest.fixture(scope="session")
def fake_app(tmp_path_factory) -> Iterator[str]:
    """The app over the fake encoder, with small limits."""
    limits = {"STRATA_MAX_UPLOAD_MB": "8", "STRATA_MAX_MINUTES": "1"}
    yield from serve(tmp_path_factory.mktemp("fake_app") / "log", "-m", "tests.ui.fake_app", **limits)


@pytest.fixture(scope="session")
def slow_app(tmp_path_factory) -> Iterator[str]:
    """The app over a fake encoder that takes its time."""
    yield from serve(tmp_path_factory.mktemp("slow_app") / "log", "-m", "tests.ui.fake_app", "--slowness", "0.3")


@pytest.fixture(scope="session")
def real_app(tmp_path_factory) -> Iterator[str]:
    """``python app.py``, as a visitor finds it."""
    yield from serve(tmp_path_factory.mktemp("real_app") / "log", "app.py", "--port", HF_HUB_OFFLINE="1")


@pytest.fixture
def visit_tab(chromium):
    """A function that opens a tab of the app at an address, on a page of a given width and theme."""
    opened = []

    def visit(kind: type[TabPage], address: str, width: int = 1280, theme: str = "light") -> TabPage:
        page = chromium.new_page(viewport={"width": width, "height": 1000}, accept_downloads=True)
        opened.append(page)
        return kind(page, f"{address}/?__theme={theme}")

    yield visit
    for page in opened:
        page.close()


@pytest.fixture
def visit(visit_tab):
    """A function that opens the tab "Embed"."""
    return partial(visit_tab, EmbedPage)


@pytest.fixture
def visit_emotion(visit_tab):
    """A function that opens the tab "Emotion"."""
    return partial(visit_tab, EmotionPage)


@pytest.fixture
def visit_layers(visit_tab):
    """A function that opens the tab "Layers"."""
    return partial(visit_tab, LayersPage)


@pytest.fixture
def visit_meg(visit_tab):
    """A function that opens the tab "MEG"."""
    return partial(visit_tab, MegPage)


@pytest.fixture
def visit_sites(visit_tab):
    """A function that opens the tab "Sites"."""
    return partial(visit_tab, SitesPage)
