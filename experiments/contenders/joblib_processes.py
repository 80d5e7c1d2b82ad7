"""The same loop in one process per core by joblib, each with one thread.

python -m contenders.joblib_processes mlp_digits      # in experiments/
"""

from __future__ import annotations

import os
from functools import cache

import joblib

from contenders.loop import set_threads, train
from contenders.tasks import Clock, Problem, Work, parser, prepare, say, work_of


@cache
def ready(work: Work) -> Problem:
    """Loads a process's own copy of the data, and warms up."""
    problem = prepare(work)
    set_threads(work, problem, 1)
    return problem


def warm(work: Work) -> int:
    """Makes a process ready; returns its id."""
    ready(work)
    return os.getpid()


def run(work: Work, std: float, seed: int) -> float:
    """One run in whichever process."""
    return train(work, ready(work), std, seed)


def main() -> None:
    # The processes import this file under its own name and keep there what `ready` made.
    from contenders import joblib_processes as here

    work = work_of(parser(__doc__).parse_args())
    processes = joblib.cpu_count()
    warmed: set[int] = set()
    clock = Clock()
    with joblib.Parallel(n_jobs=processes, batch_size=1) as pool:
        while len(warmed) < processes:
            warmed.update(pool(joblib.delayed(here.warm)(work) for _ in range(processes)))
        with clock.running(work.device):
            losses = pool(joblib.delayed(here.run)(work, *run) for run in work.runs)
    say(work, clock.seconds, losses, processes=processes)


if __name__ == "__main__":
    main()
