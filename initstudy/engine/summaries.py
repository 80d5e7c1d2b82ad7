"""The final values of every member."""

from __future__ import annotations

from collections.abc import Mapping

from initstudy.columns import DIVERGED_LAYER, DIVERGED_STEP, SCHEMA, Schema

Value = float | int | str | list[int] | None


class Summaries:
    """The final values of the members, and the best one of the objective, updated row by row.

    Args:
        members: How many there are.
        schema: The columns of their rows.

    Attributes:
        values: For each member its values by column.
    """

    def __init__(self, members: int, schema: Schema = SCHEMA) -> None:
        self.schema = schema
        self.values: list[dict[str, Value]] = [{} for _ in range(members)]

    def update(self, member: int, row: Mapping[str, Value]) -> None:
        """Takes over the values of a member's row."""
        summary = self.values[member]
        for column in self.schema.measured:
            if column.name in row:
                summary[column.name] = row[column.name]
        if self.schema.selection in row:
            self._select(summary, row)
        summary |= {DIVERGED_STEP.name: None, DIVERGED_LAYER.name: None}

    def _select(self, summary: dict[str, Value], row: Mapping[str, Value]) -> None:
        """Takes over the objective if the column that selects is better than ever before."""
        selection = self.schema.selection
        better = min if self.schema.better(selection) == "lower" else max
        best = f"best/{selection}"
        value = row[selection]
        chosen = better(summary.get(best, value), value)  # type: ignore[type-var]
        improves = best not in summary or chosen != summary[best]
        if improves and self.schema.objective in row:
            summary[f"best/{self.schema.objective}"] = row[self.schema.objective]
        summary[best] = chosen

    def diverged(self, member: int, step: int, values: Mapping[str, Value]) -> None:
        """Notes that a member diverged.

        Args:
            member: The member.
            step: The step whose loss was not finite.
            values: What `divergence.examine` says of it.
        """
        self.values[member] |= {**values, DIVERGED_STEP.name: step}
