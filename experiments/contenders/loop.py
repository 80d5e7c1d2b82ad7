"""A training loop as an ordinary script has it: one model, torch.optim."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contenders.tasks import (
    CHUNK,
    LOG_EVERY,
    LR,
    MOMENTUM,
    Clock,
    Problem,
    Work,
    build,
    parser,
    prepare,
    say,
    work_of,
)

Feed = Callable[[Work, Problem, int], Iterable[tuple[Tensor, Tensor]]]

WARM_UP = 20
# Steps of each trial of a number of threads, and trials of each.
TRIAL_STEPS, TRIALS = 60, 3


def in_memory(problem: Problem, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of a run, straight from the tensors."""
    for rows in problem.order[seed]:
        yield problem.train_x[rows], problem.train_y[rows]


@torch.inference_mode()
def evaluate(model: nn.Module, problem: Problem) -> tuple[float, float]:
    """Loss and accuracy on the test set."""
    loss = torch.zeros((), device=problem.test_y.device)
    hits = torch.zeros((), device=problem.test_y.device)
    for x, y in zip(problem.test_x.split(CHUNK), problem.test_y.split(CHUNK), strict=True):
        logits = model(x)
        loss += F.cross_entropy(logits, y, reduction="sum")
        hits += (logits.argmax(1) == y).sum()
    return loss.item() / len(problem.test_y), hits.item() / len(problem.test_y)


def train(
    work: Work,
    problem: Problem,
    std: float,
    seed: int,
    batches: Iterable[tuple[Tensor, Tensor]] | None = None,
) -> float:
    """One run; its mean training loss over the last steps."""
    model = build(work, problem.data, std, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    losses: list[Tensor] = []
    mean = float("nan")
    evaluate(model, problem)
    for step, (x, y) in enumerate(batches or in_memory(problem, seed), start=1):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if step % LOG_EVERY == 0:
            mean = torch.stack(losses).mean().item()
            losses.clear()
        if step % work.eval_every == 0:
            evaluate(model, problem)
    return mean


def shortened(work: Work, problem: Problem, steps: int) -> tuple[Work, Problem]:
    """The same with fewer steps."""
    steps = min(steps, work.steps)
    order = {seed: rows[:steps] for seed, rows in problem.order.items()}
    return replace(work, steps=steps), replace(problem, order=order)


def warm_up(work: Work, problem: Problem) -> None:
    """Some steps, for what a library does only once."""
    train(*shortened(work, problem, WARM_UP), *work.runs[0])


def choose_threads(work: Work, problem: Problem) -> int:
    """One thread or all of them, whichever trains faster in a short trial; sets it."""
    trial = shortened(work, problem, TRIAL_STEPS)
    everything = torch.get_num_threads()
    fastest: dict[int, float] = {}
    for _ in range(TRIALS):
        for threads in {1, everything}:
            torch.set_num_threads(threads)
            warm_up(*trial)
            clock = Clock()
            with clock.running(work.device):
                train(*trial, *work.runs[0])
            fastest[threads] = min(clock.seconds, fastest.get(threads, clock.seconds))
    best = min(fastest, key=lambda threads: fastest[threads])
    torch.set_num_threads(best)
    return best


def set_threads(work: Work, problem: Problem, wanted: int | None) -> int:
    """So many threads, or what suits the work; then warms up."""
    if wanted is None:
        wanted = choose_threads(work, problem)
    torch.set_num_threads(wanted)
    warm_up(work, problem)
    return wanted


def begin(doc: str | None) -> tuple[Work, Problem, int]:
    """What the command line asks a loop to do: the work, its problem, and threads that are set."""
    arguments = parser(doc)
    arguments.add_argument("--threads", type=int, help="by default, what a short trial finds")
    given = arguments.parse_args()
    work = work_of(given)
    problem = prepare(work)
    return work, problem, set_threads(work, problem, given.threads)


def one_after_another(doc: str | None, feed: Feed | None = None) -> None:
    """The whole of a contender that trains run after run in its own process.

    Args:
        doc: Its docstring.
        feed: A run's batches; by default straight from memory.
    """
    work, problem, threads = begin(doc)
    clock = Clock()
    with clock.running(work.device):
        losses = [
            train(work, problem, std, seed, feed(work, problem, seed) if feed else None)
            for std, seed in work.runs
        ]
    say(work, clock.seconds, losses, threads=threads)
