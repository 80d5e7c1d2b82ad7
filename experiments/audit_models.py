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
    return "\n".join([*lines, ""])


HEAD = """\
# What does my model start from, and what is wrong with it?

```sh
python -m initstudy.audit model=cnn init=torch_default
python -m initstudy.audit model._target_=mine.Net init=kaiming_normal --json
python -m initstudy.audit model.depth=20 init.std=0.3 --strict    # exit code 1 on warnings
```

```python
import initstudy

audit = initstudy.audit_model(model, batch)  # or (model, [inputs, …], labels, policy=policy)
audit.parameters, audit.signal.layers, audit.warnings
```

The audit reads the parameters, and then makes one forward and one backward pass in training mode.
It changes nothing of the model.

- **Parameters.** One row per parameter: the kind of its layer, its role, its true fans, and the
  known initialization that its values fit, by an exact Kolmogorov–Smirnov test and by a standard
  deviation within four standard errors. If several fit, the one that fits most parameters of that
  kind is named. With a `policy`, every parameter is tested against what the policy draws.
- **Layers.** One row per layer: activations and gradients, and the fractions of dead and saturated
  units.
- **Warnings**, each with what to do about it:

| warning | meaning |
| --- | --- |
| `not-finite` | an activation or a gradient is NaN or infinite |
| `no-gradient` | the gradient of a layer is exactly zero in the first step |
| `signal`, `gradient` | the rms changes steadily over the layers, at least tenfold |
| `loss` | the loss starts at more than twice ln(classes) |
| `dead`, `saturated` | more than half of the units, or entries, of a layer are |
| `symmetric` | all weights of a hidden layer are the same |
| `not-initialized` | a parameter does not hold what the policy draws (p < 10⁻⁶) |
| `wrong-fan` | the standard deviation follows fans of `torch.nn.init` that are not the layer's |
| `embedding` | an embedding starts at standard deviation 1 |
| `forget-gate` | the forget gates of an LSTM start half closed |
| `resolution` | a standard deviation is below what the float type resolves |

Below is what it says about widely used models as their libraries initialize them.
`python experiments/audit_models.py` writes this page.
"""

if __name__ == "__main__":
    parts = [HEAD]
    for name, build, shapes in models():
        parts.append(section(name, audited(build, shapes)))
        print(f"audited {name}")
    OUT.write_text("\n".join(parts), encoding="utf-8")
    print(f"wrote {OUT}")
