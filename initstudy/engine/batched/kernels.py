"""Which module has which batched kernel: one row per kind of layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from initstudy.engine.batched.convolution import AvgPool2d, Conv2d, MaxPool2d, PatchesConv2d
from initstudy.engine.batched.dense import Flatten, Linear
from initstudy.engine.batched.elementwise import BY_AUTOGRAD, FROM_OUTPUT, ByAutograd, FromOutput
from initstudy.engine.batched.normalization import BatchNorm, LayerNorm
from initstudy.engine.batched.stage import Stage
from initstudy.engine.refusal import RefusedError, describe

# Patches of more values than this are slower than the convolution itself.
LONGEST_PATCH = 75


@dataclass(frozen=True)
class Call:
    """A module where it is called.

    Attributes:
        name: Its name in the model.
        module: The module.
        shape: The shape of its input, without the batch: `[features]` or
            `[channels, height, width]`.
        before: The stages before it.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    before: Sequence[Stage]

    @property
    def on_images(self) -> bool:
        """Whether the input is images."""
        return len(self.shape) == 3

    def refuse(self, why: str = "has no batched kernel") -> RefusedError:
        """The error that refuses the module."""
        title = describe(self.name, self.module)
        return RefusedError(f"{title} {why}", title)


def kernel(call: Call) -> Stage:
    """The batched kernel of a module.

    Raises:
        RefusedError: The module has none, or none for its options or its input.
    """
    # A subclass of the user's may do anything else.
    make = KERNELS.get(type(call.module))
    if make is None:
        raise call.refuse()
    if len(call.shape) not in (1, 3) and type(call.module) is not nn.Flatten:
        raise call.refuse("has a batched kernel only for one axis of features and for images")
    stage = make(call)
    stage.title = describe(call.name, call.module)
    return stage


def _from_output(call: Call) -> Stage:
    before = call.before
    in_place = bool(before) and isinstance(before[-1], Linear | Conv2d | BatchNorm)
    return FromOutput(call.name, call.module, in_place=in_place)


def _by_autograd(call: Call) -> Stage:
    return ByAutograd(call.name, call.module)


def _flatten(call: Call) -> Stage:
    module = call.module
    assert isinstance(module, nn.Flatten)
    if (module.start_dim, module.end_dim) != (1, -1):
        raise call.refuse("has a batched kernel only for all axes but the batch")
    if len(call.shape) == 1:
        return ByAutograd(call.name, nn.Identity())
    if call.before and not call.on_images:
        raise call.refuse("has a batched kernel only for images and for the model's inputs")
    return Flatten(call.name, call.shape)


def _linear(call: Call) -> Stage:
    assert isinstance(call.module, nn.Linear)
    if len(call.shape) != 1:
        raise call.refuse("has a batched kernel only for one axis of features")
    return Linear(call.name, call.module)


def _convolution(call: Call) -> Stage:
    module = call.module
    assert isinstance(module, nn.Conv2d)
    if not call.on_images:
        raise call.refuse("has a batched kernel only for images")
    if module.padding_mode != "zeros" or module.groups != 1:
        raise call.refuse("has a batched kernel only with zero padding and without groups")
    padding = _padding(module)
    if padding is None:
        raise call.refuse("has a batched kernel only for padding of the same size at both ends")
    on_data = not any(stage.parameters or stage.buffers for stage in call.before)
    patch = module.in_channels * math.prod(module.kernel_size)
    short = patch <= LONGEST_PATCH and module.dilation == (1, 1)
    return (PatchesConv2d if on_data and short else Conv2d)(call.name, module, padding)


def _padding(module: nn.Conv2d) -> tuple[int, int] | None:
    """The zeros at each end of height and width; None if the two ends differ."""
    if module.padding == "valid":
        return 0, 0
    if module.padding != "same":
        return tuple(module.padding)  # type: ignore[return-value]
    reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    return None if any(r % 2 for r in reach) else (reach[0] // 2, reach[1] // 2)


def _layer_norm(call: Call) -> Stage:
    module = call.module
    assert isinstance(module, nn.LayerNorm)
    if not module.normalized_shape == call.shape[-1:] == call.shape:
        raise call.refuse("has a batched kernel only for one axis of features")
    return LayerNorm(call.name, module)


def _batch_norm(call: Call) -> Stage:
    module = call.module
    assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    if len(call.shape) != (3 if isinstance(module, nn.BatchNorm2d) else 1):
        raise call.refuse("has a batched kernel only for one axis of features and for images")
    return BatchNorm(call.name, module)


def _max_pool(call: Call) -> Stage:
    module = call.module
    assert isinstance(module, nn.MaxPool2d)
    if not call.on_images or module.return_indices:
        raise call.refuse("has a batched kernel only for images, and without indices")
    return MaxPool2d(call.name, module)


def _avg_pool(call: Call) -> Stage:
    assert isinstance(call.module, nn.AvgPool2d)
    if not call.on_images:
        raise call.refuse("has a batched kernel only for images")
    return AvgPool2d(call.name, call.module)


KERNELS: dict[type[nn.Module], Callable[[Call], Stage]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    nn.Flatten: _flatten,
    **dict.fromkeys(FROM_OUTPUT, _from_output),
    **dict.fromkeys(BY_AUTOGRAD, _by_autograd),
}
