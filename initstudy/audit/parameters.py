"""One row per parameter: what its layer is, and how its values are distributed."""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import Tensor, nn

from initstudy.audit.fans import measure_fans
from initstudy.audit.identify import BY_TORCH, Identified, find_outliers, identify, scaled_alike
from initstudy.audit.result import ParameterRow
from initstudy.audit.tensors import Moments, is_real, moments, sampled
from initstudy.initializers import (
    Calibrated,
    Constant,
    Initializer,
    Law,
    ModelPolicy,
    Normal,
    Policy,
    Rule,
    Slot,
    UnfilledParameterError,
    Uniform,
    UnknownFansError,
    VarianceScaling,
    as_policy,
    compute_fans,
    fans_or_one,
    kind,
    preset,
    role,
)
from initstudy.initializers.inplace import AnyPolicy
from initstudy.initializers.slots import aliases, named_tensors

Vote = tuple[str | None, str | None, str]
# Their laws say all that their names do.
PLAIN = (Constant, Normal, Uniform, VarianceScaling)
NOT_FILLED = "not what the policy draws"
# The sides of the noise that is sent through a transposed convolution, and the most weights of one.
SIDE = 12
LARGEST = 2**20


@torch.no_grad()
def parameter_rows(model: nn.Module, policy: AnyPolicy | None = None) -> tuple[ParameterRow, ...]:
    """Every parameter of a model, and every weight that is computed from parameters.

    With a policy each is tested against what the policy intends. Without, its initialization is
    read off its values; of several that fit, the one that fits most parameters of the same kind and
    role, since a model is usually initialized by one rule for each.

    Args:
        model: Any module.
        policy: A policy, an initializer or a name, as `initstudy.initialize` takes them.

    Raises:
        ValueError: The policy is not for such a model, or its rules match nothing in it.
    """
    slots = list(named_tensors(model))
    rules = None if policy is None else _rules(model, policy, slots)
    names = aliases(model)
    found = {
        slot.name: [_intended(rules, slot, names.get(slot.name, ()))]
        if rules is not None and is_real(slot.tensor)
        else identify(slot.module, slot.key, slot.tensor)
        for slot in slots
    }
    votes: Counter[Vote] = Counter()
    for slot in slots:
        votes.update({_vote(slot, fit) for fit in found[slot.name]})
    rows = []
    for slot in slots:
        counts = [votes[_vote(slot, fit)] for fit in found[slot.name]]
        rows.append(_row(slot, found[slot.name][counts.index(max(counts))]))
    return tuple(rows)


def _rules(model: nn.Module, policy: AnyPolicy, slots: list[Slot]) -> Policy | None:
    """The rules of a policy for a model, or None for one that looks at data."""
    if isinstance(policy, str):
        policy = preset(policy)
    if isinstance(policy, Calibrated):
        return None
    rules = as_policy(policy)
    rules = rules.of(model) if isinstance(rules, ModelPolicy) else rules
    names = aliases(model)
    if not any(_matches(rules, slot, names.get(slot.name, ())) for slot in slots):
        raise ValueError(
            f"policy: matches none of the {len(slots)} parameters of the {type(model).__name__}"
        )
    return rules


def _matches(rules: Policy, slot: Slot, names: tuple[str, ...]) -> bool:
    return any(rule.matches(slot.module, slot.key, slot.name, names) for rule in rules.rules)


def _vote(slot: Slot, fit: Identified) -> Vote:
    """One rule is one name, by whichever count of fans it comes out."""
    name = fit.name.removesuffix(BY_TORCH)
    return kind(slot.module), role(slot.module, slot.key), name


def _row(slot: Slot, fit: Identified) -> ParameterRow:
    name, module, key, parameter = slot
    try:
        fans = compute_fans(module, key) if role(module, key) and kind(module) else None
    except UnknownFansError:
        fans = None
    nothing = Moments(math.nan, math.nan, math.nan, math.nan, True)
    readable = is_real(parameter) and not parameter.is_meta
    known = moments(parameter) if readable else nothing
    outliers = find_outliers(parameter, known) if readable else None
    return ParameterRow(
        name,
        type(module).__name__,
        kind(module),
        role(module, key),
        tuple(parameter.shape),
        None if fans is None else fans.fan_in,
        None if fans is None else fans.fan_out,
        fit.name,
        fit.std,
        known.std,
        known.mean,
        fit.pvalue,
        fit.convention,
        _measured(module, key, parameter),
        0 if outliers is None else outliers.count,
        0.0 if outliers is None else outliers.largest,
    )


def _measured(module: nn.Module, key: str, parameter: Tensor) -> float | None:
    """What a unit of a transposed convolution sums: its stride leaves out most of its kernel."""
    if not isinstance(module, nn.modules.conv._ConvTransposeNd):
        return None
    if key != "weight" or parameter.numel() > LARGEST:
        return None
    if not isinstance(getattr(module, "_parameters", {}).get("weight"), Tensor):
        return None
    axes = len(module.kernel_size)
    return measure_fans(module, (2, module.in_channels, *[SIDE] * axes)).fan_in


def _intended(policy: Policy, slot: Slot, names: tuple[str, ...]) -> Identified:
    name, module, key, values = slot
    padding = getattr(module, "padding_idx", None)
    try:
        rule = policy.rule(module, key, name, names)
    except UnfilledParameterError:
        seen = identify(module, key, values)[0]
        return Identified(f"{NOT_FILLED}: no rule; looks like {seen.name}", None, 0.0)
    if not isinstance(rule.initializer, Initializer):
        seen = identify(module, key, values)[0]
        return Identified(f"{_named(rule)}; looks like {seen.name}", None, None)
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and isinstance(padding, int):
        padding %= len(values)
        values = torch.cat([values[:padding], values[padding + 1 :]])
    shape = tuple(values.shape)
    law, own = (
        rule.initializer.law(shape, fans_or_one(module, key, convention))
        for convention in (rule.convention, "layer")
    )
    by = "layer" if scaled_alike(law, own) else rule.convention
    constant = law.name == "constant"
    return Identified(_named(rule, law), law.std, _pvalue(law, values, constant), by)


def _pvalue(law: Law, values: Tensor, constant: bool) -> float | None:
    if values.is_meta:
        return None
    if constant:
        known = moments(values)
        ends = torch.tensor([known.low, known.high])
        return law.pvalue(ends.to(values.dtype))
    return law.pvalue(sampled(values))


def _named(rule: Rule, law: Law | None = None) -> str:
    """The law, after the initializer's name where that says more."""
    name = type(rule.initializer).__name__
    if law is None or isinstance(rule.initializer, PLAIN):
        return name if law is None else str(law)
    return f"{name}: {law}"
