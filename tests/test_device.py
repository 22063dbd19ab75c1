import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from core.device import available_devices, choose, cpu_has_bf16, pick_device, sanitise_threads
from core.errors import InputError

CUDA, MPS, CPU = {"cuda": "NVIDIA X"}, {"mps": "Apple GPU"}, {"cpu": "CPU"}
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("available", "device"),
    [(CUDA | MPS | CPU, "cuda"), (CUDA | CPU, "cuda"), (MPS | CPU, "mps"), (CPU, "cpu")],
)
def test_auto_prefers_cuda_then_mps_then_cpu(available, device):
    assert choose("auto", available).device == device


def test_auto_on_a_cpu_says_what_was_not_found():
    assert choose("auto", CPU).reason == "auto: CPU; torch finds no CUDA or MPS device"
    assert choose("auto", CUDA | CPU).reason == "auto: NVIDIA X"


@pytest.mark.parametrize("wanted", ["cuda", "mps", "cpu"])
def test_a_device_that_is_asked_for_is_taken(wanted):
    assert choose(wanted, CUDA | MPS | CPU).device == wanted


def test_a_device_that_is_not_there_is_an_error_with_a_remedy():
    with pytest.raises(InputError, match=r"'cuda'.*finds only cpu.*Use auto"):
        choose("cuda", CPU)


def test_an_unknown_device_is_an_error_that_lists_the_known_ones():
    with pytest.raises(InputError, match="'gpu'; expected one of auto, cuda, mps, cpu"):
        pick_device("gpu")


def test_the_picked_device_multiplies():
    import torch

    device = pick_device().device
    assert device == next(iter(available_devices()))
    ones = torch.ones(2, 3, device=device)
    assert (ones @ ones.T).cpu().tolist() == [[3.0, 3.0], [3.0, 3.0]]


@pytest.mark.parametrize("bad", ["auto", "", "0", "-2", "2.5", "four", "2 threads", "1,2"])
def test_an_invalid_mkl_thread_count_is_removed_with_a_warning(bad, caplog):
    environ = {"MKL_NUM_THREADS": bad, "OMP_NUM_THREADS": "2", "HOME": "/root"}
    assert sanitise_threads(environ) == {"MKL_NUM_THREADS": bad}
    assert environ == {"OMP_NUM_THREADS": "2", "HOME": "/root"}
    assert f"MKL_NUM_THREADS={bad!r} is no thread count and was ignored." in caplog.text


def test_valid_thread_counts_stay():
    environ = {"MKL_NUM_THREADS": " 4 ", "OMP_NUM_THREADS": "4, 2"}
    before = dict(environ)
    assert sanitise_threads(environ) == {} and environ == before


def test_an_invalid_openmp_list_is_removed():
    environ = {"OMP_NUM_THREADS": "4,0"}
    assert sanitise_threads(environ) == {"OMP_NUM_THREADS": "4,0"}


def test_sanitising_restores_the_threads_that_a_bad_count_takes_away():
    """torch itself is the witness: `MKL_NUM_THREADS=auto` leaves it one thread, sanitised it has as many as without."""
    script = (
        "import os, core.device\ncore.device.sanitise_threads(os.environ)\nimport torch; print(torch.get_num_threads())"
    )
    environ = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}

    def threads(**extra: str) -> str:
        run = [sys.executable, "-c", script]
        return subprocess.run(run, env=environ | extra, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert threads(MKL_NUM_THREADS="auto", OMP_NUM_THREADS="0") == threads()


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the witness is Linux's list of processor flags")
def test_bf16_agrees_with_the_flags_that_linux_lists():
    words = set(re.findall(r"\w+", Path("/proc/cpuinfo").read_text()))
    assert cpu_has_bf16() == bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


def test_importing_the_module_does_not_import_torch():
    script = "import sys, core.device; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0
