"""Every initializer beside those of torch, Keras and JAX; presets beside the frameworks they name.

    pip install -e ".[conformance]"
    python experiments/conformance.py      # half a minute; writes docs/conformance.md

Builds the same shapes by each framework's own functions and layers, and writes the measured
standard deviations side by side. `tests/test_conformance.py` holds the agreement.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import nn

from frameworks.initializers import LAYERS, cases, measure
from frameworks.layers import layer_presets, matlab, std
from initstudy.initializers import CONVENTIONS, Fans, compute_fans

OUT = Path(__file__).parent.parent / "docs" / "conformance.md"
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
            nn.MultiheadAttention(128, 4, kdim=96, vdim=96),
            "k_proj_weight",
        ),
    }
    for name, (module, key) in layers.items():
        yield name, key, [compute_fans(module, key, convention) for convention in CONVENTIONS]


def document() -> str:
    """The page."""
    lines = [INITIALIZERS]
    for case in cases():
        for layer in LAYERS:
            found = measure(case, layer)
            if len(found) < 2:
                continue
            cells = [
                f"{std(found[name]):.5f}" if name in found else "–"
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
