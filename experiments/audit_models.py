"""What the audit says about widely used models.

    python experiments/audit_models.py      # a minute; writes docs/audit.md

Builds torchvision's resnet18, vit_b_16, mobilenet_v3_small, convnext_tiny and densenet121,
nn.Transformer and nn.LSTM as their libraries initialize them, and audits each on a random batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torchvision
from torch import nn

import initstudy
from initstudy.audit import Audit

OUT = Path(__file__).parent.parent / "docs" / "audit.md"


def models() -> Iterator[tuple[str, Callable[[], nn.Module], tuple[tuple[int, ...], ...]]]:
    """The name, the constructor and the shapes of the inputs of each model."""
    vision = torchvision.models
    image = ((8, 3, 64, 64),)
    yield "torchvision resnet18", vision.resnet18, image
    yield "torchvision mobilenet_v3_small", vision.mobilenet_v3_small, image
    yield "torchvision densenet121", vision.densenet121, image
    yield "torchvision convnext_tiny", vision.convnext_tiny, image
    yield "torchvision vit_b_16", vision.vit_b_16, ((1, 3, 224, 224),)
    transformer = lambda: nn.Transformer(128, 8, 3, 3, 256, batch_first=True)  # noqa: E731
    yield "nn.Transformer(128, 8, 3, 3, 256)", transformer, ((4, 10, 128), (4, 7, 128))
    lstm = lambda: nn.LSTM(32, 64, 2, batch_first=True)  # noqa: E731
    yield "nn.LSTM(32, 64, 2)", lstm, ((8, 20, 32),)


def audited(build: Callable[[], nn.Module], shapes: tuple[tuple[int, ...], ...]) -> Audit:
    """Audits a fresh, seeded model on standard normal inputs."""
    torch.manual_seed(0)
    model = build()
    generator = torch.Generator().manual_seed(0)
    return initstudy.audit_model(
        model, *(torch.randn(shape, generator=generator) for shape in shapes)
    )


def section(name: str, found: Audit) -> str:
    """The section of one model."""
    counts = Counter(
        (row.kind or "–", row.role or "–", row.distribution) for row in found.parameters
    )
    lines = [
        f"## {name}",
        "",
        f"{len(found.parameters)} parameters, {len(found.signal.layers)} layers with a weight.",
        "",
        "| parameters | kind | role | distribution |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {n} | {kind} | {role} | {what} |" for (kind, role, what), n in counts.most_common()
    ]
    first, last = found.signal.layers[0], found.signal.layers[-1]
    ends = f"Activation rms {first.activation_rms:.3g} after `{first.name or 'it'}`"
    if last is not first:
        ends += f", {last.activation_rms:.3g} after `{last.name}`"
    lines += ["", f"{ends}."]
    if found.signal.loss is not None and found.signal.guessing_loss is not None:
        lines[-1] += (
            f" Loss {found.signal.loss:.3f} on random labels; guessing gives "
            f"{found.signal.guessing_loss:.3f}."
        )
    lines.append("")
    lines += [f"- **{w.code}**: {w.message}" for w in found.warnings] or ["- no warnings"]
    lines += [f"- note: **{w.code}**: {w.message}" for w in found.notes]
    return "\n".join([*lines, ""])


HEAD = """\
# What does my model start from, and what is wrong with it?

```sh
python -m initstudy.audit model=cnn init=torch_default
python -m initstudy.audit model._target_=mine.Net --json          # as its constructor makes it
python -m initstudy.audit model.depth=20 init.std=0.3 --strict    # exit code 1 on warnings
python -m initstudy.audit model.depth=20 init.std=0.3 --repair --try
```

```python
import initstudy

found = initstudy.audit_model(model, x, targets=y, learning_rate=0.1)
found.causes  # the warnings that are no consequence of another one
found.chart()  # signal and gradient through depth, the culprit marked
found.repair().apply(model)  # the smallest change that removes the causes

initstudy.testing.assert_initialized(model, x)  # in a test of your own
```

Any model and call will do: several inputs, keyword arguments, dicts, lists and arrays; outputs that
are dicts, tuples or of a library's own class, with the loss that a model computes itself if it has
one; labels, tokens or real numbers as `targets`; a `loss` of the output, or of output and targets.
Without inputs, and on the meta device, the parameters alone are read. What cannot be audited is a
`ValueError` with the reason. Nothing of the model changes.

The audit reads the parameters, and then makes one forward and one backward pass in training mode.
Modules are seen by hooks and functions by a `TorchFunctionMode`, so that `F.relu` and
`x @ self.weight` count as `nn.ReLU` and `nn.Linear` do, and code may branch as it likes. A layer
that is dead or gets no gradient is looked at in further random states if the model drops branches.

- **Parameters.** One row per parameter: the kind of its layer, its role, its true fans, and the
  known initialization that its values fit, by a Kolmogorov–Smirnov test and by a standard deviation
  within four standard errors. If several fit, the one that fits most parameters of that kind is
  named. With a `policy`, every parameter is tested against what the policy draws. Large models are
  shown in groups; `--every` shows each.
- **Layers.** One row per layer: activations and gradients, and the fractions of dead and saturated
  units.
- **Warnings**, causes before their consequences: inputs of 0 to 255 explain a large loss, and one
  bad layer explains a growing signal.

| warning | meaning |
| --- | --- |
| `not-finite` | a parameter, an activation or a gradient is NaN or infinite |
| `inputs` | inputs are large, tiny, or hidden by one feature of another scale |
| `targets` | real targets are at least ten times as large as the outputs |
| `softmax` | the outputs are probabilities, and the loss is a cross-entropy |
| `frozen` | no parameter requires a gradient (a note if some do not) |
| `detached` | the loss does not depend on layers that the model uses |
| `symmetric` | all weights of a hidden layer are the same |
| `dead`, `saturated` | more than half of the units, or entries, of a layer are |
| `odd-layer` | one layer changes the signal much more, or less, than the others |
| `time` | the gradient of a recurrent layer explodes or vanishes over its steps |
| `signal`, `gradient` | the rms changes steadily over the hidden layers, at least twentyfold |
| `sharpness` | the learning rate is above 4/λ, twice what gradient descent is stable at |
| `loss` | the loss starts far above that of guessing: by ln(classes), or by two nats |
| `no-gradient` | a layer's gradient is zero in the first step (a note for a zero head) |
| `unused` | the forward pass does not read a parameter |
| `identical-layers` | several layers hold the same values, as copies do |
| `duplicate-units` | units of a layer have the weights of other units |
| `outliers` | a few weights lie beyond 15 standard deviations of the others |
| `not-initialized` | a parameter does not hold what the policy draws (p < 10⁻⁶) |
| `wrong-fan` | the standard deviation follows fans of `torch.nn.init` that are not the layer's |
| `embedding` | an embedding starts at a standard deviation near 1 |
| `forget-gate` | the forget gates of an LSTM start half closed |
| `resolution` | a standard deviation is below what the float type resolves |

A layer that runs several times with the same weights is a note (`used-twice`). Where layers are
normalized, wrong fans are a note, and a gradient must change ten thousandfold: that of a
batch-normalized network grows with depth whatever its weights are.

## Repair

`found.repair()` holds the rules for the parameters that the causes name, and keeps all others;
`.python()` and `.yaml()` write them down, `.apply(model, seed=0)` fills the model. Where weights
are not the fault it says what is: how to standardize inputs and targets, logits instead of
probabilities, a stable learning rate, parameters to unfreeze. What only the model's code can mend
(a cut graph, a layer that is not called, ten sigmoids in a row) is advice and no rule.

`--try` trains the model as it starts, as repaired, and by two textbook cures (He and orthogonal
weights) for 300 steps with five seeds, all in one pack with the same batches, and says which of
them trains: whose loss, with its 95% interval, ends at least 10% below that of guessing.

```
as it starts: does not train, 5 diverged
repaired: trains, loss 0.412 [0.0454, 0.778]
```

## What theory does not know

`initstudy.critical_scale(model, batch)` finds the factor on all weights at which gradients neither
grow nor shrink with depth, with an interval, and with what mean-field theory says where it covers
the model. `initstudy.coordinate_check(make_model, widths, depths, optimizer, batch=…)` trains
small models of several sizes and names the tensor whose activations or updates depend on the size,
as muP, CompleteP and the spectral condition forbid. `initstudy.audit.fans.measure_fans(layer,
shape)` counts by noise what a unit really sums, which settles strided transposed convolutions.

## Widely used models

What it says about models as their libraries initialize them. `python experiments/audit_models.py`
writes this page.
"""

if __name__ == "__main__":
    parts = [HEAD]
    for name, build, shapes in models():
        parts.append(section(name, audited(build, shapes)))
        print(f"audited {name}")
    OUT.write_text("\n".join(parts), encoding="utf-8")
    print(f"wrote {OUT}")
