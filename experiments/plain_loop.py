"""The std grid with three seeds in an ordinary script: 42 runs, one after another.

    python experiments/plain_loop.py [--epochs 60] [--out runs/plain_loop]

It takes the same statistics at the same steps through forward hooks, and logs every run to an
offline W&B run of its own. It exists for comparison, so it is written as well as such a script can
be: the data is in memory, nothing is copied needlessly, and W&B's costly extras are off.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import torch
import torch.nn.functional as F
import wandb
from torch import Tensor, nn

from initstudy.config import geomspace
from initstudy.initializers import Normal, as_policy, initialize
from initstudy.models import MLP
from initstudy.tasks import Batches, Data
from initstudy.tasks.images import load

STDS = [float(std) for std in geomspace(0.001, 4, 14).split(",")]
SEEDS = (0, 1, 2)
BATCH, LR, MOMENTUM = 32, 0.02, 0.9
LOG_EVERY, PROBE_EVERY, EVAL_EVERY = 20, 20, 100
LAYERS = {"fc1": "act1", "fc2": "act2", "fc3": "act3", "head": "head"}


def rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()


class Hooks:
    """Keeps the activations of the layers while `on` is set."""

    def __init__(self, model: nn.Module) -> None:
        self.on = False
        self.kept: dict[str, Tensor] = {}
        for layer, output in LAYERS.items():
            model.get_submodule(output).register_forward_hook(
                lambda _m, _a, out, layer=layer: self.keep(layer, out)
            )

    def keep(self, layer: str, output: Tensor) -> None:
        """Keeps one output; a forward hook."""
        if self.on:
            output.retain_grad()
            self.kept[layer] = output


def activation_row(layer: str, value: Tensor) -> dict[str, float]:
    prefix = f"activation/{layer}"
    zero = value == 0
    return {
        f"{prefix}/mean": value.mean().item(),
        f"{prefix}/std": value.std(correction=0).item(),
        f"{prefix}/rms": rms(value).item(),
        f"{prefix}/absmax": value.abs().max().item(),
        f"{prefix}/zero": zero.float().mean().item(),
        f"{prefix}/dead": zero.all(0).float().mean().item(),
        f"{prefix}/nonfinite": (~value.isfinite()).sum().item(),
    }


def probe_row(model: nn.Module, hooks: Hooks) -> dict[str, float]:
    row: dict[str, float] = {}
    for layer, output in hooks.kept.items():
        weight = model.get_parameter(f"{layer}.weight")
        assert output.grad is not None
        assert weight.grad is not None
        row |= activation_row(layer, output.detach())
        # The loss is a mean over the batch, as the gradient is.
        row[f"gradient/{layer}/rms"] = rms(output.grad).item()
        row[f"gradient/{layer}/weight_rms"] = rms(weight.grad).item()
        bad = (~output.grad.isfinite()).sum() + (~weight.grad.isfinite()).sum()
        row[f"gradient/{layer}/nonfinite"] = bad.item()
        row[f"weight/{layer}/rms"] = rms(weight.detach()).item()
    return row


@torch.no_grad()
def evaluate(model: nn.Module, data: Data) -> dict[str, float]:
    logits = model(data.normalize(data.test.x))
    return {
        "test/loss": F.cross_entropy(logits, data.test.y).item(),
        "test/accuracy": (logits.argmax(1) == data.test.y).float().mean().item(),
    }


def train(std: float, seed: int, data: Data, epochs: int, run: wandb.Run) -> dict[str, float]:
    model = MLP(data.shape, data.outputs)
    initialize(model, as_policy(Normal(std)), seed=seed)
    hooks = Hooks(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    batches = Batches(data, [seed], BATCH)
    steps = epochs * batches.per_epoch
    losses: list[Tensor] = []
    accuracies: list[Tensor] = []
    summary: dict[str, float] = {}
    for step in range(steps + 1):
        last = step == steps
        probing = step % PROBE_EVERY == 0 or last
        row: dict[str, float] = {}
        if losses and (step % LOG_EVERY == 0 or last):
            row["train/loss"] = torch.stack(losses).mean().item()
            row["train/accuracy"] = torch.stack(accuracies).mean().item()
            losses.clear()
            accuracies.clear()
        if step % EVAL_EVERY == 0 or last:
            row |= evaluate(model, data)
        if not last or probing:
            hooks.on = probing
            x, y = batches(step)
            logits = model(x[0])
            loss = F.cross_entropy(logits, y[0])
            if not loss.isfinite():
                summary |= {"train/loss": loss.item(), "diverged_step": step}
                run.log({"step": step, "train/loss": loss.item()})
                break
            optimizer.zero_grad()
            loss.backward()
            if probing:
                row |= probe_row(model, hooks)
                before = {n: model.get_parameter(f"{n}.weight").detach().clone() for n in LAYERS}
            if not last:
                losses.append(loss.detach())
                accuracies.append((logits.detach().argmax(1) == y[0]).float().mean())
                optimizer.step()
                if probing:
                    for name, old in before.items():
                        new = model.get_parameter(f"{name}.weight").detach()
                        row[f"weight/{name}/update_ratio"] = (rms(new - old) / rms(old)).item()
        if row:
            run.log({"step": step, **row})
            summary |= {k: v for k, v in row.items() if k.startswith(("train/", "test/"))}
    return summary


def open_run(std: float, seed: int, out: Path) -> wandb.Run:
    return wandb.init(
        project="initstudy",
        group="plain_loop",
        name=f"std={std:g} seed={seed}",
        dir=out,
        config={"init": {"std": std}, "seed": seed},
        mode="offline",
        reinit="create_new",
        settings=wandb.Settings(
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            disable_git=True,
            save_code=False,
            console="off",
            silent=True,
            symlink=False,
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("runs/plain_loop"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    data = load("digits")
    with (arguments.out / "summary.csv").open("w", newline="") as file:
        columns = [
            "std",
            "seed",
            "train/loss",
            "train/accuracy",
            "test/loss",
            "test/accuracy",
            "diverged_step",
        ]
        table = csv.DictWriter(file, columns)
        table.writeheader()
        for seed in SEEDS:
            for std in STDS:
                run = open_run(std, seed, arguments.out)
                summary = train(std, seed, data, arguments.epochs, run)
                run.summary.update(summary)
                run.finish()
                table.writerow({"std": std, "seed": seed, **summary})
                print(f"std={std:<8g} seed={seed}  {summary}", flush=True)


if __name__ == "__main__":
    main()
