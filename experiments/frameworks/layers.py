"""Freshly built layers of Keras and Flax, and MATLAB's formulas, beside the presets here."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from initstudy import initializers as ours
from initstudy.initializers import draw

Array = np.ndarray


def std(values: Array) -> float:
    """The standard deviation of all values, in double precision."""
    return float(np.asarray(values, dtype=float).std())


def layer_presets() -> Iterator[tuple[str, str, float, float]]:
    """The layer and parameter, the framework, its fresh layer's std, and that of the preset."""
    for name, module, theirs in _keras_layers():
        values = draw(module, ours.keras(), 0)
        for key, array in theirs.items():
            yield f"{name}, `{key}`", "Keras", std(array), std(_together(values, key))
    for name, module, theirs in _flax_layers():
        values = draw(module, ours.flax(), 0)
        for key, array in theirs.items():
            yield f"{name}, `{key}`", "Flax", std(array), std(_together(values, key))


def _together(values: dict[str, torch.Tensor], key: str) -> Array:
    """A parameter of the preset; the two biases of a recurrent layer in torch add up to one."""
    if key == "bias_ih_l0":
        return (values[key] + values["bias_hh_l0"]).numpy()
    return values[key].numpy()


def _keras_layers() -> Iterator[tuple[str, nn.Module, dict[str, Array]]]:
    from keras import layers, utils

    utils.set_random_seed(0)

    def build(layer, *shapes):  # type: ignore[no-untyped-def]
        layer.build(*shapes)
        return [np.asarray(weight) for weight in layer.get_weights()]

    kernel, bias = build(layers.Dense(250), (None, 400))
    yield "Dense", nn.Linear(400, 250), {"weight": kernel, "bias": bias}
    kernel, _ = build(layers.Conv2D(60, 3), (None, 9, 9, 40))
    yield "Conv2D", nn.Conv2d(40, 60, 3), {"weight": kernel}
    kernel, _ = build(layers.Conv2D(60, 3, groups=4), (None, 9, 9, 40))
    yield "Conv2D, 4 groups", nn.Conv2d(40, 60, 3, groups=4), {"weight": kernel}
    kernel, _ = build(layers.DepthwiseConv2D(3, depth_multiplier=20), (None, 9, 9, 40))
    yield "DepthwiseConv2D", nn.Conv2d(40, 800, 3, groups=40), {"weight": kernel}
    kernel, _ = build(layers.Conv2DTranspose(20, 3), (None, 9, 9, 80))
    yield "Conv2DTranspose", nn.ConvTranspose2d(80, 20, 3), {"weight": kernel}
    (table,) = build(layers.Embedding(500, 100), (None, 4))
    yield "Embedding", nn.Embedding(500, 100), {"weight": table}
    kernel, recurrent, bias = build(layers.LSTM(80), (None, 5, 100))
    yield (
        "LSTM",
        nn.LSTM(100, 80),
        {
            "weight_ih_l0": kernel,
            "weight_hh_l0": recurrent,
            "bias_ih_l0": bias,
        },
    )
    kernel, recurrent, _ = build(layers.GRU(80), (None, 5, 100))
    yield "GRU", nn.GRU(100, 80), {"weight_ih_l0": kernel, "weight_hh_l0": recurrent}
    attention = layers.MultiHeadAttention(4, 32)
    query, _, _, _, _, _, output, _ = build(attention, (None, 5, 128), (None, 5, 128))
    yield (
        "MultiHeadAttention",
        nn.MultiheadAttention(128, 4),
        {
            "in_proj_weight": query,
            "out_proj.weight": output,
        },
    )
    scale, offset, *_ = build(layers.BatchNormalization(), (None, 30))
    yield "BatchNormalization", nn.BatchNorm1d(30), {"weight": scale, "bias": offset}


def _flax_layers() -> Iterator[tuple[str, nn.Module, dict[str, Array]]]:
    import jax
    import jax.numpy as jnp
    from flax import linen

    def build(layer, *inputs):  # type: ignore[no-untyped-def]
        parameters = layer.init(jax.random.key(0), *inputs)["params"]
        return jax.tree.map(np.asarray, parameters)

    found = build(linen.Dense(250), jnp.ones((1, 400)))
    yield "Dense", nn.Linear(400, 250), {"weight": found["kernel"], "bias": found["bias"]}
    found = build(linen.Conv(60, (3, 3), feature_group_count=4), jnp.ones((1, 9, 9, 40)))
    yield "Conv, 4 groups", nn.Conv2d(40, 60, 3, groups=4), {"weight": found["kernel"]}
    found = build(linen.ConvTranspose(20, (3, 3)), jnp.ones((1, 9, 9, 80)))
    yield "ConvTranspose", nn.ConvTranspose2d(80, 20, 3), {"weight": found["kernel"]}
    found = build(linen.Embed(500, 100), jnp.ones((1, 2), int))
    yield "Embed", nn.Embedding(500, 100), {"weight": found["embedding"]}
    cell = linen.LSTMCell(80)
    carry = cell.initialize_carry(jax.random.key(0), (1, 100))
    found = build(cell, carry, jnp.ones((1, 100)))
    gates = {side: np.stack([found[f"{side}{g}"]["kernel"] for g in "ifgo"]) for side in "ih"}
    yield "LSTMCell", nn.LSTM(100, 80), {"weight_ih_l0": gates["i"], "weight_hh_l0": gates["h"]}
    found = build(linen.MultiHeadDotProductAttention(4), jnp.ones((1, 5, 128)))
    yield (
        "MultiHeadDotProductAttention",
        nn.MultiheadAttention(128, 4),
        {
            "in_proj_weight": found["query"]["kernel"],
            "out_proj.weight": found["out"]["kernel"],
        },
    )


def matlab() -> Iterator[tuple[str, float, float]]:
    """Layer, the std of MATLAB's published formula, and the measured one of our preset."""
    glorot = lambda inputs, outputs: math.sqrt(2 / (inputs + outputs))  # noqa: E731
    lstm, gru = nn.LSTM(100, 80), nn.GRU(100, 80)
    rows = [
        (
            "convolution2dLayer 3×3, 40 to 60",
            nn.Conv2d(40, 60, 3),
            "weight",
            glorot(9 * 40, 9 * 60),
        ),
        (
            "groupedConvolution2dLayer, 4 groups",
            nn.Conv2d(40, 60, 3, groups=4),
            "weight",
            glorot(9 * 10, 9 * 15),
        ),
        (
            "transposedConv2dLayer, 80 to 20",
            nn.ConvTranspose2d(80, 20, 3),
            "weight",
            glorot(9 * 80, 9 * 20),
        ),
        ("fullyConnectedLayer, 400 to 250", nn.Linear(400, 250), "weight", glorot(400, 250)),
        ("lstmLayer, input weights, 100 to 80", lstm, "weight_ih_l0", glorot(100, 4 * 80)),
        ("lstmLayer, recurrent weights", lstm, "weight_hh_l0", math.sqrt(1 / (4 * 80))),
        ("gruLayer, input weights, 100 to 80", gru, "weight_ih_l0", glorot(100, 3 * 80)),
        ("wordEmbeddingLayer", nn.Embedding(500, 100), "weight", 0.01),
    ]
    for name, module, key, formula in rows:
        yield name, formula, std(draw(module, ours.matlab(), 0)[key].numpy())
