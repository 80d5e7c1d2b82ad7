"""The two ends of a model: its inputs, and what the loss makes of its output."""

from __future__ import annotations

import math
from collections.abc import Iterator

from initstudy.audit.evidence import Evidence, few
from initstudy.audit.result import Warned

# Inputs and targets are usually of size one.
LARGE = 10.0
SMALL = 0.01
# One feature this many times the median of the others hides them.
DOMINANT = 100.0
# Of the guessing loss; a He-initialized head, with logits of variance two, stays below.
LOSS_RATIO = 2.0
# In nats: what logits of variance four add to ln(classes), however many classes there are.
LOSS_EXCESS = 2.0
# Gradient descent diverges beyond 2/λ from a quadratic's minimum; networks often recover up to 4/λ
# by moving to where the loss is flatter (Lewkowycz et al. 2020, The large learning rate phase).
STABLE, RECOVERS = 2.0, 4.0


def inputs(evidence: Evidence) -> Iterator[Warned]:
    """Inputs that are large, tiny, or dominated by one feature."""
    facts = evidence.signal.inputs
    first = [s for s in evidence.signal.layers if s.reads_input and s.input_rms]
    if facts is None or facts.normalized or not first:
        return
    where = tuple(s.name for s in first)
    seen = max(s.before_rms for s in first)
    if facts.feature is not None and facts.feature_rms > DOMINANT * facts.others_rms:
        yield Warned(
            "inputs",
            f"feature {facts.feature} of the inputs has size {facts.feature_rms:.3g}, and the "
            f"others {facts.others_rms:.3g}: it hides them; standardize every feature, x = (x - "
            "mean)/std",
            where,
        )
    elif facts.rms > LARGE and seen > LARGE and not all(s.normalized for s in first):
        yield Warned(
            "inputs",
            f"the inputs lie between {facts.low:.3g} and {facts.high:.3g}, so that {few(where)} "
            f"returns values of size {seen:.3g}: standardize them, x = (x - {facts.mean:.3g})/"
            f"{facts.std:.3g}",
            where,
        )
    elif 0 < facts.rms < SMALL and seen < SMALL and not all(s.normalized for s in first):
        yield Warned(
            "inputs",
            f"the inputs have size {facts.rms:.3g}: hardly anything of them is left after "
            f"{few(where)}; standardize them, x = (x - {facts.mean:.3g})/{facts.std:.3g}",
            where,
        )


def targets(evidence: Evidence) -> Iterator[Warned]:
    """Real targets that are much larger than what the model returns."""
    for loss in evidence.signal.losses:
        if loss.target_mean is None or loss.target_std is None:
            continue
        size = math.hypot(loss.target_mean, loss.target_std)
        if size > LARGE * max(loss.output_rms, 1.0):
            yield Warned(
                "targets",
                f"the targets have mean {loss.target_mean:.4g} and standard deviation "
                f"{loss.target_std:.4g}, and the outputs have size {loss.output_rms:.3g}: train "
                f"on (y - {loss.target_mean:.4g})/{loss.target_std:.4g}",
                _last(evidence),
            )
            return


def probabilities(evidence: Evidence) -> Iterator[Warned]:
    """A softmax before a cross-entropy, which applies one itself."""
    signal = evidence.signal
    if signal.probabilities or any(loss.probabilities for loss in signal.losses):
        yield Warned(
            "softmax",
            "the outputs are probabilities that sum to one, and cross-entropy applies a softmax "
            "itself: its gradient stays small and the loss cannot fall to zero; return the logits",
            _last(evidence),
        )


def loss(evidence: Evidence) -> Iterator[Warned]:
    """A first loss that is much larger than that of guessing."""
    signal = evidence.signal
    value, guess = signal.loss, signal.guessing_loss
    if value is None or guess is None or not signal.layers:
        return
    # Real targets are judged by their own size.
    if any(call.target_std is not None for call in signal.losses):
        return
    if value > guess + min(LOSS_RATIO * guess - guess, LOSS_EXCESS):
        last = signal.layers[-1]
        size = f" of size {last.output_rms:.3g}" if last.output_rms else ""
        yield Warned(
            "loss",
            f"the loss starts at {value:.3g}, where guessing gives {guess:.3g}: the logits{size} "
            f"are large before anything is learned; scale the last layer, {few([last.name])}, down",
            (last.name,),
        )


def learning_rate(evidence: Evidence) -> Iterator[Warned]:
    """A learning rate beyond what the loss's curvature allows."""
    rate, sharpness = evidence.learning_rate, evidence.sharpness
    if rate is None or sharpness is None or not sharpness > 0:
        return
    if rate * sharpness > RECOVERS:
        yield Warned(
            "sharpness",
            f"the learning rate {rate:.3g} is {rate * sharpness / STABLE:.3g} times the largest "
            f"stable one, 2/λ = {STABLE / sharpness:.3g}, where λ = {sharpness:.3g} is the largest "
            "eigenvalue of the loss's Hessian: lower it, or warm it up",
            (),
        )


def _last(evidence: Evidence) -> tuple[str, ...]:
    return tuple(s.name for s in evidence.signal.layers[-1:])
