"""initstudy itself: the command on the same runs, in a process of its own.

python -m contenders.command mlp_digits --probes basic --tracking offline     # in experiments/

The time of training is the one that the command prints, from the composed grid to the last run's
rows. It includes building the models, drawing their weights and reading the data.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from contenders.memory import Watch
from contenders.tasks import LOG_EVERY, LR, MOMENTUM, Work, parser, say, work_of
from initstudy import store

TRAINED = re.compile(r"^trained (\d+) runs at ([\d,]+) member-steps/s$", re.MULTILINE)


def command(work: Work, folder: Path, probes: str, tracking: str) -> list[str]:
    """The command line."""
    task = work.task
    options = [f"model.{key}={value}".replace(" ", "") for key, value in task.options.items()]
    # The digits come with scikit-learn and lie nowhere else.
    where = [f"data.root={work.root}", "data.download=false"] if task.data != "digits" else []
    return [
        sys.executable, "-m", "initstudy", "-m", f"model={task.model}", *options,
        f"data={task.data}", *where, "init=normal",
        f"init.std={','.join(map(str, work.stds))}", f"seed={','.join(map(str, work.seeds))}",
        "optimizer=sgd", f"optimizer.lr={LR}", f"optimizer.momentum={MOMENTUM}",
        f"batch_size={task.batch}", "epochs=1000000", f"max_steps={work.steps}",
        f"log_every={LOG_EVERY}", f"eval_every={work.eval_every}", f"probes={probes}",
        f"probes.every={LOG_EVERY}", f"tracking={tracking}", f"device={work.device}",
        "by=init.std", f"dir={folder}",
    ]  # fmt: skip


def losses_in(folder: Path, work: Work) -> list[float]:
    """The final training losses that the store holds, in the order of `work.runs`."""
    columns = store.load(folder).runs.select("init.std", "seed", "train/loss").rows()
    found = {(std, seed): loss for std, seed, loss in columns}
    return [found[run] for run in work.runs]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--probes", default="off", choices=("off", "basic", "full"))
    arguments.add_argument("--tracking", default="off", choices=("off", "offline"))
    arguments.add_argument(
        "--memory", action="store_true", help="measure the memory of its processes"
    )
    given = arguments.parse_args()
    work = work_of(given)
    # wandb's own variables would win over the configuration.
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_MODE"}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "study"
        asked = command(work, folder, given.probes, given.tracking)
        begun = time.perf_counter()
        with subprocess.Popen(
            asked, cwd=scratch, env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            watch = Watch(process.pid) if given.memory else None
            said, _ = process.communicate()
        whole = time.perf_counter() - begun
        if process.returncode:
            raise SystemExit(f"{' '.join(asked)} left with code {process.returncode}")
        trained = TRAINED.search(said)
        assert trained, said
        rate = float(trained[2].replace(",", ""))
        opening = said.splitlines()[0].partition("training ")[2]
        more = {"peak_memory": watch.end()} if watch else {}
        losses = losses_in(folder, work)
        say(work, work.member_steps / rate, losses, whole=whole, packs=opening, **more)


if __name__ == "__main__":
    main()
