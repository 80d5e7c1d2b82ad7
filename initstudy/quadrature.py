"""Gaussian expectations by composite Gauss–Legendre quadrature.

Gauss–Hermite quadrature converges slowly for a function that has a kink or varies much faster than
the Gaussian. The panels here start at the kinks and double in length away from them, so that they
resolve both scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# A Gaussian has less than 2e-23 of its mass beyond ten standard deviations.
REACH = 10.0
# A kink's panel is then shorter than the spacing of doubles.
HALVINGS = 50
NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)


def gaussian_rule(q: float, marks: Sequence[float], finest: float) -> tuple[Array, Array]:
    """Nodes x and weights w with Σ w·f(x) ≈ E[f(u)] for u normal with mean 0 and variance q.

    Args:
        q: The variance, above zero.
        marks: The arguments at which f has kinks or varies fastest.
        finest: The length over which f varies there.

    Returns:
        The nodes in increasing order, and their weights, which sum to one.

    Example:
        >>> from initstudy.quadrature import gaussian_rule
        >>> x, weight = gaussian_rule(4.0, marks=(0.0,), finest=0.5)
        >>> round(float(weight @ abs(x)) ** 2, 12) == round(2 * 4.0 / 3.141592653589793, 12)
        True
    """
    sigma = math.sqrt(q)
    # A feature shorter than a billionth of sigma has no weight that a double could represent.
    finest = max(finest, 1e-9 * sigma)
    doublings = max(0, math.ceil(math.log2(2 * REACH * sigma / finest)))
    steps = finest * 2.0 ** np.arange(doublings)
    edges = [np.concatenate((mark - steps, [mark], mark + steps)) for mark in marks]
    return _composite(sigma, np.concatenate([sigma * np.arange(-REACH, REACH + 1), *edges]))


def panel_rule(q: float, edges: Array) -> tuple[Array, Array]:
    """The rule of `gaussian_rule` for a function that is smooth between given edges.

    Args:
        q: The variance, above zero.
        edges: Arguments between which the function is smooth; edges at every standard deviation
            are added, and those beyond ten standard deviations are ignored.

    Returns:
        The nodes in increasing order, and their weights, which sum to one.

    Example:
        >>> import numpy as np
        >>> from initstudy.quadrature import panel_rule
        >>> x, weight = panel_rule(1.0, edges=np.array([0.0]))
        >>> round(float(weight @ np.maximum(x, 0) ** 2), 12)
        0.5
    """
    sigma = math.sqrt(q)
    return _composite(sigma, np.concatenate([sigma * np.arange(-REACH, REACH + 1), edges]))


def _composite(sigma: float, edges: Array) -> tuple[Array, Array]:
    panels = np.unique(np.clip(edges, -REACH * sigma, REACH * sigma))
    half = np.diff(panels)[:, None] / 2
    z = ((panels[:-1, None] + half + half * NODES) / sigma).ravel()
    weight = (half * WEIGHTS).ravel() * np.exp(-z * z / 2) / (sigma * math.sqrt(2 * math.pi))
    return sigma * z, weight


def adaptive_mean(function: Callable[[Array], Array]) -> float:
    """E[f(z)] for z standard normal, by halving panels until their sums agree.

    Args:
        function: f, from an array of shape (n,) to one of the same shape; piecewise smooth, with
            kinks and jumps anywhere.

    Returns:
        The expectation, to an absolute error of about 1e-14 times the size of f.

    Example:
        >>> import numpy as np
        >>> from initstudy.quadrature import adaptive_mean
        >>> round(adaptive_mean(lambda x: np.maximum(x - 0.3, 0) ** 2), 12)
        0.302060205176
    """
    waiting = np.stack([np.arange(-REACH, REACH), np.arange(-REACH, REACH) + 1])
    total = 0.0
    for _ in range(HALVINGS):
        middle = waiting.mean(0)
        halves = [np.stack([waiting[0], middle]), np.stack([middle, waiting[1]])]
        whole, left, right = (_panel_sums(function, panels) for panels in (waiting, *halves))
        rough = np.abs(whole - left - right) > 1e-15 * np.maximum(1.0, np.abs(whole))
        total += float((left + right)[~rough].sum())
        waiting = np.concatenate([half[:, rough] for half in halves], axis=1)
        if waiting.size == 0:
            return total
    return total + float(_panel_sums(function, waiting).sum())


def _panel_sums(function: Callable[[Array], Array], panels: Array) -> Array:
    half = np.diff(panels, axis=0)[0][:, None] / 2
    x = panels[0][:, None] + half * (1 + NODES)
    values = function(x.ravel()).reshape(x.shape)
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return (half * WEIGHTS * density * values).sum(1)
