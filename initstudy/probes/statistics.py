"""Per-layer statistics of stacked tensors, taken on the device.

Every function takes a stacked tensor `[members, ...]` and returns one number per member. What each
statistic means is in `initstudy.columns`. A statistic of a tensor that holds NaN or infinities is
itself not finite, and their count stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from initstudy.columns import HISTOGRAM_EDGES
from initstudy.probes.forward import Tensors
from initstudy.probes.layers import Layer, Limits

SATURATION_MARGIN = 0.01


@dataclass(frozen=True)
class Probes:
    """What is measured, and how often.

    Args:
        preset: "off", "basic", or "full", which adds histograms and the largest singular values.
        every: The number of steps between two measurements.
    """

    preset: str = "basic"
    every: int = 20

    def due(self, step: int, last: bool) -> bool:
        """Whether the state after `step` updates is measured; the last one always is."""
        return self.preset != "off" and (last or step % self.every == 0)


def measure(
    layers: Sequence[Layer],
    outputs: Tensors,
    output_grads: Tensors,
    params: Tensors,
    param_grads: Tensors,
    *,
    full: bool,
) -> Tensors:
    """All statistics of one step but the update ratios, by column.

    Args:
        layers: The model's layers.
        outputs: The layers' activations `[members, batch, ...]`, by module name.
        output_grads: The gradients of each member's mean loss with respect to the activations.
        params: The stacked parameters by name.
        param_grads: The gradients of each member's mean loss with respect to the parameters; those
            of frozen parameters are absent.
        full: Whether to add histograms and the largest singular values.

    Returns:
        One number per member and column, `[members]`, and histograms `[members, bins]`.
    """
    rows: Tensors = {}
    for layer in layers:
        activation, gradient = outputs[layer.output], output_grads[layer.output]
        weight = flat(params, layer.weights)
        rows |= _prefixed(
            f"activation/{layer.name}",
            activation_statistics(activation, layer.limits, layer.units),
        )
        trained = [name for name in layer.weights if name in param_grads]
        rows |= _prefixed(
            f"gradient/{layer.name}",
            gradient_statistics(gradient, flat(param_grads, trained) if trained else None),
        )
        rows[f"weight/{layer.name}/rms"] = rms(weight)
        if full:
            rows[f"activation/{layer.name}/histogram"] = histogram(activation)
            rows[f"gradient/{layer.name}/histogram"] = histogram(gradient)
            rows[f"weight/{layer.name}/histogram"] = histogram(weight)
            rows[f"weight/{layer.name}/spectral_norm"] = spectral_norm(
                [params[name] for name in layer.weights]
            )
    return rows


def activation_statistics(
    activation: Float[Tensor, "members batch ..."], limits: Limits | None, units: int = -1
) -> Tensors:
    """The statistics of one layer's activations, by the last part of their column.

    Args:
        activation: The stacked activations.
        limits: The values at which the activation function saturates; None if it does not.
        units: The axis of the units: 2, the channels, of a convolution; the last one of features.
    """
    values = entries(activation)
    count = values.shape[1]
    mean = values.sum(1, dtype=torch.float64) / count
    # In float64 neither the squares of float32 nor their difference lose anything.
    size = _norm(values) / count**0.5
    std = (size.square() - mean.square()).clamp_min(0).sqrt()
    largest = _largest(activation, units)
    # As numbers: a CPU adds up booleans several times as slowly.
    nonzero = torch.ne(values, 0, out=torch.empty_like(values))
    rows = {
        "mean": mean.to(values.dtype),
        "std": std.to(values.dtype),
        "rms": size.to(values.dtype),
        "absmax": largest.amax(1),
        "zero": 1 - nonzero.sum(1) / count,
        "dead": _fraction_of_zeros(largest),
        "nonfinite": nonfinite(values, size),
    }
    if limits is not None:
        rows["saturated"] = saturated(values, limits)
    return rows


def gradient_statistics(
    by_output: Float[Tensor, "members batch ..."],
    by_weight: Float[Tensor, "members entries"] | None,
) -> Tensors:
    """The statistics of one layer's gradients, by the last part of their column.

    Args:
        by_output: The gradients with respect to its activations.
        by_weight: The gradients with respect to its weights; None if all of them are frozen.
    """
    size = rms(by_output)
    if by_weight is None:
        return {"rms": size, "nonfinite": nonfinite(by_output, size)}
    weight_size = rms(by_weight)
    return {
        "rms": size,
        "weight_rms": weight_size,
        "nonfinite": nonfinite(by_output, size) + nonfinite(by_weight, weight_size),
    }


def update_ratios(
    layers: Sequence[Layer], before: Tensors, after: Tensors, measured: Tensors
) -> Tensors:
    """The root mean square of each layer's weight update, divided by that of its weights.

    Args:
        layers: The model's layers.
        before: The parameters before the update.
        after: The parameters after it.
        measured: What `measure` returned before the update.
    """
    return {
        f"weight/{layer.name}/update_ratio": rms(
            flat(after, layer.weights) - flat(before, layer.weights)
        )
        / measured[f"weight/{layer.name}/rms"]
        for layer in layers
    }


def entries(values: Float[Tensor, "members ..."]) -> Float[Tensor, "members entries"]:
    """Each member's entries in the order in which they lie in memory, where that saves a copy."""
    strides = values.stride()
    order = sorted(range(1, values.dim()), key=lambda axis: -strides[axis])
    return values.permute(0, *order).flatten(1)


def rms(values: Float[Tensor, "members ..."]) -> Float[Tensor, " members"]:
    """The root mean square, summed in float64, where squares neither over- nor underflow."""
    values = entries(values)
    return (_norm(values) / values.shape[1] ** 0.5).to(values.dtype)


def nonfinite(
    values: Float[Tensor, "members ..."], size: Float[Tensor, " members"] | None = None
) -> Float[Tensor, " members"]:
    """How many entries are NaN or infinite.

    Args:
        values: The entries.
        size: A norm of the entries, which is finite if all of them are. On the CPU that saves
            counting.
    """
    if size is not None and size.device.type == "cpu" and bool(torch.isfinite(size).all()):
        return values.new_zeros(len(values))
    return (~torch.isfinite(values)).flatten(1).sum(1).to(values.dtype)


def dead(
    activation: Float[Tensor, "members batch ..."], units: int = -1
) -> Float[Tensor, " members"]:
    """The fraction of units that are zero for every example of the batch.

    Args:
        activation: The stacked activations.
        units: The axis of the units: 2, the channels, of a convolution; the last one of features.
    """
    return _fraction_of_zeros(_largest(activation, units))


def _fraction_of_zeros(largest: Float[Tensor, "members units"]) -> Float[Tensor, " members"]:
    return (largest == 0).float().mean(1)


def _norm(values: Float[Tensor, "members entries"]) -> Float[Tensor, " members"]:
    return torch.linalg.vector_norm(values, dim=1, dtype=torch.float64)


def _largest(
    activation: Float[Tensor, "members batch ..."], units: int
) -> Float[Tensor, "members units"]:
    """The largest magnitude of each unit."""
    axes = {axis % activation.dim() for axis in range(1, activation.dim())}
    return activation.abs().amax(tuple(axes - {units % activation.dim()}))


def saturated(
    activation: Float[Tensor, "members batch ..."], limits: Limits
) -> Float[Tensor, " members"]:
    """The fraction of entries that lie within 1% of the activation's range of one of its limits.

    For a function with one limit (SELU, ELU), within 1% of the limit's magnitude.
    """
    low, high = limits
    bounded = torch.isfinite(torch.tensor(limits)).all()
    margin = SATURATION_MARGIN * ((high - low) if bounded else abs(low))
    near = (activation <= low + margin) | (activation >= high - margin)
    return near.flatten(1).float().mean(1)


def histogram(values: Float[Tensor, "members ..."]) -> Int[Tensor, "members bins"]:
    """Counts of |value| in the bins between `HISTOGRAM_EDGES`.

    Values that are not finite are in no bin; `nonfinite` counts them.
    """
    values = values.flatten(1)
    bins = len(HISTOGRAM_EDGES) - 1
    # The inner edges alone: whatever lies beyond them falls into the first or the last bin.
    inner = torch.tensor(HISTOGRAM_EDGES[1:-1], device=values.device, dtype=values.dtype)
    indices = torch.bucketize(values.abs().contiguous(), inner, right=True)
    counts = torch.zeros(len(values), bins, dtype=torch.int64, device=values.device)
    return counts.scatter_add_(1, indices, torch.isfinite(values).long())


def spectral_norm(weights: Sequence[Float[Tensor, "members ..."]]) -> Float[Tensor, " members"]:
    """The largest singular value of a layer's weights, each flattened to `[out, rest]`.

    It is NaN for a member whose weights are not finite.

    Args:
        weights: The layer's weights `[members, out, ...]`.
    """
    return torch.stack([_largest_singular_value(weight) for weight in weights]).amax(0)


def _largest_singular_value(weight: Tensor) -> Tensor:
    matrices = weight.flatten(2)
    finite = torch.isfinite(matrices).flatten(1).all(1)
    # LAPACK refuses non-finite input for the whole batch; only that member's norm is unknown.
    safe = torch.where(finite[:, None, None], matrices, 0.0)
    return torch.where(finite, torch.linalg.matrix_norm(safe, ord=2), torch.nan)


def flat(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Float[Tensor, "members entries"]:
    """The entries of all weights of a layer."""
    if len(names) == 1:
        return tensors[names[0]].flatten(1)
    return torch.cat([tensors[name].flatten(1) for name in names], dim=1)


def _prefixed(prefix: str, values: Tensors) -> Tensors:
    return {f"{prefix}/{name}": value for name, value in values.items()}
