"""Parse the command line, run a verb, and turn errors into exit codes."""

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

import core
from core.cli import console, embed, emotion, layers, meg, models, sites
from core.errors import StrataError

log = logging.getLogger(__name__)

VERBS = (embed, layers, emotion, meg, sites, models)
OK, BUG, REFUSED, INTERRUPTED, STOPPED = 0, 1, 2, 130, 143
EPILOG = """\
exit codes: 0 done, 2 the request could not be met (one line on stderr says why), 130 interrupted, 143 asked to stop
(the same command goes on), 1 a bug.
stdout carries the result, stderr the log and the progress."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are a sentence, like all others; argparse would put the usage before it."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where the flags are told, and exit with 2."""
        self.exit(REFUSED, f"error: {message}. See {self.prog} --help.\n")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all verbs."""
    parser = Parser(
        prog="python -m core",
        description="Strata: speech and brain models, layer by layer.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"strata {core.__version__}")
    parser.add_argument(
        "--debug", action="store_true", help="show the whole trace of an error, and third parties' logs"
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb in VERBS:
        verb.add_parser(verbs, common)
    return parser


def normalise(argv: Sequence[str]) -> list[str]:
    """Spell option names with hyphens: ``--output_base=a_b`` becomes ``--output-base=a_b``; stops at ``--``."""
    end = argv.index("--") if "--" in argv else len(argv)
    return [_hyphens(word) if word.startswith("--") else word for word in argv[:end]] + list(argv[end:])


def _hyphens(word: str) -> str:
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; argparse itself exits with 2 on a usage error."""
    args = build_parser().parse_args(normalise(sys.argv[1:] if argv is None else argv))
    console.configure(args.debug)
    try:
        code: int = args.run(args)
    except StrataError as error:
        log.error("%s", " ".join(str(error).splitlines()), exc_info=args.debug)
        return REFUSED
    except KeyboardInterrupt:
        log.error("Interrupted; what was not finished left no files.", exc_info=args.debug)
        return INTERRUPTED
    except Exception as error:
        if _is_stop(error):
            log.error("Stopped; what was done is kept, and the same command goes on with it.", exc_info=args.debug)
            return STOPPED
        log.exception("This is a bug in Strata.")
        return BUG
    return code


def _is_stop(error: Exception) -> bool:
    """Whether a run ended because it was asked to; the module that raises it is not loaded for anything else."""
    runs = sys.modules.get("core.training.runs")
    return runs is not None and isinstance(error, runs.Stopped)
