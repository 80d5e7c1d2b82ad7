"""What compiled code works on."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array

PLAIN, ADAM, ADAMW = range(3)


class Layers(NamedTuple):
    """The linear layers, in running order.

    Attributes:
        sizes: The numbers of inputs and of outputs of each layer.
        weights: The index in `Members.params` at which the weights of all members begin.
        biases: The same for the biases; -1 for a layer without.
        rectified: Whether a ReLU follows.
        weight_scales: Factors of the learning rate of the weights.
        bias_scales: Factors of the learning rate of the biases.
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
        algorithm: `PLAIN` gradient descent, with or without momentum, `ADAM` or `ADAMW`.
        nesterov: Whether the momentum is Nesterov's.
        beta1: Adam's decay rate of the average of the gradient.
        beta2: Adam's decay rate of the average of its square.
        eps: What Adam adds to the denominator.
    """

    algorithm: int
    nesterov: bool
    beta1: float
    beta2: float
    eps: float


class Members(NamedTuple):
    """The members' values; all of them are updated in place.

    Attributes:
        params: All parameters, side by side.
        first: The momentum buffers, or Adam's averages of the gradient, in the order of the
            parameters; empty for neither.
        second: Adam's averages of the square, in the same order; empty without.
        steps: How often Adam has updated each member.
        lr: The learning rates of this step.
        decay: The weight decays of matrices.
        vector_decay: The weight decays of biases.
        momentum: The momenta.
        clip_norm: The largest norms of the gradients; empty if none is clipped.
        alive: Whether all of a member's losses were finite so far.
        diverged_at: The first step whose loss was not finite.
        last_loss: That loss; the latest loss for a member that is alive.
    """

    params: Float[Array, " values"]
    first: Float[Array, " values"]
    second: Float[Array, " values"]
    steps: Float[Array, " members"]
    lr: Float[Array, " members"]
    decay: Float[Array, " members"]
    vector_decay: Float[Array, " members"]
    momentum: Float[Array, " members"]
    clip_norm: Float[Array, " members"]
    alive: Bool[Array, " members"]
    diverged_at: Int[Array, " members"]
    last_loss: Float[Array, " members"]


class Results(NamedTuple):
    """What a step or an evaluation finds out about the members.

    Attributes:
        losses: Each member's mean loss over its batch.
        accuracies: Each member's accuracy on it.
        measurements: The statistics of each layer, in the order of `statistics.COLUMNS`; empty if
            nothing is measured.
    """

    losses: Float[Array, " members"]
    accuracies: Float[Array, " members"]
    measurements: Float[Array, "members layers statistics"]


class Scratch(NamedTuple):
    """Memory for what a step makes, used for one member after the other.

    Attributes:
        inputs: The batch, features first.
        features: An activation and the one before it, features first.
        activations: All activations, the batch first.
        gradients: The gradients with respect to an activation and to the one before it, the batch
            first.
        weight_gradients: The gradient with respect to a layer's weights; those of all layers, the
            last one first, if they are clipped.
        bias_gradients: The same for the biases.
        weights: A layer's weights before an update that is measured.
    """

    inputs: Float[Array, " values"]
    features: Float[Array, "2 values"]
    activations: Float[Array, " values"]
    gradients: Float[Array, "2 values"]
    weight_gradients: Float[Array, " values"]
    bias_gradients: Float[Array, " values"]
    weights: Float[Array, " values"]
