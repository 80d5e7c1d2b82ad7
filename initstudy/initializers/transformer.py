"""Policies for transformers, whose weights depend on their role or on the depth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from initstudy.initializers.base import Initializer, Shape, Type
from initstudy.initializers.branches import Branch
from initstudy.initializers.checks import require_choice
from initstudy.initializers.distributions import Constant, Normal, TruncatedNormalBetween
from initstudy.initializers.fans import Fans
from initstudy.initializers.graph import trace
from initstudy.initializers.kinds import WEIGHTED
from initstudy.initializers.laws import Law
from initstudy.initializers.policy import Action, ModelPolicy, Policy, Reset, Rule, biases_and_norms
from initstudy.initializers.presets import WEIGHTS
from initstudy.initializers.residual import require_branches
from initstudy.initializers.schemes import (
    TruncatedScaling,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
)

VIT_MODES = ("timm", "jax", "jax_nlhb", "moco")


@dataclass(frozen=True)
class Packed(Initializer):
    """Stacked maps, such as the packed projections of attention, with an initializer for each.

    Args:
        initializers: One initializer per block, in their order in the tensor.

    Example:
        >>> from initstudy.initializers import Constant, Fans
        >>> from initstudy.initializers.transformer import Packed
        >>> Packed((Constant(1.0), Constant(2.0)))((2, 3), Fans(3, 1, blocks=2))
        tensor([[1., 1., 1.],
                [2., 2., 2.]])
    """

    initializers: tuple[Initializer, ...]

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        count = len(self.initializers)
        if fans.blocks != count:
            raise ValueError(f"a tensor of {fans.blocks} blocks cannot be filled as {count}")
        each, own = (shape[0] // count, *shape[1:]), Fans(fans.fan_in, fans.fan_out)
        return torch.cat(
            [i(each, own, generator=generator, dtype=dtype) for i in self.initializers]
        )

    def _law(self, shape: Shape, fans: Fans) -> Law:
        laws = [initializer.law(shape, fans) for initializer in self.initializers]
        std = math.sqrt(sum(law.std**2 for law in laws) / len(laws))
        return Law("packed projections", 0.0, std, tested=False)


@dataclass(frozen=True)
class TFixup(ModelPolicy):
    """T-Fixup: encoder-decoder transformers that train without layer norm and warm-up.

    Xavier-uniform weights, of which the value and output projections and the perceptrons are
    scaled, in each encoder layer by 0.67·N^(-1/4), in each decoder layer by (9·N)^(-1/4); input
    embeddings N(0, 1/d) times (9·N)^(-1/4); N is the number of encoder and of decoder layers
    (Huang, Pérez, Ba & Volkovs 2020, Improving transformer optimization through better
    initialization, section 3.3). The paper removes the layer norms, which is a matter of the model.
    The authors' code (https://github.com/layer6ai-labs/T-Fixup) keeps fairseq's factor of 1/√2 for
    queries and keys, which neither the paper nor this has.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import TFixup, initialize
        >>> model = nn.Transformer(64, 4, 2, 3, 128, batch_first=True)
        >>> model = initialize(model, TFixup(), seed=0)
        >>> bound = model.decoder.layers[0].linear1.weight.abs().max().item()
        >>> round(bound / (27**-0.25 * (6 / 192) ** 0.5), 2)
        1.0
    """

    def of(self, model: nn.Module, batch: object = None) -> Policy:
        """The rules for one model.

        Args:
            model: The model.
            batch: Not used.

        Raises:
            ValueError: The model has no `nn.Transformer`.
        """
        rules: list[Rule] = []
        for prefix, module in _transformers(model):
            decoder = (9 * len(module.decoder.layers)) ** -0.25
            encoder = 0.67 * len(module.encoder.layers) ** -0.25
            rules += _scaled_block(f"{prefix}encoder.", encoder, XavierUniform)
            rules += _scaled_block(f"{prefix}decoder.", decoder, XavierUniform)
            # std = d^(-1/2)·(9N)^(-1/4), with d the fan_out of an embedding.
            embedding = VarianceScaling(decoder**2, "fan_out", "normal")
            rules.append(Rule(embedding, kind="embedding", optional=True))
        if not rules:
            raise ValueError(f"init: TFixup found no nn.Transformer in the {type(model).__name__}")
        plain = Rule(XavierUniform(), kind=WEIGHTED, role=WEIGHTS)
        return Policy((*rules, plain, *biases_and_norms()))


@dataclass(frozen=True)
class DeepNorm(ModelPolicy):
    """DeepNorm: transformers of a thousand layers, with normalization after every addition.

    The value and output projections and the perceptrons are Xavier-normal with gain β, queries and
    keys with gain 1. For N layers of an encoder or decoder alone β = (8N)^(-1/4); with N encoder
    and M decoder layers it is 0.87·(N⁴M)^(-1/16) in the encoder and (12M)^(-1/4) in the decoder
    (Wang et al. 2022, DeepNet: scaling transformers to 1,000 layers, fig. 2). The factor α on the
    carried signal, (2N)^(1/4) for an encoder alone, is a matter of the model; `alpha` gives it.
    Attention must be `nn.MultiheadAttention`, whose values are known from its queries and keys.

    Args:
        others: What fills every other layer.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import DeepNorm, initialize
        >>> layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        >>> model = nn.TransformerEncoder(layer, 8, enable_nested_tensor=False)
        >>> model = initialize(model, DeepNorm(), seed=0)
        >>> round(model.layers[0].linear1.weight.std().item() / (64**-0.25 * (2 / 192) ** 0.5), 1)
        1.0
    """

    others: Action = Reset()  # noqa: RUF009 - it is immutable

    @staticmethod
    def alpha(layers: int) -> float:
        """The factor on the carried signal for an encoder or decoder alone, (2N)^(1/4).

        Args:
            layers: The number of layers.
        """
        return (2 * layers) ** 0.25

    def of(self, model: nn.Module, batch: object = None) -> Policy:
        """The rules for one model.

        Args:
            model: The model.
            batch: Inputs of the model; see `ModelPolicy.of`.

        Raises:
            ValueError: The model has no residual branch, or attention of another kind.
        """
        rules: list[Rule] = []
        for prefix, module in _transformers(model):
            n, m = len(module.encoder.layers), len(module.decoder.layers)
            encoder, decoder = 0.87 * (n**4 * m) ** (-1 / 16), (12 * m) ** -0.25
            rules += _scaled_block(f"{prefix}encoder.", encoder, XavierNormal)
            rules += _scaled_block(f"{prefix}decoder.", decoder, XavierNormal)
        if not rules:
            branches = require_branches(trace(model, batch), model, "DeepNorm")
            gain = (8 * _layers(branches)) ** -0.25
            for branch in branches:
                rules += _scaled_branch(model, branch, gain)
        biases = Rule(Constant(0.0), kind=WEIGHTED, role="bias")
        return Policy((*rules, biases, Rule(self.others, kind=(*WEIGHTED, "norm", "prelu"))))


@dataclass(frozen=True)
class Mitchell(ModelPolicy):
    """N(0, 1/fan_in), truncated at three deviations, and less for what ends a residual branch.

    The last weight of the branches of layer l, counted from 1, has variance 1/(2·fan_in·l);
    embeddings have variance 1/width, and biases are zero (Groeneveld et al. 2024, OLMo, which
    credits Mitchell Wortsman; https://github.com/allenai/OLMo, olmo/model.py, InitFnType.mitchell).
    The truncation does not restore the variance.

    Example:
        >>> from initstudy.initializers import Mitchell, initialize
        >>> from initstudy.models import GPT
        >>> model = initialize(GPT((8,), 50, width=64, depth=2), Mitchell(), seed=0)
        >>> round(model.block2.mlp2.weight.std().item() * (2 * 2 * 256) ** 0.5, 1)
        1.0
    """

    def of(self, model: nn.Module, batch: object = None) -> Policy:
        """The rules for one model.

        Args:
            model: The model.
            batch: Inputs of the model; see `ModelPolicy.of`.

        Raises:
            ValueError: The model has no layers of two residual branches, or a branch that does not
                end in a weight.
        """
        branches = require_branches(trace(model, batch), model, "Mitchell")
        _layers(branches)
        rules = []
        for index, branch in enumerate(branches):
            if branch.weight is None:
                raise ValueError(f"init: Mitchell needs branches that end in a weight; {branch}")
            scale = 1 / (2 * (index // 2 + 1))
            rules.append(Rule(TruncatedScaling(scale, "fan_in", 3.0), name=branch.weight))
        return Policy(
            (
                *rules,
                Rule(TruncatedScaling(1.0, "fan_out", 3.0), kind="embedding"),
                Rule(TruncatedScaling(1.0, "fan_in", 3.0), kind=WEIGHTED, role=WEIGHTS),
                *biases_and_norms(),
            )
        )


def llama(std: float = 0.02) -> Policy:
    """Weights and embeddings from N(0, std²), biases zero, scales of RMS norms one, as in LLaMA.

    The padding row of an embedding is zero (`_init_weights` of transformers' LlamaPreTrainedModel).

    Args:
        std: The standard deviation.

    Raises:
        ValueError: The deviation is negative or not finite.

    Example:
        >>> from initstudy.initializers import llama
        >>> llama().rules[0].initializer
        Normal(std=0.02, mean=0.0)
    """
    norms = ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm")
    return Policy(
        (
            Rule(Normal(std), kind=WEIGHTED, role=WEIGHTS),
            Rule(Constant(1.0), module=norms, role="weight", optional=True),
            *biases_and_norms(),
        )
    )


def vit(mode: str = "timm") -> Policy:
    """Vision transformers as timm initializes them, in one of its modes.

    Positions are N(0, 0.02²) between ±2, and class and register tokens N(0, 1e-12). Linear layers
    are, with biases of zero,

    - "timm": N(0, 0.02²) between ±2;
    - "jax": Xavier-uniform, with biases N(0, 1e-12) in perceptrons; the head is zero; convolutions
      are LeCun-normal (truncated, with the variance restored);
    - "jax_nlhb": as "jax", with a head bias of -log(classes);
    - "moco": Xavier-uniform, with queries, keys and values as maps of their own.

    Everything else is as its module makes it (timm.models.vision_transformer,
    get_init_weights_vit). The names of parameters are those of timm: "qkv", "mlp" and "head"; the
    packed projections of `nn.MultiheadAttention` count as "qkv".

    Args:
        mode: The mode.

    Raises:
        ValueError: There is no such mode.

    Example:
        >>> from initstudy.initializers import vit
        >>> vit("moco").rules[0].name
        ('*pos_embed', '*pos_embedding')
    """
    require_choice("mode", mode, VIT_MODES)
    tokens = (
        Rule(TruncatedNormalBetween(0.02), name=("*pos_embed", "*pos_embedding"), optional=True),
        Rule(Normal(1e-6), name=("*cls_token", "*class_token", "*reg_token"), optional=True),
    )
    zero = Rule(Constant(0.0), kind=("linear", "attention"), role="bias")
    rest = Rule(Reset(), kind=(*WEIGHTED, "norm", "prelu"))
    return Policy((*tokens, *_vit_weights(mode), zero, rest), unknown="keep")


def _vit_weights(mode: str) -> tuple[Rule, ...]:
    projections = Rule(XavierUniform(), kind="attention", role="weight")
    linear = Rule(XavierUniform(), kind="linear", role="weight")
    if mode == "timm":
        plain = TruncatedNormalBetween(0.02)
        return (Rule(plain, kind=("linear", "attention"), role="weight"),)
    if mode == "moco":
        packed = Rule(ThirdsXavier(), kind="linear", role="weight", name="*qkv*", optional=True)
        return packed, projections, linear
    convolution = VarianceScaling(1.0, "fan_in", "truncated_normal")
    head = Constant(0.0) if mode == "jax" else NegativeLog()
    return (
        Rule(Constant(0.0), kind="linear", role="weight", name="head*", optional=True),
        Rule(head, kind="linear", role="bias", name="head*", optional=True),
        Rule(Normal(1e-6), kind="linear", role="bias", name="*mlp*", optional=True),
        Rule(convolution, kind="conv", role="weight"),
        Rule(Constant(0.0), kind="conv", role="bias"),
        projections,
        linear,
    )


@dataclass(frozen=True)
class ThirdsXavier(Initializer):
    """Xavier-uniform with three projections of one linear layer as maps of their own.

    Example:
        >>> from initstudy.initializers import Fans
        >>> from initstudy.initializers.transformer import ThirdsXavier
        >>> print(ThirdsXavier().law((12, 2), Fans(2, 12)))
        U(±1)
    """

    def _uniform(self, fans: Fans) -> XavierUniform:
        wanted = fans.fan_in + fans.fan_out // 3
        return XavierUniform(math.sqrt((fans.fan_in + fans.fan_out) / wanted))

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        return self._uniform(fans)(shape, fans, generator=generator, dtype=dtype)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return self._uniform(fans).law(shape, fans)


@dataclass(frozen=True)
class NegativeLog(Initializer):
    """A head's bias of -log(classes), which makes the sigmoids of all classes add up to about one.

    Example:
        >>> from initstudy.initializers.transformer import NegativeLog
        >>> NegativeLog()((10,))[:1]
        tensor([-2.3026])
    """

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        return torch.full(shape, -math.log(shape[0]), dtype=dtype)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return Constant(-math.log(shape[0])).law(shape, fans)


def _transformers(model: nn.Module) -> Iterator[tuple[str, nn.Transformer]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Transformer):
            yield (f"{name}." if name else ""), module


def _scaled_block(
    prefix: str, factor: float, xavier: type[XavierUniform] | type[XavierNormal]
) -> Iterator[Rule]:
    """The rules for the layers of torch's own encoder or decoder below a prefix."""
    small, plain = xavier(factor), xavier()
    layers = f"{prefix}layers.*"
    ends = [f"{layers}linear1.weight", f"{layers}linear2.weight", f"{layers}attn.out_proj.weight"]
    yield Rule(small, name=[*ends, f"{layers}attn.v_proj_weight"])
    packed = Packed((plain, plain, small))
    yield Rule(packed, name=f"{layers}attn.in_proj_weight", optional=True)
    separate = [f"{layers}attn.q_proj_weight", f"{layers}attn.k_proj_weight"]
    yield Rule(plain, name=separate, optional=True)


def _scaled_branch(model: nn.Module, branch: Branch, gain: float) -> Iterator[Rule]:
    small, plain = XavierNormal(gain), XavierNormal()
    for name in branch.layers:
        prefix = f"{name}." if name else ""
        module = model.get_submodule(name)
        if isinstance(module, nn.MultiheadAttention):
            yield Rule(small, name=[f"{prefix}out_proj.weight", f"{prefix}v_proj_weight"])
            packed = Packed((plain, plain, small))
            yield Rule(packed, name=f"{prefix}in_proj_weight", optional=True)
            separate = [f"{prefix}q_proj_weight", f"{prefix}k_proj_weight"]
            yield Rule(plain, name=separate, optional=True)
        elif branch.attends:
            raise ValueError(
                "init: DeepNorm tells values from queries and keys only in nn.MultiheadAttention; "
                f"{name} is a {type(module).__name__}"
            )
        else:
            yield Rule(small, name=f"{prefix}weight")


def _layers(branches: Sequence[Branch]) -> int:
    """The number of layers, each of which has a branch of attention and one of a perceptron."""
    kinds = [branch.attends for branch in branches]
    if len(kinds) % 2 or not all(kinds[::2]) or any(kinds[1::2]):
        raise ValueError(
            "init: the policy is for transformers, whose residual branches are attention and a "
            f"perceptron in turn; this model has {len(kinds)} branches, {sum(kinds)} of attention"
        )
    return len(kinds) // 2
