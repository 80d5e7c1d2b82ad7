"""The configuration of a training with types, and which of its keys may differ inside a pack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from initstudy.config import Plain, Run
from initstudy.engine.schedule import Schedule
from initstudy.probes.statistics import Probes

# The one list of what may differ between the members of a pack; every other key splits groups.
# What stands under "optimizer." reaches the optimizer as one value per member.
MEMBER_KEYS = (
    "seed",
    "seeds.init",
    "seeds.order",
    "init",
    "optimizer.lr",
    "optimizer.weight_decay",
    "optimizer.momentum",
    "schedule",
    "clip_norm",
    "decay",
)
_PREFIX = "optimizer."
MEMBER_OPTIONS = tuple(key.removeprefix(_PREFIX) for key in MEMBER_KEYS if key.startswith(_PREFIX))


@dataclass(frozen=True)
class OptimizerConfig:
    """The part of `optimizer` that all runs of a group share.

    Attributes:
        name: Which optimizer, such as "sgd", or the last part of its target's name.
        target: The name of another optimizer's class; None for one of the choices.
        base_width: The width whose learning rates muP transfers, or None for one learning rate.
        options: The optimizer's other arguments by name, such as `betas`.
        member_options: The names of its arguments that each run sets for itself, such as `lr`.
    """

    name: str
    target: str | None
    base_width: int | None
    options: Mapping[str, Any]
    member_options: tuple[str, ...]

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> OptimizerConfig:
        """The typed form of the configuration's section `optimizer`."""
        named = {"name", "base_width", "_target_"}
        own = tuple(key for key in MEMBER_OPTIONS if key in section)
        shared = {k: v for k, v in section.items() if k not in named and k not in own}
        target = section.get("_target_")
        return cls(section["name"], target, section.get("base_width"), shared, own)


@dataclass(frozen=True)
class TrainingConfig:
    """What all runs of a group share, made once from their plain configuration.

    Attributes:
        model: The model's `_target_` and its arguments.
        data: The data's `_target_` and its arguments, and the part of them to train on.
        loss: The loss's `_target_` and its arguments.
        metrics: The metrics of one's own: for each name a `_target_`, its arguments and direction.
        objective: The metric that studies are about; None for the task's usual one.
        output: Which part of the model's output the loss takes; None for the only one.
        optimizer: The optimizer, without what each run sets for itself.
        precision: "highest", "tf32" or "bf16".
        probes: What is measured in the layers, and how often.
        batch_size: Examples per batch.
        epochs: Passes through the training data.
        max_steps: Updates after which training stops in any case; None for no such limit.
        log_every: Steps between two rows of the training loss.
        eval_every: Steps between two evaluations on the test set.
        save_weights: Which parameters are kept: "none", "init", "final" or "both".
        checkpoint_every: Seconds between two checkpoints of a pack; None for no checkpoints.
    """

    model: Plain
    data: Plain
    loss: Plain
    metrics: Plain
    objective: str | None
    output: str | int | None
    optimizer: OptimizerConfig
    precision: str
    probes: Probes
    batch_size: int
    epochs: int
    max_steps: int | None
    log_every: int
    eval_every: int
    save_weights: str
    checkpoint_every: float | None

    @classmethod
    def of(cls, config: Plain) -> TrainingConfig:
        """The typed form of a run's plain configuration."""
        return cls(
            model=config["model"],
            data=config["data"],
            loss=config["loss"],
            metrics=config["metrics"],
            objective=config["objective"],
            output=config["output"],
            optimizer=OptimizerConfig.of(config["optimizer"]),
            precision=config["precision"],
            probes=Probes(config["probes"]["preset"], config["probes"]["every"]),
            batch_size=config["batch_size"],
            epochs=config["epochs"],
            max_steps=config["max_steps"],
            log_every=config["log_every"],
            eval_every=config["eval_every"],
            save_weights=config["save_weights"],
            checkpoint_every=config["checkpoint"]["every"],
        )

    @property
    def keeps_first(self) -> bool:
        """Whether the parameters before the first step are kept."""
        return self.save_weights in ("init", "both")

    def schedule(self, examples: int) -> Schedule:
        """The steps of a training, and at which of them it is measured.

        Args:
            examples: The number of training examples.
        """
        steps = self.epochs * (examples // self.batch_size)
        if self.max_steps is not None:
            steps = min(steps, self.max_steps)
        keep = self.save_weights in ("final", "both")
        return Schedule(steps, self.log_every, self.eval_every, self.probes, keep)


def init_seed(run: Run) -> int:
    """The seed of a run's initial parameters: `seeds.init`, or else `seed`."""
    return _seed(run, "init")


def order_seeds(runs: Sequence[Run]) -> list[int]:
    """The seed of each run's order of the data: `seeds.order`, or else `seed`.

    It also seeds what a model draws as it trains, such as dropout.
    """
    return [_seed(run, "order") for run in runs]


def split_seed(run: Run) -> int | None:
    """The seed that decides what is held out for validation: `seeds.split`, or else `seed`.

    None if nothing is held out.
    """
    return None if run.config["data"].get("validation") is None else _seed(run, "split")


def _seed(run: Run, purpose: str) -> int:
    own = run.config["seeds"][purpose]
    return run.config["seed"] if own is None else own


def member_options(runs: Sequence[Run], optimizer: OptimizerConfig) -> dict[str, list[float]]:
    """The optimizer's arguments that each run sets for itself, as one list over the runs each."""
    return {
        key: [float(run.config["optimizer"][key]) for run in runs]
        for key in optimizer.member_options
    }
