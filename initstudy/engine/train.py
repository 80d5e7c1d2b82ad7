"""Training an ensemble: a generator of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from initstudy.engine.autograd import differentiate, evaluate
from initstudy.engine.compiled import Program, program
from initstudy.engine.graph import Step, replayed
from initstudy.engine.optimizers import Optimizer
from initstudy.engine.schedule import Schedule
from initstudy.engine.stack import Stack, Tensors
from initstudy.engine.state import State, capture, restore
from initstudy.engine.stepper import Stepper
from initstudy.probes import statistics as statistics
from initstudy.probes.layers import Layer, first_nonfinite

Value = float | int | str | list[int] | None
Batches = Callable[[int, list[int]], tuple[Tensor, Tensor]]
TRAIN = ("train/loss", "train/accuracy")
TEST = ("test/loss", "test/accuracy")
Chunks = Callable[[], Iterator[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class Row:
    """What one member's history holds at one step."""

    member: int
    step: int
    values: dict[str, Value]


@dataclass(frozen=True)
class Summary:
    """One member's final values, and its parameters and buffers by name where they are kept."""

    member: int
    values: dict[str, Value]
    weights: Tensors | None = None


def train(
    stack: Stack,
    optimizer: Optimizer,
    batches: Batches,
    test: Chunks,
    layers: Sequence[Layer],
    schedule: Schedule,
    *,
    start: State | None = None,
    due: Callable[[], bool] = lambda: False,
) -> Iterator[Row | Summary | State]:
    """Trains all members together; yields each member's rows as they come, then its summary.

    The loss is the mean cross-entropy of a batch. A member whose loss is not finite is frozen
    before that step's update, gets one more row, and does not touch the others.

    Args:
        stack: The members.
        optimizer: Holds `stack.params` and updates them in place.
        batches: For a step and the numbers of some members, their inputs `[groups, batch, ...]`
            and labels `[groups, batch]`: one for each member, or for each of as many groups of
            neighbours as divide them evenly.
        test: Iterates over the test set in chunks, inputs `[n, ...]` and labels `[n]`.
        layers: Where to probe.
        schedule: How long, and how often to look.
        start: Where an earlier training of the same members was; it goes on there.
        due: Asked after every step whether to yield the state as well.

    Raises:
        ValueError: `start` does not fit, at the first row.
    """
    training = Training(stack, optimizer, batches, test, list(layers), schedule)
    return training.rows(start, due)


class Training:
    """One call of `train`: what the steps share."""

    def __init__(
        self,
        stack: Stack,
        optimizer: Optimizer,
        batches: Batches,
        test: Chunks,
        layers: list[Layer],
        schedule: Schedule,
    ) -> None:
        self.stepper = Stepper(stack, optimizer)
        self.advance = _in_one_piece(self.stepper)
        self.batches = batches
        self.test = test
        self.layers = layers
        self.schedule = schedule
        self.members = list(range(stack.size))
        self.ended: set[int] = set()
        self.summaries: list[dict[str, Value]] = [{} for _ in range(stack.size)]
        self.weights: dict[int, Tensors] = {}
        self.losses: list[Tensor] = []
        self.hits: list[Tensor] = []

    @property
    def stack(self) -> Stack:
        """The members that are still trained."""
        return self.stepper.stack

    def rows(self, start: State | None, due: Callable[[], bool]) -> Iterator[Row | Summary | State]:
        """What `train` yields."""
        schedule = self.schedule
        if start is not None:
            restore(self, start)
            self.stepper.number.fill_(start.step)
        for step in range(start.step if start else 0, schedule.steps + 1):
            # A row describes the state after `step` updates and the minibatches that led there.
            values = self._averages() if schedule.row_due(step) and step > 0 else {}
            if schedule.eval_due(step):
                values |= self._evaluated()
            probing = schedule.probes.due(step, schedule.last(step))
            measured = self._probed_step(step) if probing else {}
            if not probing and not schedule.last(step):
                self._collect(*self.advance(*self.batches(step, self.members)))
            if step == 0:
                values |= {"train/loss": self.losses[0], "train/accuracy": self.hits[0]}
            if schedule.row_due(step):
                yield from self._emit(step, values | measured)
                self._drop_ended()
            if not self.members:
                break
            if not schedule.last(step) and due():
                yield capture(self, step + 1)
        for place, member in enumerate(self.members):
            if member not in self.ended:
                self._keep(place)
        for member, values_of in enumerate(self.summaries):
            yield Summary(member, values_of, self.weights.get(member))

    def _keep(self, place: int) -> None:
        if self.schedule.keep_weights:
            self.weights[self.members[place]] = self.stack.member(place)

    def _evaluated(self) -> Tensors:
        """Loss and accuracy on the test set."""
        scores = self.advance.scores if isinstance(self.advance, Program) else None
        return evaluate(self.stack, self.test(), scores)

    def _probed_step(self, step: int) -> Tensors:
        """A step that measures the layers; after the last update it only measures."""
        x, y = self.batches(step, self.members)
        full, last = self.schedule.probes.preset == "full", self.schedule.last(step)
        if isinstance(self.advance, Program) and not full and self.advance.can_watch(self.layers):
            loss, hits, measured = self.advance.watched(x, y, self.layers, updating=not last)
            if not last:
                self._collect(loss, hits)
            return measured
        params = self.stack.params
        buffers = self.stepper.copy_of_buffers()
        seen = differentiate(self.stack, x, y, self.layers)
        measured = statistics.measure(
            self.layers,
            seen.outputs,
            seen.output_grads,
            {name: param.detach() for name, param in params.items()},
            dict(zip(params, seen.grads, strict=True)),
            full=full,
        )
        if last:
            # The final buffers are those of the last update.
            for name, buffer in buffers.items():
                self.stack.buffers[name].copy_(buffer)
            return measured
        self._collect(seen.loss, seen.hits)
        before = {name: param.detach().clone() for name, param in params.items()}
        self.stepper.update(seen, buffers)
        after = {name: param.detach() for name, param in params.items()}
        return measured | statistics.update_ratios(self.layers, before, after, measured)

    def _collect(self, loss: Tensor, hits: Tensor) -> None:
        self.losses.append(loss)
        self.hits.append(hits)

    def _averages(self) -> Tensors:
        means = {
            "train/loss": torch.stack(self.losses).mean(0),
            "train/accuracy": torch.stack(self.hits).mean(0),
        }
        self.losses, self.hits = [], []
        return means

    def _emit(self, step: int, values: Tensors) -> Iterator[Row]:
        diverged_at = self.stepper.diverged_at.tolist()
        table = _to_host(values)
        for place, member in enumerate(self.members):
            if member in self.ended:
                continue
            row = {key: column[place] for key, column in table.items()}
            # The update of this very step may have found the divergence that a later row tells.
            if diverged_at[place] < 0 or diverged_at[place] > step:
                self._summarize(member, row)
                yield Row(member, step, row)
            else:
                # Measured in another step than that of the divergence, a row tells of frozen
                # weights.
                at = diverged_at[place]
                yield self._divergence(place, at, row if at == step else {})

    def _summarize(self, member: int, row: dict[str, Value]) -> None:
        summary = self.summaries[member]
        summary |= {key: row[key] for key in (*TRAIN, *TEST) if key in row}
        if "test/accuracy" in row:
            best = summary.get("best/test/accuracy", row["test/accuracy"])
            summary["best/test/accuracy"] = max(best, row["test/accuracy"])  # type: ignore[type-var]
        summary |= {"diverged_step": None, "diverged_layer": None}

    def _divergence(self, place: int, step: int, row: dict[str, Value]) -> Row:
        """Ends a run that diverged: its last row, and how its frozen parameters do on the test."""
        member = self.members[place]
        alone = self.stack.select([place])
        x, _ = self.batches(step, [member])
        layer = first_nonfinite(alone.model, alone.member(0), x[0], self.layers)
        row |= {"train/loss": self.stepper.last_loss[place].item()}
        self._summarize(member, row)
        test = {key: value.item() for key, value in evaluate(alone, self.test()).items()}
        self.summaries[member] |= {**test, "diverged_step": step, "diverged_layer": layer}
        self.ended.add(member)
        self._keep(place)
        return Row(member, step, row)

    def _drop_ended(self) -> None:
        """Runs that have ended stop costing time, where the others' kernels do not notice.

        Elsewhere they stay, frozen, until all have ended.
        """
        places = [i for i, member in enumerate(self.members) if member not in self.ended]
        if len(places) < len(self.members) and (self.stack.divisible or not places):
            self.keep(places)

    def keep(self, places: list[int]) -> None:
        """Goes on with the members at these places alone."""
        self.stepper.keep(places)
        self.advance = _in_one_piece(self.stepper)
        self.members = [self.members[i] for i in places]
        self.losses, self.hits = ([t[places] for t in ts] for ts in (self.losses, self.hits))


def _in_one_piece(stepper: Stepper) -> Step:
    """The members' step without Python inside, as far as there is such a one for them."""
    return program(stepper) or replayed(stepper)


def _to_host(values: Tensors) -> dict[str, list]:
    """One transfer for all scalars, one for each histogram; as lists over members."""
    scalars = {key: value for key, value in values.items() if value.dim() == 1}
    table: dict[str, list] = {}
    if scalars:
        host = torch.stack([value.double() for value in scalars.values()]).tolist()
        table = dict(zip(scalars, host, strict=True))
    return table | {key: value.tolist() for key, value in values.items() if value.dim() > 1}
