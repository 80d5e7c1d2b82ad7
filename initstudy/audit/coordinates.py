"""The coordinate check: does anything in a model grow or shrink as it gets wider or deeper?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from initstudy.audit.call import as_call
from initstudy.audit.scalar import LossFunction, scalar_of
from initstudy.audit.tape import Tape
from initstudy.audit.tensors import rms

MakeModel = Callable[[int, int], nn.Module]
MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]
# The exponents that count as none: in the limit they are zero, and at finite widths nearly.
TOLERANCE = 0.2
STEPS, SEEDS = 3, 3


@dataclass(frozen=True)
class Exponent:
    """How one quantity of one tensor depends on width, or on depth.

    Attributes:
        name: The layer, parameter, or scores of attention. The last layer stands for the output.
        what: "activation" at initialization, "change" of the activation by training, or "update":
            the spectral norm of the change of a parameter over √(fan_out/fan_in).
        axis: "width" or "depth".
        slope: The exponent: the slope of the logarithm against that of the width or depth.
        low: The lower end of its 95% interval.
        high: The upper end.
        limits: Between which exponents the theory wants it.
    """

    name: str
    what: str
    axis: str
    slope: float
    low: float
    high: float
    limits: tuple[float, float]

    @property
    def holds(self) -> bool:
        """Whether the interval reaches into the limits, widened by the tolerance."""
        low, high = self.limits
        return self.high >= low - TOLERANCE and self.low <= high + TOLERANCE

    def __str__(self) -> str:
        wanted = "0" if self.limits == (0.0, 0.0) else "at most 0"
        return (
            f"{self.what} of {self.name}: {self.axis}^{self.slope:+.2f} "
            f"[{self.low:+.2f}, {self.high:+.2f}], where {wanted} is wanted"
        )


@dataclass(frozen=True)
class Coordinates:
    """The result of a coordinate check.

    Attributes:
        exponents: One per tensor, quantity and axis, in the order in which the layers run.
    """

    exponents: tuple[Exponent, ...]

    @property
    def broken(self) -> tuple[Exponent, ...]:
        """The exponents that are not what the theory wants, the furthest off first."""
        off = [e for e in self.exponents if not e.holds]
        return tuple(sorted(off, key=_distance, reverse=True))

    @property
    def passes(self) -> bool:
        """Whether none is broken."""
        return not self.broken

    @property
    def culprit(self) -> str | None:
        """The tensor that breaks the scaling, or None.

        What a layer does at initialization comes first, then the first parameter whose update is
        of the wrong size, then the output that changes most wrongly: others follow from these.
        """
        for what in ("activation", "update"):
            names = [e.name for e in self.exponents if e.what == what and not e.holds]
            if names:
                return names[0]
        return self.broken[0].name if self.broken else None

    def __str__(self) -> str:
        if self.passes:
            return f"nothing depends on size: all {len(self.exponents)} exponents hold"
        lines = [str(exponent) for exponent in self.broken]
        return "\n".join([f"{self.culprit} breaks the scaling", *lines])


def coordinate_check(
    make_model: MakeModel,
    widths: Sequence[int],
    depths: Sequence[int],
    optimizer: MakeOptimizer,
    *,
    batch: Any,
    targets: Any = None,
    loss: LossFunction | None = None,
    steps: int = STEPS,
    seeds: int = SEEDS,
) -> Coordinates:
    """Trains small models of several sizes for a few steps and measures what depends on the size.

    The check of Yang et al. 2022 (Tensor Programs V, appendix D.1), for muP and, along the depth,
    for CompleteP (Dey et al. 2025): activations at initialization keep their size, or shrink at the
    output; the activations' changes by training keep theirs. For parameters it is the spectral
    condition (Yang, Simon & Bernstein 2023, eq. 1): the spectral norm of an update is
    √(fan_out/fan_in) times a constant.

    Args:
        make_model: Makes a model of a width and a depth; torch's random state is seeded before.
        widths: At least two widths.
        depths: The depths; with one, depth is not checked.
        optimizer: Makes the optimizer of a model, with the learning rates that are to be checked.
        batch: The inputs: a tensor, a tuple of positional arguments or a dict of keyword arguments.
        targets: The targets, as for `initstudy.audit_model`.
        loss: A loss of the user's own.
        steps: How many steps to train.
        seeds: How many models of each size.

    Raises:
        ValueError: There are fewer than two sizes, or a model cannot be trained on the batch.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> import initstudy
        >>> def make(width, depth):
        ...     return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 2))
        >>> x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
        >>> found = initstudy.coordinate_check(
        ...     make, [64, 256, 1024], [2], lambda m: torch.optim.Adam(m.parameters(), 0.01),
        ...     batch=x, targets=torch.arange(16) % 2,
        ... )
        >>> found.passes, found.culprit
        (False, '2')

        Adam's steps have one size for every entry, which is too large for the readout of a wide
        layer.
    """
    sizes = sorted(set(widths)), sorted(set(depths))
    if len(sizes[0]) < 2 and len(sizes[1]) < 2:
        raise ValueError(f"widths={list(widths)}: needs at least two widths or depths")
    rows: list[_Row] = []
    for width in sizes[0]:
        for depth in sizes[1]:
            for seed in range(seeds):
                rows += _measured(
                    make_model, width, depth, seed, optimizer, batch, targets, loss, steps
                )
    return Coordinates(tuple(_exponents(rows, sizes)))


@dataclass(frozen=True)
class _Row:
    name: str
    what: str
    width: int
    depth: int
    seed: int
    value: float
    free: bool


def _measured(
    make_model: MakeModel,
    width: int,
    depth: int,
    seed: int,
    optimizer: MakeOptimizer,
    batch: Any,
    targets: Any,
    loss: LossFunction | None,
    steps: int,
) -> list[_Row]:
    """What one model measures: its activations, their changes, and its parameters' updates."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_model(width, depth)
        call = as_call(model, (batch,), {})

        def forward() -> tuple[dict[str, Tensor], Tensor, list[str]]:
            tape = Tape(model, call.tensors(), attention=True)
            with tape:
                returned = call.run(model)
                scalar = scalar_of(returned, call.tensors(), targets, loss)
            outputs = {r.name: r.outputs[0].detach().clone() for r in tape.readings[:-1]}
            outputs |= dict(tape.scores)
            # The output stands for the last layer, as a multiplier may follow that.
            outputs[tape.readings[-1].name] = scalar.output.detach().clone()
            weights = [name for r in tape.readings[:-1] for name in r.weights]
            return outputs, scalar.value, weights

        try:
            before, value, weights = forward()
            start = {n: model.get_parameter(n).detach().clone() for n in weights}
            stepper = optimizer(model)
            for _ in range(steps):
                stepper.zero_grad()
                value.backward()
                stepper.step()
                after, value, _ = forward()
        except Exception as error:
            # A user's model or optimizer may raise anything.
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(f"coordinate_check: width {width}, depth {depth}: {reason}") from error
    last = list(before)[-1]
    rows = []
    for name, first in before.items():
        # Scores of attention and the output may shrink at initialization.
        free = name == last or name.endswith(" scores")
        rows.append(_Row(name, "activation", width, depth, seed, rms(first), free))
        change = rms(after[name] - first)
        rows.append(_Row(name, "change", width, depth, seed, change, free))
    for name in weights:
        update = _spectral(model, name, model.get_parameter(name).detach() - start[name])
        rows.append(_Row(name, "update", width, depth, seed, update, False))
    return rows


def _spectral(model: nn.Module, name: str, change: Tensor) -> float:
    """The spectral norm of a change over √(fan_out/fan_in); of an embedding's rows, their size."""
    if isinstance(model.get_submodule(name.rpartition(".")[0]), nn.Embedding):
        # A one-hot input selects a row: the norm of the largest row over √(width).
        return float(change.norm(dim=1).max()) / math.sqrt(change.shape[1])
    matrix = change.flatten(1).float()
    norm = float(torch.linalg.matrix_norm(matrix, ord=2))
    return norm / math.sqrt(matrix.shape[0] / matrix.shape[1])


def _exponents(rows: Sequence[_Row], sizes: tuple[list[int], list[int]]) -> list[Exponent]:
    widths, depths = sizes
    found = []
    keys = list(dict.fromkeys((row.name, row.what, row.free) for row in rows))
    for name, what, free in keys:
        own = [row for row in rows if (row.name, row.what) == (name, what)]
        limits = (-math.inf, 0.0) if free and what == "activation" else (0.0, 0.0)
        for axis, values in (("width", widths), ("depth", depths)):
            other = "depth" if axis == "width" else "width"
            fixed = (depths if axis == "width" else widths)[-1]
            points = [r for r in own if getattr(r, other) == fixed and r.value > 0]
            if len(values) < 2 or len({getattr(r, axis) for r in points}) < 2:
                continue
            slope, half = _fit(
                np.log([float(getattr(r, axis)) for r in points]),
                np.log([r.value for r in points]),
            )
            found.append(Exponent(name, what, axis, slope, slope - half, slope + half, limits))
    return found


def _fit(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The least-squares slope and the half width of its 95% interval."""
    from scipy.special import stdtrit

    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    if len(x) < 3:
        return slope, math.inf
    residual = y - y.mean() - slope * centred
    variance = float(residual @ residual) / (len(x) - 2) / float(centred @ centred)
    return slope, float(stdtrit(len(x) - 2, 0.975)) * math.sqrt(variance)


def _distance(exponent: Exponent) -> float:
    low, high = exponent.limits
    return max(low - exponent.high, exponent.low - high)
