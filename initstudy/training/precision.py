"""In which precision runs are trained: the configuration's key `precision`.

    highest   float32 throughout
    tf32      a GPU's products of matrices, convolutions and recurrent layers round to TF32
    bf16      forward passes under `torch.autocast` to bfloat16; parameters, gradients and losses
              stay in float32 (https://docs.pytorch.org/docs/stable/amp.html)

Only torch's newer settings are used (`fp32_precision`, see
https://docs.pytorch.org/docs/stable/notes/cuda.html). To read an older one, such as
`torch.get_float32_matmul_precision()`, raises once a model of the user's has written a newer one.
"""

from __future__ import annotations

from typing import Any

import torch

from initstudy.config import ConfigError

# What a setting says that nobody has made: products of matrices are those of IEEE 754.
UNSET, IEEE, TF32, BF16 = "none", "ieee", "tf32", "bf16"
# The first compute capability with TF32.
AMPERE = (8, 0)


def check(precision: str, device: torch.device) -> None:
    """Makes sure that a device can honour a precision.

    Raises:
        ConfigError: It cannot.
    """
    if precision == TF32 and device.type != "cuda":
        raise ConfigError(
            f"precision=tf32: only GPUs have it, and device={device.type}; choose highest or bf16"
        )
    # Other machines may train than this one.
    if device.type != "cuda" or not torch.cuda.is_available():
        return
    if precision == TF32:
        lacking = torch.cuda.get_device_capability(device) < AMPERE
    else:
        lacking = precision == BF16 and not torch.cuda.is_bf16_supported()
    if lacking:
        name = torch.cuda.get_device_name(device)
        raise ConfigError(f"precision={precision}: {name} does not have it; choose highest")


def apply(precision: str, device: torch.device) -> None:
    """Sets the precision in which this process multiplies on a device."""
    if device.type != "cuda":
        return
    wanted = TF32 if precision == TF32 else IEEE
    # By default cuDNN would round to TF32, though matrix products do not.
    cudnn: Any = torch.backends.cudnn
    for backend in (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn):
        if backend.fp32_precision != wanted:
            backend.fp32_precision = wanted


def arithmetic(precision: str, device: torch.device) -> str:
    """In which arithmetic this process multiplies matrices now: "ieee", "tf32" or "bf16"."""
    if precision == BF16:
        return BF16
    cuda = device.type == "cuda"
    backend: Any = torch.backends.cuda if cuda else torch.backends.mkldnn
    said = backend.matmul.fp32_precision
    return IEEE if said == UNSET else said
