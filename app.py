"""Start Strata in the browser: ``python app.py``. On a Hugging Face Space this file is what runs."""

import argparse
import sys
from dataclasses import replace

from core.ui.environment import prepare
from core.ui.settings import UiSettings


def read_flags(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; defaults come from the environment and the kind of machine."""
    defaults = UiSettings.from_environment()
    parser = argparse.ArgumentParser(description="Strata in the browser.")
    parser.add_argument("--host", help="address to listen on (127.0.0.1; 0.0.0.0 for all)")
    parser.add_argument("--port", type=int, help="port to listen on (the first free one from 7860 on)")
    parser.add_argument("--share", action="store_true", help="make a public link through Gradio's servers")
    parser.add_argument(
        "--max-upload-mb", type=float, default=defaults.max_upload_mb, help="largest file (%(default)g)"
    )
    parser.add_argument(
        "--max-minutes", type=float, default=defaults.max_minutes, help="longest recording (%(default)g)"
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    return parser.parse_args(arguments)


flags = read_flags(sys.argv[1:] if __name__ == "__main__" else [])
settings = replace(
    UiSettings.from_environment(), max_upload_mb=flags.max_upload_mb, max_minutes=flags.max_minutes
).shared(flags.share)
prepare()

from core.ui.app import build_app  # noqa: E402 (gradio reads what prepare() sets when it is imported)

demo = build_app(settings)

if __name__ == "__main__":
    from core.ui.theme import launch_arguments
    from core.ui.warm_up import warm_up

    demo.launch(
        server_name=flags.host,
        server_port=flags.port,
        share=flags.share,
        inbrowser=flags.open,
        prevent_thread_lock=True,
        **launch_arguments(settings),
    )
    warm_up()
    demo.block_thread()
