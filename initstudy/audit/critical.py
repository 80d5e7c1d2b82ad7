"""The scale of a model's weights at which its gradient neither grows nor shrinks with depth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from initstudy.audit.call import Call, as_call
from initstudy.audit.signal import _restored
from initstudy.audit.tape import Reading, Tape, is_norm
from initstudy.audit.tensors import is_real, rms
from initstudy.initializers import WEIGHTED, kind, role
from initstudy.initializers.slots import named_tensors
from initstudy.probes.forward import as_written

# Between these factors the critical one is looked for.
LOW, HIGH = 2.0**-10, 2.0**10
# The first layers, in which a signal is still on its way to its fixed point, as a share of all.
SETTLING = 0.3
FEWEST_LAYERS = 4
MOST_PASSES = 50
TOLERANCE = 1e-3
# A long-run variance is an estimate, too; it counts as at least this share of that of one step.
LEAST_SHARE = 0.1
# What a factor of two on the weights does, at the least, to the logarithm of a layer's gradient.
NO_EFFECT = 0.05


@dataclass(frozen=True)
class CriticalScale:
    """The factor on all weights at which a model is critical.

    Attributes:
        factor: The factor: 1 if the model is critical as it is, above 1 if its gradients shrink.
        low: The lower end of the 95% interval, which comes from the spread between layers.
        high: The upper end.
        signal: The change of the activations' root mean square per layer at that factor.
        passes: How many forward and backward passes it took.
        std: The standard deviation of the hidden weights at that factor, if they have one in
            common; None otherwise.
        theory: The factor that mean-field theory names, where it covers the model; None otherwise.
    """

    factor: float
    low: float
    high: float
    signal: float
    passes: int
    std: float | None
    theory: float | None

    def __str__(self) -> str:
        theory = "" if self.theory is None else f"; theory says {self.theory:.3g}"
        return f"×{self.factor:.3g} [{self.low:.3g}, {self.high:.3g}]{theory}"


def critical_scale(
    model: nn.Module, *inputs: Any, passes: int = MOST_PASSES, **keywords: Any
) -> CriticalScale:
    """Finds the factor on all weights at which gradients neither grow nor shrink with depth.

    All weight matrices are multiplied by one factor, which a bisection changes until the mean
    change of log(gradient rms) from layer to layer is zero: there a perturbation of the input
    reaches the output as large as it was (χ₁ = 1 in Schoenholz et al. 2017, Deep Information
    Propagation). The gradient is that of a random direction of the output. The first layers are
    left out, since a signal that starts far from its fixed point changes there in any case. For
    homogeneous activation functions the signal then keeps its size as well; for others, such as
    tanh, its size is constant on both sides of the critical point and does not show it.

    Args:
        model: A model with at least four hidden layers. It is left as it was.
        *inputs: Its inputs, as for `initstudy.audit_model`.
        passes: How many passes to make at most.
        **keywords: Its keyword arguments.

    Raises:
        ValueError: The model cannot run, has too few layers, or no factor makes it critical, as in
            a model whose normalizations undo every factor.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> import initstudy
        >>> layers = [layer for _ in range(12) for layer in (nn.Linear(256, 256), nn.ReLU())]
        >>> net = initstudy.initialize(nn.Sequential(*layers), "lecun_normal", seed=0)
        >>> found = initstudy.critical_scale(net, torch.randn(64, 256))
        >>> abs(found.factor - 2**0.5) < 0.05, found.low < 2**0.5 < found.high
        (True, True)
    """
    if passes < 8:
        raise ValueError(f"passes={passes}: a bisection needs at least 8")
    call = as_call(model, inputs, keywords)
    weights = [
        slot.tensor
        for slot in named_tensors(model)
        if role(slot.module, slot.key) in ("weight", "recurrent")
        and kind(slot.module) in WEIGHTED
        and kind(slot.module) != "embedding"
        and isinstance(slot.tensor, nn.Parameter)
    ]
    if not weights or not call:
        raise ValueError("critical_scale: needs a model with weights and a batch of its inputs")
    search = _Search(model, call, weights)
    factor, points = search.bisect(passes)
    steps = points[factor]
    slope = _slope(points, factor)
    half = 2.0 * _error(steps.gradients) / slope
    row = _common_std(model, factor)
    return CriticalScale(
        factor,
        factor * math.exp(-half),
        factor * math.exp(half),
        math.exp(statistics.fmean(steps.signals)),
        search.passes,
        row,
        _theory(model),
    )


@dataclass(frozen=True)
class _Steps:
    """Changes from one layer to the next, in the logarithm of the root mean square.

    Attributes:
        gradients: Those of the gradient, on its way back.
        signals: Those of the activation.
    """

    gradients: list[float]
    signals: list[float]

    @property
    def mean(self) -> float:
        """The mean change of the gradient."""
        return statistics.fmean(self.gradients)


class _Search:
    def __init__(self, model: nn.Module, call: Call, weights: Sequence[Tensor]) -> None:
        self.model, self.call, self.weights = model, call, weights
        self.originals = [weight.detach().clone() for weight in weights]
        self.passes = 0

    def bisect(self, most: int) -> tuple[float, dict[float, _Steps]]:
        """The factor, and the changes at every factor that was tried."""
        points: dict[float, _Steps] = {}

        def change(factor: float) -> float:
            if factor not in points:
                points[factor] = self._steps(factor)
            return points[factor].mean

        low, high = self._bracket(change, most)
        while self.passes < most and math.log(high / low) > TOLERANCE:
            middle = _between(low, change(low), high, change(high))
            if abs(change(middle)) < TOLERANCE / 2:
                break
            low, high = (low, middle) if change(middle) > 0 else (middle, high)
        best = min(points, key=lambda factor: abs(points[factor].mean))
        return best, points

    def _bracket(self, change: Any, most: int) -> tuple[float, float]:
        """Two factors with the critical one between them."""
        start = change(1.0)
        low = high = 1.0
        while low >= LOW and high <= HIGH and self.passes < most:
            if start > 0:
                low, high = low / 2, low
                self._require_effect(change(low) - change(high))
                if change(low) <= 0:
                    return low, high
            else:
                low, high = high, high * 2
                self._require_effect(change(high) - change(low))
                if change(high) > 0:
                    return low, high
        raise ValueError(
            f"critical_scale: no factor between {LOW:.3g} and {HIGH:.3g} makes the "
            f"{type(self.model).__name__} critical: its gradients "
            f"{'grow' if start > 0 else 'shrink'} with depth at all of them"
        )

    def _require_effect(self, change: float) -> None:
        """Raises ValueError if a factor of two does next to nothing."""
        if abs(change) < NO_EFFECT and any(is_norm(module) for module in self.model.modules()):
            raise ValueError(
                f"critical_scale: the {type(self.model).__name__} has no critical factor, since "
                "its normalizations undo every factor"
            )

    def _steps(self, factor: float) -> _Steps:
        self.passes += 1
        with self._scaled(factor), _restored(self.model), torch.enable_grad(), as_written():
            torch.manual_seed(0)
            tape = Tape(self.model, self.call.tensors())
            try:
                with tape:
                    returned = self.call.run(self.model)
            except Exception as error:
                # A model may raise anything.
                lines = str(error).splitlines() or [type(error).__name__]
                raise ValueError(
                    f"{type(self.model).__name__} cannot run on {self.call}: {lines[0]}"
                ) from error
            readings = _settled(tape.readings)
            activations = [r.after for r in readings if r.after is not None]
            output = _output(returned, tape.readings)
            direction = torch.randn(output.shape).to(output)
            found = torch.autograd.grad((output * direction).sum(), activations, allow_unused=True)
        pairs = [(rms(a), rms(g)) for a, g in zip(activations, found, strict=True) if g is not None]
        usable = [(a, g) for a, g in pairs if 0 < a < math.inf and 0 < g < math.inf]
        if len(usable) < FEWEST_LAYERS and len(pairs) >= FEWEST_LAYERS:
            # Everything has vanished or overflowed, which says on which side the factor lies.
            size = pairs[0][1]
            side = 700.0 if math.isinf(size) or math.isnan(size) or factor > 1 else -700.0
            return _Steps([side, side], [side, side])
        if len(usable) < FEWEST_LAYERS:
            raise ValueError(
                f"critical_scale: the {type(self.model).__name__} has {len(usable)} hidden layers "
                f"with a gradient; it needs at least {FEWEST_LAYERS}"
            )
        logs = [(math.log(a), math.log(g)) for a, g in usable]
        return _Steps(
            [one[1] - other[1] for one, other in pairwise(logs)],
            [other[0] - one[0] for one, other in pairwise(logs)],
        )

    @contextmanager
    def _scaled(self, factor: float) -> Iterator[None]:
        with torch.no_grad():
            for weight, original in zip(self.weights, self.originals, strict=True):
                weight.copy_(original * factor)
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, original in zip(self.weights, self.originals, strict=True):
                    weight.copy_(original)


def _error(steps: Sequence[float]) -> float:
    """The standard error of the mean of successive steps, which may be correlated.

    In a residual network every step into a branch is followed by one back, so that the sum varies
    less than its terms do: a long-run variance with Bartlett weights (Newey & West 1987).
    """
    mean, count = statistics.fmean(steps), len(steps)
    centred = [step - mean for step in steps]

    def covariance(lag: int) -> float:
        return sum(a * b for a, b in zip(centred, centred[lag:], strict=False)) / (count - 1)

    lags = min(3, count // 4)
    total = covariance(0)
    total += 2 * sum((1 - k / (lags + 1)) * covariance(k) for k in range(1, lags + 1))
    return math.sqrt(max(total, LEAST_SHARE * covariance(0)) / count)


def _between(low: float, below: float, high: float, above: float) -> float:
    """Where a straight line in the logarithm is zero, but well within the two ends.

    For a homogeneous activation function the change is such a line; halves do where it is not.
    """
    share = -below / (above - below) if above > below else 0.5
    share = share if max(abs(below), abs(above)) < 100 else 0.5
    return low * (high / low) ** min(max(share, 0.05), 0.95)


def _output(returned: Any, readings: Sequence[Reading]) -> Tensor:
    from initstudy.audit.scalar import main_output

    output = main_output(returned)
    if not output.requires_grad:
        raise ValueError("critical_scale: no gradient reaches the model's layers")
    return output


def _settled(readings: Sequence[Reading]) -> list[Reading]:
    """The hidden layers after those in which the signal settles."""
    hidden = [r for r in readings if r.after is not None and is_real(r.after)]
    skipped = int(SETTLING * len(hidden)) if len(hidden) > 2 * FEWEST_LAYERS else 0
    return hidden[skipped:]


def _slope(points: dict[float, _Steps], factor: float) -> float:
    """How the mean change grows with the logarithm of the factor, near one factor."""
    others = [
        (math.log(other / factor), points[other].mean - points[factor].mean)
        for other in points
        if 0.02 < abs(math.log(other / factor)) < 1 and abs(points[other].mean) < 100
    ]
    slopes = [change / distance for distance, change in others]
    return max(statistics.median(slopes), 0.05) if slopes else 1.0


def _common_std(model: nn.Module, factor: float) -> float | None:
    """The deviation that hidden weights have in common at a factor, within 10%."""
    stds = [
        float(slot.tensor.detach().std(correction=0))
        for slot in named_tensors(model)
        if role(slot.module, slot.key) == "weight" and kind(slot.module) in WEIGHTED
    ][1:-1]
    if not stds or max(stds) > 1.1 * min(stds):
        return None
    return factor * statistics.fmean(stds)


def _theory(model: nn.Module) -> float | None:
    """The factor that mean-field theory names for a chain of layers of one activation function."""
    from initstudy.theory import meanfield
    from initstudy.theory.predict import NotCoveredError, predict

    values = dict(model.named_parameters())
    try:
        found = predict(model, values, 1.0, 1)
        if found.sigma_w2 is None or found.sigma_b2 is None:
            return None
        critical = meanfield.critical_sigma_w2(found.activation, found.sigma_b2)
    except (NotCoveredError, ValueError):
        return None
    return math.sqrt(critical / found.sigma_w2)
