"""An audit as tables in the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from initstudy.audit.result import Audit


def show(console: Console, audit: Audit) -> None:
    """Prints the parameters, the layers, the loss and the warnings."""
    console.print(_parameters(audit))
    console.print(_layers(audit))
    signal = audit.signal
    if signal.loss is not None and signal.guessing_loss is not None:
        labels = " (random labels)" if signal.random_targets else ""
        console.print(
            f"loss at initialization {signal.loss:.4g}{labels}; "
            f"guessing gives ln(classes) = {signal.guessing_loss:.4g}",
            highlight=False,
        )
    elif signal.loss is not None:
        console.print(f"loss at initialization {signal.loss:.4g}", highlight=False)
    for warning in audit.warnings:
        console.print(
            f"[bold yellow]warning[/] [dim]{warning.code}[/]: {escape(warning.message)}",
            highlight=False,
        )
    if not audit.warnings:
        console.print("no warnings", style="green")


def _parameters(audit: Audit) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Parameters", title_justify="left")
    for name in ("parameter", "shape", "fans", "distribution"):
        table.add_column(name, overflow="fold")
    for name in ("std meant", "std", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in audit.parameters:
        fans = "–" if row.fan_in is None else f"{row.fan_in} → {row.fan_out}"
        table.add_row(
            escape(row.name),
            "×".join(str(size) for size in row.shape) or "–",
            fans,
            escape(row.distribution),
            _number(row.intended_std),
            _number(row.std),
            _number(row.pvalue, 2),
        )
    return table


def _layers(audit: Audit) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="One forward and backward pass", title_justify="left")
    layers = audit.signal.layers
    theory = any(layer.expected_activation_rms is not None for layer in layers)
    table.add_column("layer", overflow="fold")
    expected = ["theory"] if theory else []
    measured = ("activation rms", *expected, "gradient rms", *expected, "by weight")
    for name in (*measured, "dead", "saturated"):
        table.add_column(name, justify="right")
    for layer in layers:
        forward = [_number(layer.expected_activation_rms)] if theory else []
        backward = [_number(layer.expected_gradient_rms)] if theory else []
        table.add_row(
            escape(layer.name),
            _number(layer.activation_rms),
            *forward,
            _number(layer.gradient_rms),
            *backward,
            _number(layer.weight_gradient_rms),
            f"{layer.dead:.0%}",
            "–" if layer.saturated is None else f"{layer.saturated:.0%}",
        )
    return table


def _number(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.{digits}g}"
