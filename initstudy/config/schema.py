"""The schema of conf/ and its resolvers, as Hydra knows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf


@dataclass
class Data:
    """Group `data`."""

    name: str = MISSING
    root: str = "data"
    download: bool = True
    subset: int | None = None


@dataclass
class Optimizer:
    """Group `optimizer`; a field that an optimizer does not know is absent from its file."""

    name: str = MISSING
    lr: float = MISSING
    weight_decay: float = 0.0
    base_width: int | None = None


@dataclass
class SGD(Optimizer):
    """`optimizer=sgd`."""

    momentum: float = 0.0
    nesterov: bool = False


@dataclass
class Adam(Optimizer):
    """`optimizer=adam` and `optimizer=adamw`."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


@dataclass
class Probes:
    """Group `probes`."""

    preset: str = "basic"
    every: int = 20


@dataclass
class Tracking:
    """Group `tracking`."""

    mode: str = "offline"
    project: str = "initstudy"
    entity: str | None = None
    granularity: str = "run"


@dataclass
class Executor:
    """Group `executor`."""

    name: str = MISSING
    retries: int = 3


@dataclass
class Local(Executor):
    """`executor=local`."""

    workers: int | None = None


@dataclass
class Slurm(Executor):
    """`executor=slurm`."""

    partition: str | None = None
    time: int = 60
    notice: int = 60
    requeues: int = 100
    cpus: int = 1
    gpus: int = 0
    memory: int | None = 4
    array_size: int = 1000
    array_parallelism: int = 256
    packs_per_job: int = 1
    poll: float = 10.0
    setup: list[str] = field(default_factory=list)
    sbatch: dict[str, Any] = field(default_factory=dict)


@dataclass
class Ray(Executor):
    """`executor=ray`."""

    address: str = "auto"
    cpus: float = 1
    gpus: float = 0


@dataclass
class Planner:
    """`planner`."""

    # Anything, so that validation can say what would be right.
    pack_size: Any = None
    workers: Any = None
    timing: Any = "remembered"


@dataclass
class Checkpoint:
    """`checkpoint`."""

    # Anything, so that validation can say what would be right.
    every: Any = 60


@dataclass
class Config:
    """The whole configuration. `model` and `init` belong to their `_target_`s."""

    model: Any = MISSING
    init: Any = MISSING
    data: Data = MISSING
    optimizer: Any = MISSING
    probes: Probes = MISSING
    tracking: Tracking = MISSING
    executor: Any = MISSING
    planner: Planner = field(default_factory=Planner)
    seed: int = 0
    epochs: int = 60
    max_steps: int | None = None
    batch_size: int = 32
    log_every: int = 20
    eval_every: int = 100
    save_weights: str = "none"
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    device: str = "auto"
    name: str = MISSING
    dir: str = MISSING
    by: str | None = None
    across: str | None = None
    tune: str | None = None
    criterion: float | None = None
    paper: dict[str, str] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    exclude: list[dict[str, Any]] = field(default_factory=list)


def register() -> None:
    """Makes the schema and the resolvers of conf/ known to Hydra; safe to call again."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    if not OmegaConf.has_resolver("geomspace"):
        OmegaConf.register_new_resolver("geomspace", geomspace)
        OmegaConf.register_new_resolver("linspace", linspace)
        OmegaConf.register_new_resolver("folder", folder)


def linspace(first: float, last: float, count: int) -> str:
    """`count` values evenly spaced, to four digits, as the text of a Hydra sweep.

    Example: `model.depth: ${linspace:10,300,30}`.
    """
    step = (last - first) / (count - 1)
    return ",".join(f"{first + step * i:.4g}" for i in range(count))


def geomspace(first: float, last: float, count: int) -> str:
    """`count` values spaced evenly in log, to four digits, as the text of a Hydra sweep.

    Example: `init.std: ${geomspace:0.001,4,14}`.
    """
    ratio = (last / first) ** (1 / (count - 1))
    return ",".join(f"{first * ratio**i:.4g}" for i in range(count))


def folder(name: str) -> str:
    """A study's name as the name of its folder, before Hydra makes it.

    Raises:
        ValueError: It would lead out of the folder in which studies lie.
    """
    if name.strip(".") == "" or any(c in name for c in "/\\\0"):
        raise ValueError(
            f"name={name}: must be a plain name, without slashes; for another place use dir=PATH"
        )
    return name
