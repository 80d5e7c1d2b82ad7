"""Tensors that are computed from parameters, such as the weight of a layer with weight norm.

There are two mechanisms: `torch.nn.utils.parametrize`, and the forward hooks of the older functions
`torch.nn.utils.weight_norm` and `torch.nn.utils.spectral_norm`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

ORIGINAL = re.compile(r"original\d*$")
# Power iterations for the singular vectors of a spectral norm; they end when σ no longer changes.
ITERATIONS = 1000

Computed = tuple[str, nn.Module, str, Tensor]


@dataclass(frozen=True)
class State:
    """New values of parameters and buffers, by their names in the model.

    Attributes:
        parameters: The values of parameters.
        buffers: The values of buffers.

    Example:
        >>> from initstudy.initializers import State
        >>> State()
        State(parameters={}, buffers={})
    """

    parameters: dict[str, Tensor] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)


def computed(model: nn.Module) -> Iterator[Computed]:
    """Every computed tensor: its name, the module that has it, its name there, and its value.

    Args:
        model: Any module.
    """
    for owner, module in model.named_modules():
        keys = [*getattr(module, "parametrizations", {}), *(h.name for h in _hooks(module))]
        for key in keys:
            with torch.no_grad():
                yield f"{owner}.{key}".removeprefix("."), module, key, getattr(module, key)


def ingredients(model: nn.Module) -> set[tuple[int, str]]:
    """The parameters from which tensors are computed, as (id of the owner, name in the owner).

    Args:
        model: Any module.
    """
    found = set()
    for module in model.modules():
        if isinstance(module, ParametrizationList):
            found |= {(id(part), key) for part in module.modules() for key in part._parameters}
        for hook in _hooks(module):
            suffixes = ("_g", "_v") if isinstance(hook, WeightNorm) else ("_orig",)
            found |= {(id(module), hook.name + suffix) for suffix in suffixes}
    return found


@torch.no_grad()
def state_for(module: nn.Module, key: str, name: str, value: Tensor, seed: int) -> State:
    """The parameters and buffers that make a computed tensor take a value.

    A spectral norm determines the scale of its weight: the parameter that it divides takes the
    value, and the weight is that value over its largest singular value.

    Args:
        module: The module that has the tensor.
        key: The tensor's name in the module.
        name: The tensor's name in the model.
        value: The value to take, on the CPU.
        seed: The seed of the vectors from which the power iteration of a spectral norm starts.

    Raises:
        ValueError: A parametrization has no right inverse, refuses the value, or makes another
            value of it.
    """
    prefix = name[: len(name) - len(key)]
    hook = next((hook for hook in _hooks(module) if hook.name == key), None)
    if isinstance(hook, WeightNorm):
        norm = torch.norm_except_dim(value, 2, hook.dim)
        return State({f"{prefix}{key}_g": norm, f"{prefix}{key}_v": value})
    if hook is not None:
        u, v = _singular_vectors(value, hook.dim, seed)
        return State({f"{prefix}{key}_orig": value}, {f"{prefix}{key}_u": u, f"{prefix}{key}_v": v})
    kept = module.parametrizations[key]  # type: ignore[index]
    assert isinstance(kept, ParametrizationList)
    prefix = f"{prefix}parametrizations.{key}."
    if len(kept) == 1 and isinstance(kept[0], parametrizations._SpectralNorm):
        return _spectral(kept[0], prefix, value, seed)
    return _inverted(kept, prefix, name, value)


def _inverted(kept: ParametrizationList, prefix: str, name: str, value: Tensor) -> State:
    kinds = ", ".join(type(part).__name__.lstrip("_") for part in kept)
    trial = copy.deepcopy(kept)
    try:
        trial.right_inverse(value.to(next(trial.parameters()).device))
        given = trial().to(value)
    except (NotImplementedError, RuntimeError, ValueError) as error:
        reason = f"parametrized by {kinds}: {error}".splitlines()[0]
        raise ValueError(f"init cannot fill {name}, which is {reason}") from error
    if not torch.allclose(given, value, rtol=1e-4, atol=1e-5 * float(value.abs().max() or 1)):
        raise ValueError(
            f"init cannot fill {name}, which is parametrized by {kinds}: it does not give back the "
            "value that it is set to"
        )
    originals = {n: p.detach() for n, p in trial.named_parameters() if ORIGINAL.match(n)}
    return State(
        {prefix + n: p for n, p in originals.items()},
        {prefix + n: b for n, b in trial.named_buffers()},
    )


def _spectral(part: nn.Module, prefix: str, value: Tensor, seed: int) -> State:
    parameters = {f"{prefix}original": value}
    if value.dim() < 2:
        return State(parameters)
    u, v = _singular_vectors(value, int(part.dim), seed)  # type: ignore[arg-type]
    return State(parameters, {f"{prefix}0._u": u, f"{prefix}0._v": v})


def _singular_vectors(value: Tensor, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """The first left and right singular vectors of a weight, by power iteration."""
    matrix = (
        value.movedim(dim, 0)
        .flatten(1)
        .to(torch.complex128 if value.is_complex() else torch.float64)
    )
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(matrix.shape[1], generator=generator, dtype=matrix.dtype)
    before = 0.0
    u = matrix @ v
    for _ in range(ITERATIONS):
        u = nn.functional.normalize(matrix @ v, dim=0)
        v = matrix.mH @ u
        now = float(v.norm())
        v = nn.functional.normalize(v, dim=0)
        if abs(now - before) <= 1e-9 * now:
            break
        before = now
    return u.to(value.dtype), v.to(value.dtype)


def refresh(module: nn.Module, key: str) -> None:
    """Recomputes the tensor that a forward hook of the older kind keeps on its module.

    Args:
        module: The module that has the tensor.
        key: The tensor's name in the module.
    """
    for hook in _hooks(module):
        if hook.name == key:
            weight = (
                hook.compute_weight(module)
                if isinstance(hook, WeightNorm)
                else hook.compute_weight(module, do_power_iteration=False)
            )
            setattr(module, key, weight if isinstance(hook, WeightNorm) else weight.data)


def _hooks(module: nn.Module) -> list[WeightNorm | SpectralNorm]:
    hooks = module._forward_pre_hooks.values()
    return [hook for hook in hooks if isinstance(hook, WeightNorm | SpectralNorm)]
