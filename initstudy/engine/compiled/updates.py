"""One update of one of a member's parameters, as the pages of torch.optim define it.

Reference: https://docs.pytorch.org/docs/stable/optim.html, SGD, Adam and AdamW.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array

from initstudy.engine.compiled.arrays import ADAMW, PLAIN, Members, Rule
from initstudy.engine.compiled.jit import part, part_with_sums
from initstudy.engine.optimizers.clipping import EPSILON

_ZERO = np.float32(0)
_ONE = np.float32(1)


@part
def update(
    start: int,
    grad: Float[Array, " values"],
    scale: np.float32,
    decay: np.float32,
    member: int,
    rule: Rule,
    members: Members,
) -> None:
    """Updates one of a member's parameters.

    Args:
        start: The index in `members.params` at which the parameter of all members begins.
        grad: The gradient.
        scale: The parameter's factor of the learning rate.
        decay: Its weight decay.
        member: The member.
        rule: The optimizer.
        members: The whole pack.
    """
    size = len(grad)
    param = at(members.params, start, member, size)
    lr = members.lr[member] * scale
    if rule.algorithm != PLAIN:
        first = at(members.first, start, member, size)
        second = at(members.second, start, member, size)
        _adam(param, grad, first, second, members.steps[member], lr, decay, rule)
    elif len(members.first):
        momentum = members.momentum[member]
        _sgd(param, grad, at(members.first, start, member, size), lr, decay, momentum, rule)
    else:
        for i in range(size):
            param[i] -= lr * (grad[i] + decay * param[i])


@part
def _sgd(
    param: Float[Array, " values"],
    grad: Float[Array, " values"],
    momentum_buffer: Float[Array, " values"],
    lr: np.float32,
    decay: np.float32,
    momentum: np.float32,
    rule: Rule,
) -> None:
    for i in range(len(param)):
        change = grad[i] + decay * param[i]
        momentum_buffer[i] = momentum * momentum_buffer[i] + change
        change = change + momentum * momentum_buffer[i] if rule.nesterov else momentum_buffer[i]
        param[i] -= lr * change


@part
def _adam(
    param: Float[Array, " values"],
    grad: Float[Array, " values"],
    exp_avg: Float[Array, " values"],
    exp_avg_sq: Float[Array, " values"],
    step: float,
    lr: np.float32,
    decay: np.float32,
    rule: Rule,
) -> None:
    beta1, beta2 = np.float32(rule.beta1), np.float32(rule.beta2)
    rest1, rest2 = np.float32(1 - rule.beta1), np.float32(1 - rule.beta2)
    rate = np.float32(lr / (1 - rule.beta1**step))
    correction = np.float32(np.sqrt(1 - rule.beta2**step))
    eps = np.float32(rule.eps)
    decoupled = rule.algorithm == ADAMW
    shrink = _ONE - lr * decay if decoupled else _ONE
    coupled = _ZERO if decoupled else decay
    for i in range(len(param)):
        change = grad[i] + coupled * param[i]
        exp_avg[i] = beta1 * exp_avg[i] + rest1 * change
        exp_avg_sq[i] = beta2 * exp_avg_sq[i] + rest2 * change * change
        denominator = np.sqrt(exp_avg_sq[i]) / correction + eps
        param[i] = shrink * param[i] - rate * exp_avg[i] / denominator


@part_with_sums
def sum_of_squares(values: Float[Array, " values"]) -> float:
    """The sum of the squares, in double precision."""
    total = 0.0
    for i in range(len(values)):
        total += np.float64(values[i]) * np.float64(values[i])
    return total


@part
def clipping(squares: float, largest: np.float32) -> np.float32:
    """The factor of a member's gradients, as in `torch.nn.utils.clip_grad_norm_`.

    Args:
        squares: The sum of the squares of all of its gradients.
        largest: Their largest norm; infinity for no limit.
    """
    if largest == np.inf:
        return _ONE
    factor = np.float32(largest / (np.sqrt(squares) + EPSILON))
    # Not `min`, which would replace NaN by one.
    return _ONE if factor > _ONE else factor


@part
def at(
    values: Float[Array, " values"], start: int, member: int, size: int
) -> Float[Array, " size"]:
    """A member's part of a parameter: the values of all members follow one another from `start`."""
    return values[start + member * size : start + (member + 1) * size]
