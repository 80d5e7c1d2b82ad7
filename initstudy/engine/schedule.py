"""How long a pack trains, and how often it is looked at."""

from __future__ import annotations

from dataclasses import dataclass, field

from initstudy.probes.statistics import Probes


@dataclass(frozen=True)
class Schedule:
    """How long to train, and how often to look.

    Args:
        steps: The number of updates.
        log_every: The number of steps between two rows of the training loss.
        eval_every: The number of steps between two evaluations.
        probes: What is measured in the layers, and how often.
        keep_weights: Whether summaries hold the final parameters and buffers.
    """

    steps: int
    log_every: int
    eval_every: int
    probes: Probes = field(default_factory=Probes)
    keep_weights: bool = False

    def row_due(self, step: int) -> bool:
        """Whether the state after `step` updates gets a row."""
        return (
            step % self.log_every == 0
            or self.eval_due(step)
            or self.probes.due(step, self.last(step))
        )

    def eval_due(self, step: int) -> bool:
        """Whether the state after `step` updates is evaluated; the last one always is."""
        return step % self.eval_every == 0 or self.last(step)

    def last(self, step: int) -> bool:
        """Whether all updates are done."""
        return step == self.steps
