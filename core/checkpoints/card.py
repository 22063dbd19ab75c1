"""Model cards: README.md generated from ``config.json`` and ``training.json``, with the front matter the hub reads.

Numbers come from ``training.json`` and nowhere else, so a card cannot claim what was not measured.
"""

import json
from collections.abc import Iterable
from typing import Any

Facts = dict[str, Any]


def model_card(name: str, config: Facts, training: Facts) -> str:
    """Make the card.

    Args:
        name: of the checkpoint folder.
        config: content of ``config.json``.
        training: content of ``training.json``. Its entry ``card`` holds what only a person can say: ``license``,
            ``language``, ``tags``, ``summary``, ``snippet``, ``trust`` and ``intended_use`` (texts), ``data`` and
            ``attribution`` (lists). Its entry ``metrics`` is a list of tables; see :func:`metric_table`.

    Returns:
        Markdown.
    """
    card = training["card"]
    sections = [
        front_matter(card),
        f"# {name}\n\n{card['summary']}",
        section("Use", f"```python\n{card['snippet'].strip()}\n```"),
        section("How far to trust it", card["trust"]),
        section("Intended use", card["intended_use"]),
        section("Measured", "\n\n".join(metric_table(table) for table in training.get("metrics", [])) or "Not yet."),
        section("Training", _training_text(training)),
        section("Architecture", _architecture_text(config, training)),
        section("Data and licence", bullets(card["data"]) + "\n\n" + bullets(card["attribution"])),
    ]
    return "\n\n".join(sections) + "\n"


def front_matter(card: Facts) -> str:
    """YAML front matter as the hub reads it; every value is written as JSON, which is YAML."""
    keys = ("license", "language", "library_name", "pipeline_tag", "tags", "datasets")
    lines = [f"{key}: {json.dumps(card[key], ensure_ascii=False)}" for key in keys if key in card]
    return "\n".join(["---", *lines, "---"])


def metric_table(table: Facts) -> str:
    """One measurement as Markdown: title, note, chance level, n, and a row for each thing measured.

    ``table`` has ``title``, ``note``, ``measure``, ``n``, ``groups``, ``chance`` and ``rows``: a list of
    ``{"model", "scores": [one per layer], "chosen", "interval"}``. ``chosen`` is the score with the layer chosen on
    training groups only, ``interval`` its 95 % bootstrap over groups.
    """
    width = max(len(row["scores"]) for row in table["rows"])
    head = ["model", *(f"layer {k}" for k in range(width)), "layer chosen on training folds [95 %]"]
    lines = [
        f"**{table['title']}** ({table['measure']}; n = {table['n']}, {table['groups']}; "
        f"chance {table['chance']:.3f}). {table['note']}",
        "",
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
    ]
    return "\n".join(lines + [_metric_row(row, width) for row in table["rows"]])


def _metric_row(row: Facts, width: int) -> str:
    cells = [f"{score:.3f}" for score in row["scores"]]
    cells += [""] * (width - len(cells))
    low, high = row["interval"]
    chosen = f"{row['chosen']:.3f} [{low:.3f}, {high:.3f}]"
    return "| " + " | ".join([row["model"], *cells, chosen]) + " |"


def _training_text(training: Facts) -> str:
    """What was run, on what, for how long, and how the validation went."""
    lines = [
        f"- Recipe: `{training['recipe']}`, seed {training['seed']}.",
        f"- {training['updates']} of {training['updates_planned']} updates{_cost(training)} on {training['device']}.",
        f"- Data: {training['data']['hours']:.2f} h in {training['data']['clips']} clips, "
        f"fingerprint `{training['data']['sha256'][:16]}`.",
        f"- Held out for the validation loss: {training['split']['held_out_text']}.",
    ]
    if training.get("history"):
        first, last = training["history"][0], training["history"][-1]
        cosine = last.get("cosine")
        beside = "" if cosine is None else f" (cosine to the teacher's standardised states {cosine:.3f})"
        lines.append(
            f"- Validation loss {first['loss']:.3f} after {first['step']} updates, {last['loss']:.3f} after "
            f"{last['step']}{beside}."
        )
    return "\n".join(lines) + "\n\nAll settings, the whole history and package versions: `training.json`."


def _cost(training: Facts) -> str:
    """Processor time, where it was measured."""
    return f", {training['cpu_seconds'] / 60:.0f} minutes of processor time" if "cpu_seconds" in training else ""


def _architecture_text(config: Facts, training: Facts) -> str:
    """Sizes, from the configuration, as far as its family has them."""
    sizes = [f"{training['parameters']:,} parameters"]
    if blocks := config.get("num_hidden_layers", config.get("encoder_layers")):
        sizes.append(f"{blocks} blocks of width {config.get('d_model', config.get('hidden_size'))}")
    if "conv_kernel" in config:
        sizes.append(
            f"convolutions {config['conv_kernel']} with strides {config['conv_stride']} "
            f"({config['conv_dim'][0]} channels), norm `{config.get('feat_extract_norm', 'layer')}`"
        )
    return f"{config['architectures'][0]}: {', '.join(sizes)}; float16 on disk."


def section(title: str, text: str) -> str:
    """A heading and what stands below it."""
    return f"## {title}\n\n{text}"


def bullets(items: Iterable[str]) -> str:
    """A list, an item a line."""
    return "\n".join(f"- {item}" for item in items)
