"""The same loop as a Hydra application's task, swept by `-m` with Hydra's basic launcher.

python -m contenders.hydra_basic mlp_digits      # in experiments/
"""

from __future__ import annotations

import sys
import tempfile
import time

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from contenders.loop import begin, train
from contenders.tasks import say, synchronize


def main() -> None:
    work, problem, threads = begin(__doc__)
    losses: list[float] = []
    moments: list[float] = []

    def task(config: DictConfig) -> float:
        # The time before the first job is start-up; the time between jobs counts.
        moments.append(time.perf_counter())
        losses.append(train(work, problem, config.std, config.seed))
        synchronize(work.device)
        moments.append(time.perf_counter())
        return losses[-1]

    ConfigStore.instance().store(name="config", node={"std": 0.1, "seed": 0})
    with tempfile.TemporaryDirectory() as folder:
        sys.argv[1:] = [
            "-m",
            f"std={','.join(map(str, work.stds))}",
            f"seed={','.join(map(str, work.seeds))}",
            "hydra/launcher=basic",
            "hydra/sweeper=basic",
            f"hydra.sweep.dir={folder}",
        ]
        hydra.main(version_base="1.3", config_path=None, config_name="config")(task)()
    say(work, moments[-1] - moments[0], losses, threads=threads)


if __name__ == "__main__":
    main()
