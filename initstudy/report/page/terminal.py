"""The report in a terminal: the table, the findings, and where the page lies."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from initstudy.report import Report
from initstudy.report.page import words

STYLES = {"PASS": "bold green", "REFUTED": "bold red", "UNDECIDED": "yellow"}


def show_table(console: Console, values: words.Table) -> None:
    """Prints a table of values."""
    table = Table(*values.columns, box=None, header_style="bold")
    for row in values.rows:
        table.add_row(*row)
    console.print(table)


def show(console: Console, report: Report) -> None:
    """Prints a report's table and findings, and where its page lies."""
    show_table(console, report.table)
    for result in report.results:
        finding = result.finding
        style = STYLES[finding.verdict]
        console.print(
            f"\n[{style}]{finding.verdict}[/] {escape(result.statement)} ({escape(result.facet)})",
            highlight=False,
        )
        console.print(f"     {escape(finding.detail)}", highlight=False)
        if finding.interval is not None:
            console.print(f"     {escape(words.evidence(finding))}", highlight=False)
        for remark in (*filter(None, [words.needed(finding)]), *words.remarks(result)):
            console.print(f"     [dim]{escape(remark)}[/]", highlight=False)
    console.print(f"\n{escape(report.headline)}", highlight=False, soft_wrap=True)
    console.print(f"\nreport: {report.index}", highlight=False, soft_wrap=True)
