"""Initializers that fill a tensor as a whole: identities, orthogonal matrices, gate biases."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from initstudy.initializers.base import Initializer, Shape, Type, require_finite, standard
from initstudy.initializers.fans import Fans
from initstudy.initializers.laws import Law
from initstudy.initializers.matrices import as_kernels, as_matrices, as_tensor, from_kernels

CONVOLUTIONS = ("conv", "conv_transpose")
MATRICES = ("linear", "embedding", "rnn", "lstm", "gru", "attention")


@dataclass(frozen=True)
class Identity(Initializer):
    """`gain` times the identity, a partial one where outputs and inputs differ in number.

    Each gate or packed projection gets one of its own (recurrent weights: Le, Jaitly & Hinton
    2015, A simple way to initialize recurrent networks of rectified linear units).
    """

    gain: float = 1.0
    kinds = MATRICES

    def __post_init__(self) -> None:
        require_finite("gain", self.gain, "a gain")

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        if len(shape) != 2:
            raise ValueError(f"Identity fills matrices, not {shape}; Dirac is for convolutions")
        return self.gain * from_kernels(_eye(shape, fans, dtype), fans)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return _moments("identity", self(shape, fans, generator=torch.Generator()))


@dataclass(frozen=True)
class Dirac(Initializer):
    """A convolution that hands its input on: `gain` at the kernel's centre, channel by channel.

    Each group gets an identity of its own (https://docs.pytorch.org/docs/stable/nn.init.html,
    dirac_).
    """

    gain: float = 1.0
    kinds = CONVOLUTIONS

    def __post_init__(self) -> None:
        require_finite("gain", self.gain, "a gain")

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        kernels = as_kernels(_convolution("Dirac", shape, dtype), fans)
        eye = torch.eye(*kernels.shape[1:3], dtype=dtype)
        return from_kernels(_at_centre(kernels, self.gain * eye), fans)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return _moments("Dirac", self(shape, fans, generator=torch.Generator()))


@dataclass(frozen=True)
class Orthogonal(Initializer):
    """`gain` times a matrix with orthonormal rows or columns, whichever are fewer.

    It is Haar-distributed: Q of the QR decomposition of a normal matrix, each column with the sign
    of R's diagonal (Mezzadri 2007, How to generate random matrices from the classical compact
    groups, section 5; Saxe, McClelland & Ganguli 2014). A convolution's kernel counts as inputs;
    each gate, packed projection or group is orthogonal by itself, unless the fans' convention holds
    them for one map.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        require_finite("gain", self.gain, "a gain")

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        normal = as_matrices(standard("normal", shape, generator, torch.float64), fans)
        return as_tensor(self.gain * _orthonormal(normal), shape, fans).to(dtype)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        longer = max(as_matrices(torch.empty(shape, device="meta"), fans).shape[1:])
        return Law("orthogonal", 0.0, self.gain / math.sqrt(longer), tested=False)


@dataclass(frozen=True)
class DeltaOrthogonal(Initializer):
    """A convolution whose kernel is zero but for an orthogonal matrix at its centre.

    It keeps the length of every signal, so there may be no more channels in than out (Xiao et al.
    2018, Dynamical isometry and a mean field theory of CNNs, algorithm 2).
    """

    gain: float = 1.0
    kinds = CONVOLUTIONS

    def __post_init__(self) -> None:
        require_finite("gain", self.gain, "a gain")

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        kernels = as_kernels(_convolution("DeltaOrthogonal", shape, dtype), fans)
        blocks, outputs, inputs = kernels.shape[:3]
        if inputs > outputs:
            raise ValueError(
                f"DeltaOrthogonal cannot keep the length of {inputs} channels in {outputs}; "
                "it needs at least as many out as in"
            )
        normal = standard("normal", (blocks, outputs, inputs), generator, torch.float64)
        centre = (self.gain * _orthonormal(normal)).to(dtype)
        return from_kernels(_at_centre(kernels, centre), fans)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        outputs = as_kernels(torch.empty(shape, device="meta"), fans).shape[1]
        std = self.gain / math.sqrt(outputs * math.prod(shape[2:]))
        return Law("delta-orthogonal", 0.0, std, tested=False)


@dataclass(frozen=True)
class ZerO(Initializer):
    """No randomness: a partial identity, or where a layer widens, one through a Hadamard matrix.

    A layer of n inputs and more outputs gets I*·H·I* / 2^(m/2), with H the Hadamard matrix of size
    2^m ≥ outputs, so that its columns are of unit length where outputs = 2^m; convolutions hold it
    at their kernel's centre (Zhao, Schäfer & Anandkumar 2022, ZerO Initialization, algorithms 1 and
    2; the factor is the one of the authors' code, 1/√2 of what algorithm 1 prints).
    """

    kinds = (*CONVOLUTIONS, *MATRICES)

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        kernels = as_kernels(torch.zeros(shape, dtype=dtype), fans)
        return from_kernels(_at_centre(kernels, _zero_matrix(*kernels.shape[1:3]).to(dtype)), fans)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return _moments("ZerO", self(shape, fans, generator=torch.Generator()))


@dataclass(frozen=True)
class UnitForgetGate(Initializer):
    """An LSTM's bias: `forget` for the forget gate, zero for the rest.

    torch stacks the gates as input, forget, cell, output, so the forget gate is the second quarter
    (Jozefowicz, Zaremba & Sutskever 2015, An empirical exploration of recurrent network
    architectures, section 2.2). torch adds two biases; only one of them is to hold the gate's.
    """

    forget: float = 1.0
    kinds = ("lstm",)

    def __post_init__(self) -> None:
        require_finite("forget", self.forget, low=-math.inf)

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        if len(shape) != 1 or shape[0] % 4 or fans.blocks not in (1, 4):
            raise ValueError(f"UnitForgetGate fills the four gates' bias of an LSTM, not {shape}")
        hidden = shape[0] // 4
        bias = torch.zeros(shape, dtype=dtype)
        bias[hidden : 2 * hidden] = self.forget
        return bias

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return _moments("unit forget gate", self(shape, fans, generator=torch.Generator()))


def _orthonormal(normal: Tensor) -> Tensor:
    """Haar-distributed matrices from normal ones `[blocks, rows, columns]`."""
    wide = normal.shape[1] < normal.shape[2]
    q, r = torch.linalg.qr(normal.mT if wide else normal)
    # Without the signs, the distribution depends on how LAPACK reflects.
    q = q * torch.diagonal(r, dim1=1, dim2=2).sign().unsqueeze(1)
    return q.mT if wide else q


def _eye(shape: Shape, fans: Fans, dtype: Type) -> Tensor:
    kernels = as_kernels(torch.zeros(shape, dtype=dtype), fans)
    return torch.eye(*kernels.shape[1:3], dtype=dtype).expand_as(kernels)


def _at_centre(kernels: Tensor, matrix: Tensor) -> Tensor:
    """Kernels `[blocks, out, in, *kernel]` that hold a matrix, or one a block, at their centre."""
    inner = kernels
    for size in reversed(kernels.shape[3:]):
        inner = inner.select(-1, size // 2)
    inner.copy_(matrix)
    return kernels


def _zero_matrix(outputs: int, inputs: int) -> Tensor:
    if outputs <= inputs:
        return torch.eye(outputs, inputs)
    from scipy.linalg import hadamard

    exponent = math.ceil(math.log2(outputs))
    square = torch.from_numpy(hadamard(2**exponent)).double() / 2 ** (exponent / 2)
    return square[:outputs, :inputs]


def _convolution(name: str, shape: Shape, dtype: Type) -> Tensor:
    if not 3 <= len(shape) <= 5:
        raise ValueError(f"{name} fills convolutions of one to three dimensions, not {shape}")
    return torch.zeros(shape, dtype=dtype)


def _moments(name: str, values: Tensor) -> Law:
    std, mean = torch.std_mean(values.double(), correction=0)
    return Law(name, float(mean), float(std), tested=False)
