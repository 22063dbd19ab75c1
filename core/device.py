"""Where to compute: the device, the processor's precision, and thread counts that make sense.

torch is imported inside the functions, because :func:`sanitise_threads` has to run before anything imports it.
"""

import logging
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from core.errors import InputError

log = logging.getLogger(__name__)

# In order of preference; ``auto`` takes the first that is there.
DEVICES = ("cuda", "mps", "cpu")

_COUNT = r"[1-9]\d*"
# MKL reads one positive number; OpenMP also a list of them, one a nesting level.
_THREAD_VARIABLES = {
    "MKL_NUM_THREADS": re.compile(rf"\s*{_COUNT}\s*"),
    "OMP_NUM_THREADS": re.compile(rf"\s*{_COUNT}\s*(,\s*{_COUNT}\s*)*"),
}

# Names of torch's capability table under which x86 (AVX-512, AMX) and ARM report bfloat16 multiplications.
_BF16_CAPABILITIES = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


@dataclass(frozen=True)
class DeviceChoice:
    """A torch device name and, for the metadata, why it was taken."""

    device: str
    reason: str


def sanitise_threads(environ: MutableMapping[str, str]) -> dict[str, str]:
    """Remove thread counts that are no counts; warn of each, and return what was removed, by variable.

    ``MKL_NUM_THREADS=auto`` and the like leave torch with a single thread or a warning at best. Call this on
    ``os.environ`` before torch is imported; afterwards it changes nothing.
    """
    removed = {}
    for name, pattern in _THREAD_VARIABLES.items():
        value = environ.get(name)
        if value is not None and not pattern.fullmatch(value):
            removed[name] = environ.pop(name)
            log.warning("%s=%r is no thread count and was ignored.", name, value)
    return removed


def available_devices() -> dict[str, str]:
    """Devices that torch can use here, best first, each with a word for people (a GPU's name)."""
    import torch

    found = {}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_device_name()
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found | {"cpu": "CPU"}


def choose(wanted: str, available: Mapping[str, str]) -> DeviceChoice:
    """Choose among ``available`` devices; see :func:`pick_device`."""
    if wanted == "auto":
        device = next(name for name in DEVICES if name in available)
        missing = [name.upper() for name in DEVICES[: DEVICES.index(device)]]
        note = f"; torch finds no {' or '.join(missing)} device" if missing else ""
        return DeviceChoice(device, f"auto: {available[device]}{note}")
    if wanted not in DEVICES:
        raise InputError(f"Got device {wanted!r}; expected one of auto, {', '.join(DEVICES)}.")
    if wanted not in available:
        raise InputError(
            f"Got device {wanted!r}, but this torch finds only {', '.join(available)}. "
            "Use auto, or install a torch built for that device and check its driver."
        )
    return DeviceChoice(wanted, f"asked for: {available[wanted]}")


def pick_device(wanted: str = "auto") -> DeviceChoice:
    """Choose CUDA, then MPS, then CPU, or the device that was asked for.

    Args:
        wanted: ``auto``, ``cuda``, ``mps`` or ``cpu``.

    Raises:
        InputError: For an unknown name, or a device that torch cannot use here.
    """
    return choose(wanted, available_devices())


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; without that, bf16 is slower than fp32 and less exact."""
    return any(cpu_capabilities().get(name, False) for name in _BF16_CAPABILITIES)


def cpu_capabilities() -> dict[str, bool]:
    """What torch knows of this processor, by name; empty where it cannot tell."""
    import torch

    read = getattr(torch.cpu, "get_capabilities", None)  # the torch releases before this table cannot tell
    return dict(read()) if read else {}
