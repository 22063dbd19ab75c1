"""``layers``: what each layer of a model holds, and how two models differ, as a report, figures and tables."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.cli import console, options

if TYPE_CHECKING:
    from core.findings import LayersSettings

log = logging.getLogger(__name__)

ABOUT = "Analyse the layers of a model, or of two side by side: statistics, similarity, projections, what they hold."
EPILOG = """\
examples:
  python -m core layers talk.wav --output results
  python -m core layers corpus/ --output results --control --max-frames all
  python -m core layers corpus/ --output results --span phone --alignments textgrids/ --compare M2
  python -m core layers --features-dir results/features/NAME --output again          (features of an earlier run)

INPUT: recordings, folders, or CSV lists (columns: file; if wanted speaker, label, channel). Features are kept in
--features-dir, so that a second look is quick. report.html, summary.json, figures and tables go to --output."""


def add_parser(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb's parser to ``verbs``, what ``add_subparsers`` returned."""
    parser = verbs.add_parser(
        "layers", parents=[common], help="analyse the layers of one model or two", description=ABOUT, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.set_defaults(run=run)
    parser.add_argument("inputs", nargs="*", type=Path, metavar="INPUT", help="recording, folder or CSV list")
    _add_what(parser.add_argument_group("what to analyse"))
    _add_how(parser.add_argument_group("how"))
    options.add_running(parser.add_argument_group("how the model runs"))
    _add_where(parser.add_argument_group("where results go"))


def _add_what(group: Any) -> None:
    options.add_model(group)
    group.add_argument("--compare", metavar="M2", help="second model, on the same recordings")
    group.add_argument("--control", action="store_true", help="the same architecture with random weights beside")
    group.add_argument("--layers", default="all", help="all or numbers such as 0,6,12 (default: all)")
    group.add_argument("--span", default="frame", choices=("frame", "phone", "word", "label"), help="what a row is")
    group.add_argument(
        "--alignments", type=Path, metavar="DIR", help="folder of TextGrid, CTM, CSV or JSON files, named as the INPUTs"
    )
    group.add_argument("--num-files", type=options.counted, metavar="N", help="take the first N recordings only")


def _add_how(group: Any) -> None:
    group.add_argument(
        "--similarity", default="cka", choices=("cka", "cosine", "pwcca"), help="between layers (default: cka)"
    )
    group.add_argument("--perplexity", default=30.0, type=float, metavar="P", help="of the t-SNE (default: 30)")
    group.add_argument(
        "--max-points", default=5_000, type=options.counted, metavar="N", help="rows drawn and probed (default: 5000)"
    )
    group.add_argument(
        "--max-frames", default=5_000, type=_count_or_all, metavar="N|all",
        help="rows that similarity, ranks and axes are computed from (default: 5000)",
    )  # fmt: skip
    group.add_argument("--no-tsne", dest="tsne", action="store_false", help="leave out the t-SNE")
    group.add_argument("--no-properties", dest="properties", action="store_false", help="leave out CCA, MI and probes")
    group.add_argument("--seed", default=0, type=int, metavar="N", help="of every draw (default: 0)")


def _add_where(group: Any) -> None:
    group.add_argument(
        "--output", "--output-dir", required=True, type=Path, metavar="DIR", help="folder; it is made if need be"
    )
    group.add_argument(
        "--features-dir", type=Path, metavar="DIR",
        help="folder that keeps the features (default: features in the output folder); without INPUT: read from there",
    )  # fmt: skip
    group.add_argument("--force", action="store_true", help="replace the results that are there")
    group.add_argument("--json", action="store_true", help="print the summary as JSON instead of the paths")


def _count_or_all(text: str) -> int | None:
    return None if text == "all" else options.counted(text)


def run(args: argparse.Namespace) -> int:
    """Analyse, write the results and print where they are."""
    from core import tasks
    from core.embed.team import is_main_process

    on_progress = console.progress()
    tasks.check_results_target(args.output, force=args.force)
    features = args.features_dir or args.output / "features"
    request = tasks.LayersRequest(
        tuple(args.inputs), options.embed_settings(args), _settings(args), features, args.compare
    )
    analysis = tasks.analyse_layers(request, on_progress)
    if not is_main_process():
        return 0
    files = tasks.write_layers(analysis, args.output, on_progress, force=args.force)
    for warning in analysis.findings.warnings:
        log.warning("%s", warning)
    if args.json:
        console.emit(files["summary"].read_bytes())
    else:
        # The two to open, then the folders of the rest: a list of a hundred files hides them.
        parts = (path.relative_to(args.output).parts for path in files.values())
        folders = dict.fromkeys(args.output / names[0] for names in parts if len(names) > 1)
        console.emit_paths([files["report"], files["summary"], *folders])
    return 2 if analysis.findings.failures else 0


def _settings(args: argparse.Namespace) -> "LayersSettings":
    """Make the frozen settings of the flags."""
    from dataclasses import fields

    from core.findings import LayersSettings

    return LayersSettings(**{field.name: getattr(args, field.name) for field in fields(LayersSettings)})
