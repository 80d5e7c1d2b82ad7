"""Residual branches that are multiplied by a parameter: ReZero, SkipInit, LayerScale.

The parameters are found in the model's data flow: those by which the output of a branch is
multiplied before it is added.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from initstudy.initializers.base import Initializer
from initstudy.initializers.branches import Branch
from initstudy.initializers.checks import require_choice
from initstudy.initializers.distributions import Constant, TruncatedNormalBetween
from initstudy.initializers.graph import trace
from initstudy.initializers.kinds import WEIGHTED
from initstudy.initializers.policy import Action, ModelPolicy, Policy, Reset, Rule, as_policy
from initstudy.initializers.residual import require_branches
from initstudy.initializers.schemes import KaimingNormal

# Touvron et al. 2021, section 2: the value up to a number of blocks, and that for more.
LAYER_SCALE = ((18, 0.1), (24, 1e-5))
DEEPER = 1e-6


@dataclass(frozen=True)
class BranchMultiplier(ModelPolicy):
    """A value for the parameters that multiply residual branches, and a rule for all others.

    Args:
        value: The value. None for that of LayerScale, which depends on the number of blocks.
        others: What fills every other parameter: an initializer of weights, or `Reset()`.
        entries: "one" for a scalar per branch, "channels" for a vector, "any" for both.

    Raises:
        ValueError: The value is not a finite number, or `entries` is something else.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from initstudy.initializers import initialize, rezero
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.body, self.alpha = nn.Linear(4, 4), nn.Parameter(torch.ones(()))
        ...
        ...     def forward(self, x):
        ...         return x + self.alpha * torch.relu(self.body(x))
        >>> initialize(Block(), rezero(), seed=0).alpha.item()
        0.0
    """

    value: float | None = 0.0
    others: Action = Reset()  # noqa: RUF009 - it is immutable
    entries: str = "any"

    def __post_init__(self) -> None:
        if self.value is not None:
            object.__setattr__(self, "value", Constant(self.value).value)
        require_choice("entries", self.entries, ("one", "channels", "any"))

    def of(self, model: nn.Module, batch: object = None) -> Policy:
        """The rules for one model.

        Args:
            model: The model.
            batch: Inputs of the model; see `ModelPolicy.of`.

        Raises:
            ValueError: A residual branch is not multiplied by a parameter of this kind.
        """
        branches = require_branches(trace(model, batch), model, type(self).__name__)
        names = [name for branch in branches for name in self._of_branch(model, branch)]
        value = _layer_scale(len(branches)) if self.value is None else self.value
        return Policy((Rule(Constant(value), name=names), *_rules(self.others)))

    def _of_branch(self, model: nn.Module, branch: Branch) -> list[str]:
        sizes = {name: model.get_parameter(name).numel() for name in branch.multipliers}
        fitting = {
            "one": [name for name, size in sizes.items() if size == 1],
            "channels": [name for name, size in sizes.items() if size > 1],
            "any": list(sizes),
        }[self.entries]
        if not fitting:
            kind = {"one": "a scalar", "channels": "a vector", "any": "a parameter"}[self.entries]
            raise ValueError(
                f"init: the residual branch of {', '.join(branch.layers)} is not multiplied by "
                f"{kind}; the model needs one for each branch"
            )
        return fitting


def rezero(others: Action | None = None) -> BranchMultiplier:
    """Every residual branch is multiplied by a scalar that is zero at first.

    All other parameters are as their modules make them (Bachlechner et al. 2020, ReZero is all you
    need, eq. 1).

    Args:
        others: What fills every other parameter; `Reset()` by default.

    Example:
        >>> from initstudy.initializers import rezero
        >>> rezero().value
        0.0
    """
    return BranchMultiplier(0.0, Reset() if others is None else others, "one")


def skip_init(alpha: float = 0.0, others: Action | None = None) -> BranchMultiplier:
    """Every residual branch is multiplied by a scalar that is alpha at first, zero or 1/√branches.

    All other weights are He-normal and biases zero (De & Smith 2020, Batch normalization biases
    residual blocks towards the identity function in deep networks, section 4).

    Args:
        alpha: The value of the scalars.
        others: What fills the other weights; `KaimingNormal()` by default.

    Raises:
        ValueError: alpha is not a finite number.

    Example:
        >>> from initstudy.initializers import skip_init
        >>> skip_init(0.25).value
        0.25
    """
    return BranchMultiplier(alpha, KaimingNormal() if others is None else others, "one")


def layer_scale(value: float | None = None, others: Action | None = None) -> BranchMultiplier:
    """Every residual branch is multiplied by a vector of small numbers, one per channel.

    They are 0.1 up to 18 blocks, 1e-5 up to 24 and 1e-6 for more; a block has two branches. All
    other weights are N(0, 0.02²) between ±2 and biases zero (Touvron et al. 2021, Going deeper with
    image transformers, section 2).

    Args:
        value: The value, instead of that by the number of blocks.
        others: What fills the other weights.

    Raises:
        ValueError: The value is not a finite number.

    Example:
        >>> from initstudy.initializers import layer_scale
        >>> layer_scale(1e-4).value
        0.0001
    """
    return BranchMultiplier(
        value, TruncatedNormalBetween(0.02) if others is None else others, "channels"
    )


def _layer_scale(branches: int) -> float:
    return next((value for blocks, value in LAYER_SCALE if branches <= 2 * blocks), DEEPER)


def _rules(others: Action) -> tuple[Rule, ...]:
    if isinstance(others, Initializer) and not isinstance(others, Reset):
        policy = as_policy(others)
        assert isinstance(policy, Policy)
        return tuple(policy.rules)
    return (Rule(others, kind=(*WEIGHTED, "norm", "prelu")),)
