"""Start Strata in the browser: ``python app.py``. On a Hugging Face Space this file is what runs."""

import argparse
import sys
from dataclasses import replace

from core.errors import StrataError
from core.ui.environment import prepare
from core.ui.settings import UiSettings


def read_flags(arguments: list[str]) -> tuple[argparse.Namespace, UiSettings]:
    """Read the command line; the limits' defaults come from the environment and the kind of machine."""
    parser = argparse.ArgumentParser(description="Strata in the browser.")
    parser.add_argument("--host", help="address to listen on (127.0.0.1; 0.0.0.0 for all)")
    parser.add_argument("--port", type=int, help="port to listen on (the first free one from 7860 on)")
    parser.add_argument("--share", action="store_true", help="make a public link through Gradio's servers")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--max-upload-mb", type=float, help="largest file (2000; 200 on a Space)")
    parser.add_argument("--max-minutes", type=float, help="longest recording (240; 20 on a Space)")
    parser.add_argument("--max-recordings", type=int, help="recordings at once (500; 20 on a Space)")
    flags = parser.parse_args(arguments)
    try:
        limits = UiSettings.from_environment()
        given = {name: getattr(flags, name) for name in ("max_upload_mb", "max_minutes", "max_recordings")}
        return flags, replace(limits, **{k: v for k, v in given.items() if v is not None}).shared(flags.share)
    except StrataError as error:
        parser.error(str(error))


flags, settings = read_flags(sys.argv[1:] if __name__ == "__main__" else [])
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
