"""``emotion``: train a head on labelled voices, evaluate it on held-out speakers, classify recordings."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.cli import console, options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core.arrays import OnProgress, Progress
    from core.scoring import EmotionFindings, HeadSettings
    from core.tasks import EmotionRequest

log = logging.getLogger(__name__)

ABOUT = "Classify emotion in voices, train on your own data, and find out how far to believe it."
EPILOG = """\
examples:
  python -m core emotion classify talk.wav
  python -m core emotion evaluate --data CORPUS --model M --json
  python -m core emotion train --data labels.csv --output heads/mine --test OTHER_CORPUS
  python -m core emotion embeddings --data CORPUS --output results

DATA: a CSV list (columns file, speaker, emotion; if wanted start, end, split, text), a folder or a zip with file names
of RAVDESS, EmoDB, CREMA-D, TESS, SAVEE, nEMO or URDU, an audformat folder, or an EmoBox jsonl."""

NOTE = "Not for decisions about people; emotion inference at work and in education is prohibited in the EU."


def add_parser(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb's parser, with one for each of its four parts."""
    shape: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    text = {"description": f"{ABOUT} {NOTE}", "epilog": EPILOG}
    parser = verbs.add_parser("emotion", parents=[common], help="classify emotion, train, evaluate", **text, **shape)
    parts = parser.add_subparsers(title="parts", metavar="PART", required=True)
    for name, (about, add, run) in PARTS.items():
        part = parts.add_parser(name, parents=[common], help=about, description=f"{about}. {NOTE}", **shape)
        part.set_defaults(run=run)
        add(part)


# ------------------------------------------------------------------------------------------------------------- flags


def _add_train(parser: argparse.ArgumentParser) -> None:
    _add_data(parser.add_argument_group("data"))
    _add_head(parser.add_argument_group("what is trained"))
    _add_scoring(parser.add_argument_group("how it is scored"))
    _add_running(parser)
    group = parser.add_argument_group("where results go")
    group.add_argument("--output", required=True, type=Path, metavar="CKPT", help="folder of the head")
    group.add_argument("--report", type=Path, metavar="DIR", help="folder for report, figures and tables")
    group.add_argument("--card", type=Path, metavar="JSON", help="what only you can say in the card: licence, data")
    group.add_argument(
        "--run", dest="run_folder", type=Path, metavar="DIR",
        help="folder for curves and state: a training that was stopped goes on with the same command",
    )  # fmt: skip
    _add_output(group)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    _add_data(parser.add_argument_group("data"))
    _add_head(parser.add_argument_group("what is evaluated"))
    _add_scoring(parser.add_argument_group("how it is scored"))
    _add_running(parser)
    group = parser.add_argument_group("where results go")
    group.add_argument("--output", type=Path, metavar="DIR", help="folder for report, figures and tables")
    group.add_argument("--run", dest="run_folder", type=Path, metavar="DIR", help="folder that keeps finished folds")
    _add_output(group)


def _add_embeddings(parser: argparse.ArgumentParser) -> None:
    _add_data(parser.add_argument_group("data"))
    group = parser.add_argument_group("which embeddings")
    options.add_model(group)
    _add_layer(group, "last")
    group.add_argument("--seed", default=0, type=int, metavar="N", help="of every draw (default: 0)")
    _add_running(parser)
    group = parser.add_argument_group("where results go")
    group.add_argument("--output", "--output-dir", required=True, type=Path, metavar="DIR", help="folder")
    _add_output(group)


def _add_classify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", type=Path, metavar="FILE", help="recordings")
    parser.add_argument("--checkpoint", default="", metavar="CKPT", help="bundled head or a head's folder")
    parser.add_argument(
        "--window-seconds", default=2.0, type=options.seconds, metavar="S", help="windows of the timeline (default: 2)"
    )
    parser.add_argument(
        "--hop-seconds", default=0.5, type=options.seconds, metavar="S", help="from window to window (default: 0.5)"
    )
    parser.add_argument(
        "--threshold", type=float, metavar="P", help="confidence below which nothing is said (default: the head's)"
    )
    options.add_engine(parser)
    parser.add_argument(
        "--loudness", default="auto", choices=("auto", "keep", "normalise"), help="(default: as the head was trained)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_data(group: Any) -> None:
    group.add_argument("--data", required=True, type=Path, metavar="DATA", help="labelled recordings, see above")
    group.add_argument("--scheme", default="auto", help="how files are named (default: auto)")
    group.add_argument(
        "--mapping", metavar="MAP", help="classes of the labels: angry=anger,sad=sadness,calm= or a CSV of from,to"
    )
    group.add_argument("--confined", action="store_true", help=argparse.SUPPRESS)  # a list that a stranger sent
    group.add_argument("--skip-missing", action="store_true", help="leave out files that cannot be used, and name them")


def _add_head(group: Any) -> None:
    options.add_model(group)
    group.add_argument("--head", default="linear", choices=("linear", "mlp"), help="(default: linear)")
    _add_layer(group, "all")
    group.add_argument("--no-class-weights", dest="class_weights", action="store_false", help="count clips alike")
    group.add_argument(
        "--transductive", action="store_true", help="scale by speaker, tested speakers too: such a score is marked"
    )
    group.add_argument("--seed", default=0, type=int, metavar="N", help="of every draw (default: 0)")
    group.add_argument("--learning-rate", default=1e-3, type=float, metavar="R", help="of the mlp (default: 1e-3)")
    group.add_argument(
        "--encoder-learning-rate", default=0.0, type=float, metavar="R",
        help="fine-tune the encoder with it, such as 1e-5 (default: 0, the encoder stays)",
    )  # fmt: skip
    group.add_argument("--epochs", default=100, type=options.counted, metavar="N", help="of the mlp (default: 100)")


def _add_layer(group: Any, default: str) -> None:
    others = "all for a mixture that is learned" if default == "all" else "last or all"
    group.add_argument("--layer", default=default, metavar="N", help=f"a layer, or {others} (default: {default})")
    group.add_argument(
        "--bandwidth", type=float, metavar="KBPS", help="EnCodec's quantised output at 1.5, 3, 6, 12 or 24 kbps"
    )
    group.add_argument(
        "--pooling", default="mean_std",
        choices=("mean_std", "mean", "max", "std", "multi", "attention", "learned"), help="(default: mean_std)",
    )  # fmt: skip


def _add_scoring(group: Any) -> None:
    group.add_argument("--folds", default="auto", metavar="F", help="auto, loso, split or a number (default: auto)")
    group.add_argument("--baseline", default="log-mel", choices=("log-mel", "egemaps"), help="(default: log-mel)")
    group.add_argument(
        "--no-shuffled", dest="shuffled", action="store_false", help="leave out the control: labels shuffled"
    )
    group.add_argument("--test", type=Path, metavar="DATA", help="second corpus, for the table across corpora")
    group.add_argument("--test-mapping", metavar="MAP", help="classes of the second corpus's labels")


def _add_running(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how the model runs")
    options.add_running(group)
    options.add_loudness(group)
    group.add_argument(
        "--features-dir", type=Path, metavar="DIR", help="folder that keeps the clips' features (default: a cache)"
    )


def _add_output(group: Any) -> None:
    group.add_argument("--force", action="store_true", help="replace the results that are there")
    group.add_argument("--json", action="store_true", help="print the numbers as JSON instead of the paths")


# -------------------------------------------------------------------------------------------------------------- runs


def train(args: argparse.Namespace) -> int:
    """Train, write the head, and print where it is."""
    from core import tasks

    request = _request(args)
    if args.report:
        tasks.check_results_target(args.report, force=args.force)
    on_progress, report = console.progress(), args.report
    trained = tasks.train_emotion(request, args.output, on_progress, run_folder=args.run_folder, force=args.force)
    told = _also_into(args.run_folder, on_progress)
    files = tasks.write_emotion(trained.findings, report, told, force=args.force) if report else {}
    return _told(args, trained.findings, [trained.folder, *_main_files(files)])


def _also_into(folder: Path | None, on_progress: "OnProgress") -> "OnProgress":
    """Tell whoever watches the run's folder of the report as well: its figures take a while."""
    from core.training.runs import RunFolder

    if folder is None:
        return on_progress
    run = RunFolder(folder)

    def tell(progress: "Progress") -> None:
        on_progress(progress)
        run.progress(progress)

    return tell


def evaluate(args: argparse.Namespace) -> int:
    """Evaluate and print the numbers."""
    from core import tasks

    request = _request(args)
    if args.output:
        tasks.check_results_target(args.output, force=args.force)
    on_progress = console.progress()
    findings = tasks.evaluate_emotion(request, on_progress, args.run_folder)
    files = tasks.write_emotion(findings, args.output, on_progress, force=args.force) if args.output else {}
    return _told(args, findings, _main_files(files))


def classify(args: argparse.Namespace) -> int:
    """Classify recordings and print what is said of each."""
    from core import tasks

    names = ("window_seconds", "hop_seconds", "threshold", "device", "engine", "precision", "channel", "loudness")
    settings = tasks.ClassifySettings(**{name: getattr(args, name) for name in names})
    outcome = tasks.classify_emotion(args.inputs, args.checkpoint, settings, console.progress())
    log.info("%s", tasks.INTENDED_USE)
    if args.json:
        console.emit_json(tasks.predictions_as_json(outcome))
    else:
        console.emit(tasks.predictions_as_text(outcome).encode("utf-8", "replace"))
    for failure in outcome.failures:
        log.error("%s: %s", failure["file"], failure["error"])
    return 2 if outcome.failures else 0


def embeddings(args: argparse.Namespace) -> int:
    """Write the clips' embeddings and print where they are."""
    from core import tasks

    made = tasks.embed_emotion(_request(args), args.output, console.progress(), force=args.force)
    if args.json:
        console.emit(made.files["summary"].read_bytes())
    else:
        console.emit_paths(made.files.values())
    return 2 if made.corpus.failures else 0


# ----------------------------------------------------------------------------------------------------------- helpers


def _request(args: argparse.Namespace) -> "EmotionRequest":
    from core import tasks
    from core.arrays import EmbedSettings
    from core.scoring import CorpusSettings

    running = ("model", "device", "engine", "precision", "chunk_seconds", "context_seconds", "channel", "loudness")
    embed = EmbedSettings(**{name: getattr(args, name) for name in running})
    scored = {name: getattr(args, name) for name in ("folds", "baseline", "shuffled", "test") if hasattr(args, name)}
    test_mapping = getattr(args, "test_mapping", None)
    return tasks.EmotionRequest(
        args.data,
        args.features_dir or tasks.features_cache(),
        CorpusSettings(args.scheme, args.mapping and tasks.read_mapping(args.mapping), args.skip_missing),
        embed,
        _head_settings(args),
        test_mapping=test_mapping and tasks.read_mapping(test_mapping),
        bandwidth=args.bandwidth,
        confined=args.confined,
        card=tasks.read_card(args.card) if getattr(args, "card", None) else {},
        **scored,
    )


def _head_settings(args: argparse.Namespace) -> "HeadSettings":
    from dataclasses import fields

    from core.scoring import HeadSettings

    given = {field.name: getattr(args, field.name) for field in fields(HeadSettings) if hasattr(args, field.name)}
    return HeadSettings(**given)


def _main_files(files: "Mapping[str, Path]") -> list[Path]:
    return [files[name] for name in ("report", "summary") if name in files]


def _told(args: argparse.Namespace, findings: "EmotionFindings", paths: "Sequence[Path]") -> int:
    """Print the numbers or the paths; numbers too where there is no path."""
    from core import tasks

    for warning in findings.warnings:
        log.warning("%s", warning)
    if args.json:
        console.emit_json(tasks.summarise_emotion(findings))
    elif paths:
        console.emit_paths(paths)
    else:
        console.emit(tasks.emotion_as_text(findings).encode("utf-8", "replace"))
    return 2 if findings.failures else 0


PARTS: dict[str, tuple[str, Any, Any]] = {
    "train": ("Train a head, and score its kind on held-out speakers", _add_train, train),
    "evaluate": ("Score a kind of head on speakers that it never heard", _add_evaluate, evaluate),
    "classify": ("Say which emotion a recording sounds like, or abstain", _add_classify, classify),
    "embeddings": ("Write the clips' embeddings with maps, clusters and neighbours", _add_embeddings, embeddings),
}
