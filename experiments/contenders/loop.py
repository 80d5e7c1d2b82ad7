"""The training loop of an ordinary script: one model, torch.optim."""

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
# The steps per trial of a number of threads, and the trials per number.
TRIAL_STEPS, TRIALS = 60, 3


def in_memory(problem: Problem, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of a run, straight from the tensors."""
    for rows in problem.order[seed]:
        yield problem.train_x[rows], problem.train_y[rows]


@torch.inference_mode()
def evaluate(model: nn.Module, problem: Problem) -> tuple[float, float]:
    """Loss and accuracy on the test set."""
    loss = torch.zeros((), device=problem.test_y.device)
    correct = torch.zeros((), device=problem.test_y.device)
    for x, y in zip(problem.test_x.split(CHUNK), problem.test_y.split(CHUNK), strict=True):
        logits = model(x)
        loss += F.cross_entropy(logits, y, reduction="sum")
        correct += (logits.argmax(1) == y).sum()
    return loss.item() / len(problem.test_y), correct.item() / len(problem.test_y)


def train(
    work: Work,
    problem: Problem,
    std: float,
    seed: int,
    batches: Iterable[tuple[Tensor, Tensor]] | None = None,
) -> float:
    """Trains one run; returns its mean training loss over the last steps."""
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
    """The same work and data with fewer steps."""
    steps = min(steps, work.steps)
    order = {seed: rows[:steps] for seed, rows in problem.order.items()}
    return replace(work, steps=steps), replace(problem, order=order)


def warm_up(work: Work, problem: Problem) -> None:
    """Makes some steps, so that what a library does only once is done."""
    train(*shortened(work, problem, WARM_UP), *work.runs[0])


def choose_threads(work: Work, problem: Problem) -> int:
    """Sets and returns the number of threads, one or all, that trains faster in a short trial."""
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
    """Sets the wanted number of threads, or the one that suits the work, and warms up."""
    if wanted is None:
        wanted = choose_threads(work, problem)
    torch.set_num_threads(wanted)
    warm_up(work, problem)
    return wanted


def begin(doc: str | None) -> tuple[Work, Problem, int]:
    """Reads the command line; returns the work, its data, and the number of threads that it set."""
    arguments = parser(doc)
    arguments.add_argument("--threads", type=int, help="by default, what a short trial finds")
    given = arguments.parse_args()
    work = work_of(given)
    problem = prepare(work)
    return work, problem, set_threads(work, problem, given.threads)


def one_after_another(doc: str | None, feed: Feed | None = None) -> None:
    """A contender that trains one run after another in its own process.

    Args:
        doc: The docstring of its script.
        feed: A function that returns the batches of a run; by default they come from memory.
    """
    work, problem, threads = begin(doc)
    clock = Clock()
    with clock.running(work.device):
        losses = [
            train(work, problem, std, seed, feed(work, problem, seed) if feed else None)
            for std, seed in work.runs
        ]
    say(work, clock.seconds, losses, threads=threads)
