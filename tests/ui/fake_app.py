"""Serve the app over the fake encoder: ``python -m tests.ui.fake_app PORT [SLOWNESS]``."""

import sys

from core.ui.environment import prepare


def main() -> None:
    prepare()
    from core.ui.app import build_app
    from core.ui.settings import UiSettings
    from core.ui.theme import launch_arguments
    from tests.fakes import FakeTasks

    settings = UiSettings.from_environment()
    slowness = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    build_app(settings, FakeTasks(slowness)).launch(server_port=int(sys.argv[1]), **launch_arguments(settings))


if __name__ == "__main__":
    main()
