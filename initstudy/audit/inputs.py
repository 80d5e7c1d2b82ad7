"""The sizes of a model's inputs, and of their features."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from initstudy.audit.tape import Reading
from initstudy.audit.tensors import is_real, moments

# Features of which the sizes are compared; more are pixels or samples of one kind.
FEATURES = 8192


@dataclass(frozen=True)
class InputFacts:
    """What the first layers read.

    Attributes:
        mean: The mean of the real inputs' entries.
        std: Their standard deviation.
        low: The smallest entry.
        high: The largest entry.
        feature: The index of the feature that is largest, along the last axis of a table, or along
            the channels of images.
        feature_rms: The root mean square of that feature.
        others_rms: The median over the other features that are not zero throughout.
        normalized: Whether every layer that reads the inputs reads them through a normalization.
        axis: The axis of the features.
        feature_mean: The mean of the largest feature.
    """

    mean: float
    std: float
    low: float
    high: float
    feature: int | None
    feature_rms: float
    others_rms: float
    normalized: bool
    axis: int = 1
    feature_mean: float = 0.0

    @property
    def rms(self) -> float:
        """The root mean square of all entries."""
        return (self.mean**2 + self.std**2) ** 0.5


def input_facts(inputs: Sequence[Tensor], readings: Sequence[Reading]) -> InputFacts | None:
    """The facts about the largest real input, or None if all inputs are indices.

    Args:
        inputs: The tensors that the model was given.
        readings: The layers of its pass.
    """
    real = [t for t in inputs if is_real(t) and t.numel() > 1]
    if not real:
        return None
    tensor = max(real, key=lambda t: moments(t).rms)
    found = moments(tensor)
    first = [reading for reading in readings if reading.reads_input and reading.input_rms]
    axis = {2: 1, 3: 2, 4: 1, 5: 1}.get(tensor.dim())
    feature, largest, others, mean = None, found.rms, found.rms, found.mean
    if axis is not None and 1 < tensor.shape[axis] <= FEATURES:
        rows = tensor.detach().double().movedim(axis, 0).flatten(1)
        sizes = rows.square().mean(1).sqrt().tolist()
        feature = max(range(len(sizes)), key=sizes.__getitem__)
        rest = [size for i, size in enumerate(sizes) if i != feature and size > 0]
        mean = float(rows[feature].mean())
        largest, others = sizes[feature], statistics.median(rest) if rest else sizes[feature]
    return InputFacts(
        found.mean,
        found.std,
        found.low,
        found.high,
        feature,
        largest,
        others,
        bool(first) and all(reading.input_normalized for reading in first),
        axis or 1,
        mean,
    )
