"""How the app looks: system fonts, slate and teal, light and dark, and not one request to another machine."""

from pathlib import Path
from typing import Any

import gradio as gr

from core.ui.settings import UiSettings

ASSETS = Path(__file__).parents[2] / "assets"
FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def theme() -> gr.themes.Base:
    """Return the theme; plain font names are never fetched."""
    base = gr.themes.Base(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        font=FONT,
        font_mono=MONO,
        radius_size="md",
        text_size="md",
    )
    return base.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        color_accent="*primary_700",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        link_text_color_hover="*primary_800",
        link_text_color_hover_dark="*primary_200",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
    )


def launch_arguments(settings: UiSettings) -> dict[str, Any]:
    """Return what ``launch()`` needs to look and behave like this app."""
    return {
        "theme": theme(),
        "css": (ASSETS / "app.css").read_text(encoding="utf-8"),
        "max_file_size": settings.max_upload_bytes,
        "footer_links": ["api", "settings"],
        "show_error": True,
        "ssr_mode": False,
    }
