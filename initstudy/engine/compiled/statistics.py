"""The statistics of the basic probes, for one layer of one member.

What each of them means is in `initstudy.columns`. They follow `initstudy.probes.statistics`: sums
are in float64, and a statistic of values that are not finite is itself not finite.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array

from initstudy import columns
from initstudy.engine.compiled.jit import part, part_with_sums

# The columns that are measured, in the order of the indices below.
COLUMNS = (
    columns.ACTIVATION_MEAN,
    columns.ACTIVATION_STD,
    columns.ACTIVATION_RMS,
    columns.ACTIVATION_ABSMAX,
    columns.ACTIVATION_ZERO,
    columns.ACTIVATION_DEAD,
    columns.ACTIVATION_NONFINITE,
    columns.GRADIENT_RMS,
    columns.GRADIENT_WEIGHT_RMS,
    columns.GRADIENT_NONFINITE,
    columns.WEIGHT_RMS,
    columns.WEIGHT_UPDATE_RATIO,
)
(
    MEAN,
    STD,
    RMS,
    ABSMAX,
    ZERO,
    DEAD,
    NONFINITE,
    GRADIENT_RMS,
    WEIGHT_GRADIENT_RMS,
    GRADIENT_NONFINITE,
    WEIGHT_RMS,
    UPDATE_RATIO,
) = range(len(COLUMNS))


@part
def of_activation(values: Float[Array, "units batch"], into: Float[Array, " statistics"]) -> None:
    """The statistics of a layer's activations."""
    units, count = len(values), values.size
    mean = _sum(values.reshape(count)) / count
    squares = _mean_square(values.reshape(count))
    largest, zeros, dead = np.float32(0), 0, 0
    for unit in range(units):
        size, nothing = _largest_and_zeros(values[unit])
        largest = max(largest, size)
        zeros += nothing
        dead += nothing == values.shape[1]
    into[MEAN] = mean
    into[STD] = np.sqrt(max(squares - mean * mean, 0.0)) if np.isfinite(squares) else np.nan
    into[RMS] = np.sqrt(squares)
    into[ABSMAX] = largest if np.isfinite(squares) else np.sqrt(squares)
    into[ZERO] = zeros / count
    into[DEAD] = dead / units
    into[NONFINITE] = _nonfinite(values.reshape(count), squares)


@part
def of_gradient(values: Float[Array, " values"], into: Float[Array, " statistics"]) -> None:
    """The statistics of the gradient with respect to a layer's activations."""
    squares = _mean_square(values)
    into[GRADIENT_RMS] = np.sqrt(squares)
    into[GRADIENT_NONFINITE] = _nonfinite(values, squares)


@part
def of_weight(
    weight: Float[Array, " values"],
    gradient: Float[Array, " values"],
    into: Float[Array, " statistics"],
) -> None:
    """The statistics of a layer's weights and of the gradient with respect to them.

    Adds to what `of_gradient` has written.
    """
    squares = _mean_square(gradient)
    into[WEIGHT_GRADIENT_RMS] = np.sqrt(squares)
    into[GRADIENT_NONFINITE] += _nonfinite(gradient, squares)
    into[WEIGHT_RMS] = np.sqrt(_mean_square(weight))
    into[UPDATE_RATIO] = 0.0


@part
def of_update(
    before: Float[Array, " values"],
    after: Float[Array, " values"],
    into: Float[Array, " statistics"],
) -> None:
    """The ratio of an update to the weights; divides by what `of_weight` has written.

    Overwrites `before`.
    """
    for i in range(len(before)):
        before[i] = after[i] - before[i]
    into[UPDATE_RATIO] = np.sqrt(_mean_square(before)) / into[WEIGHT_RMS]


@part_with_sums
def _sum(values: Float[Array, " values"]) -> float:
    total = 0.0
    for i in range(len(values)):
        total += np.float64(values[i])
    return total


@part_with_sums
def _mean_square(values: Float[Array, " values"]) -> float:
    total = 0.0
    for i in range(len(values)):
        total += np.float64(values[i]) * np.float64(values[i])
    return total / len(values)


@part
def _largest_and_zeros(values: Float[Array, " values"]) -> tuple[np.float32, np.int32]:
    """The largest magnitude, leaving out NaN, and how many values are zero."""
    largest, zeros = np.float32(0), np.int32(0)
    for i in range(len(values)):
        size = abs(values[i])
        largest = size if size > largest else largest
        zeros += np.int32(size == np.float32(0))
    return largest, zeros


@part
def _nonfinite(values: Float[Array, " values"], squares: float) -> int:
    """How many values are NaN or infinite; no value is if their mean square is finite."""
    if np.isfinite(squares):
        return 0
    count = 0
    for i in range(len(values)):
        count += not np.isfinite(values[i])
    return count
