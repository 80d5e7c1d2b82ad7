"""An audit as text in the terminal: causes first, then layers and parameters in groups."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from initstudy.audit.result import Audit, ParameterRow
from initstudy.audit.signal import LayerSignal

# What is shown in full; the rest is counted, or shown by `show(…, every=True)`.
FIRST = 3
# A model of fewer layers has a row for each.
LAYERS = 24


def show(console: Console, audit: Audit, *, every: bool = False) -> None:
    """Prints the warnings, the layers, the parameters and the loss.

    Args:
        console: Where to print.
        audit: The audit.
        every: Whether each parameter and layer has a row of its own, and each warning a line.
    """
    _warnings(console, audit, every)
    if audit.signal.layers:
        console.print(_layers(audit, every))
    console.print(_parameters(audit, every))
    for line in (loss_line(audit), *_notes(audit, every)):
        if line:
            console.print(line, highlight=False)


def loss_line(audit: Audit) -> str:
    """The first loss, and that of guessing, in a sentence; empty if there is none.

    Args:
        audit: The audit.
    """
    signal = audit.signal
    labels = " (random labels)" if signal.random_targets else ""
    text = f"loss at initialization {signal.loss:.4g}{labels}" if signal.loss is not None else ""
    if text and signal.guessing_loss is not None:
        real = any(loss.target_std is not None for loss in signal.losses)
        name = "the mean" if real else "ln(classes)"
        text += f"; guessing gives {name} = {signal.guessing_loss:.4g}"
    if audit.sharpness:
        text += f"; sharpness λ = {audit.sharpness:.3g}, so that gradient descent is stable up "
        text += f"to a learning rate of 2/λ = {2 / audit.sharpness:.3g}"
    return text


def _warnings(console: Console, audit: Audit, every: bool) -> None:
    causes = audit.causes
    shown = causes if every else causes[:FIRST]
    for warning in shown:
        console.print(
            f"[bold yellow]warning[/] [dim]{warning.code}[/]: {escape(warning.message)}",
            highlight=False,
        )
        follow = [w.code for w in audit.warnings if w.follows == warning.code]
        if follow:
            console.print(f"  [dim]from this follow: {', '.join(follow)}[/]", highlight=False)
    if len(shown) < len(causes):
        rest = ", ".join(dict.fromkeys(warning.code for warning in causes[FIRST:]))
        console.print(f"{len(causes) - FIRST} more warnings: {rest} (--every shows them)")
    if not causes:
        console.print("no warnings", style="green")


def _notes(audit: Audit, every: bool) -> Iterator[str]:
    for note in audit.notes:
        yield f"[dim]note {note.code}: {escape(note.message)}[/]"


def _parameters(audit: Audit, every: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Parameters", title_justify="left")
    for name in ("parameter", "shape", "fans", "distribution"):
        table.add_column(name, overflow="fold")
    for name in ("std meant", "std", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for rows in grouped(audit.parameters, every):
        row = rows[0]
        stds = [r.std for r in rows]
        pvalues = [r.pvalue for r in rows if r.pvalue is not None]
        table.add_row(
            escape(pattern([r.name for r in rows])),
            _common("×".join(str(size) for size in r.shape) or "–" for r in rows),
            _common("–" if r.fan_in is None else f"{r.fan_in} → {r.fan_out}" for r in rows),
            escape(row.distribution),
            _range([r.intended_std for r in rows if r.intended_std is not None]),
            _range(stds),
            _number(min(pvalues), 2) if pvalues else "–",
        )
    return table


def grouped(rows: Sequence[ParameterRow], every: bool = False) -> list[list[ParameterRow]]:
    """Parameters that only a number in their names tells apart, with one distribution.

    Args:
        rows: The parameters.
        every: Whether each is a group by itself, as are all in a model of few parameters.
    """
    if every or len(rows) <= LAYERS:
        return [[row] for row in rows]
    groups: dict[tuple[object, ...], list[ParameterRow]] = {}
    for row in rows:
        key = (row.kind, row.role, row.distribution, row.name.rpartition(".")[2])
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def pattern(names: Sequence[str]) -> str:
    """Several names as one, with `*` for what differs.

    Args:
        names: The names.

    Example:
        >>> from initstudy.audit.table import pattern
        >>> pattern(["layer1.0.conv1.weight", "layer2.1.conv2.weight", "conv1.weight"])
        '*.weight (3)'
    """
    if len(names) == 1:
        return names[0]
    parts = [name.split(".") for name in names]
    if len({len(p) for p in parts}) > 1:
        return f"*.{parts[0][-1]} ({len(names)})"
    joined = ["*" if len(set(several)) > 1 else several[0] for several in zip(*parts, strict=True)]
    return f"{'.'.join(joined)} ({len(names)})"


def _layers(audit: Audit, every: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="One forward and backward pass", title_justify="left")
    layers = audit.signal.layers
    theory = any(layer.expected_activation_rms is not None for layer in layers)
    table.add_column("layer", overflow="fold")
    expected = ["theory"] if theory else []
    measured = ("activation rms", *expected, "gradient rms", *expected, "by weight")
    for name in (*measured, "dead", "saturated"):
        table.add_column(name, justify="right")
    culprits = {name for warning in audit.causes for name in warning.where[:1]}
    for several in _runs(layers, every):
        forward = [_range([s.expected_activation_rms for s in several])] if theory else []
        backward = [_range([s.expected_gradient_rms for s in several])] if theory else []
        limits = [s.saturated for s in several if s.saturated is not None]
        marked = any(s.name in culprits for s in several)
        name = escape(pattern([s.name for s in several]) or "(the model)")
        table.add_row(
            f"[bold yellow]{name}[/]" if marked else name,
            _range([s.activation_rms for s in several]),
            *forward,
            _range([s.gradient_rms for s in several]),
            *backward,
            _range([s.weight_gradient_rms for s in several]),
            f"{max(s.dead for s in several):.0%}",
            f"{max(limits):.0%}" if limits else "–",
        )
    return table


def _runs(layers: Sequence[LayerSignal], every: bool) -> list[list[LayerSignal]]:
    """Successive layers of one block, as far as its name goes up to the first number."""
    if every or len(layers) <= LAYERS:
        return [[layer] for layer in layers]

    def block(layer: LayerSignal) -> str:
        found = re.match(r"(.*?\d+)(\.|$)", layer.name)
        return found[1] if found else layer.name

    return [list(several) for _, several in groupby(layers, key=block)]


def _common(values: Iterator[str]) -> str:
    several = list(dict.fromkeys(values))
    return several[0] if len(several) == 1 else f"{several[0]} … {several[-1]}"


def _range(values: Sequence[float | None]) -> str:
    """One number, or the smallest and the largest."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    low, high = _number(min(known)), _number(max(known))
    return low if low == high else f"{low} … {high}"


def _number(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.{digits}g}"
