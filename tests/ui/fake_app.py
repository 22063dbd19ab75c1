"""Serve the app over fake tasks: ``python -m tests.ui.fake_app [--slowness SECONDS] PORT``."""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial

from core.ui.environment import prepare


def slowed(steps: Callable[..., Iterator], seconds: float, *arguments: object) -> Iterator:
    """The same steps, with a pause before each, so that one can be seen forming."""
    for step in steps(*arguments):
        time.sleep(seconds)
        yield step


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--slowness", type=float, default=0.0)
    arguments = parser.parse_args()
    prepare()
    from core.analysis import tsne
    from core.ui.app import build_app
    from core.ui.settings import UiSettings
    from core.ui.theme import launch_arguments
    from tests.sites_fakes import FakeSitesTasks

    tsne.tsne_steps = partial(slowed, tsne.tsne_steps, 4 * arguments.slowness)
    settings = UiSettings.from_environment()
    app = build_app(settings, FakeSitesTasks(arguments.slowness), training_module="tests.fake_training")
    app.launch(server_port=arguments.port, **launch_arguments(settings))


if __name__ == "__main__":
    main()
