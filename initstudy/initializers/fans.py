"""The number of inputs that a unit sums and of outputs that an input feeds, by the kind of layer.

Fans come from the layer, not from a tensor's shape alone: the same shape has another meaning in a
transposed or grouped convolution, in stacked gates, in packed projections, or in an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from torch import Tensor, nn

from initstudy.initializers.kinds import GATES, RECURRENT, foreign_kind, kind, role


class UnknownFansError(ValueError):
    """The fans of such a layer or parameter are not known."""


@dataclass(frozen=True)
class Fans:
    """The fans of a tensor, and how it holds the maps that they are those of.

    Attributes:
        fan_in: The number of inputs that one output unit sums.
        fan_out: The number of output units that one input feeds.
        blocks: The number of separate maps that are stacked along the first axis: gates, packed
            projections, groups.
        transposed: Whether the first axis of a block counts inputs and its second axis outputs.

    Raises:
        ValueError: A fan is smaller than one.

    Example:
        >>> from initstudy.initializers import Fans
        >>> Fans.of_shape((8, 3, 5, 5))
        Fans(fan_in=75, fan_out=200, blocks=1, transposed=False)
    """

    fan_in: int
    fan_out: int
    blocks: int = 1
    transposed: bool = False

    def __post_init__(self) -> None:
        if self.fan_in < 1 or self.fan_out < 1:
            raise ValueError(f"{self}: a layer needs fans of at least 1 to be initialized by them")

    @classmethod
    def of_shape(cls, shape: Sequence[int]) -> Fans:
        """The fans of a plain map of shape (outputs, inputs, *kernel), as `torch.nn.init` reads it.

        Raises:
            UnknownFansError: The shape has fewer than two axes.
        """
        if len(shape) < 2:
            raise UnknownFansError(f"a tensor of shape {tuple(shape)} has no fans by itself")
        receptive = math.prod(shape[2:])
        return cls(shape[1] * receptive, shape[0] * receptive)


class _UnknownFans(Fans):
    """Fans that fail when they are read, so that initializers that need none can do without."""

    reason: str

    def __init__(self, reason: str) -> None:
        object.__setattr__(self, "reason", reason)
        object.__setattr__(self, "blocks", 1)
        object.__setattr__(self, "transposed", False)

    def __getattr__(self, name: str) -> NoReturn:
        if name in ("fan_in", "fan_out"):
            raise UnknownFansError(self.reason)
        raise AttributeError(name)

    def __repr__(self) -> str:
        return f"unknown fans ({self.reason})"


def unknown_fans(reason: str) -> Fans:
    """Fans that raise UnknownFansError with a reason if an initializer reads them.

    Args:
        reason: Why the fans are not known.

    Example:
        >>> from initstudy.initializers import KaimingNormal, Normal
        >>> from initstudy.initializers.fans import unknown_fans
        >>> Normal(0.1)((3,), unknown_fans("no layer")).shape
        torch.Size([3])
        >>> KaimingNormal()((3,), unknown_fans("no layer"))
        Traceback (most recent call last):
        initstudy.initializers.fans.UnknownFansError: no layer
    """
    return _UnknownFans(reason)


def compute_fans(module: nn.Module, parameter: str, convention: str = "layer") -> Fans:
    """The fans of a layer's parameter. Those of a bias are the fans of the weight it is added to.

    A weight that is computed from other parameters (by `torch.nn.utils.parametrizations`, or by
    the older `torch.nn.utils.weight_norm` and `spectral_norm`) has the fans of what is computed.

    Args:
        module: A layer of one of the kinds in `KINDS`.
        parameter: The parameter's name in the module, such as "weight" or "weight_hh_l0".
        convention: The way in which fans are counted.

            - "layer": what a unit sums. A convolution's inputs are those of one group; every gate
              and every packed projection counts by itself; an embedding looks up one row; a
              bilinear unit sums in1·in2 products, and each product feeds every output. A strided
              transposed convolution counts as one of stride one, although on average only
              1/stride² of its kernel meets an input.
            - "torch": the tensor's shape as `torch.nn.init` reads it, second axis in, first axis
              out (https://docs.pytorch.org/docs/stable/nn.init.html): a transposed convolution's
              fans are swapped, groups are not divided out of fan_out, gates and packed projections
              are one large map, an embedding has its rows as outputs.
            - "keras": the axes of the kernel that Keras holds for such a layer
              (`keras.initializers.VarianceScaling`): as "torch" for transposed and grouped
              convolutions and for gates, all channels as inputs for a depthwise convolution, an
              embedding's rows as inputs; attention's projections count by themselves.
            - "matlab": MATLAB's Deep Learning Toolbox (Initialize Learnable Parameters for Model
              Function): as "layer", with the gates of a recurrent layer as one map.

    Raises:
        UnknownFansError: The kind of layer or the parameter is not known.
        ValueError: The convention is not known, or a fan of the layer is zero.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import compute_fans
        >>> fans = compute_fans(nn.Conv2d(40, 60, 3, groups=4), "weight")
        >>> fans.fan_in, fans.fan_out, fans.blocks
        (90, 135, 4)
        >>> compute_fans(nn.Conv2d(40, 60, 3, groups=4), "weight", "torch").fan_out
        540
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention={convention}: choose one of {', '.join(CONVENTIONS)}")
    name = kind(module)
    if name is None:
        raise UnknownFansError(
            f"{type(module).__name__}: the fans of this kind of layer are not known"
        )
    if role(module, parameter) is None or not isinstance(getattr(module, parameter, None), Tensor):
        raise UnknownFansError(
            f"{type(module).__name__}.{parameter}: the fans of this parameter are not known"
        )
    if name in ("norm", "prelu"):
        return Fans(1, 1)
    return CONVENTIONS[convention](module, name, _weight_of(module, parameter))


def fans_of(module: nn.Module, parameter: str, convention: str = "layer") -> Fans:
    """The fans of a parameter, or fans that fail when they are read if they are not known.

    Args:
        module: Any module.
        parameter: The parameter's name in it.
        convention: The way in which fans are counted; see `compute_fans`.

    Raises:
        ValueError: The convention is not known, or a fan of the layer is zero.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from initstudy.initializers.fans import fans_of
        >>> fans_of(nn.ParameterList([torch.zeros(3)]), "0")
        unknown fans (ParameterList: the fans of this kind of layer are not known)
    """
    try:
        return compute_fans(module, parameter, convention)
    except UnknownFansError as error:
        return unknown_fans(str(error))


def fans_or_one(module: nn.Module, key: str, convention: str) -> Fans:
    """A parameter's fans, or fans of one if they are not known; for describing, not for filling.

    Args:
        module: Any module.
        key: The parameter's name in it.
        convention: The way in which fans are counted; see `compute_fans`.

    Example:
        >>> from torch import nn
        >>> fans_or_one(nn.Linear(4, 2), "weight", "torch").fan_in
        4
        >>> fans_or_one(nn.PReLU(), "weight", "torch").fan_in
        1
    """
    try:
        return compute_fans(module, key, convention)
    except UnknownFansError:
        return Fans(1, 1)


def _weight_of(module: nn.Module, parameter: str) -> str:
    """The weight whose fans a parameter has: its own, or those of the weight of a bias."""
    if role(module, parameter) != "bias":
        return parameter
    if isinstance(module, nn.MultiheadAttention):
        return "in_proj_weight" if module._qkv_same_embed_dim else "q_proj_weight"
    return parameter.replace("bias", "weight")


# Layers are read by attributes that depend on their kind.
AnyLayer: TypeAlias = Any


def _layer_fans(module: AnyLayer, name: str, weight: str) -> Fans:
    shape = getattr(module, weight).shape
    if foreign_kind(module):
        return Fans(shape[0], shape[1], transposed=True)
    if name == "bilinear":
        return Fans(module.in1_features * module.in2_features, module.out_features)
    if name in ("conv", "conv_transpose"):
        kernel = math.prod(module.kernel_size)
        # At stride one a transposed convolution sums what a convolution of the same kernel sums. A
        # larger stride leaves most positions of the kernel without an input, which the customary
        # count ignores.
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


def _torch_fans(module: AnyLayer, name: str, weight: str) -> Fans:
    return Fans.of_shape(getattr(module, weight).shape)


def _keras_fans(module: AnyLayer, name: str, weight: str) -> Fans:
    if name == "conv" and module.groups == module.in_channels > 1:
        kernel = math.prod(module.kernel_size)
        return Fans(module.in_channels * kernel, module.out_channels // module.groups * kernel)
    if name == "embedding":
        rows, width = module.weight.shape
        return Fans(rows, width)
    if name in ("attention", "bilinear"):
        return _layer_fans(module, name, weight)
    return _torch_fans(module, name, weight)


def _matlab_fans(module: AnyLayer, name: str, weight: str) -> Fans:
    fans = _layer_fans(module, name, weight)
    return Fans(fans.fan_in, fans.fan_out * fans.blocks) if name in RECURRENT else fans


CONVENTIONS: dict[str, Callable[[AnyLayer, str, str], Fans]] = {
    "layer": _layer_fans,
    "torch": _torch_fans,
    "keras": _keras_fans,
    "matlab": _matlab_fans,
}
