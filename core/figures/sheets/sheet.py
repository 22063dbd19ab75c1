"""A sheet for print: sizes, fonts, colours and axes that all figures on paper share, without pyplot.

Widths are a journal's columns; texts are at least 6 points at that width. Colours are Okabe and Ito's, told apart by
colour-blind readers, and never stand alone: markers and dashes differ as well, so that a grey copy can be read.
"""

import io
import textwrap
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.embed.writers import replace_file
from core.errors import InputError
from core.figures.names import make_folder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

MM = 1 / 25.4
"""Inches."""

SINGLE, DOUBLE = 89 * MM, 183 * MM
"""Inches of one and of two columns (Nature's; Elsevier's and IEEE's are 1 to 7 mm wider)."""

DPI = 300

FORMATS = ("png", "svg", "pdf")

INK, FAINT = "#222222", "#8a8f98"

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5c00", "#1f1f1f")
"""Okabe & Ito 2008, its yellow, too pale for white paper, replaced by a dark brown."""

MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", (0, (5, 1.5, 1, 1.5, 1, 1.5)))
"""Dots are for noise: shuffled labels and floors."""

MOST_TICKS = 13
"""Layer numbers on an axis at most, so that two digits at 6 points have room in half a page."""

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.formatter.useoffset": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "text.parse_math": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "strata",
}
"""``svg.fonttype`` none keeps text as text: it can be searched, and edited in a drawing program. Dollars in the name of
a model are no formula, hence no ``parse_math``."""

_STYLE_LOCK = threading.Lock()
"""matplotlib reads its style while it draws, from one table for the whole process: one sheet at a time."""


class Style:
    """Hold matplotlib to the house's style while a sheet is made and written, and put back what was there."""

    def __enter__(self) -> None:
        import matplotlib

        _STYLE_LOCK.acquire()
        self.context = matplotlib.rc_context()
        self.context.__enter__()
        matplotlib.rcParams.update(matplotlib.rcParamsDefault)
        matplotlib.rcParams.update(_STYLE)

    def __exit__(self, *_: object) -> None:
        self.context.__exit__(None, None, None)
        _STYLE_LOCK.release()


def new_figure(width: float, height: float, title: str, caption: str, legend_lines: int = 0) -> "Figure":
    """Make a sheet with a title above and a caption below, both wrapped to its width.

    Args:
        width: Inches.
        height: Inches of the drawing; title and caption come on top.
        title: What is drawn, of which model.
        caption: What is needed to read it: counts, floors, what is left out.
        legend_lines: Lines of a legend, between drawing and caption, to leave room for; see :func:`add_legend`.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    characters = int(width / 0.0465)
    lines = textwrap.wrap(caption, characters, break_long_words=True)
    head = textwrap.wrap(title, int(characters * 0.6))
    below, legend, above = 0.115 * len(lines) + 0.08, 0.15 * legend_lines, 0.15 * len(head) + 0.06
    total = height + below + legend + above
    rect = (0, (below + legend) / total, 1, height / total)
    engine = ConstrainedLayoutEngine(rect=rect, w_pad=0.03, h_pad=0.03)
    figure = Figure(figsize=(width, total), dpi=DPI, facecolor="white", layout=engine)
    figure.text(0.01, 1 - 0.05 / total, "\n".join(head), size=8.5, weight="bold", color=INK, va="top", ha="left")
    figure.text(0.01, 0.04 / total, "\n".join(lines), size=6, color=INK, va="bottom", ha="left", linespacing=1.3)
    return figure


def add_legend(figure: "Figure", looks: Sequence[Mapping[str, Any]], names: Sequence[str], n_columns: int) -> None:
    """Put a legend into the room that :func:`new_figure` left below the drawing.

    The layout's own room for legends ("outside") does not know of the caption.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.lines import Line2D

    engine = figure.get_layout_engine()
    bottom = engine.get()["rect"][1] if isinstance(engine, ConstrainedLayoutEngine) else 0.0
    handles = [Line2D([], [], **look) for look in looks]
    figure.legend(
        handles,
        [short(name) for name in names],
        loc="upper center",
        bbox_to_anchor=(0.5, bottom),
        ncols=n_columns,
        handlelength=3.2 if looks[0].get("linestyle") != "none" else 1,
        borderpad=0,
        columnspacing=1.6,
    )


def short(name: str, most: int = 44) -> str:
    """Return a name with its middle left out where it is too long for a label: both ends tell models apart."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most // 2) :]}"


def write_sheets(
    drawings: Iterable[tuple[str, Callable[[], "Figure"]]], folder: Path, formats: Sequence[str]
) -> dict[str, Path]:
    """Draw sheets and write each whole or not at all, in place of an earlier one.

    Args:
        drawings: Name of each sheet, without suffix, and what draws it.
        folder: Where to; made if it is not there.
        formats: Of :data:`FORMATS`.

    Returns:
        The path of each file by its name.

    Raises:
        InputError: Another format.
        OutputError: The folder cannot be written to.
    """
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not formats:
        expected = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise InputError(f"Got the formats {', '.join(formats) or 'none'}; expected {expected}.")
    make_folder(folder)
    written = {}
    for stem, draw in drawings:
        with Style():
            figure = draw()
            contents = {f"{stem}.{name}": to_bytes(figure, name) for name in dict.fromkeys(formats)}
        for name, content in contents.items():
            replace_file(folder / name, content)
            written[name] = folder / name
    return written


def to_bytes(figure: "Figure", file_format: str) -> bytes:
    """Draw a sheet as one of :data:`FORMATS`: 300 dpi, or text as text; the same sheet gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    if file_format == "png":
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    elif file_format == "pdf":
        FigureCanvasPdf(figure).print_pdf(buffer, metadata={"CreationDate": None, "Producer": None, "Creator": None})
    else:
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    figure.set_layout_engine("none")  # what was laid out once stays so: a second format costs a third less
    return buffer.getvalue()


def layer_axis(axes: "Axes", layers: Sequence[int], label: str = "Layer") -> None:
    """Number a horizontal axis of layers, in numeric order; every layer has a tick, at most 13 have a number."""
    named = sparse(layers)
    axes.set_xticks(named, [str(layer) for layer in named])
    axes.set_xticks([layer for layer in layers if layer not in named], minor=True)
    room = max(0.5, 0.03 * (layers[-1] - layers[0]))
    axes.set_xlim(layers[0] - room, layers[-1] + room)
    axes.set_xlabel(label)


def sparse(layers: Sequence[int]) -> list[int]:
    """Choose the layers that get a number: every k-th, and the last unless it would run into one.

    >>> sparse(range(25))
    [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24]
    """
    step = -(-len(layers) // MOST_TICKS)
    return list(layers)[::step]


def chosen_layers(layers: Sequence[int], most: int = 6) -> tuple[int, ...]:
    """Choose at most ``most`` layers, evenly, the first and the last among them.

    >>> chosen_layers(range(13))
    (0, 2, 5, 7, 10, 12)
    """
    from core.analysis.projection import evenly

    return tuple(layers[place] for place in evenly(len(layers), most))


def listed(layers: Sequence[int]) -> str:
    """Name layers in a caption."""
    return ", ".join(map(str, layers))


def look(place: int) -> dict[str, Any]:
    """Return colour, marker and dashes of the n-th line."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": DASHES[place % len(DASHES)],
    }


def plain_log(axis: "Axis") -> None:
    """Write powers of ten on a logarithmic axis as plain numbers."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def log_scale_suits(values: np.ndarray, factor: float = 30.0) -> bool:
    """Whether positive values span so much that a linear axis would hide the small ones."""
    positive = values[values > 0]
    return bool(len(positive)) and float(positive.max()) > factor * float(positive.min())
