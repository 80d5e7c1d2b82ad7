"""Policies for residual networks, whose depth decides how much a branch may add."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from initstudy.initializers.base import Initializer, require_finite
from initstudy.initializers.distributions import Constant, Normal
from initstudy.initializers.kinds import WEIGHTED, kind
from initstudy.initializers.policy import ModelPolicy, Policy, Rule, as_policy, biases_and_norms
from initstudy.initializers.presets import WEIGHTS
from initstudy.initializers.schemes import KaimingNormal

# What ends a residual branch of a transformer: in GPT-2's own names, torch's, torchvision's, ours.
PROJECTIONS = (
    "*c_proj.weight",
    "*out_proj.weight",
    "*linear2.weight",
    "*mlp.3.weight",
    "*mlp2.weight",
)
NUMBERED = re.compile(r"(conv|norm|bn)(\d+)")


@dataclass(frozen=True)
class GPT2(ModelPolicy):
    """GPT-2's: N(0, std²), and what ends a residual branch scaled by 1/√(number of branches).

    A transformer of n layers has 2·n branches, so its projections get std/√(2·n) (Radford et al.
    2019, Language models are unsupervised multitask learners, section 2.3).

    Args:
        std: Of every weight and embedding.
        projections: Patterns of the names of the weights that end a branch.
    """

    std: float = 0.02
    projections: Sequence[str] = PROJECTIONS

    def __post_init__(self) -> None:
        require_finite("std", self.std, "a standard deviation")
        object.__setattr__(self, "projections", tuple(self.projections))

    def of(self, model: nn.Module) -> Policy:
        """The rules for one model.

        Raises:
            ValueError: No parameter ends a branch.
        """
        names = [name for name, _ in model.named_parameters()]
        count = sum(any(fnmatchcase(name, p) for p in self.projections) for name in names)
        if count == 0:
            raise ValueError(
                f"init.projections={list(self.projections)}: no parameter of the model has such a "
                "name; GPT-2's policy is for transformers"
            )
        scaled = Normal(self.std / math.sqrt(count))
        return Policy(
            (
                Rule(scaled, kind=WEIGHTED, role="weight", name=self.projections),
                Rule(Normal(self.std), kind=WEIGHTED, role=WEIGHTS),
                *biases_and_norms(),
            )
        )


@dataclass(frozen=True)
class Branch:
    """A residual branch: the modules of one block in the order in which they run, by name."""

    convolutions: tuple[str, ...]
    last_norm: str | None


def residual_branches(model: nn.Module) -> list[Branch]:
    """The residual branches of a convolutional network.

    A block is a module, other than an `nn.Sequential`, with children conv1, conv2, …; its
    normalizations are norm1, … or bn1, …, as in torchvision's ResNets and in `model=resnet`.
    """
    return [
        branch
        for name, module in model.named_modules()
        if not isinstance(module, nn.Sequential)
        and len((branch := _branch(f"{name}." if name else "", module)).convolutions) >= 2
    ]


@dataclass(frozen=True)
class Fixup(ModelPolicy):
    """Fixup: residual networks that train without normalization.

    The last convolution of every branch and the classifier are zero; the others of a branch are
    He-normal scaled by L^(-1/(2m-2)), with L branches of m convolutions; everything else is
    He-normal (Zhang, Dauphin & Ma 2019, Fixup initialization, section 3). The scalar biases and
    multipliers that the paper adds are a matter of the model, not of its initialization.

    Args:
        initializer: What is scaled.
    """

    initializer: Initializer = KaimingNormal()  # noqa: RUF009

    def of(self, model: nn.Module) -> Policy:
        """The rules for one model.

        Raises:
            ValueError: It has no residual branch.
        """
        branches = _require_branches(model, "Fixup")
        rules = []
        for branch in branches:
            *others, last = branch.convolutions
            rules.append(Rule(Constant(0.0), role="weight", name=f"{last}.*"))
            factor = len(branches) ** (-1 / (2 * len(branch.convolutions) - 2))
            names = [f"{name}.*" for name in others]
            rules.append(Rule(Scaled(self.initializer, factor), role="weight", name=names))
        head = _last_weighted(model)
        rules.append(Rule(Constant(0.0), name=f"{head}.*"))
        return Policy((*rules, *_rules(self.initializer)))


@dataclass(frozen=True)
class ZeroResidual(ModelPolicy):
    """Every residual branch adds nothing at first: what ends it is zero.

    That is the scale of its last normalization where it has one (Goyal et al. 2017, Accurate, large
    minibatch SGD, section 5.1), or else its last convolution; in a transformer, the projections.

    Args:
        initializer: Of everything else.
        projections: Patterns of the names of the weights that end a transformer's branch.
    """

    initializer: Initializer = KaimingNormal()  # noqa: RUF009
    projections: Sequence[str] = PROJECTIONS

    def __post_init__(self) -> None:
        object.__setattr__(self, "projections", tuple(self.projections))

    def of(self, model: nn.Module) -> Policy:
        """The rules for one model.

        Raises:
            ValueError: It has no residual branch.
        """
        branches = residual_branches(model)
        names = [f"{b.last_norm or b.convolutions[-1]}.weight" for b in branches]
        known = [name for name, _ in model.named_parameters()]
        names += [n for n in known if any(fnmatchcase(n, p) for p in self.projections)]
        if not names:
            _require_branches(model, "ZeroResidual")
        return Policy((Rule(Constant(0.0), name=names), *_rules(self.initializer)))


@dataclass(frozen=True)
class Scaled(Initializer):
    """Another initializer's draws times a factor."""

    initializer: Initializer
    factor: float

    def _draw(self, shape, fans, generator, dtype):  # type: ignore[no-untyped-def]
        draw = self.initializer(shape, fans, generator=generator, dtype=dtype)
        return self.factor * draw

    def _law(self, shape, fans):  # type: ignore[no-untyped-def]
        return self.initializer.law(shape, fans).scaled(self.factor)


def _rules(initializer: Initializer) -> Sequence[Rule]:
    policy = as_policy(initializer)
    assert isinstance(policy, Policy)
    return policy.rules


def _require_branches(model: nn.Module, name: str) -> list[Branch]:
    branches = residual_branches(model)
    if not branches:
        raise ValueError(f"init: {name} found no residual block with children conv1 and conv2")
    return branches


def _branch(prefix: str, module: nn.Module) -> Branch:
    found: dict[str, dict[int, str]] = {"conv": {}, "norm": {}}
    for name, _ in module.named_children():
        match = NUMBERED.fullmatch(name)
        if match:
            family = "conv" if match[1] == "conv" else "norm"
            found[family][int(match[2])] = prefix + name
    convolutions = tuple(found["conv"][number] for number in sorted(found["conv"]))
    norm = found["norm"].get(max(found["conv"], default=0))
    return Branch(convolutions, norm)


def _last_weighted(model: nn.Module) -> str:
    names = [name for name, module in model.named_modules() if kind(module) in WEIGHTED]
    return names[-1]
