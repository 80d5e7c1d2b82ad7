"""An audit in a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from initstudy.audit.table import FIRST, grouped, loss_line, pattern

if TYPE_CHECKING:
    from initstudy.audit.result import Audit


def as_html(audit: Audit) -> str:
    """The first warnings, the loss, and the parameters in groups.

    Args:
        audit: The audit.
    """
    parts = ["<div>"]
    for warning in audit.causes[:FIRST]:
        parts.append(f"<p><b>{escape(warning.code)}</b>: {escape(warning.message)}</p>")
    if len(audit.causes) > FIRST:
        codes = ", ".join(warning.code for warning in audit.causes[FIRST:])
        parts.append(f"<p>{len(audit.causes) - FIRST} more warnings: {escape(codes)}</p>")
    if not audit.causes:
        parts.append("<p>no warnings</p>")
    line = loss_line(audit)
    parts += [f"<p>{escape(line)}</p>"] if line else []
    parts.append(
        "<table><thead><tr><th>parameter</th><th>distribution</th><th>std</th></tr></thead>"
    )
    for rows in grouped(audit.parameters):
        stds = sorted(row.std for row in rows)
        size = f"{stds[0]:.3g}" if len(rows) == 1 else f"{stds[0]:.3g} … {stds[-1]:.3g}"
        cells = (pattern([row.name for row in rows]), rows[0].distribution, size)
        parts.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return "\n".join([*parts, "</table>", "</div>"])
