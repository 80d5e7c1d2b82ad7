"""Policies: which initializer fills which parameter of a model."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeAlias

from torch import Tensor, nn

from initstudy.initializers.base import Initializer, Shape, Type
from initstudy.initializers.checks import require_choice
from initstudy.initializers.distributions import Constant
from initstudy.initializers.fans import CONVENTIONS, Fans
from initstudy.initializers.generators import Generator
from initstudy.initializers.kinds import KINDS, ROLES, WEIGHTED, kind, role
from initstudy.initializers.laws import Law
from initstudy.initializers.slots import Slot

UNKNOWN = ("error", "keep", "warn")


class UnfilledParameterError(ValueError):
    """No rule of a policy matches a parameter."""


@dataclass(frozen=True)
class Keep:
    """In the place of an initializer: the parameter stays as it is.

    Example:
        >>> from initstudy.initializers import Keep, Rule
        >>> Rule(Keep(), name="*.lora_B").initializer
        Keep()
    """


@dataclass(frozen=True)
class Reset(Initializer):
    """In the place of an initializer: what the parameter's module does in `reset_parameters`.

    The method runs on the CPU under the parameter's own generator. What it does not fill stays as
    it is.

    Args:
        like: An initializer of the distribution that the method is known to sample, for audits.

    Example:
        >>> from initstudy.initializers import Reset, Rule
        >>> Rule(Reset(), module="MultiheadAttention").initializer
        Reset(like=None)
    """

    like: Initializer | None = None

    def _draw(self, shape: Shape, fans: Fans, generator: Generator, dtype: Type) -> Tensor:
        raise ValueError("Reset is for the parameters of a model, not for single tensors")

    def _law(self, shape: Shape, fans: Fans) -> Law:
        if self.like is not None:
            return self.like.law(shape, fans)
        return Law("what its module does", math.nan, math.nan, tested=False)


Fill: TypeAlias = Initializer | Callable[..., Tensor]
Action: TypeAlias = Fill | Keep
Classes: TypeAlias = "type[nn.Module] | str | Sequence[type[nn.Module] | str]"


@dataclass(frozen=True)
class Rule:
    """An initializer and the parameters that it is for. A condition that is None always holds.

    Args:
        initializer: What fills the parameter: an initializer, `Keep()`, `Reset()`, or a function of
            `(shape, fans, *, generator, dtype)` that returns a new tensor.
        kind: The kind of the layer, one or several of the keys of `KINDS`.
        role: The parameter's role in the layer: "weight" (also a normalization's scale),
            "recurrent" or "bias", or several of these.
        name: A pattern for the parameter's name, such as "fc*.weight", or several patterns.
        convention: How the fans are counted; see `compute_fans`.
        module: The class of the module that owns the parameter, or the class's name such as
            "LlamaRMSNorm" or "transformers.pytorch_utils.Conv1D", or several of these. Subclasses
            are included.
        where: A function of the parameter's `Slot` that says whether the rule is for it.
        optional: Whether the rule may match nothing in a model without a warning.

    Raises:
        ValueError: A kind, role or convention is not known.
        TypeError: The initializer is not one of the above.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import Constant, Normal, Policy, Rule, initialize
        >>> rules = [
        ...     Rule(Normal(0.01), name="2.weight"),
        ...     Rule(Normal(0.1), module=nn.Linear, role="weight"),
        ...     Rule(Constant(0.0), where=lambda slot: slot.tensor.ndim == 1),
        ... ]
        >>> model = nn.Sequential(nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 9))
        >>> model = initialize(model, Policy(rules), seed=0)
        >>> bool(model[2].weight.std() < model[0].weight.std()), model[0].bias.any().item()
        (True, False)
    """

    initializer: Action
    kind: str | Sequence[str] | None = None
    role: str | Sequence[str] | None = None
    name: str | Sequence[str] | None = None
    convention: str = "layer"
    module: Classes | None = None
    where: Callable[[Slot], bool] | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        require_action(self.initializer)
        for key in ("kind", "role", "name", "module"):
            value = getattr(self, key)
            several = (value,) if isinstance(value, str | type) else value
            object.__setattr__(self, key, None if several is None else tuple(several))
        for key, known in (("kind", KINDS), ("role", ROLES)):
            unknown = [value for value in getattr(self, key) or () if value not in known]
            if unknown:
                raise ValueError(f"{key}={unknown[0]}: choose one of {', '.join(known)}")
        if self.convention not in CONVENTIONS:
            raise ValueError(
                f"convention={self.convention}: choose one of {', '.join(CONVENTIONS)}"
            )

    def matches(
        self, module: nn.Module, parameter: str, name: str, aliases: Sequence[str] = ()
    ) -> bool:
        """Whether the rule is for a parameter.

        Args:
            module: The module that owns the parameter.
            parameter: The parameter's name in the module.
            name: The parameter's name in the model.
            aliases: Other names of a shared parameter in the model.
        """
        return (
            (self.kind is None or kind(module) in self.kind)
            and (self.role is None or role(module, parameter) in self.role)
            and (self.name is None or _matches_name(self.name, (name, *aliases)))
            and (self.module is None or _is_one_of(module, self.module))
            and (
                self.where is None
                or bool(self.where(Slot(name, module, parameter, getattr(module, parameter))))
            )
        )

    @property
    def is_specific(self) -> bool:
        """Whether the rule is about something in a certain model, so that it ought to match."""
        return not self.optional and any((self.name, self.module, self.where))


@dataclass(frozen=True)
class Policy:
    """Rules for a whole model; the first rule that matches a parameter fills it.

    `policy + rules` adds rules for what the policy leaves unfilled; `rules + policy` adds rules
    that take precedence.

    Args:
        rules: The rules, in order.
        unknown: What happens to a parameter that no rule matches: "error", "keep" or "warn", which
            keeps it as well.

    Raises:
        TypeError: Something in `rules` is not a Rule.
        ValueError: `unknown` is something else.

    Example:
        >>> from initstudy.initializers import Constant, Keep, Rule, keras
        >>> extended = [Rule(Constant(0.5), name="head.bias"), *keras().rules]
        >>> ([Rule(Constant(0.5), name="head.bias")] + keras()).rules == tuple(extended)
        True
        >>> (keras() + Rule(Keep(), name="class_token")).rules[-1].name
        ('class_token',)
    """

    rules: Sequence[Rule]
    unknown: str = "error"

    def __post_init__(self) -> None:
        if not isinstance(self.rules, list | tuple):
            raise TypeError(f"init.rules={self.rules}: must be a list of Rules")
        require_choice("unknown", self.unknown, UNKNOWN)
        object.__setattr__(self, "rules", tuple(self.rules))
        for rule in self.rules:
            if not isinstance(rule, Rule):
                raise TypeError(f"rules: {rule!r} is not a Rule")

    def rule(
        self, module: nn.Module, parameter: str, name: str, aliases: Sequence[str] = ()
    ) -> Rule:
        """The rule that fills a parameter.

        Args:
            module: The module that owns the parameter.
            parameter: The parameter's name in the module.
            name: The parameter's name in the model.
            aliases: Other names of a shared parameter in the model.

        Raises:
            UnfilledParameterError: No rule matches.
        """
        for rule in self.rules:
            if rule.matches(module, parameter, name, aliases):
                return rule
        raise UnfilledParameterError(
            f"init leaves {name} ({role(module, parameter) or 'a parameter'} of a "
            f'{type(module).__name__}) unfilled; add a rule that matches it, or give unknown="keep"'
        )

    def __add__(self, rules: Rule | Sequence[Rule]) -> Policy:
        return Policy((*self.rules, *_several(rules)), self.unknown)

    def __radd__(self, rules: Rule | Sequence[Rule]) -> Policy:
        return Policy((*_several(rules), *self.rules), self.unknown)


class ModelPolicy(ABC):
    """A policy whose rules depend on the model, for example on its depth or on its last layer.

    `policy + rules` and `rules + policy` extend it as they do a `Policy`.

    Example:
        >>> from initstudy.initializers import Constant, Rule, torch_default
        >>> type([Rule(Constant(0.0), name="*.bias")] + torch_default()).__name__
        'Extended'
    """

    @abstractmethod
    def of(self, model: nn.Module, batch: object = None) -> Policy:
        """The rules for one model.

        Args:
            model: The model.
            batch: Inputs of the model: a tensor, a tuple of positional arguments or a dict of
                keyword arguments. They are used to follow the model's data flow if it cannot be
                read from its code alone.

        Raises:
            ValueError: The policy is not for such a model.
        """

    def __add__(self, rules: Rule | Sequence[Rule]) -> ModelPolicy:
        return Extended(self, after=tuple(_several(rules)))

    def __radd__(self, rules: Rule | Sequence[Rule]) -> ModelPolicy:
        return Extended(self, before=tuple(_several(rules)))


@dataclass(frozen=True)
class Extended(ModelPolicy):
    """A policy that depends on the model, with further rules.

    Args:
        policy: The policy.
        before: Rules that take precedence over its own.
        after: Rules for what it leaves unfilled.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import MuP, Constant, Rule, initialize
        >>> with_bias = Extended(MuP(), before=(Rule(Constant(0.5), role="bias"),))
        >>> net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> initialize(net, with_bias, seed=0)[0].bias.unique().tolist()
        [0.5]
    """

    policy: ModelPolicy
    before: tuple[Rule, ...] = ()
    after: tuple[Rule, ...] = ()

    def of(self, model: nn.Module, batch: object = None) -> Policy:
        """The rules for one model.

        Args:
            model: The model.
            batch: Inputs of the model; see `ModelPolicy.of`.
        """
        own = self.policy.of(model, batch)
        return Policy((*self.before, *own.rules, *self.after), own.unknown)


def as_policy(
    initializer: Fill | Policy | ModelPolicy, bias: float = 0.0, rest: Fill | None = None
) -> Policy | ModelPolicy:
    """The policy that fills a model's weights with an initializer.

    The weights of layers of its kinds come from the initializer and those of other kinds from
    `rest`. Biases are constant. Normalizations start with scale one and offset zero, and PReLU's
    slopes at torch's 0.25.

    Args:
        initializer: The initializer. A policy is returned as it is.
        bias: The value of the biases.
        rest: The initializer of the weights that `initializer` is not for.

    Raises:
        TypeError: `initializer` is neither.

    Example:
        >>> from initstudy.initializers import KaimingNormal, as_policy
        >>> as_policy(KaimingNormal(), bias=0.01).rules[1].initializer
        Constant(value=0.01)
    """
    if isinstance(initializer, Policy | ModelPolicy):
        return initializer
    require_action(initializer, keep=False)
    kinds = getattr(initializer, "kinds", WEIGHTED)
    others = tuple(name for name in WEIGHTED if name not in kinds)
    weights = [Rule(initializer, kind=kinds, role=("weight", "recurrent"))]
    if rest is not None and others:
        weights.append(Rule(rest, kind=others, role=("weight", "recurrent")))
    return Policy((*weights, *biases_and_norms(bias)))


def biases_and_norms(bias: float = 0.0) -> tuple[Rule, ...]:
    """Rules for constant biases, norms of scale one and offset zero, and PReLU slopes of 0.25.

    Args:
        bias: The value of the biases.
    """
    return (
        Rule(Constant(bias), kind=WEIGHTED, role="bias"),
        Rule(Constant(1.0), kind="norm", role="weight"),
        Rule(Constant(0.0), kind="norm", role="bias"),
        Rule(Constant(0.25), kind="prelu"),
    )


def require_action(initializer: object, keep: bool = True) -> None:
    """Raises TypeError unless something can stand in a rule.

    Args:
        initializer: An initializer, a function that can stand for one, or `Keep()`.
        keep: Whether `Keep()` is allowed.
    """
    if isinstance(initializer, Initializer) or (keep and isinstance(initializer, Keep)):
        return
    if isinstance(initializer, type):
        name = initializer.__name__
        raise TypeError(f"init: {name} is a class; give an instance, such as {name}()")
    if not callable(initializer):
        raise TypeError(f"{initializer!r} is neither a Policy nor callable as an initializer")
    try:
        inspect.signature(initializer).bind((1,), None, generator=None, dtype=None)
    except ValueError:
        # Some built-in functions have no signature.
        return
    except TypeError as error:
        name = getattr(initializer, "__name__", repr(initializer))
        raise TypeError(
            f"init: {name} must take (shape, fans, *, generator, dtype) and return a new tensor; "
            f"it does not ({error})"
        ) from error


def _several(rules: Rule | Sequence[Rule]) -> Sequence[Rule]:
    return (rules,) if isinstance(rules, Rule) else rules


def _matches_name(patterns: Sequence[str] | str, names: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _is_one_of(module: nn.Module, classes: object) -> bool:
    assert isinstance(classes, tuple)
    names = {base.__name__ for base in type(module).__mro__}
    names |= {f"{base.__module__}.{base.__name__}" for base in type(module).__mro__}
    return any(
        wanted in names if isinstance(wanted, str) else isinstance(module, wanted)
        for wanted in classes
    )
