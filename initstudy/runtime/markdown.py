"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    r"""The lines of a table.

    Args:
        heads: The titles of the columns.
        rows: The cells, as many per row as there are columns. A bar in a cell is escaped, since it
            would end the cell.

    Example:
        >>> table(["key", "meaning"], [["a", "|value|"]])
        ['| key | meaning |', '| --- | --- |', '| a | \\|value\\| |']
    """
    lines = [heads, ["---"] * len(heads)]
    lines += [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
