"""The card of a trained head, generated from its other files: it cannot claim what nobody measured."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from core.checkpoints.card import bullets, front_matter, section
from core.scoring import INTENDED_USE

Facts = Mapping[str, Any]

TAGS = ("speech", "emotion", "audio-classification")

NOT_MEASURED = "Nobody has measured this head. Do not believe it."

TRUST = (
    "The figures below are of speakers that the head had not heard, from the same corpus: the same sentences, the same "
    "microphone, and mostly actors who were told what to show. Elsewhere expect less: see the figures across corpora, "
    "where there are any, and where there are none, measure on your own recordings before you believe it "
    "(`python -m core emotion evaluate`). What is recognised is what listeners or a script called a voice, not what "
    "anybody felt. Below its threshold of confidence the head says nothing; a sound that is silent, very short or "
    "unlike the training clips it does not judge either."
)


def head_card(name: str, config: Facts, training: Facts) -> str:
    """Make the card.

    Args:
        name: Of the head's folder.
        config: Content of ``config.json``; see :class:`core.checkpoints.heads.HeadConfig`.
        training: Content of ``training.json``: ``data``, ``settings``, ``seed``, ``metrics``, ``folds``,
            ``calibration``, ``warnings``, ``versions`` as :func:`core.emotion.head_files.training_facts` makes them.
            Its entry ``card`` holds what only a person can say; each of ``license``, ``language``, ``summary``,
            ``trust`` (texts or lists), ``data`` and ``attribution`` (lists) may be left out.

    Returns:
        Markdown.
    """
    said = training.get("card", {})
    front = {
        "license": said.get("license", "unknown"),
        "language": said.get("language", []),
        "library_name": "strata",
        "pipeline_tag": "audio-classification",
        "tags": [*TAGS, *said.get("tags", [])],
    }
    sections = [
        front_matter({key: value for key, value in front.items() if value}),
        f"# {name}\n\n{said.get('summary') or _summary(config, training)}",
        section("Use", _use(name, config)),
        section("How far to trust it", _trust(training, said)),
        section("Intended use", INTENDED_USE),
        section("Measured", _measured(training)),
        section("Training", _training_text(config, training)),
        section("Data and licence", _data_text(training, said)),
    ]
    return "\n\n".join(sections) + "\n"


def _summary(config: Facts, training: Facts) -> str:
    data = training.get("data", {})
    of = f"{data['n']:,} clips of {data['n_speakers']} speakers ({data['name']})" if data else "unnamed clips"
    return (
        f"A head on the encoder {config['encoder']} that tells {len(config['labels'])} classes apart by the voice: "
        f"{', '.join(config['labels'])}. It was trained on {of}; {_what_became_of_the_encoder(config)}."
    )


def _what_became_of_the_encoder(config: Facts) -> str:
    lies = config.get("encoder_folder", "")
    if lies and not Path(lies).is_absolute():
        return f"the encoder was fine-tuned with it and lies in the folder `{lies}`"
    return "the encoder stayed as it is"


def _use(name: str, config: Facts) -> str:
    folder = f"checkpoints/{name}"
    return (
        f"```sh\npython -m core emotion classify clip.wav --checkpoint {folder}\n```\n\n"
        "```python\n"
        "from core.tasks import classify_emotion\n\n"
        f'outcome = classify_emotion(["clip.wav"], "{folder}")\n'
        "for heard in outcome.predictions:\n"
        "    likely = dict(zip(heard.labels, heard.clip.probabilities.round(2), strict=True))\n"
        '    print(heard.source, heard.clip.label or f"no answer: {heard.clip.why}", likely)\n'
        "for failure in outcome.failures:\n"
        '    print(failure["file"], failure["error"])\n'
        "```\n\n"
        f"It goes with the encoder {config['encoder']} (weights `{config['encoder_sha256'][:16]}`) at "
        f"{config['sampling_rate']:,} Hz, and refuses any other."
    )


def _trust(training: Facts, said: Facts) -> str:
    lines = [said.get("trust", TRUST)]
    if training.get("warnings"):
        lines += ["What limits the figures:", bullets(training["warnings"])]
    return "\n\n".join(lines)


# ------------------------------------------------------------------------------------------------------------ measured


def _measured(training: Facts) -> str:
    metrics = training.get("metrics")
    if not metrics:
        return NOT_MEASURED
    head = metrics["head"]
    first = (
        f"UAR (mean recall over the {len(head['recalls'])} classes) **{estimate_text(head['uar'])}**, n = "
        f"{metrics['n']:,} clips of {metrics['n_speakers']} speakers; chance {metrics['chance']:.3f}. Each clip was "
        f"judged by a head that had not heard its speaker ({len(training.get('folds', []))} folds). Brackets: 95 %, "
        "bootstrap over speakers."
    )
    parts = [first, _scores_table(metrics), _recall_table(head), _calibration_text(training, head)]
    if metrics.get("cross"):
        parts.append(_cross_table(metrics["cross"]))
    return "\n\n".join(part for part in parts if part)


def _scores_table(metrics: Facts) -> str:
    columns = ("uar", "wa", "macro_f1", "ece")
    rows = [
        [
            metrics[kind]["name"] if kind != "head" else "this head",
            *(estimate_text(metrics[kind][key]) for key in columns),
        ]
        for kind in ("head", "baseline", "shuffled")
        if metrics.get(kind)
    ]
    rows.append(["guessing", f"{metrics['chance']:.3f}", "", "", ""])
    rows.append(["always the most frequent class", f"{metrics['chance']:.3f}", f"{metrics['majority']:.3f}", "", ""])
    return table(["", "UAR [95 %]", "WA", "macro F1", "ECE"], rows)


def _recall_table(head: Facts) -> str:
    rows = [[label, estimate_text(value)] for label, value in head["recalls"].items()]
    return table(["class", "recall [95 %]"], rows)


def _calibration_text(training: Facts, head: Facts) -> str:
    known = training.get("calibration")
    if not known:
        return ""
    return (
        f"Calibration: temperature {known['temperature']:.2f}, fitted on speakers that were held out; expected "
        f"calibration error {estimate_text(head['ece_uncalibrated'])} before and {estimate_text(head['ece'])} after. "
        f"The head says nothing below a confidence of {known['threshold']:.2f}: in the folds it spoke of "
        f"{known['coverage']:.0%} of the clips and was right in {known['accuracy']:.0%} of those{_unlike_text(known)}."
    )


def _unlike_text(known: Facts) -> str:
    if not known.get("unlike"):
        return ""
    return f"; {known['unlike']:.0%} it found unlike what it was trained on, and said nothing of them either"


def _cross_table(crosses: Iterable[Facts]) -> str:
    rows = [
        [
            cross["train"],
            cross["test"],
            f"{len(cross['labels'])}",
            f"{cross['n']:,} of {cross['n_speakers']}",
            estimate_text(cross["uar"]),
            estimate_text(cross["within"]) if cross.get("within") else "",
            estimate_text(cross["ece"]),
        ]
        for cross in crosses
    ]
    head = ["trained on", "tested on", "shared classes", "clips of speakers", "UAR [95 %]", "UAR within", "ECE"]
    return "Across corpora, on the classes that both have:\n\n" + table(head, rows)


def estimate_text(estimate: Facts) -> str:
    """A value with its interval; a dash where it is not a number.

    >>> estimate_text({"value": 0.5, "low": 0.4, "high": 0.6})
    '.500 [.400, .600]'
    """
    if estimate.get("value") is None:
        return "–"
    text = _share(estimate["value"])
    if estimate.get("low") is None or estimate.get("high") is None:
        return text
    return f"{text} [{_share(estimate['low'])}, {_share(estimate['high'])}]"


def _share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0") if value < 1 else f"{value:.3f}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; bars in cells are escaped, since labels come from users."""
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", r"\|")


# ------------------------------------------------------------------------------------------------- training and data


def _training_text(config: Facts, training: Facts) -> str:
    settings = training.get("settings", {})
    layers = config["layers"]
    which = f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]} to {layers[-1]} ({config['mixture']})"
    lines = [
        f"Head: {settings.get('head', 'unknown')}, on {which}, pooling {config['pooling']}.",
        f"Seed: {training.get('seed', 'unknown')}.",
        f"Maps: {' - '.join(map(str, _widths(config)))} values.",
        _hearing_text(config["hearing"]),
    ]
    folds = training.get("folds", [])
    if folds:
        lines.append(f"Folds: {len(folds)}; each one's speakers and scores are in `training.json`.")
    return bullets(lines) + "\n\nAll settings, folds with their speakers, and package versions: `training.json`."


def _hearing_text(hearing: Facts) -> str:
    """How the encoder heard the clips; ``classify`` hears recordings in the same way."""
    channel = "the mean of all channels" if hearing["channel"] is None else f"channel {hearing['channel']}"
    loud = "every clip at one loudness" if hearing["loudness"] == "normalise" else "clips as loud as they are"
    return f"Heard by the encoder: {loud}, {channel}, {hearing['engine']} in {hearing['precision']}."


def _widths(config: Facts) -> list[int]:
    mixed = config["dim"] * (len(config["layers"]) if config["mixture"] == "concatenated" else 1)
    return [mixed, *config["hidden"], len(config["labels"])]


def _data_text(training: Facts, said: Facts) -> str:
    data = training.get("data", {})
    lines = list(said.get("data", []))
    if data:
        lines.append(
            f"{data['name']}: {data['n']:,} clips, {data['n_speakers']} speakers; "
            + ", ".join(f"{label} {count}" for label, count in data.get("counts", {}).items())
            + (f"; fingerprint `{str(data['fingerprint'])[:16]}`." if data.get("fingerprint") else ".")
        )
        changed = {given: label for given, label in data.get("mapping", {}).items() if given != label}
        if changed:
            lines.append(
                "Classes: " + ", ".join(f"{given} as {label or 'left out'}" for given, label in changed.items())
            )
    if "license" not in said:
        lines.append("Licence: nobody has said. The licence of the recordings decides what may be done with the head.")
    return bullets([*lines, *said.get("attribution", [])])
