"""The distribution of a filled tensor's entries, and a test of whether they follow it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# The number of entries that a test looks at. With more, deviations that no training could notice
# become significant.
SAMPLE = 2**16
# The limit of the test's statistic differs from its distribution by less than 1% beyond.
EXACT = 2048


@dataclass(frozen=True)
class Law:
    """The distribution of one entry.

    Attributes:
        name: "constant", "normal", "uniform", "truncated normal", or the name of a structure such
            as "orthogonal".
        mean: The expectation.
        std: The standard deviation.
        low: The least possible value.
        high: The largest possible value.
        parent: The mean and standard deviation of the normal distribution that a truncated one was
            cut from.
        tested: Whether the entries are independent and `pvalue` knows their distribution.

    Example:
        >>> from initstudy.initializers import Fans, KaimingNormal
        >>> print(KaimingNormal().law((250, 400), Fans(400, 250)))
        N(0, 0.0707²)
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
        """The distribution of such an entry times a factor.

        Args:
            factor: The factor.
        """
        edges = self.low * factor, self.high * factor
        parent = self.parent[0] * factor, self.parent[1] * factor
        return Law(self.name, self.mean * factor, self.std * factor, *edges, parent, self.tested)

    def pvalue(self, values: Tensor) -> float | None:
        """The p-value of the Kolmogorov–Smirnov test against this distribution.

        Large tensors are tested on 65,536 evenly spaced entries.

        Args:
            values: The tensor to test, of any shape.

        Returns:
            The p-value: 1 or 0 for a constant, None for a structure such as "orthogonal", whose
            entries have no distribution to compare with.
        """
        flat = values.detach().flatten()
        if self.name == "constant":
            return float(torch.isclose(flat.double(), torch.tensor(self.mean).double()).all())
        if not self.tested:
            return None
        from scipy import stats

        step = -(-flat.numel() // SAMPLE)
        sample = flat[::step].double().cpu().numpy()
        # The exact distribution of the statistic takes 0.1 s for 10,000 entries.
        method = "exact" if len(sample) <= EXACT else "asymp"
        return float(stats.kstest(sample, self._distribution(), method=method).pvalue)

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
    """The distribution of a tensor whose entries are all `value`.

    Args:
        value: The value.
    """
    return Law("constant", value, 0.0, value, value)


def normal(std: float, mean: float = 0.0) -> Law:
    """N(mean, std²).

    Args:
        std: The standard deviation.
        mean: The mean.
    """
    return Law("normal", mean, std) if std > 0 else constant(mean)


def uniform(bound: float) -> Law:
    """U(-bound, bound), whose standard deviation is bound/√3.

    Args:
        bound: The largest value.
    """
    return Law("uniform", 0.0, bound / math.sqrt(3), -bound, bound) if bound > 0 else constant(0.0)


def truncated_normal(std: float, mean: float, low: float, high: float) -> Law:
    """N(mean, std²) truncated at `low` and `high`, which makes its deviation smaller than `std`.

    The moments are those of Johnson, Kotz & Balakrishnan 1994, Continuous Univariate Distributions,
    vol. 1, section 10.1.

    Args:
        std: The standard deviation before the truncation.
        mean: The mean before the truncation.
        low: The lower bound.
        high: The upper bound.
    """
    if std == 0:
        return constant(mean)
    a, b = (low - mean) / std, (high - mean) / std
    # Far on the right the distribution function rounds to one.
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
