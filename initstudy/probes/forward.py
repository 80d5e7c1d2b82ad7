"""Running a model so that hooks see every module's output, and transforms can batch it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

Tensors = dict[str, Tensor]


# Takes a module's name, the module and its output; may return another output instead.
Hook = Callable[[str, nn.Module, Any], Any]


@contextmanager
def as_written(recurrent: bool = False) -> Iterator[None]:
    """Runs attention, and on request recurrent layers, in basic operations.

    The fused kernels that torch has for them have no batching rule, and the one that attention uses
    in evaluation mode runs no hook of the modules below it.

    Args:
        recurrent: Whether recurrent layers are meant too. Convolutions then run without oneDNN and
            cuDNN as well, so it is for recurrent models alone.
    """
    mkldnn: Any = torch.backends.mkldnn
    cudnn: Any = torch.backends.cudnn
    mha = torch.backends.mha
    before = mkldnn.enabled, cudnn.enabled, mha.get_fastpath_enabled()
    mkldnn.enabled, cudnn.enabled = (on and not recurrent for on in before[:2])
    mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        mkldnn.enabled, cudnn.enabled = before[:2]
        mha.set_fastpath_enabled(before[2])


@contextmanager
def hooked(modules: Mapping[str, nn.Module], hook: Hook) -> Iterator[None]:
    """Calls a hook after every call of some modules, for as long as it is open.

    Args:
        modules: The modules by name.
        hook: Takes the name, the module and its output. What it returns replaces the output, unless
            that is None.
    """
    handles = [
        module.register_forward_hook(
            lambda module, _args, output, name=name: hook(name, module, output)
        )
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def first_tensor(output: object) -> Tensor:
    """The tensor of a module's output.

    Recurrent layers return theirs first in a nested tuple, `(output, (h_n, c_n))`, and attention
    returns `(output, None)` where nobody needs its weights.

    Raises:
        TypeError: There is none.
    """
    first = output[0] if isinstance(output, tuple) else output
    if not isinstance(first, Tensor):
        raise TypeError(f"a module returned {type(output).__name__}, which starts with no tensor")
    return first
