"""Policies for a whole model: what a framework, a paper or an article does by default."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from initstudy.initializers.base import require_finite
from initstudy.initializers.distributions import Constant, Normal, TruncatedNormal, Uniform
from initstudy.initializers.kinds import RECURRENT, WEIGHTED
from initstudy.initializers.policy import ModelPolicy, Policy, Rule, biases_and_norms
from initstudy.initializers.schemes import VarianceScaling, XavierNormal, XavierUniform
from initstudy.initializers.structured import Identity, Orthogonal, UnitForgetGate

# U(±1/√fan) has variance 1/(3·fan).
INVERSE_ROOT_FAN_IN = VarianceScaling(1 / 3, "fan_in", "uniform")
INVERSE_ROOT_FAN_OUT = VarianceScaling(1 / 3, "fan_out", "uniform")
WEIGHTS = ("weight", "recurrent")
FORGET_GATE = (
    Rule(UnitForgetGate(), kind="lstm", role="bias", name="*bias_ih*"),
    Rule(Constant(0.0), kind="lstm", role="bias"),
)


def article(std: float = 1.0) -> Policy:
    """The W&B tutorial's: every weight and embedding from N(0, std²), biases zero.

    The padding row of an embedding is zero, normalizations start with scale one and offset zero
    (Weights & Biases, tutorial on initializing weights in PyTorch, function `_init_weights`).
    """
    return Policy((Rule(Normal(std), kind=WEIGHTED, role=WEIGHTS), *biases_and_norms()))


@dataclass(frozen=True)
class TorchDefault(ModelPolicy):
    """What each module of torch does in its own `reset_parameters`.

    Linear and convolution layers draw weights by kaiming_uniform_(a=√5), which is U(±1/√fan_in) by
    torch's own count of fans, and biases from the same interval; Bilinear U(±1/√in1); embeddings
    N(0, 1); recurrent layers everything from U(±1/√hidden); MultiheadAttention Xavier-uniform
    projections (packed ones as a single map), Xavier-normal bias_k and bias_v, and zero biases.
    `nn.Transformer` draws every matrix below it anew, Xavier-uniform. (torch's source; the layers'
    pages at https://docs.pytorch.org/docs/stable/nn.html state the intervals.)
    """

    def of(self, model: nn.Module) -> Policy:
        """The rules; some go by the names of the model's own modules."""
        layers = ("linear", "conv", "conv_transpose")
        return Policy(
            (
                *self._by_module(model),
                Rule(INVERSE_ROOT_FAN_IN, kind=layers, convention="torch"),
                Rule(Normal(1.0), kind="embedding"),
                Rule(INVERSE_ROOT_FAN_IN, kind="lstm", name="*weight_hr*"),
                Rule(INVERSE_ROOT_FAN_OUT, kind=RECURRENT),
                Rule(XavierNormal(), kind="attention", name=("*bias_k", "*bias_v")),
                Rule(XavierUniform(), kind="attention", role="weight", convention="torch"),
                *biases_and_norms(),
            )
        )

    def _by_module(self, model: nn.Module) -> Iterator[Rule]:
        for prefix, _ in _modules(model, nn.MultiheadAttention):
            yield Rule(Constant(0.0), name=f"{prefix}out_proj.bias")
        for prefix, _ in _modules(model, nn.Transformer):
            matrices = ("linear", "attention")
            yield Rule(
                XavierUniform(), kind=matrices, role="weight", name=f"{prefix}*", convention="torch"
            )
        for prefix, module in _modules(model, nn.Bilinear):
            bound = 1 / math.sqrt(module.in1_features)
            yield Rule(Uniform(bound), kind="bilinear", name=f"{prefix}*")


def torch_default() -> TorchDefault:
    """What each module of torch does by itself; see `TorchDefault`."""
    return TorchDefault()


def keras() -> Policy:
    """What Keras's layers do by default (https://keras.io/api/layers/).

    Kernels Glorot-uniform by the axes of Keras's kernels, recurrent ones orthogonal over all gates
    at once, an LSTM's forget gate 1, other biases 0, embeddings U(±0.05), PReLU 0.
    """
    return Policy(
        (
            Rule(Uniform(0.05), kind="embedding"),
            Rule(XavierUniform(), kind=WEIGHTED, role="weight", convention="keras"),
            Rule(Orthogonal(), kind=RECURRENT, role="recurrent", convention="keras"),
            *FORGET_GATE,
            Rule(Constant(0.0), kind="prelu"),
            *biases_and_norms(),
        )
    )


def matlab() -> Policy:
    """What MATLAB's Deep Learning Toolbox does by default.

    Glorot-uniform for convolutions (grouped and transposed too), fully connected layers, attention
    and the input weights of recurrent layers, whose gates count as one map; orthogonal recurrent
    weights over all gates; an LSTM's forget gate 1, other biases 0; embeddings N(0, 0.01²);
    normalizations one and zero; PReLU's slopes 0.25 (Initialize Learnable Parameters for Model
    Function, section Default Layer Initializations; preluLayer).
    """
    return Policy(
        (
            Rule(Normal(0.01), kind="embedding"),
            Rule(XavierUniform(), kind=WEIGHTED, role="weight", convention="matlab"),
            Rule(Orthogonal(), kind=RECURRENT, role="recurrent", convention="matlab"),
            *FORGET_GATE,
            *biases_and_norms(),
        )
    )


def flax() -> Policy:
    """What Flax's layers do by default (https://flax.readthedocs.io, linen and nnx layers).

    Kernels LeCun-normal (truncated, variance restored), recurrent ones orthogonal a gate, biases 0,
    embeddings N(0, 1/width), PReLU 0.01.
    """
    kernel = VarianceScaling(1.0, "fan_in", "truncated_normal")
    return Policy(
        (
            Rule(VarianceScaling(1.0, "fan_out", "normal"), kind="embedding"),
            Rule(kernel, kind=WEIGHTED, role="weight"),
            Rule(Orthogonal(), kind=RECURRENT, role="recurrent"),
            Rule(Constant(0.01), kind="prelu"),
            *biases_and_norms(),
        )
    )


def bert(std: float = 0.02) -> Policy:
    """BERT's: weights and embeddings from N(0, std²) cut at two std, biases zero.

    The cut narrows the entries to 0.88·std, as the authors' TensorFlow code does (Devlin et al.
    2019; create_initializer in its modeling.py).
    """
    normal = TruncatedNormal(std, restore=False)
    return Policy((Rule(normal, kind=WEIGHTED, role=WEIGHTS), *biases_and_norms()))


def unit_forget_gate(forget: float = 1.0, bias: float = 0.0) -> Policy:
    """LSTMs that remember at first: forget gates `forget`, weights as MATLAB and Keras draw them.

    Input weights Glorot-uniform and recurrent ones orthogonal, a gate at a time; other biases are
    constant (Jozefowicz, Zaremba & Sutskever 2015).
    """
    return Policy(
        (
            Rule(XavierUniform(), kind=WEIGHTED, role="weight"),
            Rule(Orthogonal(), kind=RECURRENT, role="recurrent"),
            Rule(UnitForgetGate(forget), kind="lstm", role="bias", name="*bias_ih*"),
            Rule(Constant(0.0), kind="lstm", role="bias"),
            *biases_and_norms(bias),
        )
    )


def mean_field(sigma_w2: float = 2.0, sigma_b2: float = 0.0) -> Policy:
    """Weights of variance sigma_w2/fan_in, biases of variance sigma_b2, as `meanfield` counts them.

    Args:
        sigma_w2: σ_w² of Poole et al. 2016 and Schoenholz et al. 2017.
        sigma_b2: Their σ_b².

    Raises:
        ValueError: A variance is negative or not finite.
    """
    require_finite("sigma_w2", sigma_w2, "a variance")
    require_finite("sigma_b2", sigma_b2, "a variance")
    biases = Normal(math.sqrt(sigma_b2))
    return Policy(
        (
            Rule(VarianceScaling(sigma_w2, "fan_in", "normal"), kind=WEIGHTED, role=WEIGHTS),
            Rule(biases, kind=WEIGHTED, role="bias"),
            *biases_and_norms(),
        )
    )


def irnn(std: float = 0.001, scale: float = 1.0) -> Policy:
    """Recurrent weights that start as the identity times `scale`, for ReLU; others N(0, std²).

    Biases are zero (Le, Jaitly & Hinton 2015, A Simple Way to Initialize Recurrent Networks of
    Rectified Linear Units, sections 2 and 3.2).
    """
    return Policy(
        (
            Rule(Identity(scale), kind=RECURRENT, role="recurrent"),
            Rule(Normal(std), kind=WEIGHTED, role=WEIGHTS),
            *biases_and_norms(),
        )
    )


def _modules(model: nn.Module, kind: type[nn.Module]) -> Iterator[tuple[str, Any]]:
    """The modules of a class, each with the prefix that its parameters' names have."""
    for name, module in model.named_modules():
        if isinstance(module, kind):
            yield (f"{name}." if name else ""), module
