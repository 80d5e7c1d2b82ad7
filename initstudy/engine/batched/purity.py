"""Whether all that a model's `forward` does is to call its layers.

A trace shows what happens to a tensor. What else a class does in Python (counting its calls,
drawing a number to decide by, waiting) would happen once, as the model is traced, and never in
training:

    class Counting(nn.Module):
        def forward(self, x):
            self.calls += 1         # traced once; a chain of kernels would never count again
            return self.fc(x)

No tracer of torch tells: `torch.fx` runs the method, and `torch.export` accepts the assignment. So
the methods' bytecode is read, in which every instruction that could change anything else than the
value on its way through the model has a name of its own (https://docs.python.org/3/library/dis.html).
Whatever is not recognized as harmless counts as a reason to refuse, so that a new version of Python
can make a model slower but never wrong.
"""

from __future__ import annotations

import dis
from collections.abc import Container, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from torch import nn

from initstudy.engine.refusal import RefusedError

_BUILTINS = (super, len, range, zip, enumerate, reversed)
_CHANGES = ("STORE_ATTR", "STORE_GLOBAL", "STORE_SUBSCR", "STORE_DEREF", "DELETE", "IMPORT", "MAKE")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR")
_UNKNOWN = object()


def check_only_calls_layers(model: nn.Module, functions: Container[Any]) -> None:
    """Checks that no class of the user's in the model does anything else, as far as can be read.

    Args:
        model: The architecture.
        functions: Functions, and names of tensors' methods, that do what a layer does.

    Raises:
        RefusedError: A method does something else, or cannot be judged.
    """
    for module in model.modules():
        _check_module(module, functions)


def _check_module(module: nn.Module, functions: Container[Any]) -> None:
    """Follows `forward` through all methods that it calls on the module itself."""
    kinds = [kind for kind in type(module).__mro__ if not kind.__module__.startswith("torch.nn.")]
    own = [vars(kind) for kind in kinds if kind is not object]
    title = type(module).__name__
    for name in ("__call__", "__getattr__"):
        if any(name in members for members in own):
            raise RefusedError(f"{title} defines {name}")
    waiting, seen = ["forward"], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for attribute in _attributes_of_method(name, own, functions, title) - seen:
            if any(attribute in members for members in own):
                waiting.append(attribute)
            elif not (attribute in functions or _is_plain(module, attribute)):
                raise RefusedError(f"{title}.{name} uses .{attribute}, which is not a layer")


def _attributes_of_method(
    name: str, own: Sequence[Mapping[str, Any]], functions: Container[Any], title: str
) -> set[str]:
    """The attributes that the user's versions of a method read."""
    attributes: set[str] = set()
    for members in own:
        if name in members:
            attributes |= _Reader(members[name], functions, f"{title}.{name}").attributes()
    return attributes


class _Reader:
    """Reads a method's bytecode.

    Args:
        method: The method.
        functions: Functions, and names of tensors' methods, that do what a layer does.
        title: The method's name in messages.
    """

    def __init__(self, method: Any, functions: Container[Any], title: str) -> None:
        self.method = method
        self.functions = functions
        self.title = title

    def attributes(self) -> set[str]:
        """The attributes that the method reads.

        Raises:
            RefusedError: It does what cannot be judged.
        """
        if not isinstance(self.method, FunctionType):
            raise RefusedError(f"{self.title} is not a plain method")
        attributes: set[str] = set()
        # The global that the last instruction loaded: a module is harmless until its attribute
        # is known, and a function must be a known one.
        loaded: Any = None
        for step in dis.get_instructions(self.method):
            if isinstance(loaded, ModuleType) and step.opname in _ATTRIBUTES:
                loaded = getattr(loaded, step.argval, None)
                continue
            self._check_known(loaded)
            loaded = None
            if step.opname.startswith(_CHANGES):
                raise RefusedError(f"{self.title} does more than call layers")
            if step.opname == "LOAD_GLOBAL":
                loaded = self._global(step.argval)
            elif step.opname == "LOAD_DEREF" and step.argval != "__class__":
                raise RefusedError(f"{self.title} reads {step.argval} of an enclosing function")
            elif step.opname in _ATTRIBUTES:
                attributes.add(step.argval)
        return attributes

    def _global(self, name: str) -> Any:
        builtins = {kind.__name__: kind for kind in _BUILTINS}
        return self.method.__globals__.get(name, builtins.get(name, _UNKNOWN))

    def _check_known(self, value: Any) -> None:
        if value is None or any(value is known for known in _BUILTINS):
            return
        if isinstance(value, FunctionType | BuiltinFunctionType) and value in self.functions:
            return
        title = getattr(value, "__name__", "a global name")
        raise RefusedError(f"{self.title} uses {title}, which is not a layer")


def _is_plain(module: nn.Module, attribute: str) -> bool:
    """Whether an attribute is a layer, a number, or what every module has."""
    if attribute in ("forward", "children", "values", "items"):
        return True
    value = getattr(module, attribute, _UNKNOWN)
    return value is None or isinstance(value, nn.Module | int | float | str)
