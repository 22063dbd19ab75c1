"""In what precision to train, and the Accelerator that sees to it."""

import os
from typing import TYPE_CHECKING

from core.device import cpu_has_bf16, pick_device
from core.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

PRECISIONS = ("auto", "fp32", "bf16", "fp16")

SHARDED = ("FSDP", "DEEPSPEED", "MEGATRON_LM")
"""Ways of Accelerate to split the weights among processes: these models are small enough not to need them."""


def pick_precision(wanted: str, device: str) -> str:
    """Choose fp32, bf16 or fp16; ``auto`` is bf16 where the device multiplies it in hardware, else fp32.

    Args:
        wanted: One of :data:`PRECISIONS`.
        device: ``cuda``, ``mps`` or ``cpu``.

    Raises:
        InputError: an unknown word, or fp16 on a processor, which has no fast one.
    """
    if wanted not in PRECISIONS:
        raise InputError(f"Got precision {wanted!r}; expected one of {', '.join(PRECISIONS)}.")
    if wanted == "fp16" and device == "cpu":
        raise InputError("Got precision fp16 on a CPU, which does not compute in it. Use bf16, fp32 or auto, or a GPU.")
    if wanted != "auto":
        return wanted
    return "bf16" if _has_fast_bf16(device) else "fp32"


def _has_fast_bf16(device: str) -> bool:
    import torch

    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and cpu_has_bf16()


def make_accelerator(device: str = "auto", precision: str = "auto", *, compiled: bool = False) -> "Accelerator":
    """Make the Accelerator of this process; the processes of ``accelerate launch`` find each other here.

    Args:
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``; each process of a launch on GPUs gets one of its own.
        precision: As in :func:`pick_precision`; the forward pass runs under autocast, the weights stay float32.
        compiled: Whether to compile the network.

    Raises:
        InputError: the device or the precision is not to be had.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import GradientAccumulationPlugin, TorchDynamoPlugin

    forced = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    place = "cpu" if forced and device == "auto" else pick_device(device).device
    chosen = pick_precision(precision, place)
    # Accelerate keeps the first settings for the whole process; an earlier training may have had others.
    alone = not PartialState._shared_state or not PartialState().use_distributed
    AcceleratorState._reset_state(reset_partial_state=alone)
    accelerator = Accelerator(
        cpu=place == "cpu",
        mixed_precision="no" if chosen == "fp32" else chosen,
        dynamo_plugin=TorchDynamoPlugin(backend="inductor" if compiled else "no"),
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),  # the loop adds the gradients up itself
    )
    if accelerator.distributed_type in SHARDED:
        raise InputError(
            f"Got {accelerator.distributed_type.value} from accelerate's configuration, which splits the weights; "
            "expected all of them in each process. Launch with --multi_gpu, or run accelerate config."
        )
    return accelerator
