"""The MEG verbs ``simulate-meg``, ``prepare``, ``pretrain`` and ``probe``: from recordings to a model and its worth.

A model that was trained opens with ``embed`` and ``layers``, like any other.
"""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.cli import console, options
from core.cli.trained import trained
from core.errors import InputError

if TYPE_CHECKING:
    from core.sensors import Preparation
    from core.training.pretrain_settings import PretrainSettings

log = logging.getLogger(__name__)

PREPARE = """\
Filter MEG recordings, bring them to one sensor layout and rate, and cut them into segments to train on. Recordings are
split into parts for training and for evaluation before they are cut."""
PRETRAIN = """\
Pre-train a Meg2Vec (a wav2vec 2.0 for many channels) on a prepared folder. Presets: tiny, small, base, large."""
PROBE = """\
Read labels out of a model's layers with a linear probe, on recordings that it was not fitted on, beside what simpler
features give: random weights, band power, the tangent space of covariances."""
EXAMPLES = """\
examples:
  python -m core simulate-meg --output sim/one.fif --seconds 120 --seed 0
  python -m core prepare --input_dir sim --output_dir data/meg --file_pattern "*.fif" --segment_length 5000
  python -m core pretrain --config tiny --data_dir data/meg --output_dir runs/mine
  python -m core pretrain --config tiny --data_dir data/meg --output_dir runs/mine --resume
  accelerate launch --num_processes 2 -m core pretrain --config base --data_dir data/meg --output_dir runs/base
  python -m core embed sim/one.fif --model runs/mine/best --output results
  python -m core probe --model runs/mine/best sim/*.fif"""


def add_parser(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the parsers of the four verbs."""
    for name, (about, text, add, run) in VERBS.items():
        parser = verbs.add_parser(
            name, parents=[common], help=about, description=text, epilog=EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        )  # fmt: skip
        parser.set_defaults(run=run)
        add(parser)
        parser.add_argument("--json", action="store_true", help="print JSON")


# ------------------------------------------------------------------------------------------------------------- flags


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", required=True, type=Path, metavar="F.fif", help="file to write")
    parser.add_argument("--seconds", default=120.0, type=options.seconds, metavar="S", help="length (default: 120)")
    parser.add_argument("--seed", default=0, type=int, metavar="N", help="of everything in it (default: 0)")
    parser.add_argument(
        "--subject", default=0, type=int, metavar="N", help="another one has another head position (default: 0)"
    )
    parser.add_argument("--sfreq", default=250.0, type=float, metavar="HZ", help="sampling rate (default: 250)")
    parser.add_argument("--force", action="store_true", help="replace the file if it is there")


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("recordings")
    group.add_argument("inputs", nargs="*", type=Path, metavar="INPUT", help="recordings and folders")
    group.add_argument("--input-dir", action="append", default=[], type=Path, metavar="D", help="folder; like INPUT")
    group.add_argument(
        "--file-pattern", default="*.fif", metavar="P", help='of recordings in folders (default: "*.fif")'
    )
    group.add_argument("--numpy-rate", type=options.hertz, metavar="HZ", help="sampling rate of .npy recordings")
    group = parser.add_argument_group("preparation")
    group.add_argument("--l-freq", default=1.0, type=_edge, metavar="HZ", help="lower edge, or none (default: 1)")
    group.add_argument("--h-freq", default=40.0, type=_edge, metavar="HZ", help="upper edge, or none (default: 40)")
    group.add_argument("--notch", default="auto", metavar="HZ", help="power line: auto, none or Hz (default: auto)")
    group.add_argument("--sfreq", default=250, type=options.counted, metavar="HZ", help="rate (default: 250)")
    group.add_argument(
        "--layout", default="neuromag306", metavar="NAME",
        help="sensors of the model, or native for the recordings' own (default: neuromag306)",
    )  # fmt: skip
    group.add_argument(
        "--fit-channels", default="auto", choices=("auto", "names", "interpolate", "pad"),
        help="how recordings come to the layout (default: by name, else interpolate)",
    )  # fmt: skip
    group.add_argument("--bads", default="interpolate", choices=("interpolate", "keep"), help="(default: interpolate)")
    group.add_argument("--clip", default=20.0, type=float, metavar="SD", help="cut values beyond (default: 20)")
    group = parser.add_argument_group("segments")
    group.add_argument(
        "--segment-length", default=5000, type=options.counted, metavar="N", help="samples, at --sfreq (default: 5000)"
    )
    group.add_argument("--split-ratio", default=0.9, type=float, metavar="R", help="share that trains (default: 0.9)")
    group.add_argument(
        "--split-by", default="recording", choices=("recording", "subject"),
        help="subject: all recordings of one go to one part (default: recording)",
    )  # fmt: skip
    group.add_argument(
        "--gap-seconds", default=5.0, type=options.seconds, metavar="S",
        help="left out between the parts of a single recording (default: 5)",
    )  # fmt: skip
    group.add_argument("--seed", default=0, type=int, metavar="N", help="of the split (default: 0)")
    group = parser.add_argument_group("where results go")
    group.add_argument("--output-dir", required=True, type=Path, metavar="D", help="folder; it is made if need be")
    group.add_argument("--workers", default=0, type=int, metavar="N", help="processes (default: one a core)")
    group.add_argument("--force", action="store_true", help="replace what another preparation left there")


def _edge(text: str) -> float | None:
    """Read an edge of a band; ``none`` leaves that side open."""
    if text.lower() == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text}, expected Hz or none") from None


def _add_pretrain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", default="tiny", metavar="C", help="preset or YAML file (default: tiny)")
    parser.add_argument(
        "--data-dir", type=Path, metavar="D", help="prepared folder, or LibriBrain's; else the config's"
    )
    parser.add_argument("--output-dir", type=Path, metavar="D", help="folder of the run (default: runs/NAME)")
    parser.add_argument("--resume", action="store_true", help="go on with the run that is there")
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help="change a setting; repeatable"
    )
    parser.add_argument("--max-steps", type=options.counted, metavar="N", help="the same as --set max_steps=N")
    parser.add_argument(
        "--until", type=options.counted, metavar="N", help="stop after step N with a checkpoint, schedule unchanged"
    )
    parser.add_argument(
        "--run", dest="run_folder", type=Path, metavar="DIR",
        help="folder of the run; a training that was stopped goes on with the same command",
    )  # fmt: skip


def _add_probe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recordings", nargs="+", type=Path, metavar="FILE", help="recordings with annotations")
    options.add_model(parser)
    parser.add_argument(
        "--target", default="label", choices=("label", "subject", "session"),
        help="what is read: the annotations' labels, or who and when (default: label)",
    )  # fmt: skip
    parser.add_argument(
        "--window-seconds", default=0.5, type=options.seconds, metavar="S", help="of each example (default: 0.5)"
    )
    parser.add_argument("--layers", default="all", help="all, last or numbers (default: all)")
    parser.add_argument(
        "--controls", default="random,band-power,riemann", type=_words, metavar="LIST",
        help="what the model is compared with (default: random,band-power,riemann)",
    )  # fmt: skip
    parser.add_argument("--numpy-rate", type=options.hertz, metavar="HZ", help="sampling rate of .npy recordings")
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "mps", "cpu"))
    parser.add_argument("--seed", default=0, type=int, metavar="N", help="of the random weights (default: 0)")


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


# ------------------------------------------------------------------------------------------------------------- verbs


def simulate(args: argparse.Namespace) -> int:
    """Simulate a recording and print where it is."""
    from core import tasks

    request = tasks.SimulateRequest(args.output, args.seconds, args.seed, args.subject, args.sfreq, args.force)
    made = tasks.simulate_meg(request, console.progress())
    if args.json:
        console.emit_json({"path": str(made.path), "labels": dict(made.labels), **made.facts})
    else:
        console.emit_paths([made.path])
    return 0


def prepare(args: argparse.Namespace) -> int:
    """Prepare recordings and print the folder."""
    from core import tasks
    from core.records import to_plain

    inputs = (*args.inputs, *args.input_dir)
    if not inputs:
        raise InputError("Got no recording. Name a folder with --input_dir, or recordings.")
    request = tasks.PrepareRequest(
        inputs=inputs,
        output_dir=args.output_dir,
        file_pattern=args.file_pattern,
        segment_length=args.segment_length,
        split_ratio=args.split_ratio,
        preparation=_preparation(args),
        numpy_rate=args.numpy_rate,
        gap_seconds=args.gap_seconds,
        seed=args.seed,
        workers=args.workers,
        force=args.force,
        split_by=args.split_by,
    )
    summary = tasks.prepare_meg(request, console.progress())
    for warning in summary.warnings:
        log.warning("%s", warning)
    log.info("%s", tasks.prepared_as_text(summary))
    if args.json:
        console.emit_json(to_plain(summary))
    else:
        console.emit_paths([summary.folder])
    return 0


def _preparation(args: argparse.Namespace) -> "Preparation":
    from core.sensors import Preparation

    return Preparation(
        args.sfreq, args.l_freq, args.h_freq, args.notch, args.layout, args.fit_channels, args.bads, args.clip
    )


def pretrain(args: argparse.Namespace) -> int:
    """Train, and print the checkpoint's folder."""
    from core import tasks

    settings = _pretrain_settings(args)
    folder = args.output_dir or args.run_folder or Path("runs") / settings.name
    request = tasks.PretrainRequest(settings, folder, args.resume or args.run_folder is not None, args.until)
    return trained(lambda on_progress: tasks.pretrain_meg(request, on_progress, args.run_folder), as_json=args.json)


def _pretrain_settings(args: argparse.Namespace) -> "PretrainSettings":
    """The preset or file, with what the flags change."""
    from core import tasks

    changes = list(args.overrides)
    if args.max_steps is not None:
        changes.append(f"max_steps={args.max_steps}")
    settings = tasks.read_pretrain_settings(args.config, changes)
    return settings if args.data_dir is None else tasks.with_data(settings, args.data_dir)


def probe(args: argparse.Namespace) -> int:
    """Probe a model and print the scores."""
    from core import tasks
    from core.records import to_plain

    request = tasks.ProbeRequest(
        model=args.model,
        recordings=tuple(args.recordings),
        target=args.target,
        window_seconds=args.window_seconds,
        layers=args.layers,
        controls=args.controls,
        device=args.device,
        seed=args.seed,
        numpy_rate=args.numpy_rate,
    )
    findings = tasks.probe_meg(request, console.progress())
    for warning in findings.warnings:
        log.warning("%s", warning)
    if args.json:
        console.emit_json(to_plain(findings))
    else:
        console.emit(tasks.probe_as_text(findings).encode("utf-8", "replace"))
    return 0


VERBS: dict[str, tuple[str, str, Any, Any]] = {
    "simulate-meg": (
        "simulate an MEG recording with known labels",
        "Simulate an MEG recording.",
        _add_simulate,
        simulate,
    ),
    "prepare": ("prepare MEG recordings for pre-training", PREPARE, _add_prepare, prepare),
    "pretrain": ("pre-train a Meg2Vec", PRETRAIN, _add_pretrain, pretrain),
    "probe": ("read labels from a MEG model's layers, beside controls", PROBE, _add_probe, probe),
}
