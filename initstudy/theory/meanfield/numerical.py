"""Any activation function, by quadrature.

The real line is cut once into panels on which φ and φ' are polynomials of degree 19 to rounding:
panels that are not are halved, so that they shrink onto the kinks and jumps of φ. Every expectation
is then a Gauss–Legendre sum over those panels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from initstudy.quadrature import NODES, Array, panel_rule
from initstudy.theory.meanfield.activation import Activation

Function = Callable[[Array], Array]

# Features of φ are looked for up to this distance from zero; beyond it φ must be smooth on panels
# that double in length.
EXTENT = 64.0
OFFSET = math.sqrt(2) - 1
# A panel this short that is still not smooth holds a kink or a jump, and one of the second length
# is not halved again.
KINK, SHORTEST = 1e-6, 2e-13
# A function that needs more panels than this is not piecewise smooth.
MOST = 4_000
# The limits of the variance between which the sums resolve both φ and the Gaussian.
NEAREST, FARTHEST = 1e-12, 1e24
# Coefficients of a Legendre expansion below this share of the size of φ are rounding.
ROUNDING = 1e-12
# The inner integral is one of very many, so its rule is shorter.
SHORT_NODES, SHORT_WEIGHTS = np.polynomial.legendre.leggauss(12)
SHORT_STEPS = np.linspace(-8.6, 8.6, 10)
TO_LEGENDRE = np.linalg.inv(np.polynomial.legendre.legvander(NODES, len(NODES) - 1))


class Numerical(Activation):
    """An activation function that is given as a function of arrays.

    For a pair of inputs, u' is written as c·u + √(1 - c²)·v with v independent of u, and the panels
    of the inner integral over v start at the kinks of φ as seen from each u. The moments agree with
    the closed forms of this package to 1e-12 for 1e-8 ≤ q ≤ 1e6 and every c.

    Args:
        name: How messages call it.
        function: φ, from an array of any shape to one of the same shape.
        derivative: φ', from an array of any shape to one of the same shape.

    Raises:
        ValueError: φ is not finite, jumps, or is nowhere smooth, so that the expectations above do
            not exist or cannot be computed.

    Example:
        >>> import numpy as np
        >>> from initstudy.theory.meanfield.numerical import Numerical
        >>> sine = Numerical("sin", np.sin, np.cos)
        >>> round(sine.second_moment(1.0), 9)  # (1 - exp(-2))/2
        0.432332358
    """

    def __init__(self, name: str, function: Function, derivative: Function) -> None:
        self.name, self._function, self._derivative = name, function, derivative
        far = np.array([-1e9, -1e3, 0.0, 1e3, 1e9])
        with np.errstate(all="ignore"):
            values = self.function(far)
        if not np.isfinite(values).all():
            raise ValueError(
                f"meanfield.activation={name}: φ({far[~np.isfinite(values)][0]:g}) is not finite; "
                "give a function that is finite everywhere and grows at most as a power"
            )
        self.growth = self._asymptote(values, far)
        self.at_zero = float(values[2])
        self.scale = float(np.abs(self.function(4 * NODES)).max())
        self.edges, self.marks = self._cut()
        for mark in self.marks:
            around = self.function(np.array([mark - 1e-9, mark + 1e-9]))
            if abs(around[1] - around[0]) > 1e-4 * max(1.0, float(np.abs(around).max())):
                raise ValueError(
                    f"meanfield.activation={name}: φ jumps at {mark:g}; the theory needs a "
                    "continuous function, whose derivative has a second moment"
                )

    def function(self, x: Array) -> Array:
        """The activation function itself, φ(x)."""
        return self._function(x)

    def derivative(self, x: Array) -> Array:
        """φ'(x)."""
        return self._derivative(x)

    def rule(self, q: float) -> tuple[Array, Array]:
        """Nodes and weights of a quadrature over u that resolves φ."""
        return panel_rule(min(max(q, NEAREST), FARTHEST), self.edges)

    def _second_moment(self, q: float, c: float) -> float:
        if q == 0:
            return self.at_zero**2
        return self._pair(self.function, q, c) * self._beyond(q, self.growth > 0)

    def _derivative_moment(self, q: float, c: float) -> float:
        return self._pair(self.derivative, max(q, NEAREST), c)

    def _length_slope(self, q: float) -> float:
        inner = min(max(q, NEAREST), FARTHEST)
        x, weight = self.rule(inner)
        # E[φ'² + φφ''] with φ'' integrated by parts, since it has delta functions at the kinks. A
        # constant in φ does not contribute, and would cancel badly at small q.
        value, slope = self.function(x), self.derivative(x)
        curved = weight @ (x * (value - self.at_zero) * slope / inner)
        if self.at_zero == 0:
            return float(curved)
        steep = float(weight @ (x * slope)) / inner
        return float(curved + self.at_zero * steep)

    def _pair(self, function: Function, q: float, c: float) -> float:
        q = min(max(q, NEAREST), FARTHEST)
        edges = self.edges if c in (0, 1) else np.concatenate([self.edges, self.edges / c])
        if abs(c) == 1:
            x, weight = panel_rule(q, edges)
            return float(weight @ (function(x) * function(c * x)))
        std = math.sqrt(q * (1 - c) * (1 + c))
        x, weight = panel_rule(q, np.concatenate([edges, *self._seen(c, std)]))
        there = np.concatenate(list(self._inner(function, c * x, std)))
        return float(weight @ (function(x) * there))

    def _seen(self, c: float, std: float) -> Iterator[Array]:
        """The arguments around which E[f(c·u + std·v)] varies: c·u within std of a kink.

        From a distance all that φ does near zero is one kink there.
        """
        if c != 0:
            steps = std / abs(c) * 4.0 ** np.arange(-1, 20)
            for mark in {0.0, *self.marks}:
                yield np.concatenate([mark / c - steps, mark / c + steps])

    def _inner(self, function: Function, means: Array, std: float) -> Iterator[Array]:
        """E[f(m + std·v)] for every mean m, in the order of the means."""
        steps = std * SHORT_STEPS
        reach = steps[-1]
        for chunk in np.array_split(means, -(-len(means) // 64)):
            low, high = (chunk + side * reach for side in (-1, 1))
            near = (self.edges > low.min()) & (self.edges < high.max())
            inside = np.clip(self.edges[near], low[:, None], high[:, None])
            cuts = np.sort(np.concatenate([chunk[:, None] + steps, inside], axis=1))
            half = np.diff(cuts)[..., None] / 2
            x = cuts[:, :-1, None] + half * (1 + SHORT_NODES)
            z = (x - chunk[:, None, None]) / std
            density = np.exp(-z * z / 2) / (std * math.sqrt(2 * math.pi))
            yield (half * SHORT_WEIGHTS * density * function(x)).sum((1, 2))

    def _beyond(self, q: float, grows: bool) -> float:
        return q / FARTHEST if q > FARTHEST and grows else 1.0

    def _asymptote(self, values: Array, far: Array) -> float:
        """The mean of φ(x)²/x² for x → ±∞; infinite where it still grows."""
        inner, outer = ((values[[i, j]] / far[[i, j]]) ** 2 for i, j in ((1, 3), (0, 4)))
        if outer.max() > 100 * max(1e-12, inner.max()):
            return math.inf
        limit = float(outer.mean())
        # A bounded function over 1e9, or one that grows as a root.
        return limit if limit > 1e-8 else 0.0

    def _cut(self) -> tuple[Array, tuple[float, ...]]:
        """The edges of panels on which φ and φ' are smooth, and the kinks and jumps among them."""
        # Off the integers, where most kinks are: a kink on an edge would not be noticed.
        bounds = np.arange(-EXTENT, EXTENT + 1) + OFFSET
        doubled = bounds[-1] * 2.0 ** np.arange(1, 50)
        edges, marks = {*doubled.tolist(), *(-doubled).tolist(), *bounds.tolist()}, set()
        waiting = list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
        while waiting:
            low, high = waiting.pop()
            middle = (low + high) / 2
            halves = [(low, middle), (middle, high)]
            rough = [] if self._smooth(low, high) else halves
            if (
                rough
                and high - low < KINK
                and (high - low < SHORTEST or all(self._smooth(*half) for half in halves))
            ):
                # The kink has a round position more often than one next to it.
                nearest = round(middle, 9) + 0.0
                marks.add(nearest if low <= nearest <= high else middle)
                rough = []
            edges.update([middle] if rough else [])
            waiting += rough
            if len(edges) > MOST:
                raise ValueError(
                    f"meanfield.activation={self.name}: φ is not smooth between any two points "
                    f"near {middle:.3g}; give a deterministic function in double precision"
                )
        kinks = tuple(sorted(marks))
        # The halving ends in edges on both sides of a kink that are closer than any feature.
        apart = [e for e in edges if all(abs(e - kink) > 1e-9 for kink in kinks)]
        return np.array(self._merged(sorted({*apart, *kinks}), kinks)), kinks

    def _merged(self, edges: list[float], kinks: tuple[float, ...]) -> list[float]:
        """Fewer edges: two neighbouring panels become one while φ and φ' are smooth on both."""
        merged, index = edges[:1], 0
        while index < len(edges) - 1:
            three = edges[index : index + 3]
            one = len(three) == 3 and three[1] not in kinks and self._smooth_together(*three)
            index += 2 if one else 1
            merged.append(edges[index])
        return merged if len(merged) == len(edges) else self._merged(merged, kinks)

    def _smooth_together(self, low: float, middle: float, high: float) -> bool:
        nodes = _nodes(low, high)
        for function in (self.function, self.derivative):
            expansion = TO_LEGENDRE @ function(nodes)
            for panel in ((low, middle), (middle, high)):
                x = _nodes(*panel)
                values = function(x)
                guess = np.polynomial.legendre.legval(2 * (x - low) / (high - low) - 1, expansion)
                if np.abs(guess - values).max() > self._rounding(x, values):
                    return False
        return True

    def _smooth(self, low: float, high: float) -> bool:
        for function in (self.function, self.derivative):
            expansion = np.abs(TO_LEGENDRE @ function(_nodes(low, high)))
            if expansion[-4:].max() > self._rounding(np.array([low, high]), expansion):
                return False
        return True

    def _rounding(self, x: Array, values: Array) -> float:
        # A function such as x·(1 + tanh(x)) rounds by the size of x where it is itself small.
        floor = self.scale * max(1.0, float(np.abs(x).max()))
        return ROUNDING * max(floor, float(np.abs(values).max()))


def _nodes(low: float, high: float) -> Array:
    return low + (high - low) * (1 + NODES) / 2
