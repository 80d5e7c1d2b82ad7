"""Policies for residual networks, whose branches may add less the more there are of them.

The branches are found in the model's data flow; see `branches`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from initstudy.initializers.base import Initializer, Shape, Type
from initstudy.initializers.branches import ADDITIONS, SCALINGS, Branch, find_branches, is_layer
from initstudy.initializers.distributions import Constant, Normal
from initstudy.initializers.fans import Fans
from initstudy.initializers.generators import Generator
from initstudy.initializers.graph import Graph, trace
from initstudy.initializers.kinds import WEIGHTED
from initstudy.initializers.laws import Law
from initstudy.initializers.policy import (
    Action,
    Fill,
    ModelPolicy,
    Policy,
    Reset,
    Rule,
    as_policy,
    biases_and_norms,
)
from initstudy.initializers.presets import WEIGHTS
from initstudy.initializers.schemes import KaimingNormal


@dataclass(frozen=True)
class GPT2(ModelPolicy):
    """N(0, std²), with the last weight of every residual branch scaled by 1/√(number of branches).

    A transformer of n layers has 2·n branches, so their last weights get std/√(2·n) (Radford et al.
    2019, Language models are unsupervised multitask learners, section 2.3). Biases are zero.

    Args:
        std: The standard deviation of the other weights and of the embeddings.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import GPT2, initialize
        >>> layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True)
        >>> model = nn.TransformerEncoder(layer, num_layers=8, enable_nested_tensor=False)
        >>> model = initialize(model, GPT2(), seed=0)
        >>> round(model.layers[0].linear2.weight.std().item(), 3)  # 0.02/√16
        0.005
    """

    std: float = 0.02

    def __post_init__(self) -> None:
        object.__setattr__(self, "std", Normal(self.std).std)

    def of(self, model: nn.Module, batch: object = None) -> Policy:
        """The rules for one model.

        Args:
            model: The model.
            batch: Inputs of the model; see `ModelPolicy.of`.

        Raises:
            ValueError: The model has no residual branch, or one that does not end in a weight.
        """
        branches = require_branches(trace(model, batch), model, "GPT2")
        weights = [_require_weight(branch, "GPT2") for branch in branches]
        scaled = Normal(self.std / math.sqrt(len(weights)))
        return Policy(
            (
                Rule(scaled, name=weights),
                Rule(Normal(self.std), kind=WEIGHTED, role=WEIGHTS),
                *biases_and_norms(),
            )
        )


@dataclass(frozen=True)
class ZeroResidual(ModelPolicy):
    """Every residual branch adds nothing at first, because what it ends in is zero.

    That is the scale of its last normalization if it ends in one (Goyal et al. 2017, Accurate,
    large minibatch SGD, section 5.1), or else its last weight, with its bias.

    Args:
        initializer: What fills everything else.

    Example:
        >>> import torch
        >>> from initstudy.initializers import ZeroResidual, initialize
        >>> from initstudy.models import ResNet
        >>> model = initialize(ResNet((1, 8, 8), 10), ZeroResidual(), seed=0)
        >>> model.stage1.block1.norm2.weight.unique().tolist()
        [0.0]
    """

    initializer: Fill | Policy = KaimingNormal()  # noqa: RUF009 - it is immutable

    def of(self, model: nn.Module, batch: object = None) -> Policy:
        """The rules for one model.

        Args:
            model: The model.
            batch: Inputs of the model; see `ModelPolicy.of`.

        Raises:
            ValueError: The model has no residual branch, or one that ends neither in a weight nor
                in a normalization that has a scale.
        """
        names = []
        for branch in require_branches(trace(model, batch), model, "ZeroResidual"):
            if branch.norm is None:
                weight = _require_weight(branch, "ZeroResidual")
                names += [weight, f"{weight.removesuffix('weight')}bias"]
                continue
            if getattr(model.get_submodule(branch.norm), "weight", None) is None:
                raise ValueError(
                    f"init: ZeroResidual: the branch that ends in {branch.norm} cannot be zero, "
                    "for this normalization has no scale"
                )
            names += [f"{branch.norm}.weight", f"{branch.norm}.bias"]
        return Policy((Rule(Constant(0.0), name=names), *_rules(self.initializer)))


@dataclass(frozen=True)
class Fixup(ModelPolicy):
    """Fixup: residual networks that train without normalization.

    The last weight of every branch and the output layer are zero; the other weights of a branch are
    He-normal times L^(-1/(2m-2)), with L branches of m layers; the projections of shortcuts are
    He-normal; every other layer is as torch makes it. The scalars that the paper adds are one if
    they multiply a signal and zero if they are added to it (Zhang, Dauphin & Ma 2019, Fixup
    initialization, section 3). The numbers are those of the authors' code
    (https://github.com/hongyi-zhang/Fixup, cifar and imagenet), where He's variance is 2/fan_out
    and the first convolution has torch's default. The paper itself asks for He there.

    Args:
        initializer: What fills the branches and the projections.
        others: What fills every other layer.

    Example:
        >>> from initstudy.initializers import Fixup, initialize
        >>> from initstudy.models import ResNet
        >>> model = ResNet((1, 8, 8), 10, channels=(16,), blocks=9, batch_norm=False)
        >>> model = initialize(model, Fixup(), seed=0)
        >>> block = model.stage1.block1
        >>> round(block.conv1.weight.std().item(), 2), block.conv2.weight.abs().max().item()
        (0.04, 0.0)
    """

    initializer: Initializer = KaimingNormal(mode="fan_out")  # noqa: RUF009 - it is immutable
    others: Action = Reset()  # noqa: RUF009 - it is immutable

    def of(self, model: nn.Module, batch: object = None) -> Policy:
        """The rules for one model.

        Args:
            model: The model.
            batch: Inputs of the model; see `ModelPolicy.of`.

        Raises:
            ValueError: The model has no residual branch, or one that does not end in a weight.
        """
        graph = trace(model, batch)
        branches = require_branches(graph, model, "Fixup")
        rules, biases = [], list[str]()
        for branch in branches:
            # A normalization after the last weight is allowed, though Fixup is to replace it.
            last = _require_weight(branch, "Fixup")
            others = [f"{name}.*weight*" for name in branch.layers[:-1]]
            biases += [f"{name}.*bias*" for name in (*branch.layers, *branch.shortcut)]
            rules.append(Rule(Constant(0.0), name=last))
            if others:
                factor = len(branches) ** (-1 / (2 * len(branch.layers) - 2))
                rules.append(Rule(Scaled(self.initializer, factor), name=others, role=WEIGHTS))
            if branch.shortcut:
                shortcut = [f"{name}.weight" for name in branch.shortcut]
                rules.append(Rule(self.initializer, name=shortcut))
        head = [node.name for node in graph.nodes if is_layer(node)][-1]
        added, multiplied = scalars(graph, model)
        return Policy(
            (
                *rules,
                Rule(Constant(0.0), name=[*biases, *added, f"{head}.*"]),
                Rule(Constant(1.0), name=multiplied, optional=True),
                Rule(self.others, kind=(*WEIGHTED, "norm", "prelu")),
            )
        )


@dataclass(frozen=True)
class Scaled(Initializer):
    """What another initializer samples, times a factor.

    Args:
        initializer: The initializer.
        factor: The factor.

    Example:
        >>> import torch
        >>> from initstudy.initializers import Normal
        >>> from initstudy.initializers.residual import Scaled
        >>> torch.equal(Scaled(Normal(1.0), 0.5)((3,)), Normal(0.5)((3,)))
        True
    """

    initializer: Initializer
    factor: float

    def _draw(self, shape: Shape, fans: Fans, generator: Generator, dtype: Type) -> Tensor:
        return self.factor * self.initializer(shape, fans, generator=generator, dtype=dtype)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return self.initializer.law(shape, fans).scaled(self.factor)


def require_branches(graph: Graph, model: nn.Module, name: str) -> list[Branch]:
    """The residual branches of a model.

    Args:
        graph: The model's data flow.
        model: The model.
        name: The policy that needs them.

    Raises:
        ValueError: There are none.
    """
    branches = find_branches(graph)
    if not branches:
        raise ValueError(
            f"init: {name} found no residual branch in the data flow of the "
            f"{type(model).__name__}: no signal is added to one that it comes from"
        )
    return branches


def scalars(graph: Graph, model: nn.Module) -> tuple[list[str], list[str]]:
    """The parameters of one entry that are added to a signal, and those that multiply one.

    Args:
        graph: The model's data flow.
        model: The model.
    """
    added, multiplied = dict[str, None](), dict[str, None]()
    for node in graph.nodes:
        for name in node.parameters:
            if model.get_parameter(name).numel() == 1 and node.name in ADDITIONS | SCALINGS:
                (added if node.name in ADDITIONS else multiplied)[name] = None
    return list(added), list(multiplied)


def _rules(initializer: Fill | Policy) -> Sequence[Rule]:
    policy = as_policy(initializer)
    if not isinstance(policy, Policy):
        raise TypeError(f"init.initializer={initializer}: must not depend on the model itself")
    return policy.rules


def _require_weight(branch: Branch, name: str) -> str:
    if branch.weight is None:
        end = branch.end or branch.norm
        raise ValueError(
            f"init: {name} needs branches that end in a weight; the one of "
            f"{', '.join(branch.layers) or 'no layers'} ends in {end}"
        )
    return branch.weight
