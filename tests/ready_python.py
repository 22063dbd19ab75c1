"""Python's command line in processes of their own that begin with the libraries imported: that takes seconds each time.

Nothing of core is imported before: each process does that for itself.
"""

import os
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryFile

import pytest

LIBRARIES = ["torch", "transformers.modeling_utils", "accelerate", "mne.io"]
SECONDS = 280
"""Nothing takes as long; what hangs is to say so."""


@contextmanager
def ready_python(**environ: str) -> Iterator[Callable[[list[str], Path], CompletedProcess]]:
    """A function that runs ``python`` with arguments (``-m MODULE ...`` or ``-c CODE``) in a folder.

    Args:
        environ: More environment; it is there before any library is imported.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)

    def run(arguments: list[str], folder: Path) -> CompletedProcess:
        with ProcessPoolExecutor(1, context) as pool:
            return pool.submit(_run, arguments, folder).result(SECONDS)

    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        yield run


def _run(arguments: list[str], folder: Path) -> CompletedProcess:
    """In the new process, which ends with this."""
    os.chdir(folder)
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        for number, file in ((1, out), (2, err)):
            os.dup2(file.fileno(), number)
        code = _exit_code(arguments)
        printed = []
        for stream, file in ((sys.stdout, out), (sys.stderr, err)):
            stream.flush()
            file.seek(0)
            printed.append(file.read())
    return CompletedProcess(arguments, code, *printed)


def _exit_code(arguments: list[str]) -> int:
    """Do what Python does with its arguments."""
    how, what, *sys.argv[1:] = arguments
    try:
        if how == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
