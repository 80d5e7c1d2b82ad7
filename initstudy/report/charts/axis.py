"""An axis of cells: each value of a studied key, up to half-way to its neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import altair as alt
import numpy as np
import polars as pl

from initstudy.store.frames import LOG_FROM

TICKS = 10


@dataclass(frozen=True)
class Axis:
    """Cells along one axis.

    Attributes:
        values: The values, ascending.
        edges: The borders of their cells, one more than values.
        logarithmic: Whether the axis is logarithmic.
    """

    values: list[float]
    edges: list[float]
    logarithmic: bool

    @classmethod
    def of(cls, values: pl.Series) -> Axis:
        """The cells of the values that a column has."""
        sorted_values = values.unique().sort().cast(pl.Float64).to_list()
        low, high = sorted_values[0], sorted_values[-1]
        logarithmic = low > 0 and high / low > LOG_FROM
        at = np.log(sorted_values) if logarithmic else np.array(sorted_values)
        half = np.diff(at) / 2 if len(at) > 1 else np.array([0.5])
        edges = np.array([at[0] - half[0], *(at[:-1] + np.diff(at) / 2), at[-1] + half[-1]])
        edges = np.exp(edges) if logarithmic else edges
        return cls(sorted_values, edges.tolist(), logarithmic)

    def cell(self, value: float) -> tuple[float, float]:
        """The borders of a value's cell."""
        index = self.values.index(value)
        return self.edges[index], self.edges[index + 1]

    def encoding(self) -> tuple[alt.Scale, alt.Axis]:
        """The scale over all cells, and an axis with the values themselves as ticks."""
        kind = alt.ScaleType("log" if self.logarithmic else "linear")
        scale = alt.Scale(type=kind, domain=[self.edges[0], self.edges[-1]], nice=False)
        ticks = self.values[:: -(-len(self.values) // TICKS)]
        return scale, alt.Axis(values=ticks, format=".4~g", grid=False)
