"""The verb ``sites``: train on recording sites, ask what was learned of them, compare two."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.cli import console, options
from core.cli.trained import trained
from core.errors import InputError

if TYPE_CHECKING:
    from core.tasks.sites.requests import SiteSimilarity

log = logging.getLogger(__name__)

BRIEF = (
    *("n_sites", "spearman_distance", "p", "spearman_untrained", "spearman_signal", "spearman_signal_distance"),
    "left_right_accuracy",
)
"""What ``similarity`` prints without ``--json``."""

ABOUT = """\
Recording sites: EEG, ECoG, sEEG or MEG sensors, or microphones. A 2-D wav2vec 2.0 learns a vector for each; these verbs
train it, and say what it learned: who is alike, and whether that goes with where the sites are."""
EXAMPLES = """\
examples:
  python -m core sites train --data rest.edf --montage standard_1005 --output runs/sites
  python -m core sites train --data rest.edf --montage standard_1005 --output runs/sites --resume
  python -m core sites train --data rest.edf --output runs/control --set use_spatial_embedding=false
  python -m core sites similarity runs/sites --output results
  python -m core sites compare runs/sites --input rest.edf --sites Cz,O1"""


def add_parser(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the parser of the verb, with those of its three parts."""
    looks: dict[str, Any] = {
        "epilog": EXAMPLES,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }
    sites = verbs.add_parser(
        "sites", parents=[common], help="train on recording sites, and see what was learned", description=ABOUT, **looks
    )
    parts = sites.add_subparsers(title="parts", metavar="PART", required=True)
    for name, (about, add, run) in PARTS.items():
        parser = parts.add_parser(name, parents=[common], help=about, description=about, **looks)
        parser.set_defaults(run=run)
        add(parser)
        parser.add_argument("--json", action="store_true", help="print JSON")


# ------------------------------------------------------------------------------------------------------------- flags


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", nargs="+", required=True, type=Path, metavar="FILE", help="recordings")
    parser.add_argument("--output", required=True, type=Path, metavar="CKPT", help="folder of the run")
    parser.add_argument("--preset", default="tiny", metavar="P", help="tiny, small or a YAML file (default: tiny)")
    parser.add_argument(
        "--sites", default="auto", metavar="WHICH",
        help="channels; places, where those at one place are one site, as the triplets of a Neuromag helmet; auto, "
        "which is places where MEG sensors share them in every recording; or a .tsv or .csv with the columns name and "
        "x, y, z, region, site (default: auto)",
    )  # fmt: skip
    _add_reading(parser)
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help="change a setting; repeatable"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="the same as --set seed=N")
    parser.add_argument("--resume", action="store_true", help="go on with the run that is there")
    parser.add_argument(
        "--until", type=options.counted, metavar="N", help="stop after step N with a checkpoint, schedule unchanged"
    )
    parser.add_argument(
        "--run", dest="run_folder", type=Path, metavar="DIR",
        help="folder of the run; a training that was stopped goes on with the same command",
    )  # fmt: skip


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--montage", default="", metavar="NAME", help="one of MNE's, for EEG without positions: standard_1005"
    )
    parser.add_argument("--numpy-rate", type=options.hertz, metavar="HZ", help="sampling rate of .npy recordings")


def _add_similarity(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--output", type=Path, metavar="DIR", help="gets matrix, order and figures")
    parser.add_argument(
        "--permutations", default=10_000, type=options.counted, metavar="N", help="of sites (default: 10000)"
    )
    parser.add_argument("--neighbours", default=5, type=options.counted, metavar="K", help="of a site (default: 5)")
    parser.add_argument("--seed", default=0, type=int, metavar="N", help="of the permutations (default: 0)")
    parser.add_argument("--force", action="store_true", help="replace files that are there")


def _add_compare(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--input", required=True, type=Path, metavar="FILE", help="recording to show to the model")
    parser.add_argument("--sites", required=True, type=_pair, metavar="A,B", help="two sites, by name or number")
    parser.add_argument("--source", default="", metavar="S", help="site whose signal is shown (default: the first)")
    parser.add_argument(
        "--start-seconds", default=0.0, type=options.seconds, metavar="S", help="where the grid begins (default: 0)"
    )
    _add_reading(parser)
    parser.add_argument("--output", type=Path, metavar="DIR", help="gets map and figures")
    parser.add_argument("--force", action="store_true", help="replace files that are there")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="CKPT", help="folder of a run or a checkpoint, or a bundled name")


def _pair(text: str) -> tuple[str, str]:
    names = [part.strip() for part in text.split(",")]
    if len(names) != 2 or not all(names):
        raise argparse.ArgumentTypeError(f"got {text}, expected two sites, such as 1,2 or Cz,O1")
    return names[0], names[1]


# ------------------------------------------------------------------------------------------------------------- parts


def train(args: argparse.Namespace) -> int:
    """Train, and print the checkpoint's folder."""
    from core import tasks

    changes = [*args.overrides, *([] if args.seed is None else [f"seed={args.seed}"])]
    request = tasks.SiteTrainRequest(
        data=tuple(args.data),
        output_dir=args.output,
        settings=tasks.read_site_settings(args.preset, changes),
        sites=args.sites,
        montage=args.montage,
        numpy_rate=args.numpy_rate,
        resume=args.resume or args.run_folder is not None,
        until=args.until,
    )
    return trained(lambda on_progress: tasks.train_sites(request, on_progress, args.run_folder), as_json=args.json)


def similarity(args: argparse.Namespace) -> int:
    """Say what a model learned of its sites."""
    from core import tasks

    request = tasks.SimilarityRequest(
        model=_model(args.model),
        output_dir=args.output,
        permutations=args.permutations,
        neighbours=args.neighbours,
        seed=args.seed,
        force=args.force,
    )
    found = tasks.site_similarity(request, console.progress())
    for warning in found.warnings:
        log.warning("%s", warning)
    facts = tasks.summarise_sites(found) | {"left_right_accuracy": _left_right(found)}
    if args.json:
        console.emit_json(facts | {"files": {name: str(path) for name, path in found.files.items()}})
    else:
        console.emit("".join(f"{name}: {_shown(facts[name])}\n" for name in BRIEF).encode())
    return 0


def _left_right(found: "SiteSimilarity") -> float | None:
    """Share of sites whose nearest ones are of their own side; None where sides are not known."""
    return next((one.accuracy for one in found.recoveries if one.what == "hemisphere"), None)


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def compare(args: argparse.Namespace) -> int:
    """Say by how much the same input differs under two sites."""
    from core import tasks

    request = tasks.CompareRequest(
        model=_model(args.model),
        recording=args.input,
        sites=args.sites,
        source=args.source,
        start_seconds=args.start_seconds,
        montage=args.montage,
        numpy_rate=args.numpy_rate,
        output_dir=args.output,
        force=args.force,
    )
    found = tasks.compare_sites(request, console.progress())
    for warning in found.warnings:
        log.warning("%s", warning)
    facts = tasks.summarise_comparison(found)
    if args.json:
        console.emit_json(facts | {"files": {name: str(path) for name, path in found.files.items()}})
    else:
        names = ("mean_difference", "relative", "same_site")
        console.emit("".join(f"{name}: {facts[name]:.4g}\n" for name in names).encode())
    return 0


def _model(name: str) -> str:
    """The checkpoint in a run's folder; else the name as it is."""
    from core import tasks

    if not name.strip():
        raise InputError("Got no model. Name the folder of a run or of a checkpoint.")
    folder = Path(name)
    return str(tasks.checkpoint_in(folder)) if folder.is_dir() else name


PARTS: dict[str, tuple[str, Any, Any]] = {
    "train": ("train a model on recordings of several sites", _add_train, train),
    "similarity": ("what a model learned of its sites", _add_similarity, similarity),
    "compare": ("the same input said to come from two sites", _add_compare, compare),
}
