"""Initializers whose entries depend on each other: identities, orthogonal matrices, gate biases."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from initstudy.initializers.base import Initializer, Shape, Type, standard
from initstudy.initializers.fans import Fans
from initstudy.initializers.laws import Law
from initstudy.initializers.matrices import as_kernels, as_matrices, as_tensor, from_kernels

CONVOLUTIONS = ("conv", "conv_transpose")
MATRICES = ("linear", "embedding", "rnn", "lstm", "gru", "attention")


@dataclass(frozen=True)
class Identity(Initializer):
    """`gain` times the identity, a partial one if outputs and inputs differ in number.

    Every gate and packed projection gets an identity of its own (for recurrent weights: Le, Jaitly
    & Hinton 2015, A simple way to initialize recurrent networks of rectified linear units).

    Args:
        gain: The value on the diagonal.

    Example:
        >>> from initstudy.initializers import Identity
        >>> Identity()((2, 3))
        tensor([[1., 0., 0.],
                [0., 1., 0.]])
    """

    gain: float = 1.0
    kinds = MATRICES

    def __post_init__(self) -> None:
        self._number("gain", "a gain")

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        if len(shape) != 2:
            raise ValueError(f"Identity fills matrices, not {shape}; Dirac is for convolutions")
        return self.gain * from_kernels(_eye(shape, fans, dtype), fans)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return _moments("identity", self(shape, fans, generator=torch.Generator()))


@dataclass(frozen=True)
class Dirac(Initializer):
    """A convolution that passes its input on: `gain` at the kernel's centre, channel by channel.

    Every group gets an identity of its own (https://docs.pytorch.org/docs/stable/nn.init.html,
    dirac_).

    Args:
        gain: The value at the centre.

    Example:
        >>> from initstudy.initializers import Dirac
        >>> Dirac()((1, 1, 3))
        tensor([[[0., 1., 0.]]])
    """

    gain: float = 1.0
    kinds = CONVOLUTIONS

    def __post_init__(self) -> None:
        self._number("gain", "a gain")

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        kernels = as_kernels(_convolution("Dirac", shape, dtype), fans)
        eye = torch.eye(*kernels.shape[1:3], dtype=dtype)
        return from_kernels(_at_centre(kernels, self.gain * eye), fans)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return _moments("Dirac", self(shape, fans, generator=torch.Generator()))


@dataclass(frozen=True)
class Orthogonal(Initializer):
    """`gain` times a matrix with orthonormal rows or columns, whichever are fewer.

    The matrix is Haar-distributed: Q of the QR decomposition of a normal matrix, with every column
    multiplied by the sign of R's diagonal, or by its phase for a complex matrix, which is unitary
    (Mezzadri 2007, How to generate random matrices from the classical compact groups, section 5;
    Saxe, McClelland & Ganguli 2014, Exact solutions to the nonlinear dynamics of learning in deep
    linear neural networks). A convolution's kernel counts as inputs. Every gate, packed projection
    and group is orthogonal by itself, unless the fans' convention counts them as one map.

    Args:
        gain: The singular values.

    Example:
        >>> import torch
        >>> from initstudy.initializers import Orthogonal
        >>> q = Orthogonal()((3, 5))
        >>> torch.allclose(q @ q.T, torch.eye(3), atol=1e-6)
        True
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        self._number("gain", "a gain")

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        wide = torch.complex128 if dtype.is_complex else torch.float64
        normal = as_matrices(standard("normal", shape, generator, wide), fans)
        return as_tensor(self.gain * _orthonormal(normal), shape, fans).to(dtype)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        longer = max(as_matrices(torch.empty(shape, device="meta"), fans).shape[1:])
        return Law("orthogonal", 0.0, self.gain / math.sqrt(longer), tested=False)


@dataclass(frozen=True)
class DeltaOrthogonal(Initializer):
    """A convolution with an orthogonal matrix at its kernel's centre and zeros elsewhere.

    It preserves the length of every signal, which needs at least as many output channels as input
    channels (Xiao et al. 2018, Dynamical isometry and a mean field theory of CNNs, algorithm 2).

    Args:
        gain: The singular values of the matrix.

    Example:
        >>> import torch
        >>> from initstudy.initializers import DeltaOrthogonal
        >>> kernel = DeltaOrthogonal()((4, 3, 3, 3))
        >>> torch.allclose(kernel[:, :, 1, 1].T @ kernel[:, :, 1, 1], torch.eye(3), atol=1e-6)
        True
    """

    gain: float = 1.0
    kinds = CONVOLUTIONS

    def __post_init__(self) -> None:
        self._number("gain", "a gain")

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        kernels = as_kernels(_convolution("DeltaOrthogonal", shape, dtype), fans)
        blocks, outputs, inputs = kernels.shape[:3]
        if inputs > outputs:
            raise ValueError(
                f"DeltaOrthogonal cannot keep the length of {inputs} channels in {outputs}; "
                "it needs at least as many out as in"
            )
        wide = torch.complex128 if dtype.is_complex else torch.float64
        normal = standard("normal", (blocks, outputs, inputs), generator, wide)
        centre = (self.gain * _orthonormal(normal)).to(dtype)
        return from_kernels(_at_centre(kernels, centre), fans)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        outputs = as_kernels(torch.empty(shape, device="meta"), fans).shape[1]
        std = self.gain / math.sqrt(outputs * math.prod(shape[2:]))
        return Law("delta-orthogonal", 0.0, std, tested=False)


@dataclass(frozen=True)
class ZerO(Initializer):
    """A partial identity, or for a layer with more outputs than inputs one by a Hadamard matrix.

    Nothing is random. A layer of n inputs and more outputs gets I*·H·I* / 2^(m/2), with H the
    Hadamard matrix of size 2^m ≥ outputs, so that its columns have unit length if outputs = 2^m. A
    convolution has the matrix at its kernel's centre (Zhao, Schäfer & Anandkumar 2022, ZerO
    Initialization, algorithms 1 and 2; the factor is that of the authors' code, which is 1/√2 times
    that of algorithm 1).

    Example:
        >>> from initstudy.initializers import ZerO
        >>> ZerO()((2, 1))
        tensor([[0.7071],
                [0.7071]])
    """

    kinds = (*CONVOLUTIONS, *MATRICES)

    def _draw(self, shape: Shape, fans: Fans, generator: torch.Generator, dtype: Type) -> Tensor:
        kernels = as_kernels(torch.zeros(shape, dtype=dtype), fans)
        return from_kernels(_at_centre(kernels, _zero_matrix(*kernels.shape[1:3]).to(dtype)), fans)

    def _law(self, shape: Shape, fans: Fans) -> Law:
        return _moments("ZerO", self(shape, fans, generator=torch.Generator()))


@dataclass(frozen=True)
class UnitForgetGate(Initializer):
    """An LSTM's bias: `forget` for the forget gate, zero for the other gates.

    torch stacks the gates as input, forget, cell, output, so the forget gate is the second quarter
    (Jozefowicz, Zaremba & Sutskever 2015, An empirical exploration of recurrent network
    architectures, section 2.2). torch adds two biases, only one of which should be filled so.

    Args:
        forget: The bias of the forget gate.

    Example:
        >>> from initstudy.initializers import UnitForgetGate
        >>> UnitForgetGate()((8,))
        tensor([0., 0., 1., 1., 0., 0., 0., 0.])
    """

    forget: float = 1.0
    kinds = ("lstm",)

    def __post_init__(self) -> None:
        self._number("forget", low=-math.inf)

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
    """Haar-distributed matrices from normal ones of shape (blocks, rows, columns)."""
    wide = normal.shape[1] < normal.shape[2]
    q, r = torch.linalg.qr(normal.mT if wide else normal)
    # Without the signs, the distribution depends on how LAPACK reflects.
    diagonal = torch.diagonal(r, dim1=1, dim2=2)
    q = q * (diagonal.sgn() if q.is_complex() else diagonal.sign()).unsqueeze(1)
    return q.mT if wide else q


def _eye(shape: Shape, fans: Fans, dtype: Type) -> Tensor:
    kernels = as_kernels(torch.zeros(shape, dtype=dtype), fans)
    return torch.eye(*kernels.shape[1:3], dtype=dtype).expand_as(kernels)


def _at_centre(kernels: Tensor, matrix: Tensor) -> Tensor:
    """Kernels of shape (blocks, out, in, *kernel) with a matrix at their centre.

    The matrix is the same for all blocks, or one per block.
    """
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
