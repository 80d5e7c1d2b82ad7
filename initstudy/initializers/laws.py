"""How the entries of a filled tensor are distributed, and testing whether they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Entries that a test looks at: beyond, deviations that no training could notice become significant.
SAMPLE = 2**16


@dataclass(frozen=True)
class Law:
    """The distribution of one entry.

    Attributes:
        name: "constant", "normal", "uniform", "truncated normal", or what the initializer is.
        mean: Its expectation.
        std: Its standard deviation.
        low: Least value.
        high: Largest value.
        parent: Mean and standard deviation of the normal that a truncated one was cut from.
        tested: Whether entries are independent draws of a distribution that `pvalue` knows.
    """

    name: str
    mean: float
    std: float
    low: float = -math.inf
    high: float = math.inf
    parent: tuple[float, float] = (0.0, 1.0)
    tested: bool = True

    def __str__(self) -> str:
        centre = f"{self.mean:.3g}"
        if self.name == "constant":
            return {0.0: "zeros", 1.0: "ones"}.get(self.mean, f"constant {centre}")
        if self.name == "normal":
            return f"N({centre}, {self.std:.3g}²)"
        if self.name == "uniform":
            return f"U(±{self.high:.3g})"
        if self.name == "truncated normal":
            mean, std = self.parent
            return f"N({mean:.3g}, {std:.3g}²) in [{self.low:.3g}, {self.high:.3g}]"
        return self.name

    def scaled(self, factor: float) -> Law:
        """The law of `factor` times such an entry."""
        edges = self.low * factor, self.high * factor
        parent = self.parent[0] * factor, self.parent[1] * factor
        return Law(self.name, self.mean * factor, self.std * factor, *edges, parent, self.tested)

    def pvalue(self, values: Tensor) -> float | None:
        """How well entries fit, by the Kolmogorov–Smirnov test against the exact distribution.

        Large tensors are tested on 65,536 entries, evenly spaced. Without a distribution of its own
        to compare with (identity, orthogonal) there is no p-value; a constant's is 1 or 0.

        Args:
            values: A tensor that the law is said to have produced.
        """
        flat = values.detach().flatten()
        if self.name == "constant":
            return float(torch.isclose(flat.double(), torch.tensor(self.mean).double()).all())
        if not self.tested:
            return None
        from scipy import stats

        step = -(-flat.numel() // SAMPLE)
        return float(stats.kstest(flat[::step].double().cpu().numpy(), self._distribution()).pvalue)

    def _distribution(self) -> Callable[[np.ndarray], np.ndarray]:
        from scipy import stats

        if self.name == "normal":
            return stats.norm(self.mean, self.std).cdf
        if self.name == "uniform":
            return stats.uniform(self.low, self.high - self.low).cdf
        loc, scale = self.parent
        bounds = (self.low - loc) / scale, (self.high - loc) / scale
        return stats.truncnorm(*bounds, loc, scale).cdf


def constant(value: float) -> Law:
    """Every entry is the same."""
    return Law("constant", value, 0.0, value, value)


def normal(std: float, mean: float = 0.0) -> Law:
    """N(mean, std²)."""
    return Law("normal", mean, std) if std > 0 else constant(mean)


def uniform(bound: float) -> Law:
    """U(-bound, bound), of standard deviation bound/√3."""
    return Law("uniform", 0.0, bound / math.sqrt(3), -bound, bound) if bound > 0 else constant(0.0)


def truncated_normal(std: float, mean: float, low: float, high: float) -> Law:
    """N(mean, std²) cut at `low` and `high`; its own deviation is smaller than `std`.

    Moments of the truncated normal: Johnson, Kotz & Balakrishnan 1994, Continuous Univariate
    Distributions, vol. 1, section 10.1.
    """
    if std == 0:
        return constant(mean)
    a, b = (low - mean) / std, (high - mean) / std
    # Far on the right the distribution function has no digits left to differ in.
    mass = _cdf(b) - _cdf(a) if a < 0 else _cdf(-a) - _cdf(-b)
    shift = (_pdf(a) - _pdf(b)) / mass
    spread = 1 + (_edge(a) - _edge(b)) / mass - shift**2
    moments = mean + std * shift, std * math.sqrt(spread)
    return Law("truncated normal", *moments, low, high, parent=(mean, std))


def _pdf(x: float) -> float:
    return math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def _cdf(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


def _edge(x: float) -> float:
    return x * _pdf(x) if math.isfinite(x) else 0.0
