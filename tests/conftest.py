"""What many tests share: the real recordings, unpacked once for each machine."""

import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

import core  # noqa: F401  (its stand-in for torchaudio's extension has to come before a test imports encodec)

# Tiny networks: threads would wait for each other longer than they work, and on a busy machine much longer.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
# WebGL by software; a page is put together without it, which would take as long as all else.
DRAWING = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-gpu-compositing",
]
# A microphone that beeps, and nobody to ask for it.
MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
# Files that use a browser or run all that README shows, by the ends of their names.
LONGEST = ("_browser", "_real_app", "test_documentation", "test_doors")
DATA = Path(os.environ.get("STRATA_TEST_DATA", ROOT.parent / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: begun last, one would leave a process without work."""
    items.sort(key=lambda item: not item.path.stem.endswith(LONGEST))


def find_archive(name: str) -> Path | None:
    """The archive of that stem, packed or not."""
    candidates = (DATA / f"{name}{suffix}" for suffix in (".tar", ".tar.xz", ".tar.gz"))
    return next((path for path in candidates if path.is_file()), None)


def unpack(archive: Path, cache: Path) -> Path:
    """Unpack into a folder named by the archive's checksum, and return the one folder it holds.

    Whoever comes first renames a finished copy into place, so that several pytest processes never see half an archive.
    """
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    target = cache / f"{archive.name.split('.')[0]}-{digest[:16]}"
    if not target.is_dir():
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix="unpacking-", dir=cache))
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(fresh, filter="data")
            fresh.rename(target)
        except OSError:
            # Another process was faster: rename refuses to replace a folder that is not empty.
            if not target.is_dir():
                raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    inside = [entry for entry in target.iterdir() if entry.is_dir()]
    return inside[0] if len(inside) == 1 and len(list(target.iterdir())) == 1 else target


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """A function from an archive's stem to the folder with its files; absent archives skip, and fail under CI."""
    cache = Path(tempfile.gettempdir()) / f"strata-test-data-{os.getuid()}"
    known: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in known:
            archive = find_archive(name)
            if archive is None:
                reason = f"{name} is not in {DATA}; set STRATA_TEST_DATA to the folder that holds the test archives."
                if os.environ.get("CI") == "true":
                    pytest.fail(reason)
                pytest.skip(reason)
            known[name] = unpack(archive, cache)
        return known[name]

    return folder


def missing(reason: str) -> None:
    """Skip on a developer's machine; under CI what is missing is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def chromium():
    """Debian's Chromium, driven by Playwright."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        missing("No chromium on the PATH: apt-get install chromium.")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*DRAWING, *MICROPHONE])
        yield browser
        browser.close()


@pytest.fixture
def one_figure(monkeypatch):
    """Draw the first figure of a layerwise analysis only; all of them take seconds and are tested by themselves."""
    from core.figures import paper

    all_drawings = paper._drawings
    monkeypatch.setattr(paper, "_drawings", lambda findings: islice(all_drawings(findings), 1))
