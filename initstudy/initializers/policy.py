"""Which initializer fills which parameter, and filling a whole model by it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from initstudy.initializers.fans import Fans, compute_fans, kind
from initstudy.initializers.schemes import Constant, Initializer

KINDS = ("linear", "conv", "conv_transpose", "embedding", "norm")
WEIGHTED = ("linear", "conv", "conv_transpose", "embedding")
ROLES = ("weight", "bias")
Fill = Initializer | Callable[..., Tensor]


class UnfilledParameterError(ValueError):
    """A policy says nothing of a parameter."""


@dataclass(frozen=True)
class Rule:
    """An initializer and the parameters it is for; a condition that is None holds for all.

    Args:
        initializer: Fills the parameter.
        kind: Kinds of layer: linear, conv, conv_transpose, embedding, norm.
        role: "weight" (a normalization's scale too) or "bias".
        name: A pattern for the parameter's name, such as "fc*.weight".
        convention: How the fans are counted; see `compute_fans`.
    """

    initializer: Fill
    kind: str | tuple[str, ...] | None = None
    role: str | None = None
    name: str | None = None
    convention: str = "layer"

    def __post_init__(self) -> None:
        for name in (self.kind,) if isinstance(self.kind, str) else self.kind or ():
            if name not in KINDS:
                raise ValueError(f"kind={name}: choose one of {', '.join(KINDS)}")
        if self.role is not None and self.role not in ROLES:
            raise ValueError(f"role={self.role}: choose one of {', '.join(ROLES)}")

    def matches(self, module: nn.Module, role: str, name: str) -> bool:
        """Whether the rule is for this parameter."""
        kinds = (self.kind,) if isinstance(self.kind, str) else self.kind
        return (
            (kinds is None or kind(module) in kinds)
            and (self.role is None or self.role == role)
            and (self.name is None or fnmatchcase(name, self.name))
        )


@dataclass(frozen=True)
class Policy:
    """Rules for a whole model; the first one that matches a parameter fills it."""

    rules: tuple[Rule, ...]

    def rule(self, module: nn.Module, role: str, name: str) -> Rule:
        """The rule for one parameter.

        Raises:
            UnfilledParameterError: No rule matches.
        """
        for rule in self.rules:
            if rule.matches(module, role, name):
                return rule
        raise UnfilledParameterError(
            f"init leaves {name} ({role} of a {type(module).__name__}) unfilled; "
            "add a rule that matches it"
        )


def as_policy(initializer: Fill | Policy, bias: float = 0.0) -> Policy:
    """A policy as it is; an initializer as the policy that fills the weights with it.

    The weights of linear, convolution and embedding layers come from the initializer, their biases
    are constant; normalizations start with scale one and offset zero.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(initializer, Policy):
        return initializer
    if not callable(initializer):
        raise TypeError(f"{initializer!r} is neither a Policy nor callable as an initializer")
    return Policy(
        (
            Rule(initializer, kind=WEIGHTED, role="weight"),
            Rule(Constant(bias), kind=WEIGHTED, role="bias"),
            Rule(Constant(1.0), kind="norm", role="weight"),
            Rule(Constant(0.0), kind="norm", role="bias"),
        )
    )


def draw(model: nn.Module, policy: Policy, seed: int) -> dict[str, Tensor]:
    """New values for every parameter of a model, on the CPU.

    Each is drawn by a generator of its own, seeded by (seed, parameter name): what else is in the
    model does not matter, and two policies that differ in a standard deviation alone draw the same
    numbers up to that factor. A parameter that several layers share is drawn once. An embedding's
    padding row is zero.

    Raises:
        UnfilledParameterError: The policy says nothing of a parameter.
        ValueError: An initializer returned another shape.
    """
    return {
        name: _fill(policy.rule(module, role, name), module, role, name, parameter, seed)
        for name, module, role, parameter in _parameters(model)
    }


@torch.no_grad()
def initialize(model: nn.Module, policy: Policy, *, seed: int) -> nn.Module:
    """Fills a model in place by `draw`; devices and types stay, buffers are not touched."""
    for name, value in draw(model, policy, seed).items():
        model.get_parameter(name).copy_(value)
    return model


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, nn.Parameter]]:
    for name, parameter in model.named_parameters():
        owner, _, role = name.rpartition(".")
        yield name, model.get_submodule(owner), role, parameter


def _fill(
    rule: Rule, module: nn.Module, role: str, name: str, parameter: Tensor, seed: int
) -> Tensor:
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    fans = _fans(module, role, rule.convention)
    value: Any = rule.initializer(
        tuple(parameter.shape), fans, generator=generator, dtype=parameter.dtype
    )
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"init fills {name} with {got}; it needs a tensor of shape {tuple(parameter.shape)}"
        )
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        value[module.padding_idx] = 0.0
    return value.detach()


def _fans(module: nn.Module, role: str, convention: str) -> Fans:
    # A user's rule by name may fill a parameter of a layer whose fans nobody knows.
    try:
        return compute_fans(module, role, convention)
    except ValueError:
        return Fans(1, 1)
