"""How many inputs a unit sums, and how many outputs an input feeds, by the kind of layer.

Fans come from the layer, never from a tensor's shape alone: the same shape means something else in
a transposed or grouped convolution, in stacked gates, packed projections, or an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from initstudy.initializers.kinds import GATES, RECURRENT, kind, role


class UnknownFansError(ValueError):
    """Nobody knows the fans of such a layer or parameter."""


@dataclass(frozen=True)
class Fans:
    """Inputs of one output unit, outputs of one input unit, and how the tensor holds them.

    Attributes:
        fan_in: How many inputs one output unit sums.
        fan_out: How many output units one input feeds.
        blocks: Maps of their own that are stacked along the first axis: gates, packed
            projections, groups.
        transposed: Whether a block's first axis counts inputs and its second one outputs.
    """

    fan_in: int
    fan_out: int
    blocks: int = 1
    transposed: bool = False

    def __post_init__(self) -> None:
        if self.fan_in < 1 or self.fan_out < 1:
            raise ValueError(f"{self}: a layer needs fans of at least 1 to be initialized by them")


def compute_fans(module: nn.Module, parameter: str, convention: str = "layer") -> Fans:
    """The fans of a layer's parameter; those of a bias are its layer's.

    Args:
        module: A layer of one of the kinds in `KINDS`.
        parameter: The parameter's name in the module, such as "weight" or "weight_hh_l0".
        convention: Whose count.

            - "layer": what a unit really sums. A convolution's inputs are those of one group; a
              gate and a packed projection count alone; an embedding looks up one row; a bilinear
              unit sums in1·in2 products, and each product feeds every output.
            - "torch": reads the tensor's shape as `torch.nn.init` does, second axis in, first axis
              out (https://docs.pytorch.org/docs/stable/nn.init.html): a transposed convolution's
              fans are swapped, groups are not divided out of fan_out, gates and packed projections
              are one large map, an embedding has its rows as outputs.
            - "keras": reads the axes of the kernel that Keras holds for such a layer
              (`keras.initializers.VarianceScaling`): as torch for transposed and grouped
              convolutions and for gates, all channels in for a depthwise convolution, an embedding
              has its rows as inputs; attention's projections count alone.
            - "matlab": MATLAB's Deep Learning Toolbox (Initialize Learnable Parameters for Model
              Function): as "layer", with the gates of a recurrent layer as one map.

    Raises:
        UnknownFansError: For a kind of layer or a parameter that is not known.
        ValueError: For a convention that is not known, or a layer with a fan of zero.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention={convention}: choose one of {', '.join(CONVENTIONS)}")
    name = kind(module)
    if name is None:
        raise UnknownFansError(f"{type(module).__name__}: no fans known for this kind of layer")
    present = parameter in dict(module.named_parameters(recurse=False))
    if not present or role(module, parameter) is None:
        raise UnknownFansError(
            f"{type(module).__name__}.{parameter}: no fans known for this parameter"
        )
    if name in ("norm", "prelu"):
        return Fans(1, 1)
    return CONVENTIONS[convention](module, name, _weight_of(module, parameter))


def _weight_of(module: nn.Module, parameter: str) -> str:
    """The weight whose fans a parameter has: itself, or the one that a bias is added to."""
    if role(module, parameter) != "bias":
        return parameter
    if isinstance(module, nn.MultiheadAttention):
        return "in_proj_weight" if module._qkv_same_embed_dim else "q_proj_weight"
    return parameter.replace("bias", "weight")


def _layer_fans(module: Any, name: str, weight: str) -> Fans:
    shape = getattr(module, weight).shape
    if name == "bilinear":
        return Fans(module.in1_features * module.in2_features, module.out_features)
    if name in ("conv", "conv_transpose"):
        kernel = math.prod(module.kernel_size)
        # A transposed convolution sums, on average over positions, what a convolution of the same
        # kernel sums; the stride's share of empty positions is left out, as everybody does.
        return Fans(
            module.in_channels // module.groups * kernel,
            module.out_channels // module.groups * kernel,
            blocks=module.groups,
            transposed=name == "conv_transpose",
        )
    if name == "embedding":
        return Fans(1, shape[1])
    gates = 1 if weight.startswith("weight_hr") else GATES.get(name, 1)
    blocks = 3 if weight == "in_proj_weight" else gates
    return Fans(shape[1], shape[0] // blocks, blocks)


def _torch_fans(module: Any, name: str, weight: str) -> Fans:
    shape = getattr(module, weight).shape
    receptive = math.prod(shape[2:])
    return Fans(shape[1] * receptive, shape[0] * receptive)


def _keras_fans(module: Any, name: str, weight: str) -> Fans:
    if name == "conv" and module.groups == module.in_channels > 1:
        kernel = math.prod(module.kernel_size)
        return Fans(module.in_channels * kernel, module.out_channels // module.groups * kernel)
    if name == "embedding":
        rows, width = module.weight.shape
        return Fans(rows, width)
    if name in ("attention", "bilinear"):
        return _layer_fans(module, name, weight)
    return _torch_fans(module, name, weight)


def _matlab_fans(module: Any, name: str, weight: str) -> Fans:
    fans = _layer_fans(module, name, weight)
    return Fans(fans.fan_in, fans.fan_out * fans.blocks) if name in RECURRENT else fans


CONVENTIONS: dict[str, Callable[[Any, str, str], Fans]] = {
    "layer": _layer_fans,
    "torch": _torch_fans,
    "keras": _keras_fans,
    "matlab": _matlab_fans,
}
