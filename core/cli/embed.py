"""``embed``: frame-level embeddings of recordings, with times, as files for Python and MATLAB."""

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.cli import console, options
from core.errors import InputError

if TYPE_CHECKING:
    from core.arrays import EmbedSettings, OutputSettings

log = logging.getLogger(__name__)

ABOUT = "Write frame-level embeddings of recordings, with times, as files for Python and MATLAB."
EPILOG = """\
examples:
  python -m core embed talk.wav --output results
  python -m core embed corpus/ --output results --layers 0,6,12 --formats npy,json
  python -m core embed list.csv --output results         (columns: file; if wanted output, base, channel)
  accelerate launch --multi_gpu --num_processes 2 -m core embed corpus/ --output results

A corpus (a folder, a list, several files) is resumed: what is complete and unchanged is skipped. summary.json in the
output folder says what became of each recording; the exit code is 2 if any failed."""


def add_parser(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb's parser to ``verbs``, what ``add_subparsers`` returned."""
    parser = verbs.add_parser(
        "embed", parents=[common], help="write embeddings of recordings", description=ABOUT, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.set_defaults(run=run)
    parser.add_argument("inputs", nargs="*", type=Path, metavar="INPUT", help="recording, folder or CSV list")
    parser.add_argument("--audio", action="append", default=[], type=Path, metavar="FILE", help="recording; like INPUT")
    _add_what(parser.add_argument_group("what to compute"))
    _add_where(parser.add_argument_group("where results go"))


def _add_what(group: Any) -> None:
    options.add_model(group)
    group.add_argument("--layers", default="last", help="last, all or numbers such as 0,6,12 (default: last)")
    options.add_running(group)
    options.add_loudness(group)


def _add_where(group: Any) -> None:
    group.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder; it is made if need be")
    group.add_argument("--output-base", metavar="NAME", help="name without suffix (default: the recording's)")
    group.add_argument(
        "--formats", default="npy,mat,json", type=_formats, metavar="LIST",
        help="of npy, mat, json, npz, parquet (default: npy,mat,json)",
    )  # fmt: skip
    group.add_argument("--force", action="store_true", help="replace files that are there, and redo what is done")
    group.add_argument("--json", action="store_true", help="print JSON instead of the paths")


def _formats(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip().lower().lstrip(".") for part in text.split(",") if part.strip()))


def run(args: argparse.Namespace) -> int:
    """Embed one recording or a corpus and print where the results are."""
    from core.embed.corpus import is_corpus

    inputs = [*args.inputs, *args.audio]
    if not inputs:
        raise InputError("Got no recording. Name a file, a folder or a CSV list.")
    if not is_corpus(inputs):
        return _run_one(inputs[0], args)
    if args.output_base is not None:
        raise InputError("Got --output-base for several recordings; each takes its own name. Leave it out.")
    return _run_many(inputs, args)


def _settings(args: argparse.Namespace) -> "tuple[EmbedSettings, OutputSettings]":
    """Make the frozen settings of the arguments."""
    from core.arrays import OutputSettings

    settings = replace(options.embed_settings(args), loudness=args.loudness)
    return settings, OutputSettings(args.output, args.output_base, args.formats, args.force)


def _run_one(source: Path, args: argparse.Namespace) -> int:
    from core import tasks

    result = tasks.embed(source, *_settings(args), console.progress())
    for name, problem in result.problems.items():
        log.warning(".%s: %s", name, problem)
    if args.json:
        files = {name: str(path) for name, path in result.files.items()}
        facts = {"source": str(result.source), "files": files, "problems": result.problems}
        console.emit_json({**facts, "skipped": result.skipped, "metadata": result.info.metadata})
    else:
        console.emit_paths(result.files.values())
    return 0


def _run_many(inputs: list[Path], args: argparse.Namespace) -> int:
    from core import tasks
    from core.arrays import ignore_progress
    from core.embed.team import is_main_process

    speaks = is_main_process()
    summary = tasks.embed_many(inputs, *_settings(args), console.progress() if speaks else ignore_progress)
    if not speaks:
        return 0  # a launcher ends all processes when one reports a failure: only the first may, and it is last
    log.info("%d done, %d skipped, %d failed", summary.n_done, summary.n_skipped, len(summary.failures))
    if args.json:
        console.emit_json(summary.to_json())
    else:
        console.emit_paths([*summary.files, summary.path])
    return summary.exit_code
