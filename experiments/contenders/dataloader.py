"""The same loop, fed by a torch.utils.data.DataLoader.

python -m contenders.dataloader mlp_digits      # in experiments/
"""

from __future__ import annotations

from torch.utils.data import DataLoader, TensorDataset

from contenders.loop import set_threads, train
from contenders.tasks import Clock, Problem, Work, parser, prepare, say, work_of


def loader(work: Work, problem: Problem, seed: int) -> DataLoader:
    """A run's batches, an example at a time."""
    examples = TensorDataset(problem.train_x, problem.train_y)
    rows = problem.order[seed].flatten().tolist()
    return DataLoader(examples, batch_size=work.task.batch, sampler=rows)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--threads", type=int, help="by default, what a short trial finds")
    given = arguments.parse_args()
    work = work_of(given)
    problem = prepare(work)
    threads = set_threads(work, problem, given.threads)
    clock = Clock()
    with clock.running(work.device):
        losses = [
            train(work, problem, std, seed, loader(work, problem, seed)) for std, seed in work.runs
        ]
    say(work, clock.seconds, losses, threads=threads)
