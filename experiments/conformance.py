"""Every initializer beside those of torch, Keras and JAX; presets beside the frameworks they name.

    pip install -e ".[conformance]"
    python experiments/conformance.py      # half a minute; writes docs/conformance.md

Builds the same shapes by each framework's own functions and layers, and writes the measured
standard deviations side by side. `tests/test_conformance.py` holds the agreement.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from initstudy import initializers as ours
from initstudy.initializers import CONVENTIONS, Fans, Initializer, compute_fans, draw

os.environ.setdefault("KERAS_BACKEND", "jax")

Array = np.ndarray
Fill = Callable[[tuple[int, ...], int], Array]
OUT = Path(__file__).parent.parent / "docs" / "conformance.md"
# A linear layer of 400 inputs and 250 outputs, and a 3×3 convolution of 40 and 60 channels.
LAYERS: dict[str, nn.Linear | nn.Conv2d] = {
    "linear": nn.Linear(400, 250),
    "conv": nn.Conv2d(40, 60, 3),
}


INITIALIZERS = """\
# Conformance

Written by `python experiments/conformance.py`; `tests/test_conformance.py` holds it.

## Initializers

Measured standard deviations on a linear layer of 400 inputs and 250 outputs, and on a 3×3
convolution of 40 and 60 channels. A dash: the framework has no such initializer.

| initializer | layer | initstudy | torch | Keras | JAX | documented difference |
| --- | --- | --- | --- | --- | --- | --- |"""
DEFAULTS = """
## Layers by default

Standard deviations of freshly built layers, and of the preset that names the framework on torch's
layer of the same sizes.

| layer, parameter | framework | its std | preset |
| --- | --- | --- | --- |"""
FANS = f"""
## Fans by convention

(fan in, fan out). `layer`, the default, is what a unit sums and what an input feeds.

| layer | parameter | {" | ".join(CONVENTIONS)} |
| --- | --- |{" --- |" * len(CONVENTIONS)}"""


@dataclass(frozen=True)
class Case:
    """One initializer in every framework that has it.

    Attributes:
        name: As users know it.
        initializer: Ours.
        torch: In place, from `torch.nn.init`.
        keras: From `keras.initializers`, by a seed.
        jax: From `jax.nn.initializers`.
        differs: What is documented to differ, by framework.
    """

    name: str
    initializer: Initializer
    torch: Callable[[torch.Tensor], torch.Tensor] | None = None
    keras: Callable[..., Any] | None = None
    jax: Callable[..., Any] | None = None
    differs: dict[str, str] | None = None


def cases() -> list[Case]:
    """What at least one framework shares with us."""
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
    """The values of one case on one layer, by framework; absent where it does not exist.

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


def layer_presets() -> Iterator[tuple[str, str, float, float]]:
    """Layer and parameter, framework, its fresh std, and our preset's, of Keras and Flax."""
    for name, module, theirs in _keras_layers():
        values = draw(module, ours.keras(), 0)
        for key, array in theirs.items():
            yield f"{name}, `{key}`", "Keras", _std(array), _std(_together(values, key))
    for name, module, theirs in _flax_layers():
        values = draw(module, ours.flax(), 0)
        for key, array in theirs.items():
            yield f"{name}, `{key}`", "Flax", _std(array), _std(_together(values, key))


def _together(values: dict[str, torch.Tensor], key: str) -> Array:
    """A parameter of ours; torch's two biases of a recurrent layer add up to one."""
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
    yield "LSTM", nn.LSTM(100, 80), {
        "weight_ih_l0": kernel, "weight_hh_l0": recurrent, "bias_ih_l0": bias,
    }  # fmt: skip
    kernel, recurrent, _ = build(layers.GRU(80), (None, 5, 100))
    yield "GRU", nn.GRU(100, 80), {"weight_ih_l0": kernel, "weight_hh_l0": recurrent}
    attention = layers.MultiHeadAttention(4, 32)
    query, _, _, _, _, _, output, _ = build(attention, (None, 5, 128), (None, 5, 128))
    yield "MultiHeadAttention", nn.MultiheadAttention(128, 4), {
        "in_proj_weight": query, "out_proj.weight": output,
    }  # fmt: skip
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
    yield "MultiHeadDotProductAttention", nn.MultiheadAttention(128, 4), {
        "in_proj_weight": found["query"]["kernel"], "out_proj.weight": found["out"]["kernel"],
    }  # fmt: skip


def matlab() -> Iterator[tuple[str, float, float]]:
    """Layer, the std of MATLAB's published formula, and the measured one of our preset."""
    glorot = lambda inputs, outputs: math.sqrt(2 / (inputs + outputs))  # noqa: E731
    lstm, gru = nn.LSTM(100, 80), nn.GRU(100, 80)
    rows = [
        ("convolution2dLayer 3×3, 40 to 60", nn.Conv2d(40, 60, 3), "weight",
         glorot(9 * 40, 9 * 60)),
        ("groupedConvolution2dLayer, 4 groups", nn.Conv2d(40, 60, 3, groups=4), "weight",
         glorot(9 * 10, 9 * 15)),
        ("transposedConv2dLayer, 80 to 20", nn.ConvTranspose2d(80, 20, 3), "weight",
         glorot(9 * 80, 9 * 20)),
        ("fullyConnectedLayer, 400 to 250", nn.Linear(400, 250), "weight", glorot(400, 250)),
        ("lstmLayer, input weights, 100 to 80", lstm, "weight_ih_l0", glorot(100, 4 * 80)),
        ("lstmLayer, recurrent weights", lstm, "weight_hh_l0", math.sqrt(1 / (4 * 80))),
        ("gruLayer, input weights, 100 to 80", gru, "weight_ih_l0", glorot(100, 3 * 80)),
        ("wordEmbeddingLayer", nn.Embedding(500, 100), "weight", 0.01),
    ]  # fmt: skip
    for name, module, key, formula in rows:
        yield name, formula, _std(draw(module, ours.matlab(), 0)[key].numpy())


def fans_table() -> Iterator[tuple[str, str, list[Fans]]]:
    """Layer, parameter, and its fans by each convention."""
    layers: dict[str, tuple[nn.Module, str]] = {
        "Linear(400, 250)": (nn.Linear(400, 250), "weight"),
        "Bilinear(20, 30, 50)": (nn.Bilinear(20, 30, 50), "weight"),
        "Conv2d(40, 60, 3)": (nn.Conv2d(40, 60, 3), "weight"),
        "Conv2d(40, 60, 3, groups=4)": (nn.Conv2d(40, 60, 3, groups=4), "weight"),
        "Conv2d(40, 80, 3, groups=40), depthwise": (nn.Conv2d(40, 80, 3, groups=40), "weight"),
        "ConvTranspose2d(80, 20, 3)": (nn.ConvTranspose2d(80, 20, 3), "weight"),
        "ConvTranspose2d(80, 20, 3, groups=4)": (nn.ConvTranspose2d(80, 20, 3, groups=4), "weight"),
        "Embedding(500, 100)": (nn.Embedding(500, 100), "weight"),
        "LSTM(100, 80), input": (nn.LSTM(100, 80), "weight_ih_l0"),
        "LSTM(100, 80), recurrent": (nn.LSTM(100, 80), "weight_hh_l0"),
        "GRU(100, 80), input": (nn.GRU(100, 80), "weight_ih_l0"),
        "MultiheadAttention(128, 4), packed": (nn.MultiheadAttention(128, 4), "in_proj_weight"),
        "MultiheadAttention(128, 4, kdim=96)": (
            nn.MultiheadAttention(128, 4, kdim=96, vdim=96), "k_proj_weight"),
    }  # fmt: skip
    for name, (module, key) in layers.items():
        yield name, key, [compute_fans(module, key, convention) for convention in CONVENTIONS]


def _std(values: Array) -> float:
    return float(np.asarray(values, dtype=float).std())


def document() -> str:
    """The page."""
    lines = [INITIALIZERS]
    for case in cases():
        for layer in LAYERS:
            found = measure(case, layer)
            if len(found) < 2:
                continue
            cells = [
                f"{_std(found[name]):.5f}" if name in found else "–"
                for name in ("initstudy", "torch", "keras", "jax")
            ]
            notes: dict[str, list[str]] = {}
            for name, what in (case.differs or {}).items():
                notes.setdefault(what, []).append({"keras": "Keras", "jax": "JAX"}[name])
            note = "; ".join(f"{' and '.join(names)}: {what}" for what, names in notes.items())
            lines.append(f"| {case.name} | {layer} | {' | '.join(cells)} | {note} |")
    lines.append(DEFAULTS)
    lines += [f"| {n} | {f} | {a:.5f} | {b:.5f} |" for n, f, a, b in layer_presets()]
    lines += [f"| {n} | MATLAB | {a:.5f} by its formula | {b:.5f} |" for n, a, b in matlab()]
    lines.append(FANS)
    for name, key, fans in fans_table():
        cells = [f"{f.fan_in:,}, {f.fan_out:,}" for f in fans]
        shown = [cells[0], *(c if c != cells[0] else "same" for c in cells[1:])]
        lines.append(f"| {name} | `{key}` | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    OUT.write_text(document(), encoding="utf-8")
    print(f"wrote {OUT}")
