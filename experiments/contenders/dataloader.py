"""The same loop, fed by a torch.utils.data.DataLoader.

python -m contenders.dataloader mlp_digits      # in experiments/
"""

from __future__ import annotations

from torch.utils.data import DataLoader, TensorDataset

from contenders.loop import one_after_another
from contenders.tasks import Problem, Work


def loader(work: Work, problem: Problem, seed: int) -> DataLoader:
    """A run's batches, read one example at a time."""
    examples = TensorDataset(problem.train_x, problem.train_y)
    rows = problem.order[seed].flatten().tolist()
    return DataLoader(examples, batch_size=work.task.batch, sampler=rows)


if __name__ == "__main__":
    one_after_another(__doc__, loader)
