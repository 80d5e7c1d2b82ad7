"""Training a pack: a generator of rows.

A step of training:

    for step in schedule:
        evaluate, if due        the scores of every member on validation and test data
        probe or step           one batch for every member; the losses stay on the device
        row, if due             one transfer to the host; a row for every member
        divergence              members whose loss was not finite get their last row and end
        state, if due           everything that the next steps depend on, for a checkpoint

Each line is an object or a function of its own: `evaluation.evaluate`, the engine's `step` and
`probe_step`, `averages.Averages`, `divergence.examine` and `summaries.Summaries`. A member whose
loss is not finite has been frozen by the engine before that step's update, so that rows,
evaluations and its neighbours never see what came of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from initstudy.columns import SCHEMA, TEST, TRAIN, TRAIN_LOSS, VALIDATION, Schema
from initstudy.engine.averages import Averages
from initstudy.engine.contract import Batch, Engine
from initstudy.engine.divergence import examine
from initstudy.engine.evaluation import columns, evaluate
from initstudy.engine.schedule import Schedule
from initstudy.engine.stack import Tensors
from initstudy.engine.state import State
from initstudy.engine.summaries import Summaries, Value
from initstudy.trees import TensorTree

Batches = Callable[[int, list[int]], tuple[TensorTree, TensorTree]]
Chunks = Callable[[], Iterator[tuple[TensorTree, TensorTree]]]


@dataclass(frozen=True)
class Row:
    """What one member's history holds at one step.

    Attributes:
        member: The member's number in the pack as it began.
        step: How many updates there were.
        values: The values by column.
    """

    member: int
    step: int
    values: dict[str, Value]


@dataclass(frozen=True)
class Summary:
    """One member's final values.

    Attributes:
        member: The member's number in the pack as it began.
        values: The values by column.
        weights: The final parameters and buffers by name, if the schedule keeps them.
    """

    member: int
    values: dict[str, Value]
    weights: Tensors | None = None


def train(
    engine: Engine,
    batches: Batches,
    test: Chunks,
    schedule: Schedule,
    *,
    validation: Chunks | None = None,
    schema: Schema = SCHEMA,
    start: State | None = None,
    due: Callable[[], bool] = lambda: False,
) -> Iterator[Row | Summary | State]:
    """Trains the members of an engine; yields their rows as they come, then their summaries.

    A member whose loss is not finite is frozen before that step's update, gets one more row, and
    does not touch the others.

    Args:
        engine: The members.
        batches: For a step and the numbers of some members, their inputs `[groups, batch, ...]`
            and targets `[groups, batch, ...]`: one for each member, or one for each of as many
            groups of neighbours as divide them evenly.
        test: Iterates over the test data in chunks, inputs `[n, ...]` and targets `[n, ...]`.
        schedule: How long to train, and how often to look.
        validation: Iterates over the validation data likewise; None if there are none.
        schema: The columns of the rows, and which one is the objective.
        start: The state of an earlier training of the same members, to go on from.
        due: Asked after every step whether to yield the state as well.

    Raises:
        ValueError: `start` does not fit, at the first row.
    """
    parts = {TEST: test} if validation is None else {VALIDATION: validation, TEST: test}
    training = Training(engine, batches, parts, schedule, schema)
    return training.rows(start, due)


class Training:
    """A pack in training.

    Args:
        engine: The members.
        batches: See `train`.
        parts: What iterates over the data to evaluate on, by the names of the parts.
        schedule: How long to train, and how often to look.
        schema: The columns of the rows.

    Attributes:
        engine: The members that still train.
        members: Their numbers in the pack as it began, in the engine's order.
    """

    def __init__(
        self,
        engine: Engine,
        batches: Batches,
        parts: Mapping[str, Chunks],
        schedule: Schedule,
        schema: Schema = SCHEMA,
    ) -> None:
        self.engine = engine
        self.batches = batches
        self.parts = parts
        self.schedule = schedule
        self.members = list(range(engine.stack.size))
        self.ended: set[int] = set()
        self.averages = Averages(engine.loss)
        self.summaries = Summaries(engine.stack.size, schema)
        self.weights: dict[int, Tensors] = {}

    def rows(self, start: State | None, due: Callable[[], bool]) -> Iterator[Row | Summary | State]:
        """What `train` yields."""
        schedule = self.schedule
        if start is not None:
            self.restore(start)
        for step in range(start.step if start else 0, schedule.steps + 1):
            values = self._advance(step)
            if schedule.row_due(step):
                yield from self._rows_of(step, values)
                self._drop_ended()
            if not self.members:
                break
            if not schedule.last(step) and due():
                yield self.state(step + 1)
        yield from self._ends()

    def batch(self, step: int) -> Batch:
        """The batch of a step for the members that still train."""
        return Batch(*self.batches(step, self.members))

    def keep(self, indices: list[int]) -> None:
        """Goes on with the members at these indices alone."""
        self.engine.keep(indices)
        self.averages.keep(indices)
        self.members = [self.members[i] for i in indices]

    def state(self, step: int) -> State:
        """Everything on which the steps from this one on depend."""
        tensors = self.engine.state() | self.averages.state()
        for member, weights in self.weights.items():
            tensors |= {f"kept/{member}/{name}": value for name, value in weights.items()}
        facts = {
            "members": self.members,
            "ended": sorted(self.ended),
            "summaries": self.summaries.values,
        }
        return State(step, tensors, facts)

    def restore(self, state: State) -> None:
        """Takes over the state of a training that was begun with the same arguments.

        Raises:
            ValueError: The state is another model's or another optimizer's; the training is then
                unusable.
        """
        device = self.engine.stack.device
        self.keep(state.facts["members"])
        self.engine.restore(state.tensors)
        on_device = {name: value.to(device) for name, value in state.tensors.items()}
        self.averages.restore(on_device)
        self.ended = set(state.facts["ended"])
        self.summaries.values = state.facts["summaries"]
        for name, value in on_device.items():
            if name.startswith("kept/"):
                _, member, parameter = name.split("/", 2)
                self.weights.setdefault(int(member), {})[parameter] = value

    def _advance(self, step: int) -> Tensors:
        """Evaluates, and measures or takes a step; returns the values of this step's row.

        A row describes the state after `step` updates, and the minibatches that led there.
        """
        schedule = self.schedule
        last = schedule.last(step)
        values = self.averages.take() if schedule.row_due(step) and step > 0 else {}
        if schedule.eval_due(step):
            for name, chunks in self.parts.items():
                values |= evaluate(self.engine, chunks(), name)
        measurements: Tensors = {}
        if schedule.probes.due(step, last):
            preset = schedule.probes.preset
            losses, measurements = self.engine.probe_step(
                self.batch(step), preset, updating=not last
            )
        elif not last:
            losses = self.engine.step(self.batch(step))
        if not last:
            self.averages.add(losses)
        if step == 0:
            values |= columns(self.engine.loss, losses.means(), TRAIN)
        return values | measurements

    def _rows_of(self, step: int, values: Tensors) -> Iterator[Row]:
        """The rows of all members that have not ended, and the end of those that diverged."""
        health = self.engine.health
        diverged_at = health.diverged_at.tolist()
        table = _to_host(values)
        for index, member in enumerate(self.members):
            if member in self.ended:
                continue
            row = {column: numbers[index] for column, numbers in table.items()}
            at = diverged_at[index]
            # The update of this very step may have found a divergence that belongs to a later row.
            if at < 0 or at > step:
                self.summaries.update(member, row)
                yield Row(member, step, row)
                continue
            # What was measured at a later step than that of the divergence tells of frozen weights.
            row = (row if at == step else {}) | {TRAIN_LOSS.name: health.last_loss[index].item()}
            self._end_diverged(index, at, row)
            yield Row(member, at, row)

    def _end_diverged(self, index: int, step: int, row: dict[str, Value]) -> None:
        member = self.members[index]
        batch = Batch(*self.batches(step, [member]))
        self.summaries.update(member, row)
        parts = {name: chunks() for name, chunks in self.parts.items()}
        self.summaries.diverged(member, step, examine(self.engine, index, batch, parts))
        self.ended.add(member)
        self._keep_weights(index)

    def _drop_ended(self) -> None:
        """Leaves out the members that have ended, so that they cost no more time.

        If the kernels of this engine would then change the others in the last bit, they stay,
        frozen, until all have ended.
        """
        indices = [i for i, member in enumerate(self.members) if member not in self.ended]
        if len(indices) < len(self.members) and (self.engine.size_invariant or not indices):
            self.keep(indices)

    def _ends(self) -> Iterator[Summary]:
        """The summaries of all members."""
        for index, member in enumerate(self.members):
            if member not in self.ended:
                self._keep_weights(index)
        for member, values in enumerate(self.summaries.values):
            yield Summary(member, values, self.weights.get(member))

    def _keep_weights(self, index: int) -> None:
        if self.schedule.keep_weights:
            self.weights[self.members[index]] = self.engine.stack.member(index)


def _to_host(values: Tensors) -> dict[str, list]:
    """The values of all members by column, in one transfer for all scalars, one per histogram."""
    scalars = {name: value for name, value in values.items() if value.dim() == 1}
    table: dict[str, list] = {}
    if scalars:
        host = torch.stack([value.double() for value in scalars.values()]).tolist()
        table = dict(zip(scalars, host, strict=True))
    return table | {name: value.tolist() for name, value in values.items() if value.dim() > 1}
