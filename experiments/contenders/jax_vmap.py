"""The same runs in JAX: `vmap` over a pack of them, `lax.scan` over the steps, all of it jitted.

python -m contenders.jax_vmap mlp_digits      # in experiments/

A pack is a grid: all standard deviations with all seeds, or some with one seed. Members of one seed
share their batches, as nested `vmap`s over a grid do. The data lies on the device and is gathered
inside the scan; the state is donated. Compilation is not timed. The size of a pack is the fastest
in a short trial.
"""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array

from contenders.jax_models import MODELS, Params, translated
from contenders.tasks import (
    CHUNK,
    LOG_EVERY,
    LR,
    MOMENTUM,
    Problem,
    Work,
    build,
    parser,
    prepare,
    say,
    work_of,
)

TRIAL_STEPS, TRIALS = 20, 3
State = tuple[Params, Params]


class Packed:
    """A compiled program for packs of one size: a number of seeds by one of standard deviations.

    Args:
        work: The runs to train.
        problem: Their data.
        seeds: The number of seeds per pack.
        stds: The number of standard deviations per pack.
        steps: The number of steps between two evaluations.
    """

    def __init__(self, work: Work, problem: Problem, seeds: int, stds: int, steps: int) -> None:
        self.work = work
        self.problem = problem
        self.seeds, self.stds, self.steps = seeds, stds, steps
        # Images with their channels last.
        self.x = jnp.asarray(problem.train_x.movedim(1, -1).cpu().numpy())
        self.y = jnp.asarray(problem.train_y.int().cpu().numpy())
        chunks = max(1, len(problem.test_y) // CHUNK)
        test_x = problem.test_x.movedim(1, -1).cpu().numpy()
        self.test_x = jnp.asarray(np.stack(np.split(test_x, chunks)))
        self.test_y = jnp.asarray(np.stack(np.split(problem.test_y.int().cpu().numpy(), chunks)))
        self.loss = lambda *of: loss_and_accuracy(work.task.model, *of)[0]
        grid = (list(work.seeds[:seeds]), list(work.stds[:stds]))
        begun = time.perf_counter()
        state = self.start(*grid)
        rows = self.rows(grid[0], 0)
        advance = jax.jit(self._advance, donate_argnums=0)
        self.advance: Any = advance.lower(state, self.x, self.y, rows).compile()
        self.evaluate: Any = (
            jax.jit(self._evaluate).lower(state[0], self.test_x, self.test_y).compile()
        )
        self.compiling = time.perf_counter() - begun

    def train(self) -> list[float]:
        """Trains all runs; returns their last mean losses, in the order of `work.runs`."""
        found: dict[tuple[float, int], float] = {}
        for i in range(0, len(self.work.seeds), self.seeds):
            for j in range(0, len(self.work.stds), self.stds):
                seeds = list(self.work.seeds[i : i + self.seeds])
                stds = list(self.work.stds[j : j + self.stds])
                last = self.pack(seeds, stds)
                for a, seed in enumerate(seeds):
                    found |= {(std, seed): float(last[a, b]) for b, std in enumerate(stds)}
        return [found[run] for run in self.work.runs]

    def pack(self, seeds: list[int], stds: list[float]) -> np.ndarray:
        """Trains one pack; returns its last mean losses, by seed and standard deviation."""
        state = self.start(seeds, stds)
        jax.device_get(self.evaluate(state[0], self.test_x, self.test_y))
        for step in range(0, self.work.steps, self.steps):
            state, losses = self.advance(state, self.x, self.y, self.rows(seeds, step))
            # The curve goes to the host, as it does in the other contenders.
            curve = np.asarray(losses).reshape(-1, LOG_EVERY, len(seeds), len(stds)).mean(1)
            jax.device_get(self.evaluate(state[0], self.test_x, self.test_y))
        return curve[-1]

    def start(self, seeds: list[int], stds: list[float]) -> State:
        """Initial weights `[seeds, stds, …]` and the velocities of momentum."""
        members = [[self._member(std, seed) for std in stds] for seed in seeds]
        params = {
            name: jnp.asarray(np.stack([np.stack([m[name] for m in row]) for row in members]))
            for name in members[0][0]
        }
        return params, {name: jnp.zeros_like(value) for name, value in params.items()}

    def rows(self, seeds: list[int], step: int) -> Array:
        """The examples of the steps up to the next evaluation: `[steps, seeds, batch]`."""
        order = self.problem.order
        chosen = torch.stack([order[seed][step : step + self.steps] for seed in seeds], 1)
        return jnp.asarray(chosen.int().cpu().numpy())

    def _member(self, std: float, seed: int) -> dict[str, np.ndarray]:
        model = build(self.work, self.problem.data, std, seed)
        values = {name: p.detach().cpu().numpy() for name, p in model.named_parameters()}
        return translated(self.work.task.model, values, self.problem.data.shape[1:])

    def _advance(self, state: State, x: Array, y: Array, rows: Array) -> tuple[State, Array]:
        gradient = jax.value_and_grad(self.loss)
        over_stds = jax.vmap(gradient, (0, None, None))
        over_seeds = jax.vmap(over_stds)

        def step(state: State, rows: Array) -> tuple[State, Array]:
            params, velocity = state
            losses, gradients = over_seeds(params, x[rows], y[rows])
            velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, gradients)
            params = jax.tree.map(lambda p, v: p - LR * v, params, velocity)
            return (params, velocity), losses

        return jax.lax.scan(step, state, rows)

    def _evaluate(self, params: Params, x: Array, y: Array) -> tuple[Array, Array]:
        score = partial(loss_and_accuracy, self.work.task.model)
        over_stds = jax.vmap(score, (0, None, None))
        over_seeds = jax.vmap(over_stds, (0, None, None))
        losses, accuracies = jax.lax.map(lambda chunk: over_seeds(params, *chunk), (x, y))
        return losses.mean(0), accuracies.mean(0)


def loss_and_accuracy(model: str, params: Params, x: Array, y: Array) -> tuple[Array, Array]:
    """Mean cross-entropy and accuracy of a batch."""
    logits = jax.nn.log_softmax(MODELS[model](params, x))
    loss = -jnp.take_along_axis(logits, y[:, None], -1).mean()
    return loss, (logits.argmax(-1) == y).mean()


def sizes(work: Work) -> list[tuple[int, int]]:
    """Seeds and standard deviations of the packs that the trial compares."""
    stds, seeds = len(work.stds), len(work.seeds)
    return sorted({(seeds, stds), (1, stds), (1, max(1, stds // 2)), (1, 1)}, reverse=True)


def choose(work: Work, problem: Problem) -> tuple[int, int]:
    """The size of a pack with the least time per step and member; compilation does not count."""
    cost: dict[tuple[int, int], float] = {}
    steps = min(TRIAL_STEPS, work.steps)
    for seeds, stds in sizes(work):
        if len(work.stds) % stds:
            continue
        packed = Packed(work, problem, seeds, stds, steps)
        for trial in range(TRIALS):
            state = packed.start(list(work.seeds[:seeds]), list(work.stds[:stds]))
            rows = packed.rows(list(work.seeds[:seeds]), 0)
            jax.block_until_ready((state, rows))
            begun = time.perf_counter()
            jax.block_until_ready(packed.advance(state, packed.x, packed.y, rows))
            spent = (time.perf_counter() - begun) / (seeds * stds)
            cost[seeds, stds] = min(spent, cost.get((seeds, stds), spent)) if trial else spent
    return min(cost, key=lambda size: cost[size])


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--pack", type=int, nargs=2, metavar=("SEEDS", "STDS"))
    given = arguments.parse_args()
    # The precision of torch; on a GPU, JAX would round to TF32.
    jax.config.update("jax_default_matmul_precision", "highest")
    work = work_of(given)
    backend = jax.default_backend()
    if (backend == "cpu") != (work.device == "cpu"):
        print(json.dumps({"absent": f"JAX sees only its {backend} here"}))
        return
    problem = prepare(work)
    seeds, stds = given.pack or choose(work, problem)
    packed = Packed(work, problem, seeds, stds, work.eval_every)
    packed.pack(list(work.seeds[:seeds]), list(work.stds[:stds]))
    begun = time.perf_counter()
    losses = packed.train()
    say(
        work,
        time.perf_counter() - begun,
        losses,
        pack=[seeds, stds],
        compilation=packed.compiling,
        backend=backend,
    )


if __name__ == "__main__":
    main()
