"""What modules do by themselves: their own `reset_parameters`, under our generators.

torch's modules, and most modules that others write, fill their parameters in a method
`reset_parameters`, which samples from the global random state. Here it runs on scratch parameters
on the CPU, and every random operation that fills a parameter in place takes the parameter's own
generator instead. So a parameter's values depend on (seed, its name) alone, as with every other
initializer, and neither the model nor the global random state changes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from initstudy.initializers.parametrized import computed, ingredients

GeneratorFor = Callable[[str], torch.Generator]
aten = torch.ops.aten
RANDOM = {
    aten.normal_.default,
    aten.uniform_.default,
    aten.random_.default,
    aten.random_.to,
    getattr(aten.random_, "from"),
    aten.bernoulli_.float,
    aten.exponential_.default,
    aten.cauchy_.default,
    aten.log_normal_.default,
    aten.geometric_.default,
}


def reset_of(module: nn.Module) -> Callable[[], object] | None:
    """The method with which a module fills its parameters, or None if it has none to call so.

    Args:
        module: Any module.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers.reset import reset_of
        >>> reset_of(nn.Linear(2, 2)).__name__, reset_of(nn.Sequential())
        ('reset_parameters', None)
    """
    for name in ("reset_parameters", "_reset_parameters"):
        method = getattr(module, name, None)
        if callable(method) and not _needs_arguments(method):
            return method
    return None


def _needs_arguments(method: Callable[..., object]) -> bool:
    parameters = inspect.signature(method).parameters.values()
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return any(p.default is p.empty and p.kind not in several for p in parameters)


def reset_roots(model: nn.Module) -> dict[str, nn.Module]:
    """The outermost modules with a method to fill their parameters, by name.

    Args:
        model: Any module.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers.reset import reset_roots
        >>> list(reset_roots(nn.Sequential(nn.Linear(2, 2), nn.MultiheadAttention(4, 2))))
        ['0', '1']
    """
    roots: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        above = any(name == root or name.startswith(f"{root}." if root else "") for root in roots)
        if not above and reset_of(module) is not None:
            roots[name] = module
    return roots


def reset_values(root: nn.Module, name: str, generator_for: GeneratorFor) -> dict[str, Tensor]:
    """The values that a module and the modules below it give to their parameters.

    The modules below run first, as when they are built.

    Args:
        root: A module with a method to fill its parameters.
        name: The module's name in its model.
        generator_for: The generator of a parameter, by its name in the model. That of "NAME.", a
            module's name with a dot, seeds what the module samples in another way.

    Returns:
        New values by name in the model, on the CPU; computed tensors are among them. What no
        method fills is absent.

    Raises:
        ValueError: A method fails, or fills only a part of a parameter.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from initstudy.initializers.generators import generator_for
        >>> from initstudy.initializers.reset import reset_values
        >>> values = reset_values(nn.Linear(4, 2), "fc", lambda name: generator_for(0, name))
        >>> sorted(values), bool((abs(values["fc.weight"]) <= 0.5).all())
        (['fc.bias', 'fc.weight'], True)
    """
    with _scratch(root, name) as scratch:
        with torch.random.fork_rng(devices=[]), _Paired(scratch, generator_for), torch.no_grad():
            for below, module in _post_order(root, name):
                method = reset_of(module)
                if method is None:
                    continue
                own = generator_for(f"{below}.".removeprefix("."))
                torch.default_generator.manual_seed(own.initial_seed())
                try:
                    method()
                except Exception as error:
                    # A user's method may raise anything.
                    reason = f"{type(error).__name__}: {error}".splitlines()[0]
                    raise ValueError(
                        f"init: {type(module).__name__}.{method.__name__} of "
                        f"{below or 'the model'} failed: {reason}"
                    ) from error
        filled = dict(scratch.current())
    values = {}
    for key, tensor in filled.items():
        missing = torch.isnan(tensor)
        if bool(missing.all()) and tensor.numel():
            continue
        if bool(missing.any()):
            raise ValueError(f"init: {key} is filled only in part by its module")
        values[key] = tensor
    return values


class _Scratch:
    """Parameters on the CPU, full of NaN, in the place of those below a module."""

    def __init__(self) -> None:
        self.slots: list[tuple[str, nn.Module, str]] = []
        self.dtypes: dict[str, torch.dtype] = {}

    def current(self) -> Iterator[tuple[str, Tensor]]:
        for name, module, key in self.slots:
            value = module._parameters[key]
            assert value is not None
            yield name, value.detach().to(self.dtypes[name])

    def by_storage(self) -> dict[int, str]:
        return {
            tensor.untyped_storage().data_ptr(): name
            for name, module, key in self.slots
            if (tensor := module._parameters[key]) is not None
        }


@contextmanager
def _scratch(root: nn.Module, name: str) -> Iterator[_Scratch]:
    """Gives every module below the root scratch parameters and copies of its buffers."""
    prefix = f"{name}." if name else ""
    scratch, made = _Scratch(), dict[int, nn.Parameter]()
    hidden = ingredients(root)
    modules = [(f"{prefix}{n}." if n else prefix, m) for n, m in root.named_modules()]
    wholes = {(id(module), key): value for _, module, key, value in computed(root)}
    saved = [
        (m, type(m), dict(m._parameters), dict(m._buffers), dict(m.__dict__)) for _, m in modules
    ]
    try:
        for at, module in modules:
            for key, parameter in list(module._parameters.items()):
                if parameter is None or (id(module), key) in hidden:
                    continue
                fresh = made.get(id(parameter))
                if fresh is None:
                    fresh = made[id(parameter)] = _blank(parameter)
                    if parameter.dtype.is_floating_point or parameter.dtype.is_complex:
                        scratch.slots.append((at + key, module, key))
                        scratch.dtypes[at + key] = parameter.dtype
                module._parameters[key] = fresh
            for key, buffer in list(module._buffers.items()):
                module._buffers[key] = None if buffer is None else _copy_of(buffer)
            _uncompute(module, at, wholes, scratch)
        yield scratch
    finally:
        for module, cls, parameters, buffers, attributes in saved:
            module.__class__ = cls
            module.__dict__.clear()
            module.__dict__.update(attributes)
            module._parameters.clear()
            module._parameters.update(parameters)
            module._buffers.clear()
            module._buffers.update(buffers)


def _uncompute(
    module: nn.Module, at: str, wholes: Mapping[tuple[int, str], Tensor], scratch: _Scratch
) -> None:
    """Makes a plain parameter of every computed tensor of a module."""
    keys = [key for owner, key in wholes if owner == id(module)]
    if "parametrizations" in module._modules and keys:
        # A parametrized module is of a class of its own, which has properties for its tensors.
        module.__class__ = type(module).__mro__[1]
    for key in keys:
        whole = wholes[id(module), key]
        module.__dict__.pop(key, None)
        module._parameters[key] = _blank(whole)
        scratch.slots.append((at + key, module, key))
        scratch.dtypes[at + key] = whole.dtype


def _blank(parameter: Tensor) -> nn.Parameter:
    """A parameter of NaN; narrow types are filled in float32 and rounded once at the end."""
    narrow = parameter.dtype in (torch.float16, torch.bfloat16)
    dtype = torch.float32 if narrow else parameter.dtype
    if not (dtype.is_floating_point or dtype.is_complex):
        return nn.Parameter(torch.zeros(parameter.shape, dtype=dtype), requires_grad=False)
    blank = torch.full(parameter.shape, torch.nan, dtype=dtype)
    return nn.Parameter(blank, requires_grad=parameter.requires_grad)


def _copy_of(buffer: Tensor) -> Tensor:
    return torch.zeros_like(buffer, device="cpu") if buffer.is_meta else buffer.detach().clone()


def _post_order(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    seen: set[int] = set()

    def visit(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
        if id(module) in seen:
            return
        seen.add(id(module))
        for key, child in module.named_children():
            yield from visit(child, f"{name}.{key}" if name else key)
        yield name, module

    yield from visit(module, name)


class _Paired(TorchDispatchMode):
    """Random operations that fill a parameter in place take the parameter's generator."""

    def __init__(self, scratch: _Scratch, generator_for: GeneratorFor) -> None:
        super().__init__()
        self.names, self.generator_for = scratch.by_storage(), generator_for
        self.generators: dict[str, torch.Generator] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = dict(kwargs or {})
        if func in RANDOM and kwargs.get("generator") is None:
            name = self.names.get(args[0].untyped_storage().data_ptr())
            if name is not None:
                if name not in self.generators:
                    self.generators[name] = self.generator_for(name)
                kwargs["generator"] = self.generators[name]
        return func(*args, **kwargs)
