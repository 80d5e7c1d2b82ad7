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
        objective = self.schema.objective
        if objective in row:
            best = f"best/{objective}"
            better = min if self.schema.better(objective) == "lower" else max
            summary[best] = better(summary.get(best, row[objective]), row[objective])  # type: ignore[type-var]
        summary |= {DIVERGED_STEP.name: None, DIVERGED_LAYER.name: None}

    def diverged(self, member: int, step: int, values: Mapping[str, Value]) -> None:
        """Notes that a member diverged.

        Args:
            member: The member.
            step: The step whose loss was not finite.
            values: What `divergence.examine` says of it.
        """
        self.values[member] |= {**values, DIVERGED_STEP.name: step}
