"""Policies for whole models: what frameworks, papers and articles do by default."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from initstudy.initializers.base import Initializer
from initstudy.initializers.checks import require_finite
from initstudy.initializers.distributions import Constant, Normal, TruncatedNormal, Uniform
from initstudy.initializers.kinds import RECURRENT, WEIGHTED, role
from initstudy.initializers.policy import (
    Keep,
    ModelPolicy,
    Policy,
    Reset,
    Rule,
    biases_and_norms,
)
from initstudy.initializers.reset import reset_roots
from initstudy.initializers.schemes import VarianceScaling, XavierNormal, XavierUniform
from initstudy.initializers.slots import Slot
from initstudy.initializers.structured import Identity, Orthogonal, UnitForgetGate

Kind = TypeVar("Kind", bound=nn.Module)

# U(±1/√fan) has variance 1/(3·fan).
INVERSE_ROOT_FAN_IN = VarianceScaling(1 / 3, "fan_in", "uniform")
INVERSE_ROOT_FAN_OUT = VarianceScaling(1 / 3, "fan_out", "uniform")
WEIGHTS = ("weight", "recurrent")
FORGET_GATE = (
    Rule(UnitForgetGate(), kind="lstm", role="bias", name="*bias_ih*", optional=True),
    Rule(Constant(0.0), kind="lstm", role="bias"),
)


def article(std: float = 1.0) -> Policy:
    """Every weight and embedding from N(0, std²), biases zero, as in the W&B tutorial.

    The padding row of an embedding is zero; normalizations start with scale one and offset zero
    (Weights & Biases, tutorial on initializing weights in PyTorch, function `_init_weights`, which
    is about linear layers, embeddings and layer norms; the same distribution serves here for
    convolutions, recurrent layers and attention).

    Args:
        std: The standard deviation of the weights.

    Raises:
        ValueError: The deviation is negative or not finite.

    Example:
        >>> from initstudy.initializers import article
        >>> article(std=0.05).rules[0].initializer
        Normal(std=0.05, mean=0.0)
    """
    return Policy((Rule(Normal(std), kind=WEIGHTED, role=WEIGHTS), *biases_and_norms()))


@dataclass(frozen=True)
class TorchDefault(ModelPolicy):
    """What each module does in its own `reset_parameters`, by calling it.

    Every module of torch and most modules of others have such a method. Parameters that no method
    fills stay as the model's constructor made them. Linear and convolution layers, for example, get
    weights and biases from U(±1/√fan_in) by torch's own count of fans, embeddings N(0, 1), and
    `nn.Transformer` fills every matrix below it anew, Xavier-uniform. (The pages of the layers at
    https://docs.pytorch.org/docs/stable/nn.html state the distributions.)

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import TorchDefault, initialize
        >>> layer = initialize(nn.Linear(100, 50), TorchDefault(), seed=0)
        >>> bool(0.099 < layer.weight.abs().max() <= 0.1)
        True
    """

    def of(self, model: nn.Module, batch: object = None) -> Policy:
        """The rules for one model.

        The rules of torch's own modules know the distribution, for audits; all of them call the
        modules' methods.

        Args:
            model: The model.
            batch: Not used.
        """
        layers = ("linear", "conv", "conv_transpose")
        known = (
            *_by_module(model),
            Rule(INVERSE_ROOT_FAN_IN, kind=layers, convention="torch"),
            Rule(Normal(1.0), kind="embedding"),
            Rule(INVERSE_ROOT_FAN_IN, kind="lstm", name="*weight_hr*"),
            Rule(INVERSE_ROOT_FAN_OUT, kind=RECURRENT),
            Rule(XavierNormal(), kind="attention", name=("*bias_k", "*bias_v")),
            Rule(XavierUniform(), kind="attention", role="weight", convention="torch"),
            *(rule for rule in biases_and_norms() if rule.kind != ("prelu",)),
        )
        rest = Rule(Reset(), where=_Below(tuple(reset_roots(model))), optional=True)
        return Policy((*(_reset_like(rule) for rule in known), rest), unknown="keep")


def torch_default() -> TorchDefault:
    """What each module does in its own `reset_parameters`; see `TorchDefault`.

    Example:
        >>> from initstudy.initializers import torch_default
        >>> torch_default()
        TorchDefault()
    """
    return TorchDefault()


def _by_module(model: nn.Module) -> Iterator[Rule]:
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


def _reset_like(rule: Rule) -> Rule:
    assert isinstance(rule.initializer, Initializer)
    return dataclasses.replace(
        rule, initializer=Reset(rule.initializer), where=_is_torchs_own, optional=True
    )


def _is_torchs_own(slot: Slot) -> bool:
    """Whether torch itself fills a parameter: not one that a subclass adds, or fills otherwise."""
    torchs = type(slot.module).__module__.startswith("torch.nn.")
    return torchs and role(slot.module, slot.key) is not None


@dataclass(frozen=True)
class _Below:
    """Whether a parameter lies below one of some modules, by their names."""

    roots: tuple[str, ...]

    def __call__(self, slot: Slot) -> bool:
        return any(not root or slot.name.startswith(f"{root}.") for root in self.roots)


def _modules(model: nn.Module, kind: type[Kind]) -> Iterator[tuple[str, Kind]]:
    """The modules of a class, each with the prefix that its parameters' names have."""
    for name, module in model.named_modules():
        if isinstance(module, kind):
            yield (f"{name}." if name else ""), module


def as_it_is() -> Policy:
    """Every parameter stays as the model's constructor made it.

    Example:
        >>> from initstudy.initializers.presets import as_it_is
        >>> as_it_is().rules[0].initializer
        Keep()
    """
    return Policy((Rule(Keep()),))


def keras() -> Policy:
    """What Keras's layers do by default (https://keras.io/api/layers/).

    Kernels are Glorot-uniform by the axes of Keras's kernels, recurrent kernels orthogonal over all
    gates at once, the bias of an LSTM's forget gate 1, other biases 0, embeddings U(±0.05), PReLU's
    slopes 0.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import initialize, keras
        >>> layer = initialize(nn.LSTM(3, 1), keras(), seed=0)
        >>> layer.bias_ih_l0.tolist()
        [0.0, 1.0, 0.0, 0.0]
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

    Glorot-uniform for convolutions (also grouped and transposed ones), fully connected layers,
    attention and the input weights of recurrent layers, whose gates count as one map; orthogonal
    recurrent weights over all gates; 1 for the bias of an LSTM's forget gate and 0 for other
    biases; N(0, 0.01²) for embeddings; one and zero for normalizations; 0.25 for PReLU's slopes
    (Initialize Learnable Parameters for Model Function, section Default Layer Initializations;
    preluLayer).

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import initialize, matlab
        >>> embedding = initialize(nn.Embedding(1000, 50), matlab(), seed=0)
        >>> round(embedding.weight.std().item(), 3)
        0.01
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

    Kernels are LeCun-normal (truncated, with the variance restored), recurrent kernels orthogonal
    per gate, biases 0, embeddings N(0, 1/width), PReLU's slopes 0.01.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import flax, initialize
        >>> embedding = initialize(nn.Embedding(1000, 100), flax(), seed=0)
        >>> round(embedding.weight.std().item(), 2)
        0.1
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
    """Weights and embeddings from N(0, std²) truncated at two deviations, biases zero, as in BERT.

    The truncation narrows the entries to 0.88·std, as in the authors' TensorFlow code (Devlin et
    al. 2019, BERT; create_initializer in its modeling.py).

    Args:
        std: The standard deviation before the truncation.

    Raises:
        ValueError: The deviation is negative or not finite.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import bert, initialize
        >>> layer = initialize(nn.Linear(300, 300), bert(), seed=0)
        >>> bool(layer.weight.abs().max() <= 0.04)
        True
    """
    normal = TruncatedNormal(std, restore=False)
    return Policy((Rule(normal, kind=WEIGHTED, role=WEIGHTS), *biases_and_norms()))


def dcgan(std: float = 0.02) -> Policy:
    """DCGAN's weights: convolutions N(0, std²), scales of batch norms N(1, std²), offsets zero.

    Everything else, the biases of convolutions among it, is as torch makes it (Radford, Metz &
    Chintala 2016, Unsupervised representation learning with deep convolutional generative
    adversarial networks, section 4; `weights_init` of PyTorch's DCGAN tutorial, which adds the
    rule for batch norms).

    Args:
        std: The standard deviation.

    Raises:
        ValueError: The deviation is negative or not finite.

    Example:
        >>> from initstudy.initializers import dcgan
        >>> dcgan().rules[1].initializer
        Normal(std=0.02, mean=1.0)
    """
    batch_norm = nn.modules.batchnorm._BatchNorm
    return Policy(
        (
            Rule(Normal(std), kind=("conv", "conv_transpose"), role="weight"),
            Rule(Normal(std, 1.0), module=batch_norm, role="weight", optional=True),
            Rule(Constant(0.0), module=batch_norm, role="bias", optional=True),
            Rule(Reset(), kind=(*WEIGHTED, "norm", "prelu")),
        )
    )


def unit_forget_gate(forget: float = 1.0, bias: float = 0.0) -> Policy:
    """LSTMs that remember at first: the bias of the forget gates is `forget`.

    Input weights are Glorot-uniform and recurrent weights orthogonal, both per gate; other biases
    are constant (Jozefowicz, Zaremba & Sutskever 2015, An empirical exploration of recurrent
    network architectures).

    Args:
        forget: The bias of the forget gates.
        bias: The biases of other layers.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import initialize, unit_forget_gate
        >>> initialize(nn.LSTM(3, 1), unit_forget_gate(2.0), seed=0).bias_ih_l0.tolist()
        [0.0, 2.0, 0.0, 0.0]
    """
    return Policy(
        (
            Rule(XavierUniform(), kind=WEIGHTED, role="weight"),
            Rule(Orthogonal(), kind=RECURRENT, role="recurrent"),
            Rule(UnitForgetGate(forget), kind="lstm", role="bias", name="*bias_ih*", optional=True),
            Rule(Constant(0.0), kind="lstm", role="bias"),
            *biases_and_norms(bias),
        )
    )


def mean_field(sigma_w2: float = 2.0, sigma_b2: float = 0.0) -> Policy:
    """Weights of variance sigma_w2/fan_in and biases of variance sigma_b2.

    These are the variances of `initstudy.theory.meanfield`, σ_w² and σ_b² of Poole et al. 2016 and
    Schoenholz et al. 2017.

    Args:
        sigma_w2: The variance of the weights times fan_in.
        sigma_b2: The variance of the biases.

    Raises:
        ValueError: A variance is negative or not finite.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import initialize, mean_field
        >>> layer = initialize(nn.Linear(400, 300), mean_field(sigma_w2=4.0), seed=0)
        >>> round(layer.weight.std().item(), 2)
        0.1
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
    """Recurrent weights that are the identity times `scale`, for ReLU; other weights N(0, std²).

    Biases are zero (Le, Jaitly & Hinton 2015, A Simple Way to Initialize Recurrent Networks of
    Rectified Linear Units, sections 2 and 3.2).

    Args:
        std: The standard deviation of the weights that are not recurrent.
        scale: The factor on the identity.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import initialize, irnn
        >>> initialize(nn.RNN(3, 2, nonlinearity="relu"), irnn(), seed=0).weight_hh_l0.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    return Policy(
        (
            Rule(Identity(scale), kind=RECURRENT, role="recurrent"),
            Rule(Normal(std), kind=WEIGHTED, role=WEIGHTS),
            *biases_and_norms(),
        )
    )
