"""Initializers of torch, Keras and JAX beside ours, on the same shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from initstudy import initializers as ours
from initstudy.initializers import Initializer, compute_fans

Array = np.ndarray
# A linear layer of 400 inputs and 250 outputs, and a 3×3 convolution of 40 and 60 channels.
LAYERS: dict[str, nn.Linear | nn.Conv2d] = {
    "linear": nn.Linear(400, 250),
    "conv": nn.Conv2d(40, 60, 3),
}


@dataclass(frozen=True)
class Case:
    """One initializer in every framework that has it.

    Attributes:
        name: The name that users know.
        initializer: The initializer of this package.
        torch: A function of `torch.nn.init`, which works in place, or None.
        keras: A function from a seed to an initializer of Keras, or None.
        jax: A function that makes an initializer of JAX, or None.
        differs: Documented differences, by framework.
    """

    name: str
    initializer: Initializer
    torch: Callable[[torch.Tensor], torch.Tensor] | None = None
    keras: Callable[..., Any] | None = None
    jax: Callable[..., Any] | None = None
    differs: dict[str, str] | None = None


def cases() -> list[Case]:
    """The initializers that at least one framework shares with this package."""
    from jax.nn import initializers as jax
    from keras import initializers as keras

    init = nn.init
    cut = "cut at two std of the normal before the cut, and not widened: 0.88·std"
    truncated = "a truncated normal of the same variance"
    return [
        Case("constant 0.1", ours.Constant(0.1), lambda t: init.constant_(t, 0.1),
             lambda seed: keras.Constant(0.1), lambda: jax.constant(0.1)),
        Case("normal, std 0.05", ours.Normal(0.05), lambda t: init.normal_(t, 0.0, 0.05),
             lambda seed: keras.RandomNormal(0.0, 0.05, seed), lambda: jax.normal(0.05)),
        Case("uniform ±0.05", ours.Uniform(0.05), lambda t: init.uniform_(t, -0.05, 0.05),
             lambda seed: keras.RandomUniform(-0.05, 0.05, seed),
             lambda: _centred(jax.uniform(0.1), 0.05),
             {"jax": "between 0 and its scale; shifted here"}),
        Case("truncated normal, std 0.05 as measured", ours.TruncatedNormal(0.05), None,
             lambda seed: keras.TruncatedNormal(0.0, 0.05, seed),
             lambda: jax.truncated_normal(0.05), {"keras": cut, "jax": cut}),
        Case("truncated normal, std 0.05 before the cut", ours.TruncatedNormal(0.05, restore=False),
             None, lambda seed: keras.TruncatedNormal(0.0, 0.05, seed),
             lambda: jax.truncated_normal(0.05)),
        Case("truncated normal between ±0.05", ours.TruncatedNormalBetween(0.05, 0, -0.05, 0.05),
             lambda t: init.trunc_normal_(t, 0.0, 0.05, -0.05, 0.05)),
        Case("Xavier uniform", ours.XavierUniform(), init.xavier_uniform_,
             lambda seed: keras.GlorotUniform(seed), jax.glorot_uniform),
        Case("Xavier normal", ours.XavierNormal(), init.xavier_normal_,
             lambda seed: keras.GlorotNormal(seed), jax.glorot_normal,
             {"keras": truncated, "jax": truncated}),
        Case("He uniform", ours.KaimingUniform(),
             lambda t: init.kaiming_uniform_(t, nonlinearity="relu"),
             lambda seed: keras.HeUniform(seed), jax.he_uniform),
        Case("He normal", ours.KaimingNormal(),
             lambda t: init.kaiming_normal_(t, nonlinearity="relu"),
             lambda seed: keras.HeNormal(seed), jax.he_normal,
             {"keras": truncated, "jax": truncated}),
        Case("He normal, fan_out, leaky ReLU 0.2", ours.KaimingNormal("leaky_relu", 0.2, "fan_out"),
             lambda t: init.kaiming_normal_(t, 0.2, "fan_out", "leaky_relu")),
        Case("LeCun uniform", ours.LecunUniform(), None,
             lambda seed: keras.LecunUniform(seed), jax.lecun_uniform),
        Case("LeCun normal", ours.LecunNormal(), None, lambda seed: keras.LecunNormal(seed),
             jax.lecun_normal, {"keras": truncated, "jax": truncated}),
        Case("variance scaling 3, fan_avg, truncated",
             ours.VarianceScaling(3.0, "fan_avg", "truncated_normal"), None,
             lambda seed: keras.VarianceScaling(3.0, "fan_avg", "truncated_normal", seed),
             lambda: jax.variance_scaling(3.0, "fan_avg", "truncated_normal")),
        Case("orthogonal, gain 1.5", ours.Orthogonal(1.5), lambda t: init.orthogonal_(t, 1.5),
             lambda seed: keras.Orthogonal(1.5, seed), lambda: jax.orthogonal(1.5)),
        Case("identity", ours.Identity(), init.eye_, lambda seed: keras.Identity(), None),
        Case("Dirac", ours.Dirac(), init.dirac_),
        Case("delta-orthogonal", ours.DeltaOrthogonal(), None, None, jax.delta_orthogonal),
        Case("sparse 0.9, std 0.05", ours.Sparse(0.9, 0.05, per="input"),
             lambda t: init.sparse_(t, 0.9, 0.05)),
    ]  # fmt: skip


def _centred(uniform: Callable[..., Any], half: float) -> Callable[..., Any]:
    return lambda *arguments: uniform(*arguments) - half


def measure(case: Case, layer: str) -> dict[str, Array]:
    """The values of one case on one layer, by framework, for those that have it.

    Keras and JAX fill kernels of shape (…, in, out).
    """
    import jax

    module = LAYERS[layer]
    shape = tuple(module.weight.shape)
    kernel = (*shape[2:], shape[1], shape[0])
    fans = compute_fans(module, "weight")
    found: dict[str, Array] = {}
    try:
        generator = torch.Generator().manual_seed(0)
        found["initstudy"] = case.initializer(shape, fans, generator=generator).numpy()
    except ValueError:
        return {}
    torch.manual_seed(1)
    if case.torch is not None and not (case.name.startswith("sparse") and layer == "conv"):
        found["torch"] = case.torch(torch.empty(shape)).numpy()
    if case.keras is not None and not (case.name == "identity" and layer == "conv"):
        found["keras"] = np.asarray(case.keras(2)(kernel))
    if case.jax is not None:
        found["jax"] = np.asarray(case.jax()(jax.random.key(3), kernel))
    return found
