"""Models, data and initializers that are given as objects, as sections of a configuration.

An object becomes a section such as `{_target_: mine.Net}` if any process can import it by that
name. Anything else (an instance, a class of a notebook, tensors) is kept in this process, and its
section is `{_target_: initstudy.api.given.objects.k1f2e3d.Net}`. The key is a hash of the content:
the same object has the same key tomorrow, and a changed one is another choice. Forks of this
process find the object there as well; other processes do not.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import inspect
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch
from torch import nn

from initstudy.config import ConfigError, Plain

HERE = f"{__name__}.objects"
PLAIN = (bool, int, float, str, type(None))


class Objects:
    """What this process was given, by key; each is found under any name below its key."""

    def __init__(self) -> None:
        self._makers: dict[str, Callable[..., Any]] = {}

    def keep(self, maker: Callable[..., Any], key: str, name: str) -> str:
        """Keeps what makes an object; returns the dotted name that a configuration gives it."""
        self._makers[f"k{key}"] = maker
        return f"{HERE}.k{key}.{re.sub(r'[^0-9a-zA-Z_]', '_', name)}"

    def __getattr__(self, key: str) -> _Named:
        if key.startswith("_") or key not in self._makers:
            raise AttributeError(
                "it was given as an object of another process; put it into a module that can be "
                "imported, or train on this machine"
            )
        return _Named(self._makers[key])


class _Named:
    def __init__(self, maker: Callable[..., Any]) -> None:
        self._maker = maker

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return self._maker


objects = Objects()


def as_section(group: str, value: Any) -> Plain:
    """An object as a section of the configuration.

    Args:
        group: "model", "data" or "init": what the object is.
        value: The object.

    Raises:
        ConfigError: It is nothing that can stand there.

    Example:
        >>> from initstudy.initializers import Orthogonal
        >>> as_section("init", Orthogonal(gain=1.4))["gain"]
        1.4
    """
    if isinstance(value, Mapping):
        return dict(value)
    if group == "model" and not (isinstance(value, nn.Module) or callable(value)):
        raise ConfigError(
            f"model={value!r}: must be a name of conf/model, a class or function that makes a "
            "torch.nn.Module, or an instance of one"
        )
    if group == "init" and isinstance(value, nn.Module):
        raise ConfigError("init: must be an initializer or its name, not a model")
    if (section := as_fields(value)) is not None:
        return section
    if (name := _importable(value)) is not None and group != "init":
        return {"_target_": name}
    return {"_target_": objects.keep(_maker(group, value), fingerprint(value), label(value))}


def _maker(group: str, value: Any) -> Callable[..., Any]:
    """What makes the object that a configuration names: a factory itself, or a copy of a value."""
    if isinstance(value, nn.Module):
        return lambda: copy.deepcopy(value)
    makes = inspect.isclass(value) or (group in ("model", "data") and callable(value))
    return value if makes else lambda: value


def label(value: Any) -> str:
    """A short name of an object, as charts and tables show it.

    Example:
        >>> from initstudy.initializers import Orthogonal
        >>> label(Orthogonal(gain=1.4))
        'Orthogonal gain 1.4'
    """
    name = getattr(value, "__name__", type(value).__name__)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return name
    words = [name]
    for field in dataclasses.fields(value):
        given = getattr(value, field.name)
        if isinstance(given, PLAIN) and given != field.default:
            words += [field.name, f"{given:g}" if isinstance(given, float) else str(given)]
    return " ".join(words)


def fingerprint(value: Any) -> str:
    """Twelve hexadecimal digits of an object's content: its source, its state, its numbers.

    Raises:
        ConfigError: There is no telling whether the object is the same in another process.
    """
    digest = hashlib.sha256()
    _feed(digest.update, value)
    return digest.hexdigest()[:12]


def _feed(update: Callable[[bytes], None], value: Any) -> None:
    """Hands the content of a value to a hash."""
    if isinstance(value, nn.Module):
        _feed(update, type(value))
        update(repr(value).encode())
        _feed(update, value.state_dict())
    elif isinstance(value, torch.Tensor):
        plain = value.detach().cpu().contiguous()
        update(f"{plain.dtype} {tuple(plain.shape)}".encode())
        update(plain.view(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            update(str(key).encode())
            _feed(update, value[key])
    elif isinstance(value, tuple | list):
        for item in value:
            _feed(update, item)
    elif hasattr(value, "__array__"):
        _feed(update, torch.as_tensor(value))
    elif isinstance(value, PLAIN):
        update(repr(value).encode())
    else:
        _feed_source(update, value)


def _feed_source(update: Callable[[bytes], None], value: Any) -> None:
    """Hands the source of a class or function to a hash, or that of an object's class."""
    update(getattr(value, "__qualname__", type(value).__qualname__).encode())
    wrapped = getattr(value, "func", None)
    if wrapped is not None:
        # functools.partial
        for part in (wrapped, value.args, value.keywords):
            _feed(update, part)
        return
    described = value if inspect.isclass(value) or inspect.isroutine(value) else type(value)
    try:
        update(_source(described).encode())
    except (OSError, TypeError) as error:
        raise ConfigError(
            f"{getattr(value, '__qualname__', value)!s}: its source cannot be read, so that nobody "
            "can tell later whether it has changed; define it in a file or a cell of a notebook"
        ) from error
    if described is not value:
        _feed(update, dict(vars(value)) if hasattr(value, "__dict__") else repr(value))


def _source(described: Any) -> str:
    """The source of a class or function.

    Python looks for a class in the file of its module, which the classes of a notebook do not have.
    The functions of such a class know their cells; beside them stand its bases and its constants.

    Raises:
        OSError: It cannot be found.
        TypeError: It is written in another language.
    """
    try:
        return inspect.getsource(described)
    except (OSError, TypeError):
        if not inspect.isclass(described):
            raise
    functions = {
        name: getattr(value, "fget", None) or getattr(value, "__func__", value)
        for name, value in vars(described).items()
    }
    sources = {n: inspect.getsource(f) for n, f in functions.items() if inspect.isfunction(f)}
    if not sources:
        raise OSError("it has no functions of its own")
    constants = {n: v for n, v in vars(described).items() if isinstance(v, PLAIN) and n[:2] != "__"}
    bases = [base.__qualname__ for base in described.__bases__]
    return f"{bases} {sorted(constants.items())} {sorted(sources.items())}"


def as_fields(value: Any) -> Plain | None:
    """A dataclass of this package whose fields are plain, as a section; None for anything else."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return None
    kind = type(value)
    if not kind.__module__.startswith("initstudy.") or _importable(kind) is None:
        return None
    section: Plain = {"_target_": _importable(kind)}
    for field in dataclasses.fields(value):
        given = getattr(value, field.name)
        if not field.init:
            continue
        if isinstance(given, PLAIN):
            section[field.name] = given
        elif isinstance(given, tuple | list) and all(isinstance(item, PLAIN) for item in given):
            section[field.name] = list(given)
        elif (nested := as_fields(given)) is not None:
            section[field.name] = nested
        else:
            return None
    return section


def _importable(value: Any) -> str | None:
    """The dotted name by which any process imports a class or function; None if it has none."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not module or not name or module == "__main__" or "<" in name:
        return None
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return f"{module}.{name}" if found is value else None


def is_known_here_alone(section: Plain) -> bool:
    """Whether a section names an object that only this process and its forks have."""
    return str(section.get("_target_", "")).startswith(f"{HERE}.")
