"""The tensors of a model: its parameters, and the tensors that are computed from parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from initstudy.initializers.kinds import kind
from initstudy.initializers.parametrized import computed, ingredients

# What wrappers (torch.compile, DistributedDataParallel, activation checkpointing, FSDP) put into
# names. A parameter keeps its name and with it its values when its model is wrapped.
WRAPPERS = re.compile(
    r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)|^module(?=\.)"
)


class Slot(NamedTuple):
    """One tensor of a model that an initializer can fill.

    Attributes:
        name: Its name in the model.
        module: The module that owns it.
        key: Its name in that module.
        tensor: The parameter, or the current value of a computed tensor.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import named_parameters
        >>> [slot.name for slot in named_parameters(nn.Sequential(nn.Linear(2, 3)))]
        ['0.weight', '0.bias']
    """

    name: str
    module: nn.Module
    key: str
    tensor: Tensor


def named_parameters(model: nn.Module) -> Iterator[Slot]:
    """Every parameter of a model that is not an ingredient of a computed tensor, once.

    A parameter that several modules share has the name under which `nn.Module.named_parameters`
    lists it. Its module is an embedding if one of the modules is, in whatever order they were
    registered: a language model's output layer that is tied to its embedding is initialized as the
    embedding.

    Args:
        model: Any module.

    Raises:
        ValueError: A lazy module has no shape yet.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import named_parameters
        >>> model = nn.ModuleDict({"head": nn.Linear(4, 9), "tokens": nn.Embedding(9, 4)})
        >>> model["head"].weight = model["tokens"].weight
        >>> next(named_parameters(model)).module
        Embedding(9, 4)
    """
    owners: dict[int, list[Slot]] = {}
    hidden = ingredients(model)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owner, _, key = name.rpartition(".")
        module = model.get_submodule(owner)
        if (id(module), key) in hidden:
            continue
        if isinstance(parameter, UninitializedParameter):
            raise ValueError(
                f"init: {name} of a {type(module).__name__} has no shape yet; run the model once"
            )
        owners.setdefault(id(parameter), []).append(Slot(name, module, key, parameter))
    for slots in owners.values():
        main = next((slot for slot in slots if kind(slot.module) == "embedding"), slots[0])
        yield main._replace(name=slots[0].name)


def named_tensors(model: nn.Module) -> Iterator[Slot]:
    """Every tensor to fill: the parameters, then the tensors that are computed from parameters.

    Args:
        model: Any module.

    Raises:
        ValueError: A lazy module has no shape yet.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers.slots import named_tensors
        >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
        >>> [slot.name for slot in named_tensors(layer)]
        ['bias', 'weight']
    """
    yield from named_parameters(model)
    for name, module, key, tensor in computed(model):
        yield Slot(name, module, key, tensor)


def aliases(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """All names of every shared parameter, by the name that `named_parameters` gives it.

    Args:
        model: Any module.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {several[0]: tuple(several) for several in names.values()}


def plain_name(name: str) -> str:
    """A parameter's name without what wrappers put into it.

    Args:
        name: The name in the wrapped model.

    Example:
        >>> from initstudy.initializers.slots import plain_name
        >>> plain_name("_orig_mod.0.weight")
        '0.weight'
    """
    return WRAPPERS.sub("", name).lstrip(".")
