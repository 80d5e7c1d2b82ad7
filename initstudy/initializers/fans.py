"""How many inputs a unit sums, and how many outputs an input feeds, by the kind of layer.

Fans come from the layer, never from a tensor's shape alone: the same shape means something else in
a transposed or grouped convolution or in an embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

CONVENTIONS = ("layer", "torch")
Norm = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm,
        nn.modules.instancenorm._InstanceNorm)  # fmt: skip
Conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
ConvTranspose = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Fans:
    """Inputs of one output unit, and outputs of one input unit."""

    fan_in: int
    fan_out: int

    def __post_init__(self) -> None:
        if self.fan_in < 1 or self.fan_out < 1:
            raise ValueError(f"{self}: a layer needs fans of at least 1 to be initialized by them")


def kind(module: nn.Module) -> str | None:
    """The layer's kind as policies name it, or None for one that is not known."""
    kinds: dict[str, Any] = {
        "linear": nn.Linear,
        "conv": Conv,
        "conv_transpose": ConvTranspose,
        "embedding": nn.Embedding,
        "norm": Norm,
    }
    return next((name for name, classes in kinds.items() if isinstance(module, classes)), None)


def compute_fans(module: nn.Module, parameter: str, convention: str = "layer") -> Fans:
    """The fans of a layer's parameter; those of a bias are its layer's.

    Args:
        module: A Linear, Conv1d–3d, ConvTranspose1d–3d, Embedding or normalization layer.
        parameter: The parameter's name in the module, "weight" or "bias".
        convention: "layer" counts what a unit really sums: inputs a group times the kernel's
            size, an embedding one row. "torch" reads the weight's shape as `torch.nn.init` does
            (https://docs.pytorch.org/docs/stable/nn.init.html): second axis in, first axis out,
            so that a transposed convolution's fans are swapped and an output group's size is not
            divided.

    Raises:
        ValueError: For a kind of layer, parameter or convention that is not known.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention={convention}: choose one of {', '.join(CONVENTIONS)}")
    if parameter not in ("weight", "bias"):
        raise ValueError(f"{type(module).__name__}.{parameter}: no fans known for this parameter")
    name = kind(module)
    if name is None:
        raise ValueError(f"{type(module).__name__}: no fans known for this kind of layer")
    if name == "norm":
        return Fans(1, 1)
    return _torch_fans(module) if convention == "torch" else _layer_fans(module, name)


def _layer_fans(module: nn.Module, name: str) -> Fans:
    if isinstance(module, nn.Linear):
        return Fans(module.in_features, module.out_features)
    if isinstance(module, nn.Embedding):
        return Fans(1, module.embedding_dim)
    assert isinstance(module, (*Conv, *ConvTranspose))
    kernel = math.prod(module.kernel_size)
    # A transposed convolution sums, on average over positions, what a convolution of the same
    # kernel sums; the stride's share of empty positions is left out, as everybody does.
    return Fans(
        module.in_channels // module.groups * kernel,
        module.out_channels // module.groups * kernel,
    )


def _torch_fans(module: nn.Module) -> Fans:
    shape = module.weight.shape
    assert isinstance(shape, tuple)
    receptive = math.prod(shape[2:])
    return Fans(shape[1] * receptive, shape[0] * receptive)
