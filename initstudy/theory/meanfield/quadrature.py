"""Gaussian expectations by Gauss–Legendre panels.

Gauss–Hermite alone converges slowly where the function has a kink or is much narrower than the
Gaussian; panels that start at the kinks and double in length away from them see both scales.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# A Gaussian holds less than 2e-23 of itself beyond ten standard deviations.
REACH = 10.0
NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)


def gaussian_rule(q: float, marks: Sequence[float], finest: float) -> tuple[Array, Array]:
    """Nodes x and weights w with Σ w·f(x) = E[f(u)], u normal with variance q.

    Args:
        q: The variance, above zero.
        marks: Where f has kinks or changes fastest.
        finest: The length on which f changes there.
    """
    sigma = math.sqrt(q)
    edges = [sigma * np.arange(-REACH, REACH + 1)]
    # Below a billionth of sigma a feature has no weight that a double could hold.
    finest = max(finest, 1e-9 * sigma)
    doublings = max(0, math.ceil(math.log2(2 * REACH * sigma / finest)))
    steps = finest * 2.0 ** np.arange(doublings)
    edges += [np.concatenate((mark - steps, [mark], mark + steps)) for mark in marks]
    panels = np.unique(np.clip(np.concatenate(edges), -REACH * sigma, REACH * sigma))
    half = np.diff(panels)[:, None] / 2
    z = ((panels[:-1, None] + half + half * NODES) / sigma).ravel()
    weight = (half * WEIGHTS).ravel() * np.exp(-z * z / 2) / (sigma * math.sqrt(2 * math.pi))
    return sigma * z, weight
