"""What compiled code works on."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array

PLAIN, ADAM, ADAMW = range(3)


class Layers(NamedTuple):
    """The linear layers, in running order.

    Attributes:
        sizes: Inputs and outputs of each.
        weights: Where in `Members.params` the weights of all members begin.
        biases: Likewise; -1 where a layer has none.
        rectified: Whether a ReLU follows.
        weight_scales, bias_scales: Factors of the learning rate.
    """

    sizes: Int[Array, "layers 2"]
    weights: Int[Array, " layers"]
    biases: Int[Array, " layers"]
    rectified: Bool[Array, " layers"]
    weight_scales: Float[Array, " layers"]
    bias_scales: Float[Array, " layers"]


class Rule(NamedTuple):
    """The optimizer, as the pages of torch.optim define it.

    Attributes:
        algorithm: `PLAIN` descent, with or without momentum, `ADAM` or `ADAMW`.
        nesterov: Of momentum.
        beta1, beta2, eps: Of Adam.
    """

    algorithm: int
    nesterov: bool
    beta1: float
    beta2: float
    eps: float


class Members(NamedTuple):
    """What belongs to the members; all of it is updated in place.

    Attributes:
        params: All parameters, side by side.
        first: The momenta, or Adam's means, in the same places; empty for neither.
        second: Adam's squares, likewise.
        updates: How often Adam has updated each member.
        lr, decay, momentum: One number a member.
        alive: Whose losses were always finite.
        diverged_at: The first step whose loss was not.
        last_loss: That loss, or else the latest.
    """

    params: Float[Array, " values"]
    first: Float[Array, " values"]
    second: Float[Array, " values"]
    updates: Float[Array, " members"]
    lr: Float[Array, " members"]
    decay: Float[Array, " members"]
    momentum: Float[Array, " members"]
    alive: Bool[Array, " members"]
    diverged_at: Int[Array, " members"]
    last_loss: Float[Array, " members"]


class Scratch(NamedTuple):
    """Room for what a step makes, of one member after another.

    Attributes:
        inputs: The batch, features first.
        features: An activation, and the one before it, features first.
        activations: All of them, the batch first.
        slopes: The gradient by an activation, and the one before it, the batch first.
        by_weights, by_bias: The gradients by a layer's parameters.
        weights: A layer's weights before an update that is watched.
    """

    inputs: Float[Array, " values"]
    features: Float[Array, "2 values"]
    activations: Float[Array, " values"]
    slopes: Float[Array, "2 values"]
    by_weights: Float[Array, " values"]
    by_bias: Float[Array, " values"]
    weights: Float[Array, " values"]
