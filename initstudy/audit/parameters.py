"""A row a parameter: what its layer is, and how its values are distributed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from initstudy.audit.identify import BY_TORCH, Identified, identify, scaled_alike
from initstudy.audit.result import ParameterRow
from initstudy.initializers import (
    Calibrated,
    Constant,
    Initializer,
    Law,
    ModelPolicy,
    Normal,
    Policy,
    Rule,
    UnfilledParameterError,
    Uniform,
    VarianceScaling,
    compute_fans,
    fans_or_one,
    kind,
    named_parameters,
    role,
)

Vote = tuple[str | None, str | None, str]
Chosen = Policy | ModelPolicy | Calibrated
# Their laws say all that their names do.
PLAIN = (Constant, Normal, Uniform, VarianceScaling)
NOT_FILLED = "not what the policy draws"


@torch.no_grad()
def parameter_rows(model: nn.Module, policy: Chosen | None = None) -> Iterator[ParameterRow]:
    """Every parameter of a model.

    With a policy each is tested against what the policy intends. Without, its initialization is
    read off its values; of several that fit, the one that fits most parameters of the same kind and
    role, since a model is usually initialized by one rule for each.
    """
    rules = policy.of(model) if isinstance(policy, ModelPolicy) else policy
    found = {
        name: [_intended(rules, module, key, name, parameter)]
        if isinstance(rules, Policy)
        else identify(module, key, parameter)
        for name, module, key, parameter in named_parameters(model)
    }
    votes: Counter[Vote] = Counter()
    for name, module, key, _ in named_parameters(model):
        votes.update({_vote(module, key, fit) for fit in found[name]})
    for name, module, key, parameter in named_parameters(model):
        counts = [votes[_vote(module, key, fit)] for fit in found[name]]
        best = found[name][counts.index(max(counts))]
        yield _row(name, module, key, parameter, best)


def _vote(module: nn.Module, key: str, fit: Identified) -> Vote:
    """One rule is one name, by whichever count of fans it comes out."""
    return kind(module), role(module, key), fit.name.removesuffix(BY_TORCH)


def _row(
    name: str, module: nn.Module, key: str, parameter: Tensor, fit: Identified
) -> ParameterRow:
    fans = compute_fans(module, key) if role(module, key) and kind(module) else None
    values = parameter.double()
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
        float(values.std(correction=0)),
        float(values.mean()),
        fit.pvalue,
        fit.convention,
    )


def _intended(policy: Policy, module: nn.Module, key: str, name: str, values: Tensor) -> Identified:
    try:
        rule = policy.rule(module, key, name)
    except UnfilledParameterError:
        seen = identify(module, key, values)[0]
        return Identified(f"{NOT_FILLED}: no rule; looks like {seen.name}", None, 0.0)
    if not isinstance(rule.initializer, Initializer):
        seen = identify(module, key, values)[0]
        return Identified(f"{_named(rule)}; looks like {seen.name}", None, None)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        rows = [i for i in range(len(values)) if i != module.padding_idx % len(values)]
        values = values[rows]
    shape = tuple(values.shape)
    law, own = (
        rule.initializer.law(shape, fans_or_one(module, key, convention))
        for convention in (rule.convention, "layer")
    )
    by = "layer" if scaled_alike(law, own) else rule.convention
    return Identified(_named(rule, law), law.std, law.pvalue(values), by)


def _named(rule: Rule, law: Law | None = None) -> str:
    """The law, after the initializer's name where that says more."""
    name = type(rule.initializer).__name__
    if law is None or isinstance(rule.initializer, PLAIN):
        return name if law is None else str(law)
    return f"{name}: {law}"
