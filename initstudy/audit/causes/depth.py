"""Signals and gradients that vanish or explode: at one layer, with depth, or over time."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from initstudy.audit.evidence import Evidence, few, gain_of, rule_for
from initstudy.audit.result import Warned
from initstudy.audit.signal import LayerSignal

# A signal that changes by this much over the hidden layers is on its way to vanish or explode: the
# square of what torch's default does to three layers, with which they learn.
TOTAL_CHANGE = 20.0
# Where normalizations rescale every layer. The gradient of a batch-normalized network grows with
# depth whatever its weights (Yang et al. 2019, A Mean Field Theory of Batch Normalization).
NORMALIZED_CHANGE = 1e4
FEWEST_LAYERS = 4
# Where training is lost: activations this much larger or smaller than at the first layer.
LOST = 1e4
# A layer is the culprit if it changes the signal by this factor more than the others do, ...
ODD = 5.0
# ... and by this many of their deviations.
ODD_DEVIATIONS = 5.0
# Over all steps of a sequence.
TIME_GROWTH = 100.0
TIME_LOSS = 1e-4


def odd_layer(evidence: Evidence) -> Iterator[Warned]:
    """One layer that changes the signal much more, or much less, than the others."""
    layers = [s for s in evidence.hidden if _has_gain(s)]
    if len(layers) < FEWEST_LAYERS:
        return
    gains = [math.log(s.output_rms / (s.input_rms or 1.0)) for s in layers]
    usual = statistics.median(gains)
    spread = 1.4826 * statistics.median(abs(g - usual) for g in gains)
    limit = max(math.log(ODD), ODD_DEVIATIONS * spread)
    odd = [i for i, g in enumerate(gains) if abs(g - usual) > limit and _lasts(layers, i, g, usual)]
    if not 0 < len(odd) <= max(1, len(layers) // 5):
        return
    names = tuple(layers[i].name for i in odd)
    layer, change = layers[odd[0]], math.exp(gains[odd[0]])
    yield Warned(
        "odd-layer",
        f"the signal changes ×{change:.3g} at {few(names)}, and ×{math.exp(usual):.3g} at the "
        f"other layers{_weights(evidence, layer)}",
        names,
    )


def _weights(evidence: Evidence, layer: LayerSignal) -> str:
    row = evidence.weight_of(layer.name)
    if row is None or row.fan_in is None:
        return ""
    right = gain_of(layer.activation) / math.sqrt(row.fan_in)
    return (
        f": its weights have standard deviation {row.std:.3g}, and "
        f"{rule_for(layer.activation)} would be {right:.3g}"
    )


def _has_gain(layer: LayerSignal) -> bool:
    """Whether a layer's own change of the signal is known and counts."""
    sizes = (layer.input_rms or 0.0, layer.output_rms)
    return all(0 < size < math.inf for size in sizes) and not layer.normalized


def _lasts(layers: Sequence[LayerSignal], index: int, gain: float, usual: float) -> bool:
    """Whether the signal stays larger, or smaller, after a layer than before it."""
    before = [s.activation_rms for s in layers[:index]] or [layers[index].input_rms or 1.0]
    after = [s.activation_rms for s in layers[index:]]
    change = math.log(
        max(statistics.median(after), 1e-300) / max(statistics.median(before), 1e-300)
    )
    return change * (gain - usual) > 0 and abs(change) > math.log(3.0)


def growth(evidence: Evidence) -> Iterator[Warned]:
    """A signal or a gradient that changes steadily with depth."""
    limit = NORMALIZED_CHANGE if evidence.normalized else TOTAL_CHANGE
    layers = [s for s in evidence.hidden if 0 < s.activation_rms < math.inf]
    forward = _factor([s.activation_rms for s in layers], limit)
    if forward is not None:
        yield Warned("signal", _sentence(evidence, "signal", "layer", forward), (layers[0].name,))
    behind = [s for s in evidence.hidden if s.gradient_rms and math.isfinite(s.gradient_rms)]
    backward = _factor([s.gradient_rms for s in reversed(behind)], limit)
    if backward is not None:
        unit = "layer on its way back"
        text = _sentence(evidence, "gradient", unit, backward)
        yield Warned("gradient", text, (behind[0].name,))


def _factor(values: Sequence[float | None], limit: float) -> float | None:
    """The change per layer, by least squares in log, where it adds up to much; None otherwise."""
    if len(values) < FEWEST_LAYERS:
        return None
    logs = [math.log(v) for v in values if v]
    middle = (len(logs) - 1) / 2
    spread = sum((i - middle) ** 2 for i in range(len(logs)))
    slope = sum((i - middle) * value for i, value in enumerate(logs)) / spread
    # The line must explain what happens: a jump at one layer is no growth.
    mean = sum(logs) / len(logs)
    explained = slope**2 * spread
    total = sum((value - mean) ** 2 for value in logs)
    if total == 0 or explained / total < 0.5:
        return None
    return math.exp(slope) if abs(slope) * (len(logs) - 1) > math.log(limit) else None


def _sentence(evidence: Evidence, what: str, unit: str, factor: float) -> str:
    layers = math.ceil(math.log(LOST) / abs(math.log(factor)))
    end = "ten thousandfold" if factor > 1 else "a ten thousandth"
    verb = "grows" if factor > 1 else "shrinks"
    cure = _cure(evidence, factor)
    return f"{what} {verb} ×{factor:.2g} per {unit}: {end} after {layers} layers; {cure}"


def _cure(evidence: Evidence, factor: float) -> str:
    if evidence.normalized:
        return (
            "the layers are normalized, so that the scale of their weights does not matter: add "
            "residual connections or use fewer layers"
        )
    used = [s.activation for s in evidence.hidden if s.activation]
    activation = statistics.mode(used) if used else None
    if activation == "sigmoid":
        return (
            "a sigmoid passes on at most a quarter of a gradient: use tanh or ReLU, or normalize "
            "the layers"
        )
    rows = [row for s in evidence.hidden if (row := evidence.weight_of(s.name)) and row.fan_in]
    if not rows:
        return f"{'lower' if factor > 1 else 'raise'} the weights' deviation, or normalize"
    row = rows[len(rows) // 2]
    right = gain_of(activation) / math.sqrt(row.fan_in or 1)
    return (
        f"the weights' standard deviation is {row.std:.3g} at {row.name}, where "
        f"{rule_for(activation)} would be {right:.3g}; use that, or normalize the layers"
    )


def time(evidence: Evidence) -> Iterator[Warned]:
    """Gradients that explode, or vanish, along the steps of a recurrent layer."""
    for found in evidence.signal.time:
        steps = f"over {found.steps} steps"
        if found.total > TIME_GROWTH and found.factor > 1.02:
            yield Warned(
                "time",
                f"the gradient of {few([found.name])} grows ×{found.factor:.2g} per step into the "
                f"past, ×{found.total:.2g} {steps}: fill its recurrent weights with an orthogonal "
                "matrix, and clip the gradient",
                (found.name,),
            )
        elif found.total < TIME_LOSS and found.kind in ("RNN", "RNNCell"):
            reach = math.ceil(math.log(LOST) / -math.log(found.factor))
            yield Warned(
                "time",
                f"the gradient of {few([found.name])} shrinks ×{found.factor:.2g} per step into "
                f"the past: nothing is learned from what is older than {reach} steps; fill its "
                "recurrent weights with an orthogonal matrix, or use an LSTM",
                (found.name,),
            )
