"""The smallest change to a model's start that removes what an audit warns of."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from initstudy.audit.evidence import HE, gain_of
from initstudy.audit.identify import BY_TORCH, known_initializer
from initstudy.audit.result import Audit, ParameterRow, Warned
from initstudy.audit.signal import LayerSignal
from initstudy.initializers import (
    WEIGHTED,
    Constant,
    Initializer,
    KaimingNormal,
    Keep,
    LecunNormal,
    Normal,
    Orthogonal,
    Policy,
    Rule,
    UnitForgetGate,
    VarianceScaling,
    XavierNormal,
    initialize,
)

# What Glorot & Bengio (2010) give a sigmoid over tanh, whose slope at zero is four times as large.
SIGMOID_GAIN = 4.0
# The size of the logits that a head is scaled down to.
LOGITS = 0.3
# The share of the largest stable learning rate that is proposed.
SAFE = 0.5


@dataclass(frozen=True)
class Standardize:
    """x ↦ (x - mean)/std, for all entries or one feature.

    Attributes:
        mean: What is subtracted.
        std: What is divided by.
        feature: The index of the only feature that is changed, or None for all.
        axis: The axis of the features.
    """

    mean: float
    std: float
    feature: int | None = None
    axis: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """The standardized tensor.

        Args:
            x: Any tensor.
        """
        if self.feature is None:
            return (x - self.mean) / self.std
        index = [slice(None)] * x.dim()
        index[self.axis] = slice(self.feature, self.feature + 1)
        x = x.clone()
        x[tuple(index)] = (x[tuple(index)] - self.mean) / self.std
        return x

    def python(self, name: str) -> str:
        """The transformation of a tensor of that name, as an expression.

        Args:
            name: The tensor's name.
        """
        if self.feature is None:
            return f"({name} - {self.mean:.4g}) / {self.std:.4g}"
        scale = f"{self.std:.4g} if i == {self.feature} else 1"
        return f"{name} / torch.tensor([{scale} for i in range({name}.shape[{self.axis}])])"


class Repaired(nn.Module):
    """A model with what its inputs and outputs lack.

    Args:
        model: The model.
        inputs: What its first argument goes through, or None.
        logarithm: Whether its probabilities become log-probabilities, which cross-entropy takes
            for logits of the same probabilities.
    """

    def __init__(self, model: nn.Module, inputs: Standardize | None, logarithm: bool) -> None:
        super().__init__()
        self.model, self.inputs, self.logarithm = model, inputs, logarithm

    def forward(self, x: Tensor, *others: Any, **keywords: Any) -> Any:
        """What the repaired model returns.

        Args:
            x: The first input.
            *others: Further inputs.
            **keywords: Keyword arguments.
        """
        output = self.model(x if self.inputs is None else self.inputs(x), *others, **keywords)
        return output.clamp_min(1e-30).log() if self.logarithm else output


@dataclass(frozen=True)
class Repair:
    """What to change.

    Attributes:
        rules: The rules for the parameters that are filled again; all others are kept.
        inputs: What the inputs go through, or None.
        targets: What the targets go through, or None.
        logarithm: Whether the outputs are probabilities that become log-probabilities.
        learning_rate: A stable learning rate, or None if that was not in question.
        unfreeze: Whether all parameters come to require a gradient.
        advice: What no policy can do, one sentence each.
    """

    rules: tuple[Rule, ...] = ()
    inputs: Standardize | None = None
    targets: Standardize | None = None
    logarithm: bool = False
    learning_rate: float | None = None
    unfreeze: bool = False
    advice: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        changes = (self.rules, self.inputs, self.targets, self.logarithm, self.unfreeze)
        return any(changes) or self.learning_rate is not None

    @property
    def policy(self) -> Policy:
        """The rules, and one that keeps everything else."""
        return Policy((*self.rules, Rule(Keep())))

    def apply(self, model: nn.Module, seed: int = 0) -> nn.Module:
        """Changes a model in place.

        Args:
            model: The audited model, or another of the same architecture.
            seed: The seed of the parameters that are filled again.

        Returns:
            The model; within a `Repaired` one if its inputs or outputs change.
        """
        if self.unfreeze:
            model.requires_grad_(True)
        if self.rules:
            initialize(model, self.policy, seed=seed)
        if self.inputs is None and not self.logarithm:
            return model
        return Repaired(model, self.inputs, self.logarithm)

    def python(self) -> str:
        """The repair as a program."""
        lines: list[str] = []
        if self.rules:
            used = {type(rule.initializer).__name__ for rule in self.rules}
            names = ", ".join(sorted({*used, "Keep", "Policy", "Rule"}))
            lines += ["import initstudy", f"from initstudy.initializers import {names}", ""]
            lines += ["policy = Policy(", "    ["]
            lines += [f"        {_rule_as_python(r)}," for r in (*self.rules, Rule(Keep()))]
            lines += ["    ]", ")", "initstudy.initialize(model, policy, seed=0)"]
        if self.inputs is not None:
            lines.append(f"x = {self.inputs.python('x')}")
        if self.targets is not None:
            lines.append(f"y = {self.targets.python('y')}")
        if self.unfreeze:
            lines.append("model.requires_grad_(True)")
        if self.logarithm:
            lines.append("output = output.log()  # or return the logits")
        if self.learning_rate is not None:
            lines.append(f"lr = {self.learning_rate:.3g}")
        return "\n".join([*lines, *(f"# {text}" for text in self.advice)])

    def yaml(self) -> str:
        """The policy as a file of conf/init, for `init=NAME` with `--config-dir`."""
        lines = ["_target_: initstudy.initializers.Policy", "rules:"]
        for rule in (*self.rules, Rule(Keep())):
            lines.append("  - _target_: initstudy.initializers.Rule")
            if rule.name:
                lines.append(f"    name: {json.dumps(list(rule.name))}")
            if rule.convention != "layer":
                lines.append(f"    convention: {rule.convention}")
            lines.append("    initializer:")
            lines.append(
                f"      _target_: initstudy.initializers.{type(rule.initializer).__name__}"
            )
            lines += [f"      {k}: {json.dumps(v)}" for k, v in _arguments(rule.initializer)]
        return "\n".join(lines) + "\n"


def repair(audit: Audit) -> Repair:
    """The repair of what an audit found; consequences are left to the repair of their causes.

    Args:
        audit: The audit.
    """
    chosen: dict[str, tuple[Initializer, str]] = {}
    changes: dict[str, Any] = {}
    advice: list[str] = []
    for warning in audit.causes:
        for name, initializer, convention in _refills(audit, warning):
            chosen.setdefault(name, (initializer, convention))
        changes |= _changes(audit, warning)
        if warning.code in ADVICE:
            advice.append(ADVICE[warning.code].format(where=", ".join(warning.where[:3])))
    return Repair(
        _rules(chosen, [row.name for row in audit.parameters]), advice=tuple(advice), **changes
    )


ADVICE = {
    "detached": "remove the detach() or no_grad() behind {where}",
    "unused": "call {where} in forward, or remove it",
    "not-finite": "fill {where} with finite numbers",
    "not-initialized": "initialize the model again by its policy: {where}",
    "time": "clip the norm of the gradient, as torch.nn.utils.clip_grad_norm_ does",
}


def _changes(audit: Audit, warning: Warned) -> dict[str, Any]:
    """What a warning calls for beside new weights."""
    facts, losses = audit.signal.inputs, audit.signal.losses
    if warning.code == "inputs" and facts is not None:
        if warning.message.startswith("feature"):
            mean, size = facts.feature_mean, facts.feature_rms
            return {"inputs": Standardize(mean, size, facts.feature, facts.axis)}
        return {"inputs": Standardize(facts.mean, facts.std)}
    if warning.code == "targets":
        real = next(x for x in losses if x.target_mean is not None)
        return {"targets": Standardize(real.target_mean or 0.0, real.target_std or 1.0)}
    if warning.code == "softmax":
        return {"logarithm": True}
    if warning.code == "frozen":
        return {"unfreeze": True}
    if warning.code == "sharpness" and audit.sharpness:
        return {"learning_rate": SAFE * 2 / audit.sharpness}
    return {}


Refill = tuple[str, Initializer, str]


def _refills(audit: Audit, warning: Warned) -> Iterator[Refill]:
    """The parameters that a warning's repair fills again: name, initializer and convention."""
    rows = {row.name: row for row in audit.parameters}
    layers = {layer.name: layer for layer in audit.signal.layers}
    if warning.code in ("signal", "gradient", "saturated"):
        for layer in audit.signal.layers[:-1]:
            if not layer.normalized or warning.code == "saturated":
                yield from _critical(rows, layer)
    elif warning.code == "odd-layer":
        for name in warning.where:
            yield from _critical(rows, layers[name])
    elif warning.code == "dead":
        yield from _revived(rows, layers[warning.where[0]])
    elif warning.code == "symmetric":
        for name in warning.where:
            found = layers.get(name.rpartition(".")[0])
            yield name, _initializer(found.activation if found else None), "layer"
    elif warning.code == "time":
        for row in _of_layer(rows, warning.where[0]):
            if row.role == "recurrent" or (row.kind == "linear" and row.role == "weight"):
                yield row.name, Orthogonal(), "layer"
    elif warning.code == "loss":
        yield from _smaller(rows, audit.signal.layers[-1])
    else:
        for name in warning.where:
            yield from _by_name(rows, warning.code, name)


def _smaller(rows: dict[str, ParameterRow], last: LayerSignal) -> Iterator[Refill]:
    """A head whose logits are small."""
    for row in _of_layer(rows, last.name):
        if row.role == "weight" and last.output_rms > 0:
            yield row.name, Normal(_rounded(row.std * LOGITS / last.output_rms)), "layer"


def _by_name(rows: dict[str, ParameterRow], code: str, name: str) -> Iterator[Refill]:
    """The repair of a warning whose culprits are single parameters."""
    if code in ("identical-layers", "duplicate-units", "outliers", "wrong-fan"):
        yield _again(rows[name], keep_convention=code != "wrong-fan")
    elif code == "embedding":
        yield name, Normal(0.02), "layer"
    elif code == "forget-gate":
        yield name, UnitForgetGate(), "layer"
        yield name.replace("_ih", "_hh"), Constant(0.0), "layer"


def _critical(rows: dict[str, ParameterRow], layer: LayerSignal) -> Iterator[Refill]:
    """A layer's weights at the scale that its activation function calls for."""
    for row in _of_layer(rows, layer.name):
        if row.role == "weight" and row.kind in WEIGHTED and row.kind != "embedding":
            yield row.name, _initializer(layer.activation), "layer"


def _revived(rows: dict[str, ParameterRow], layer: LayerSignal) -> Iterator[Refill]:
    """A bias of zero; new weights as well, if it is not the bias that kills the units."""
    own = _of_layer(rows, layer.name)
    biases = [row for row in own if row.role == "bias" and row.mean < 0]
    for row in biases:
        yield row.name, Constant(0.0), "layer"
    if not biases:
        yield from _critical(rows, layer)


def _of_layer(rows: dict[str, ParameterRow], name: str) -> list[ParameterRow]:
    prefix = f"{name}." if name else ""
    return [
        row
        for row in rows.values()
        if row.name == name
        or (row.name.startswith(prefix) and row.name.count(".") <= prefix.count(".") + 1)
    ]


def _initializer(activation: str | None) -> Initializer:
    """The initializer that keeps a signal's size through an activation function."""
    if activation in HE:
        return KaimingNormal()
    if activation == "tanh":
        return XavierNormal(5 / 3)
    if activation == "sigmoid":
        return XavierNormal(SIGMOID_GAIN)
    gain = gain_of(activation)
    return LecunNormal() if gain == 1.0 else VarianceScaling(_rounded(gain**2), "fan_in", "normal")


def _again(row: ParameterRow, keep_convention: bool) -> Refill:
    """New values from the distribution that a parameter has."""
    name = row.distribution.partition(", but for")[0]
    known = known_initializer(name.removesuffix(BY_TORCH))
    convention = row.convention if keep_convention and row.convention == "torch" else "layer"
    if known is not None:
        return row.name, known, convention
    robust = row.std if not row.outliers else _without(row)
    return row.name, Normal(_rounded(robust)), "layer"


def _without(row: ParameterRow) -> float:
    """The deviation of a parameter less its outliers, about all of which are equally far."""
    share = row.outliers / math.prod(row.shape)
    return row.std / math.sqrt(1 + share * row.outlier**2)


def _rules(
    chosen: dict[str, tuple[Initializer, str]], parameters: Sequence[str]
) -> tuple[Rule, ...]:
    """One rule per initializer, by patterns where these match nothing else."""
    names: dict[tuple[Initializer, str], list[str]] = {}
    for name, how in chosen.items():
        names.setdefault(how, []).append(name)
    return tuple(
        Rule(initializer, name=_shortened(several, parameters), convention=convention)
        for (initializer, convention), several in names.items()
    )


def _shortened(names: Sequence[str], parameters: Sequence[str]) -> list[str]:
    """Patterns, with `*` for numbers, that match some names and no other parameter."""
    patterns: dict[str, list[str]] = {}
    for name in names:
        patterns.setdefault(re.sub(r"\d+", "*", name), []).append(name)
    found = []
    for pattern, several in patterns.items():
        matched = {name for name in parameters if fnmatchcase(name, pattern)}
        found += [pattern] if matched == set(several) and len(several) > 1 else several
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _arguments(initializer: Any) -> list[tuple[str, Any]]:
    """The arguments of an initializer that are not its defaults."""
    fields = dataclasses.fields(initializer)
    return [
        (f.name, value)
        for f in fields
        if (value := getattr(initializer, f.name)) != f.default or f.default is dataclasses.MISSING
    ]


def _rule_as_python(rule: Rule) -> str:
    arguments = _arguments(rule.initializer)
    inner = ", ".join(f"{name}={value!r}" for name, value in arguments)
    text = f"Rule({type(rule.initializer).__name__}({inner})"
    if rule.name:
        names: Sequence[str] = rule.name
        text += f", name={json.dumps(names[0] if len(names) == 1 else list(names))}"
    if rule.convention != "layer":
        text += f', convention="{rule.convention}"'
    return text + ")"
