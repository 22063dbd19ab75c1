"""What README shows is run: its commands, its Python, the names in its MATLAB, the flags in its table, its links."""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from core.checkpoints.heads import is_head
from core.cli.main import main
from tests.ready_python import ready_python

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
# In the order in which one needs what another makes.
VERBS = ("models", "simulate-meg", "prepare", "pretrain", "sites", "embed", "layers", "emotion")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


def blocks(language: str, text: str = README) -> list[str]:
    """Code blocks of one language; a block without one counts as a shell's."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [code for name, code in found if name == language]


# The card of a head shows its own corpus's use; tests/emotion/test_head_files.py runs one.
CARDS = [card for card in sorted((ROOT / "checkpoints").glob("*/README.md")) if not is_head(card.parent)]


def commands(verb: str) -> list[str]:
    """Lines of README that call the command line with this verb."""
    return [line for block in blocks("") for line in block.splitlines() if line.startswith(f"python -m core {verb}")]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Iterator[Callable[[list[str], Path], str]]:
    """A function that runs ``python`` with arguments in a folder, each time in a process of its own: what it prints."""
    cache = str(tmp_path_factory.mktemp("cache"))
    with ready_python(PYTHONPATH=str(ROOT), HF_HUB_OFFLINE="1", XDG_CACHE_HOME=cache) as python:

        def printed(arguments: list[str], folder: Path) -> str:
            done = python(arguments, folder)
            assert done.returncode == 0, done.stderr
            return done.stdout

        yield printed


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder like a fresh checkout, with the example clips, in which README's blocks have been run in their order."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "assets" / "examples", folder / "assets" / "examples")
    return folder


@pytest.fixture(scope="module")
def after_commands(folder, run) -> dict[str, str]:
    """Standard output of each of README's commands, run as they stand."""
    lines = [line for verb in VERBS for line in commands(verb)]
    return {line: run(shlex.split(line)[1:], folder) for line in lines}


@pytest.fixture(scope="module")
def after_python(folder, run) -> list[str]:
    """Standard output of README's Python examples, in their order."""
    return [run(["-c", example], folder) for example in blocks("python")]


def test_there_is_something_to_run():
    assert all(commands(verb) for verb in VERBS)
    assert blocks("python") and blocks("matlab")


def test_the_commands_write_what_they_print(after_commands, folder):
    for line in [*commands("embed"), *commands("layers")]:
        printed = [folder / path for path in after_commands[line].split("\n") if path]
        assert printed and all(path.exists() for path in printed), (line, printed)


def test_models_lists_the_bundled_encoder(after_commands):
    bundled = [path.name for path in (ROOT / "checkpoints").iterdir() if (path / "config.json").exists()]
    assert bundled and all(name in after_commands[commands("models")[0]] for name in bundled)


def test_the_command_and_the_example_in_python_give_the_same_array(after_commands, after_python, folder):
    by_command = np.load(folder / "outputs" / "one_sentence.npy", allow_pickle=False)
    by_python = np.load(folder / "outputs" / "from_python.npy", allow_pickle=False)
    np.testing.assert_array_equal(by_command, by_python)
    assert after_python[0].startswith(f"{by_command.shape} [")


def test_the_layers_command_and_the_example_in_python_give_the_same_matrix(after_commands, after_python, folder):
    summaries = [folder / "outputs" / name / "summary.json" for name in ("layers", "layers_from_python")]
    by_command, by_python = (json.loads(path.read_text())["similarity"]["matrix"] for path in summaries)
    assert by_command == by_python
    assert after_python[1].startswith(str(np.array(by_command).round(2)).split("\n")[0])


def test_matlab_finds_the_variables_that_it_is_shown(after_commands, folder):
    (example,) = blocks("matlab")
    path = re.search(r"load\('(.+?)'\)", example)[1]
    content = loadmat(folder / path)
    shown = set(re.findall(r"s\.(\w+)", example))
    listed = re.search(r"^\| `\.mat` \|(.*)\|$", README, re.MULTILINE)[1]
    assert shown <= set(content)
    assert {name for name in content if not name.startswith("__")} == set(re.findall(r"`(\w+)`", listed))


def flags(verb: str, capsys) -> set[str]:
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    return set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE)) - {"--help"}


@pytest.mark.parametrize(("verb", "heading"), [("embed", "From the command line"), ("layers", "Layers")])
def test_readme_lists_the_flags_of_a_verb_and_no_others(verb, heading, capsys):
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    first_column = " ".join(re.findall(r"^\|(.*?)\|", section, re.MULTILINE))
    shown = set(re.findall(r"--[a-z][a-z-]*", first_column))
    # How a model runs is explained once, with embed.
    running = {
        "--numpy-rate",
        "--device",
        "--engine",
        "--precision",
        "--chunk-seconds",
        "--context-seconds",
        "--channel",
    }
    assert shown | running == flags(verb, capsys) | running


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.parent.name)
def test_the_example_in_a_card_prints_what_it_says(card, run):
    (example,) = blocks("python", card.read_text())
    said = re.search(r"print\(.*#\s*(.+)$", example, re.MULTILINE)[1]
    assert run(["-c", example], ROOT).strip() == said


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_links_lead_somewhere(name):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / name).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []
