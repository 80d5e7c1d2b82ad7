"""The learning rate over the steps: a factor per step and member."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor


class Rates:
    """Factors of the members' learning rates by step, on the device.

    Args:
        table: The factors of each schedule by step; the last one stays for any later step.
        schedules: For each member the index of its schedule.
        device: Where the members train.
    """

    def __init__(
        self,
        table: Float64[Tensor, "schedules steps"],
        schedules: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> None:
        self.table = table.to(device)
        self.schedules = torch.tensor(schedules, dtype=torch.long, device=device)
        self.same = len(set(schedules)) == 1

    def at(self, step: Int[Tensor, ""]) -> Float64[Tensor, " members"]:
        """The members' factors after so many updates.

        Args:
            step: On the device, so that a captured step reads it anew at each replay.
        """
        column = step.clamp(max=self.table.shape[1] - 1).view(1)
        return self.table.index_select(1, column)[:, 0][self.schedules]

    def shared_at(self, step: int) -> float:
        """The factor after so many updates, if all members began with the same schedule."""
        return float(self.table[self.schedules[0], min(step, self.table.shape[1] - 1)])

    def keep(self, members: Sequence[int]) -> Rates:
        """The factors of some of the members."""
        kept = Rates(self.table, self.schedules[members].tolist(), self.table.device)
        # What all members shared at first decides how those that are left round.
        kept.same = self.same
        return kept


def scaled(
    rates: Float[Tensor, " members"], factors: Float64[Tensor, " members"]
) -> Float[Tensor, " members"]:
    """Learning rates times their factors, in the precision of the rates."""
    return (rates.double() * factors).to(rates.dtype)
