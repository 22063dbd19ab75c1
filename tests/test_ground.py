"""The ground keeps its word: pins, front matter, file tree, versions, and what may not be in the repository."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from huggingface_hub import metadata_load
from packaging.version import Version

import core
from core.checkpoints.find import HUB_MODELS

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"([A-Za-z0-9_.-]+)==(\S+) +# (\S.+)")
# The card of the project names these.
DEMANDED = {
    "torch",
    "gradio",
    "transformers",
    "encodec",
    "mne",
    "matplotlib",
    "plotly",
    "scikit-learn",
    "numpy",
}
INDIRECT = {"torchaudio"}  # encodec imports it
OPTIONAL = {"opensmile", "umap", "pnpl", "tensorboard", "wandb"}  # whoever asks for them is told how to install them
OURS = {"app", "assets", "bench", "core", "tests"}
TOOLS = {"pytest-timeout", "pytest-xdist", "ruff", "mypy", "import-linter", "codespell"}  # run, not imported
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
TEN_MB = 10_000_000


def requirement_lines(name: str) -> list[str]:
    lines = (ROOT / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-r "))]


def pins(name: str) -> dict[str, str]:
    return {match[1]: match[2] for line in requirement_lines(name) if (match := PIN.fullmatch(line))}


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so git cannot list its files")
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def front_matter() -> dict:
    return metadata_load(ROOT / "README.md")


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned_and_has_a_reason(name):
    assert [line for line in requirement_lines(name) if not PIN.fullmatch(line)] == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_what_is_installed_is_what_is_pinned(name):
    installed = {package: Version(metadata.version(package)).public for package in pins(name)}
    assert installed == pins(name)


def imported_packages(files: list[Path]) -> set[str]:
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)


def packages_of(tracked: list[str], pattern: str, but: set[str]) -> set[str]:
    """Distributions that the tracked Python files matching a pattern import, but for some modules."""
    owners = metadata.packages_distributions()
    sources = [ROOT / name for name in tracked if re.fullmatch(pattern, name)]
    return {owners[name][0] for name in imported_packages(sources) - but}


def test_what_the_app_imports_is_required_and_what_is_required_is_used(tracked):
    used = packages_of(tracked, r"core/.*\.py|app\.py", OURS | OPTIONAL)
    required = set(pins("requirements.txt"))
    assert used <= required
    assert required - used <= INDIRECT
    assert required >= DEMANDED


def test_what_only_the_tests_require_is_used(tracked):
    used = packages_of(tracked, r"(tests|bench|assets)/.*\.py", OURS)
    assert set(pins("requirements-dev.txt")) - used == TOOLS


def test_front_matter_is_what_a_space_accepts(front_matter):
    assert front_matter["sdk"] == "gradio"
    assert front_matter["sdk_version"] == pins("requirements.txt")["gradio"]
    assert front_matter["python_version"] == "3.12"
    assert front_matter["license"] == "apache-2.0"
    assert {front_matter["colorFrom"], front_matter["colorTo"]} <= COLOURS
    assert 0 < len(front_matter["short_description"]) <= 60
    assert front_matter["title"] and front_matter["emoji"] and front_matter["tags"]
    assert front_matter["models"] == list(HUB_MODELS)


def test_the_app_file_is_there(front_matter, tracked):
    assert front_matter["app_file"] in tracked


def test_readme_starts_with_the_two_commands():
    block = re.search(r"```\w*\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    assert block.splitlines() == [
        "pip install -r requirements.txt && python app.py",
        "pip install -r requirements-dev.txt && python -m pytest",
    ]


def test_the_pictures_of_readme_are_there(tracked):
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert pictures and set(pictures) <= set(tracked)


def file_tree() -> dict[str, str]:
    """Paths of README's tree with their purposes; folders end with a slash."""
    block = re.search(r"## Files\n+```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    tree, parents = {}, {}
    for line in block.splitlines():
        indent, name, purpose = re.fullmatch(r"( *)(\S+) *(.*)", line).groups()
        path = parents.get(len(indent), "") + name
        tree[path] = purpose
        if name.endswith("/"):
            parents[len(indent) + 2] = path
    return tree


def test_the_file_tree_is_complete_and_true(tracked):
    """Every file at the top and in core/ stands there; nothing stands there that is not in git."""
    tree = file_tree()
    expected = {name for name in tracked if "/" not in name or name.startswith("core/")}
    expected -= {name for name in expected if re.fullmatch(r"core/.+/__init__\.py", name)}
    listed = {path for path in tree if not path.endswith("/")}
    assert expected - listed == set()
    assert listed - set(tracked) == set()
    assert {name.partition("/")[0] + "/" for name in tracked if "/" in name} <= set(tree)
    assert [path for path in tree if path.endswith("/") and not any(name.startswith(path) for name in tracked)] == []


def test_everything_in_the_file_tree_has_a_purpose():
    assert [path for path, purpose in file_tree().items() if not purpose] == []


def test_no_file_is_over_ten_megabytes(tracked):
    assert {name: size for name in tracked if (size := (ROOT / name).stat().st_size) > TEN_MB} == {}


def test_no_file_names_a_machine(tracked):
    """Paths of one person's machine and hosts of registries have no place in what others run."""
    alien = re.compile(rb"(?<![\w.~])/(work|root|home|opt|Users)/|pypi\.org|pythonhosted\.org|download\.pytorch\.org")
    named = {name: found[0] for name in tracked if (found := alien.search((ROOT / name).read_bytes()))}
    assert named == {}


def test_the_version_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]
    assert project["version"] == newest == cited == core.__version__


def test_the_changelog_keeps_its_form():
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    assert lines[0] == "# Changelog"
    releases = [line for line in lines if line.startswith("## ")]
    sections = {line for line in lines if line.startswith("### ")}
    assert releases
    assert all(re.fullmatch(r"## \[(\d+\.\d+\.\d+)\] - (Unreleased|\d{4}-\d\d-\d\d)", line) for line in releases)
    assert sections <= {f"### {word}" for word in ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")}


def test_the_licence_is_apache():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text
