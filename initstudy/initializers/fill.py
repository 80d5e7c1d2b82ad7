"""Filling a model in place."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from initstudy.initializers.calibrated import Calibrated, calibrate
from initstudy.initializers.policy import Fill, ModelPolicy, Policy, as_policy, draw


@torch.no_grad()
def initialize(
    model: nn.Module,
    policy: Fill | Policy | ModelPolicy | Calibrated,
    *,
    seed: int,
    batch: Float[Tensor, "examples ..."] | None = None,
) -> nn.Module:
    """Fills a model in place; devices and types stay, buffers are not touched.

    Args:
        model: Any module.
        policy: A policy, or an initializer for the weights (biases are then zero).
        seed: Of the draws.
        batch: Inputs, on the model's device; only an initialization that looks at data needs them.

    Returns:
        The same model.

    Raises:
        ValueError: The policy leaves a parameter unfilled, an initializer cannot fill one, or a
            calibration fails or has no batch.
    """
    if not isinstance(policy, Calibrated):
        return _copy(model, draw(model, as_policy(policy), seed))
    if batch is None:
        raise ValueError(f"init: {type(policy).__name__} looks at data; give it a batch")
    devices = {name: parameter.device for name, parameter in model.named_parameters()}
    start = draw(model, policy.start(), seed)
    values = {name: value.to(devices[name]) for name, value in start.items()}
    return _copy(model, calibrate(model, policy, values, batch)[0])


def _copy(model: nn.Module, values: dict[str, Tensor]) -> nn.Module:
    for name, value in values.items():
        model.get_parameter(name).copy_(value)
    return model
