"""Work for other processes: it has to lie in a module that they can import quickly."""

import os
import time

from core.errors import DataError, OutputError


def work(job, on_progress):
    if job == "bad":
        raise DataError("bad.fif is bad.")
    if job == "full":
        raise OutputError("The disk is full.")
    if job == "die":
        os._exit(9)
    if job == "long":
        time.sleep(60)
    return os.getpid()
