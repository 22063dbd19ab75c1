"""Serve the app over the fake encoder: ``python -m tests.ui.fake_app [--slowness SECONDS] PORT``."""

import argparse

from core.ui.environment import prepare


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--slowness", type=float, default=0.0)
    arguments = parser.parse_args()
    prepare()
    from core.ui.app import build_app
    from core.ui.settings import UiSettings
    from core.ui.theme import launch_arguments
    from tests.layers_fakes import FakeAppTasks

    settings = UiSettings.from_environment()
    app = build_app(settings, FakeAppTasks(arguments.slowness))
    app.launch(server_port=arguments.port, **launch_arguments(settings))


if __name__ == "__main__":
    main()
