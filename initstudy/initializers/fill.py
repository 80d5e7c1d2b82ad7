"""Filling a model: every parameter's values, sampled one after the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor, nn

from initstudy.initializers.base import Initializer
from initstudy.initializers.checks import require_choice, whole
from initstudy.initializers.fans import fans_of
from initstudy.initializers.generators import generator_for
from initstudy.initializers.parametrized import State, ingredients, state_for
from initstudy.initializers.policy import (
    UNKNOWN,
    Action,
    Keep,
    ModelPolicy,
    Policy,
    Reset,
    Rule,
    UnfilledParameterError,
    _matches_name,
)
from initstudy.initializers.reset import reset_roots, reset_values
from initstudy.initializers.slots import Slot, aliases, named_tensors, plain_name

Selection: TypeAlias = "str | Sequence[str] | Callable[[Slot], bool]"
FROZEN = ("keep", "fill")


class UnusedRuleWarning(UserWarning):
    """A rule about a name, a class or a predicate matches no parameter of the model."""


class KeptParameterWarning(UserWarning):
    """Parameters that no rule matches have been kept as they were."""


@dataclass(frozen=True)
class Assignment:
    """Which rule fills which tensor of a model, and which tensors stay as they are.

    Attributes:
        rules: The rule of every tensor that is filled, by the tensor's name.
        kept: Why a tensor stays as it is, by its name.
        unused: The rules of the policy that fill nothing.
        unknown: What happens to parameters that no rule matches.
        slots: Every tensor of the model, by its name.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import assign, keras
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        >>> _ = model[0].requires_grad_(False)
        >>> assign(model, keras()).kept
        {'0.weight': 'frozen', '0.bias': 'frozen'}
    """

    rules: dict[str, Rule]
    kept: dict[str, str]
    unused: tuple[Rule, ...]
    unknown: str
    slots: dict[str, Slot] = field(default_factory=dict, repr=False)


def assign(
    model: nn.Module,
    policy: Policy | ModelPolicy,
    *,
    batch: object = None,
    unknown: str | None = None,
    only: Selection | None = None,
    skip: Selection | None = None,
    frozen: str = "keep",
) -> Assignment:
    """Finds the rule for every tensor of a model, without sampling anything.

    Args:
        model: Any module.
        policy: The policy.
        batch: Inputs of the model, for policies that follow its data flow; see `ModelPolicy.of`.
        unknown: What happens to a parameter that no rule matches: "error", "keep", or "warn",
            which keeps it and warns. None leaves that to the policy, which is an error for all
            policies but `torch_default`.
        only: The parameters to fill: patterns for their names, or a function of a `Slot`. All
            others stay as they are.
        skip: The parameters to leave as they are, in the same form.
        frozen: What happens to parameters that do not require a gradient: "keep" or "fill".

    Raises:
        UnfilledParameterError: No rule matches a parameter.
        ValueError: The model has no parameters, the policy is not for it, nothing is selected or
            filled, or an argument is not one of its choices.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import assign, keras
        >>> assignment = assign(nn.Linear(4, 2), keras())
        >>> {name: rule.initializer for name, rule in assignment.rules.items()}
        {'weight': XavierUniform(gain=1.0), 'bias': Constant(value=0.0)}
    """
    if unknown is not None:
        require_choice("unknown", unknown, UNKNOWN)
    require_choice("frozen", frozen, FROZEN)
    slots = {slot.name: slot for slot in named_tensors(model)}
    if not slots:
        raise ValueError(f"init: the {type(model).__name__} has no parameters to fill")
    rules = policy.of(model, batch) if isinstance(policy, ModelPolicy) else policy
    names = aliases(model)
    chosen, kept = dict[str, Rule](), dict[str, str]()
    for name, slot in slots.items():
        also = names.get(name, (name,))
        reason = _left_out(slot, also, only, skip, frozen)
        if reason is None:
            try:
                rule = rules.rule(slot.module, slot.key, name, also)
            except UnfilledParameterError:
                if (unknown or rules.unknown) == "error":
                    raise
                reason = "no rule"
            else:
                chosen[name] = rule
                reason = "as it is" if isinstance(rule.initializer, Keep) else None
        if reason is not None:
            kept[name] = reason
    _require_some(model, chosen, kept, only, skip)
    used = {id(rule) for rule in chosen.values()}
    unused = tuple(rule for rule in rules.rules if id(rule) not in used)
    for name in kept:
        chosen.pop(name, None)
    return Assignment(chosen, kept, unused, unknown or rules.unknown, slots)


def draw(
    model: nn.Module,
    policy: Policy | ModelPolicy,
    seed: int,
    *,
    batch: object = None,
    unknown: str | None = None,
) -> dict[str, Tensor]:
    """Samples new values for every parameter of a model, on the CPU. The model does not change.

    Every parameter has a generator of its own, seeded by (seed, parameter name). Its values do not
    depend on what else is in the model, and two policies that differ in a standard deviation alone
    give the same numbers up to that factor. A shared parameter is sampled once. An embedding's
    padding row is zero. A tensor that is computed from parameters is sampled as a whole, and the
    parameters are those that make it so.

    Args:
        model: Any module.
        policy: The policy.
        seed: The seed, a whole number.
        batch: Inputs of the model, for policies that follow its data flow; see `ModelPolicy.of`.
        unknown: What happens to a parameter that no rule matches; see `assign`.

    Returns:
        The values by the parameters' names. Those of a parameter that is kept are its own.

    Raises:
        UnfilledParameterError: No rule matches a parameter.
        ValueError: An initializer cannot fill a parameter, or returns another shape or numbers that
            are not finite; or a computed tensor cannot take the value.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from initstudy.initializers import Normal, as_policy, draw
        >>> model = nn.Sequential(nn.Linear(3, 4))
        >>> small, large = (draw(model, as_policy(Normal(std)), seed=0) for std in (0.1, 0.2))
        >>> torch.equal(large["0.weight"], 2 * small["0.weight"])
        True
    """
    return draw_state(model, policy, seed, batch=batch, unknown=unknown).parameters


def draw_state(
    model: nn.Module,
    policy: Policy | ModelPolicy,
    seed: int,
    *,
    batch: object = None,
    unknown: str | None = None,
) -> State:
    """Samples what `draw` does, with the buffers of computed tensors that depend on it.

    Such buffers are the singular vectors of a spectral norm, which a model needs with its new
    parameters.

    Args:
        model: Any module.
        policy: The policy.
        seed: The seed, a whole number.
        batch: Inputs of the model, for policies that follow its data flow; see `ModelPolicy.of`.
        unknown: What happens to a parameter that no rule matches; see `assign`.

    Returns:
        The values of all parameters, and of the buffers that change, by their names.

    Raises:
        UnfilledParameterError: No rule matches a parameter.
        ValueError: As for `draw`.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import XavierNormal, as_policy, draw_state
        >>> layer = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4))
        >>> sorted(draw_state(layer, as_policy(XavierNormal()), seed=0).buffers)
        ['parametrizations.weight.0._u', 'parametrizations.weight.0._v']
    """
    assignment = assign(model, policy, batch=batch, unknown=unknown)
    warn(assignment)
    sampler = Sampler(model, assignment, seed)
    values, buffers = dict[str, Tensor](), dict[str, Tensor]()
    for name in assignment.rules:
        state = sampler.state(name)
        values |= state.parameters
        buffers |= state.buffers
    for name, parameter in model.named_parameters():
        if name not in values:
            require_value(name, parameter)
            values[name] = parameter.detach().cpu().clone()
    return State({name: values[name] for name, _ in model.named_parameters()}, buffers)


class Sampler:
    """Samples the tensors of a model one at a time, in any order.

    What it has to know about the model is read when it is made, so that the model may be wrapped or
    moved to another device between two tensors.

    Args:
        model: The model.
        assignment: Which rule fills which tensor, as `assign` finds it.
        seed: The seed, a whole number.

    Raises:
        ValueError: The seed is not a whole number.
    """

    def __init__(self, model: nn.Module, assignment: Assignment, seed: int) -> None:
        self.assignment, self.seed = assignment, whole("seed", seed)
        self.hidden = ingredients(model)
        self.roots = reset_roots(model)
        modules = {id(module): name for name, module in model.named_modules()}
        # A shared tensor has its first name in the model, and this one in its own module.
        self.own = {
            name: f"{modules[id(slot.module)]}.{slot.key}".removeprefix(".")
            for name, slot in assignment.slots.items()
        }
        self.first = {own: name for name, own in self.own.items()}
        self.waiting: dict[str, dict[str, Tensor]] = {}

    def state(self, name: str) -> State:
        """The parameters and buffers that make a tensor take its new value.

        Args:
            name: The tensor's name in the model.

        Raises:
            ValueError: An initializer cannot fill the tensor, or it is computed from parameters
                that cannot make it so.
        """
        slot, rule = self.assignment.slots[name], self.assignment.rules[name]
        if isinstance(rule.initializer, Reset):
            value = self._reset(name)
            if value is None:
                return State()
        else:
            value = _filled(rule, slot, self.seed)
        value = _without_padding(slot, value)
        if not self._is_computed(slot):
            return State({name: value})
        start = generator_for(self.seed, f"{plain_name(name)}/power").initial_seed()
        return state_for(slot.module, slot.key, name, value, int(start))

    def _reset(self, name: str) -> Tensor | None:
        """What the tensor's module gives it, or None if that leaves it as it is."""
        own = self.own[name]
        root = next((r for r in self.roots if not r or own.startswith(f"{r}.")), None)
        if root is None:
            return None
        # A method fills several tensors at once; those that are not asked for yet wait.
        if root not in self.waiting:
            self.waiting[root] = reset_values(self.roots[root], root, self._generator)
        return self.waiting[root].pop(own, None)

    def _generator(self, own: str) -> torch.Generator:
        return generator_for(self.seed, plain_name(self.first.get(own, own)))

    def _is_computed(self, slot: Slot) -> bool:
        if slot.key in getattr(slot.module, "parametrizations", {}):
            return True
        return any((id(slot.module), slot.key + s) in self.hidden for s in ("_g", "_orig"))


def require_value(name: str, tensor: Tensor) -> None:
    """Raises ValueError if a tensor that is to stay as it is has no value.

    Args:
        name: The tensor's name.
        tensor: The tensor.
    """
    if tensor.is_meta:
        raise ValueError(
            f"init: {name} is on the meta device, where it has no value, and nothing fills it"
        )


def warn(assignment: Assignment) -> None:
    """Warns of rules that match nothing, and of what is kept without a rule if that is asked for.

    Args:
        assignment: Which rule fills which tensor.
    """
    for rule in assignment.unused:
        if rule.is_specific:
            warnings.warn(
                f"init: {_described(rule)} matches no parameter of the model",
                UnusedRuleWarning,
                stacklevel=3,
            )
    kept = [name for name, reason in assignment.kept.items() if reason == "no rule"]
    if kept and assignment.unknown == "warn":
        warnings.warn(
            f"init: no rule matches these parameters, which are kept: {', '.join(kept)}",
            KeptParameterWarning,
            stacklevel=3,
        )


def _described(rule: Rule) -> str:
    conditions = [
        f"{key}={'|'.join(getattr(v, '__name__', str(v)) for v in value)}"
        for key in ("name", "module", "kind", "role")
        if (value := getattr(rule, key))
    ]
    return f"the rule for {' '.join(conditions) or 'a predicate'}"


def _left_out(
    slot: Slot,
    names: Sequence[str],
    only: Selection | None,
    skip: Selection | None,
    frozen: str,
) -> str | None:
    """Why a tensor is not to be filled, whatever the rules say, or None."""
    if only is not None and not _selected(slot, names, only):
        return "not among only="
    if skip is not None and _selected(slot, names, skip):
        return "skip="
    if frozen == "keep" and not slot.tensor.requires_grad and slot.tensor.is_leaf:
        trainable = [p.requires_grad for p in _made_of(slot)]
        return None if any(trainable) else "frozen"
    return None


def _made_of(slot: Slot) -> Iterator[Tensor]:
    """The parameters that a computed tensor is made of."""
    parametrizations = getattr(slot.module, "parametrizations", {})
    if slot.key in parametrizations:
        yield from parametrizations[slot.key].parameters()
    elif slot.key not in slot.module._parameters:
        yield from (p for k, p in slot.module.named_parameters(recurse=False) if slot.key in k)


def _selected(slot: Slot, names: Sequence[str], selection: Selection) -> bool:
    if callable(selection):
        return bool(selection(slot))
    patterns = (selection,) if isinstance(selection, str) else selection
    return _matches_name(patterns, names)


def _require_some(
    model: nn.Module,
    chosen: Mapping[str, Rule],
    kept: Mapping[str, str],
    only: Selection | None,
    skip: Selection | None,
) -> None:
    """Raises ValueError if nothing is to be filled, which nobody can mean."""
    if chosen:
        return
    reasons = set(kept.values())
    if reasons == {"frozen"}:
        raise ValueError(
            f"init: every parameter of the {type(model).__name__} is frozen; "
            'give frozen="fill" to fill them'
        )
    if "no rule" in reasons:
        raise ValueError(
            f"init: the policy matches none of the {len(kept)} parameters of the "
            f"{type(model).__name__}"
        )
    raise ValueError(f"init: only={only} skip={skip} leave no parameter to fill")


def _filled(rule: Rule, slot: Slot, seed: int) -> Tensor:
    """New values for one tensor, on the CPU."""
    name, shape = slot.name, tuple(slot.tensor.shape)
    dtype = slot.tensor.dtype
    try:
        value: object = _initializer(rule.initializer)(
            shape,
            fans_of(slot.module, slot.key, rule.convention),
            generator=generator_for(seed, plain_name(name)),
            dtype=dtype,
        )
    except ValueError as error:
        raise ValueError(f"init cannot fill {name}: {error}") from error
    if not isinstance(value, Tensor) or value.shape != slot.tensor.shape:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"init fills {name} with {got}; it needs a tensor of shape {shape}")
    value = value.detach()
    if not isinstance(rule.initializer, Initializer) and not bool(torch.isfinite(value).all()):
        raise ValueError(f"init fills {name} with numbers that are not finite")
    return value


def _initializer(action: Action) -> Callable[..., object]:
    assert callable(action)
    return action


def _without_padding(slot: Slot, value: Tensor) -> Tensor:
    module = slot.module
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.padding_idx is not None:
        value[module.padding_idx] = 0.0
    return value
