"""Which initializer fills which parameter, and filling a whole model by it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from initstudy.initializers.base import Initializer
from initstudy.initializers.distributions import Constant
from initstudy.initializers.fans import CONVENTIONS, Fans, UnknownFansError, compute_fans
from initstudy.initializers.kinds import KINDS, ROLES, WEIGHTED, kind, role
from initstudy.initializers.parametrized import is_parametrization, originals, parametrized

Fill = Initializer | Callable[..., Tensor]


class UnfilledParameterError(ValueError):
    """A policy says nothing of a parameter."""


@dataclass(frozen=True)
class Rule:
    """An initializer and the parameters it is for; a condition that is None holds for all.

    Args:
        initializer: Fills the parameter.
        kind: Kinds of layer, one or several of those in `KINDS`.
        role: "weight" (a normalization's scale too), "recurrent" or "bias", or several.
        name: A pattern for the parameter's name, such as "fc*.weight", or several.
        convention: How the fans are counted; see `compute_fans`.

    Raises:
        ValueError: For a kind, role or convention that there is not.
    """

    initializer: Fill
    kind: str | Sequence[str] | None = None
    role: str | Sequence[str] | None = None
    name: str | Sequence[str] | None = None
    convention: str = "layer"

    def __post_init__(self) -> None:
        for key in ("kind", "role", "name"):
            value = getattr(self, key)
            several = (value,) if isinstance(value, str) else value
            object.__setattr__(self, key, None if several is None else tuple(several))
        for key, known in (("kind", KINDS), ("role", ROLES)):
            unknown = [value for value in getattr(self, key) or () if value not in known]
            if unknown:
                raise ValueError(f"{key}={unknown[0]}: choose one of {', '.join(known)}")
        if self.convention not in CONVENTIONS:
            raise ValueError(
                f"convention={self.convention}: choose one of {', '.join(CONVENTIONS)}"
            )

    def matches(self, module: nn.Module, parameter: str, name: str) -> bool:
        """Whether the rule is for a parameter, called `parameter` in its module."""
        return (
            (self.kind is None or kind(module) in self.kind)
            and (self.role is None or role(module, parameter) in self.role)
            and (self.name is None or any(fnmatchcase(name, pattern) for pattern in self.name))
        )


@dataclass(frozen=True)
class Policy:
    """Rules for a whole model; the first one that matches a parameter fills it.

    Raises:
        TypeError: Something in `rules` is not a Rule.
    """

    rules: Sequence[Rule]

    def __post_init__(self) -> None:
        if not isinstance(self.rules, list | tuple):
            raise TypeError(f"init.rules={self.rules}: must be a list of Rules")
        object.__setattr__(self, "rules", tuple(self.rules))
        for rule in self.rules:
            if not isinstance(rule, Rule):
                raise TypeError(f"rules: {rule!r} is no Rule")

    def rule(self, module: nn.Module, parameter: str, name: str) -> Rule:
        """The rule for one parameter, called `parameter` in its module.

        Raises:
            UnfilledParameterError: No rule matches.
        """
        for rule in self.rules:
            if rule.matches(module, parameter, name):
                return rule
        raise UnfilledParameterError(
            f"init leaves {name} ({role(module, parameter) or 'a parameter'} of a "
            f"{type(module).__name__}) unfilled; add a rule that matches it"
        )


class ModelPolicy(ABC):
    """A policy whose rules depend on the model: on its depth, or on which layer is its last."""

    @abstractmethod
    def of(self, model: nn.Module) -> Policy:
        """The rules for one model.

        Raises:
            ValueError: The model has not what the policy is about.
        """


def as_policy(
    initializer: Fill | Policy | ModelPolicy, bias: float = 0.0, rest: Fill | None = None
) -> Policy | ModelPolicy:
    """A policy as it is; an initializer as the policy that fills the weights with it.

    The weights of layers of its kinds come from the initializer, those of other kinds from `rest`;
    biases are constant; normalizations start with scale one and offset zero, PReLU's slopes at
    torch's 0.25.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(initializer, Policy | ModelPolicy):
        return initializer
    if not callable(initializer):
        raise TypeError(f"{initializer!r} is neither a Policy nor callable as an initializer")
    kinds = getattr(initializer, "kinds", WEIGHTED)
    others = tuple(name for name in WEIGHTED if name not in kinds)
    weights = [Rule(initializer, kind=kinds, role=("weight", "recurrent"))]
    if rest is not None and others:
        weights.append(Rule(rest, kind=others, role=("weight", "recurrent")))
    return Policy((*weights, *biases_and_norms(bias)))


def biases_and_norms(bias: float = 0.0) -> tuple[Rule, ...]:
    """Constant biases, normalizations of scale one and offset zero, PReLU's slopes at 0.25."""
    return (
        Rule(Constant(bias), kind=WEIGHTED, role="bias"),
        Rule(Constant(1.0), kind="norm", role="weight"),
        Rule(Constant(0.0), kind="norm", role="bias"),
        Rule(Constant(0.25), kind="prelu"),
    )


def draw(model: nn.Module, policy: Policy | ModelPolicy, seed: int) -> dict[str, Tensor]:
    """New values for every parameter of a model, on the CPU.

    A tensor that is parametrized (`torch.nn.utils.parametrize`) is drawn as a whole, and what it is
    made of is found by the parametrization's right inverse.

    Each is drawn by a generator of its own, seeded by (seed, parameter name): what else is in the
    model does not matter, and two policies that differ in a standard deviation alone draw the same
    numbers up to that factor. A parameter that several layers share is drawn once. An embedding's
    padding row is zero.

    Raises:
        UnfilledParameterError: The policy says nothing of a parameter.
        ValueError: An initializer cannot fill a parameter, or returned another shape; or a
            parametrization has no right inverse.
    """
    rules = policy.of(model) if isinstance(policy, ModelPolicy) else policy
    values = {
        name: _fill(rules.rule(module, key, name), module, key, name, parameter, seed)
        for name, module, key, parameter in named_parameters(model)
    }
    for name, module, key, parameter in parametrized(model):
        value = _fill(rules.rule(module, key, name), module, key, name, parameter, seed)
        values |= originals(module, key, name, value)
    return values


def named_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, nn.Parameter]]:
    """Every parameter: its name, the module that owns it, its name there, and itself.

    Those that a parametrization is made of are not among them; see `parametrized`.
    """
    for name, parameter in model.named_parameters():
        owner, _, key = name.rpartition(".")
        module = model.get_submodule(owner)
        if not is_parametrization(module):
            yield name, module, key, parameter


def generator_for(seed: int, name: str) -> torch.Generator:
    """The generator of one parameter's draws: seeded by (seed, name), on the CPU."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def _fill(
    rule: Rule, module: nn.Module, key: str, name: str, parameter: Tensor, seed: int
) -> Tensor:
    try:
        value: Any = rule.initializer(
            tuple(parameter.shape),
            fans_or_one(module, key, rule.convention),
            generator=generator_for(seed, name),
            dtype=parameter.dtype,
        )
    except ValueError as error:
        raise ValueError(f"init cannot fill {name}: {error}") from error
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"init fills {name} with {got}; it needs a tensor of shape {tuple(parameter.shape)}"
        )
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.padding_idx is not None:
        value[module.padding_idx] = 0.0
    return value.detach()


def fans_or_one(module: nn.Module, key: str, convention: str) -> Fans:
    """A parameter's fans, or fans of one where nobody knows them.

    A user's rule by name may fill a parameter of a layer whose kind is not known.
    """
    try:
        return compute_fans(module, key, convention)
    except UnknownFansError:
        return Fans(1, 1)
