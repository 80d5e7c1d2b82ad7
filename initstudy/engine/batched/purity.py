"""Whether all that a model's `forward` does is to call its layers.

A trace shows what happens to a tensor. What else a class does in Python (counting its calls,
drawing a number to decide by, waiting) would happen as the model is traced, and never in training.
"""

from __future__ import annotations

import dis
from collections.abc import Container
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from torch import nn

_BUILTINS = (super, len, range, zip, enumerate, reversed)
_CHANGES = ("STORE_ATTR", "STORE_GLOBAL", "STORE_SUBSCR", "STORE_DEREF", "DELETE", "IMPORT", "MAKE")
_UNKNOWN = object()
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR")


def only_calls_layers(model: nn.Module, functions: Container[Any]) -> bool:
    """Whether no class of the user's in the model does anything besides, as far as can be read.

    Args:
        model: The architecture.
        functions: Functions, and names of methods of tensors, that do what a layer does.
    """
    return all(_reads_as_calls(module, functions) for module in model.modules())


def _reads_as_calls(module: nn.Module, functions: Container[Any]) -> bool:
    kinds = [kind for kind in type(module).__mro__ if not kind.__module__.startswith("torch.nn.")]
    own = [vars(kind) for kind in kinds if kind is not object]
    if any(name in members for members in own for name in ("__call__", "__getattr__")):
        return False
    waiting, seen = ["forward"], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for method in (members[name] for members in own if name in members):
            called = _attributes(method, functions)
            if called is None:
                return False
            for attribute in called - seen:
                if any(attribute in members for members in own):
                    waiting.append(attribute)
                elif not (attribute in functions or _is_plain(module, attribute)):
                    return False
    return True


def _attributes(method: Any, functions: Container[Any]) -> set[str] | None:
    """The attributes that a method reads; None where it does what cannot be judged."""
    if not isinstance(method, FunctionType):
        return None
    found: set[str] = set()
    value: Any = None
    for step in dis.get_instructions(method):
        if isinstance(value, ModuleType) and step.opname in _ATTRIBUTES:
            value = getattr(value, step.argval, None)
            continue
        if value is not None and not _is_known(value, functions):
            return None
        value = None
        if step.opname.startswith(_CHANGES):
            return None
        if step.opname == "LOAD_GLOBAL":
            builtin = {kind.__name__: kind for kind in _BUILTINS}
            value = method.__globals__.get(step.argval, builtin.get(step.argval, _UNKNOWN))
        elif step.opname == "LOAD_DEREF" and step.argval != "__class__":
            return None
        elif step.opname in _ATTRIBUTES:
            found.add(step.argval)
    return found


def _is_known(value: Any, functions: Container[Any]) -> bool:
    function = isinstance(value, FunctionType | BuiltinFunctionType)
    return any(value is known for known in _BUILTINS) or (function and value in functions)


def _is_plain(module: nn.Module, attribute: str) -> bool:
    """Whether an attribute is a layer or a number, or what every module has."""
    if attribute in ("forward", "children", "values", "items"):
        return True
    value = getattr(module, attribute, _UNKNOWN)
    return value is None or isinstance(value, nn.Module | int | float | str)
