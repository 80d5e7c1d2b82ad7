"""The models in plain JAX, in the layouts that XLA prefers: channels last, `x @ kernel`."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Params = dict[str, Array]
Apply = Callable[[Params, Array], Array]


def dense(params: Params, name: str, x: Array) -> Array:
    return x @ params[f"{name}.weight"] + params[f"{name}.bias"]


def mlp(params: Params, x: Array) -> Array:
    """Two hidden layers of ReLUs."""
    x = x.reshape(len(x), -1)
    x = jax.nn.relu(dense(params, "fc1", x))
    x = jax.nn.relu(dense(params, "fc2", x))
    return dense(params, "head", x)


def _convolve(params: Params, name: str, x: Array) -> Array:
    """A convolution that keeps the size, a ReLU, and max pooling of two by two."""
    # On a CPU, XLA's gradients of convolutions are ten times slower than products of patches.
    apply = _by_patches if jax.default_backend() == "cpu" else _by_windows
    x = jax.nn.relu(apply(params[f"{name}.weight"], x) + params[f"{name}.bias"])
    # The gradient of a reduce_window is a scatter, which is slower than this too.
    examples, height, width, channels = x.shape
    return x.reshape(examples, height // 2, 2, width // 2, 2, channels).max((2, 4))


def _by_windows(kernel: Array, x: Array) -> Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)


def _by_patches(kernel: Array, x: Array) -> Array:
    _, height, width, _ = x.shape
    rows, columns, _, out = kernel.shape
    margins = [(0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0)]
    padded = jnp.pad(x, margins)
    patches = [
        padded[:, i : i + height, j : j + width] for i in range(rows) for j in range(columns)
    ]
    return jnp.concatenate(patches, -1) @ kernel.reshape(-1, out)


def cnn(params: Params, x: Array) -> Array:
    """Two convolutions, each halved by pooling."""
    x = _convolve(params, "conv2", _convolve(params, "conv1", x))
    return dense(params, "head", x.reshape(len(x), -1))


def lstm(params: Params, x: Array) -> Array:
    """Reads an image row by row; the input projections of all rows are one product."""
    rows = x[..., 0]
    bias = params["recurrent.bias_ih_l0"] + params["recurrent.bias_hh_l0"]
    brought = jnp.swapaxes(rows @ params["recurrent.weight_ih_l0"] + bias, 0, 1)
    recurrent = params["recurrent.weight_hh_l0"]

    def read(state: tuple[Array, Array], row: Array) -> tuple[tuple[Array, Array], None]:
        hidden, cell = state
        entry, forget, candidate, out = jnp.split(row + hidden @ recurrent, 4, axis=-1)
        cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(entry) * jnp.tanh(candidate)
        return (jax.nn.sigmoid(out) * jnp.tanh(cell), cell), None

    nothing = jnp.zeros((len(x), len(recurrent)))
    (hidden, _), _ = jax.lax.scan(read, (nothing, nothing), brought, unroll=True)
    return dense(params, "head", hidden)


MODELS: dict[str, Apply] = {"mlp": mlp, "cnn": cnn, "lstm": lstm}


def translated(name: str, values: dict[str, np.ndarray], size: tuple[int, int]) -> dict:
    """Translates torch's parameters into these layouts.

    Args:
        name: The name of the model in `MODELS`.
        values: The parameters, by their names in torch.
        size: The height and width of the images.
    """
    found = {}
    for key, value in values.items():
        if name == "cnn" and key == "head.weight":
            # torch flattens an image with the channels first.
            height, width = (side // 4 for side in size)
            value = value.reshape(len(value), -1, height, width)
            value = value.transpose(0, 2, 3, 1).reshape(len(value), -1)
        found[key] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
    return found
