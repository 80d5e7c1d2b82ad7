"""A plain PyTorch loop: one run after another, the data in memory.

python -m contenders.plain mlp_digits      # in experiments/
"""

from __future__ import annotations

from contenders.loop import set_threads, train
from contenders.tasks import Clock, parser, prepare, say, work_of

if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--threads", type=int, help="by default, what a short trial finds")
    given = arguments.parse_args()
    work = work_of(given)
    problem = prepare(work)
    threads = set_threads(work, problem, given.threads)
    clock = Clock()
    with clock.running(work.device):
        losses = [train(work, problem, std, seed) for std, seed in work.runs]
    say(work, clock.seconds, losses, threads=threads)
