"""One HTML file with figures and tables: it asks no machine for anything, now or later.

plotly.js, styles and data are inside, and a content security policy forbids the rest. All text goes through the
template's escaping, since names of files and labels come from users.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from typing import Any

from core.figures.plotly_json import Figure, to_json
from core.figures.tables import Table

TEMPLATES = Path(__file__).parents[2] / "assets"


@dataclass(frozen=True)
class Drawing:
    """A figure with its caption; ``shape`` is ``wide``, ``square`` or empty for half a page."""

    anchor: str
    label: str
    caption: str
    height: int
    shape: str
    json: str


@dataclass(frozen=True)
class Section:
    """A part of the report, in the order of its fields."""

    anchor: str
    title: str
    texts: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    folded: tuple[Table, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing below its title."""
        return not (self.texts or self.items or self.tables or self.drawings or self.folded)


@dataclass(frozen=True)
class Page:
    """What stands above the sections: a title, a line on what was looked at, and what to know before reading on."""

    title: str
    lead: str
    alerts: tuple[str, ...] = ()


def page_html(page: Page, sections: Iterable[Section]) -> str:
    """Write one HTML document, UTF-8 when encoded; sections without content are left out."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    text: str = environment.get_template("report.html").render(
        title=page.title,
        lead=page.lead,
        alerts=page.alerts,
        sections=_safe_sections((section for section in sections if not section.is_empty), Markup),
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
        script=Markup((TEMPLATES / "report.js").read_text(encoding="utf-8")),
    )
    # Names of files may hold bytes that are no text.
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def drawing(anchor: str, figure: Figure, caption: str, shape: str = "") -> Drawing:
    """Make a figure ready for the page; its title and the line below are what a screen reader hears."""
    heading = figure["layout"]["title"]
    label = f"{heading['text']}. {heading['subtitle']['text']}"
    return Drawing(anchor, unescape(label), caption, figure["layout"]["height"], shape, inline_json(figure))


def inline_json(figure: Figure) -> str:
    """Return the figure as JSON that cannot end the script element it stands in, whatever names it holds.

    >>> "</" in inline_json({"name": "</script>"})
    False
    """
    return to_json(figure).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _safe_sections(sections: Iterable[Section], markup: Any) -> list[Section]:
    """Mark figures as ready for the page; everything else is escaped by the template."""
    return [
        replace(section, drawings=tuple(replace(one, json=markup(one.json)) for one in section.drawings))
        for section in sections
    ]
