"""An audit as a picture: signal and gradient through depth, with the culprit marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair

    from initstudy.audit.result import Audit

WIDTH, HEIGHT = 560, 220
SIGNAL, GRADIENT, CULPRIT = "#3b6fb6", "#c2571a", "#b3261e"


def as_chart(audit: Audit) -> altair.LayerChart:
    """The root mean square of every layer's activation and gradient, on a logarithmic axis.

    Args:
        audit: The audit.

    Raises:
        ValueError: The audit has no layers, as one without inputs has none.
        ModuleNotFoundError: Altair is not installed.
    """
    layers = audit.signal.layers
    if not layers:
        raise ValueError("the audit made no pass: give it inputs to draw the layers' signals")
    import altair

    rows = rows_of(audit)
    names = list(dict.fromkeys(row["layer"] for row in rows))
    x = altair.X(
        "layer:N", sort=names, title="layer, in the order of execution", axis=_axis(altair, names)
    )
    what = altair.Color(
        "what:N",
        title=None,
        scale=altair.Scale(domain=["activation", "gradient"], range=[SIGNAL, GRADIENT]),
    )
    y = altair.Y("rms:Q", scale=altair.Scale(type="log"), title="root mean square")
    tooltip: Any = ["layer:N", "what:N", altair.Tooltip("rms:Q", format=".3g"), "warnings:N"]
    base = altair.Chart(altair.Data(values=rows)).encode(x=x, tooltip=tooltip)
    lines = base.mark_line(point=len(names) <= 60).encode(y=y, color=what)
    theory = base.mark_line(strokeDash=[4, 3], opacity=0.7).encode(
        y=altair.Y("theory:Q", scale=altair.Scale(type="log")), color=what
    )
    marked = altair.Chart(altair.Data(values=[r for r in rows if r["culprit"]])).encode(
        x=x, tooltip=tooltip
    )
    rule = marked.mark_rule(color=CULPRIT, strokeWidth=2, opacity=0.6)
    title = altair.TitleParams("Signal and gradient at initialization", subtitle=_subtitle(audit))
    return altair.LayerChart(layer=[rule, theory, lines]).properties(
        width=WIDTH, height=HEIGHT, title=title
    )


def rows_of(audit: Audit) -> list[dict[str, Any]]:
    """The rows that the picture draws: two per layer, one of its activation, one of its gradient.

    Sizes that a logarithmic axis cannot show are left out.

    Args:
        audit: The audit.
    """
    culprits = {
        name.removesuffix(".weight") for warning in audit.causes[:1] for name in warning.where[:1]
    }
    rows = []
    for layer in audit.signal.layers:
        codes = [w.code for w in audit.warnings if layer.name in w.where]
        common = {
            "layer": layer.name or "(the model)",
            "culprit": layer.name in culprits,
            "warnings": ", ".join(codes),
        }
        sizes = (
            ("activation", layer.activation_rms, layer.expected_activation_rms),
            ("gradient", layer.gradient_rms, layer.expected_gradient_rms),
        )
        for what, size, theory in sizes:
            shown = size if size and 0 < size < float("inf") else None
            rows.append({**common, "what": what, "rms": shown, "theory": theory or None})
    return rows


def _axis(altair: Any, names: list[str]) -> Any:
    return altair.Axis(labelAngle=-60, labelOverlap=True, labelLimit=160, ticks=len(names) <= 60)


def _subtitle(audit: Audit) -> str:
    if not audit.causes:
        return "no warnings"
    first = audit.causes[0]
    return f"{first.code}: {first.message.partition(';')[0].partition(': ')[0]}"
