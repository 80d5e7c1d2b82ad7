"""The schema of conf/, the rules that its values follow, and the resolvers that it may use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from initstudy.config.errors import ConfigError
from initstudy.config.rules import (
    Form,
    Number,
    OneOf,
    Whole,
    are_fractions,
    are_mappings,
    are_texts,
    is_mapping,
    is_number,
)

MAX_SEED = 2**63 - 1
# A value of `seeds` that stands for as many as the claims take; the runs of a grid have seeds.
UNTIL_DECIDED = "until_decided"
# Marks a field that a file of the user's own may leave out.
MAY_BE_ABSENT = "may be absent"
BETAS = Form(are_fractions, "must be two numbers of at least 0 and below 1, such as [0.9, 0.999]")
ADJUSTMENTS = ("original", "match_rms_adamw", "spectral_unclamped")
SECONDS = Form(
    lambda value: is_number(value) and value >= 0,
    "must be a number of seconds, such as 60, or null",
)
SETUP = Form(are_texts, 'must be a list of shell commands, such as ["module load cuda"]')
SBATCH = Form(is_mapping, "must be options of sbatch and their values, such as {account: mine}")
CLAIMS = Form(is_mapping, "must be a mapping, as in conf/sweep")
METRICS = Form(
    is_mapping, "must be a mapping, such as {worst: {_target_: mine.worst, better: lower}}"
)
OUTPUT = Form(
    lambda value: value is None or (isinstance(value, int | str) and not isinstance(value, bool)),
    "must be a key or an index of what the model returns, all, or null",
)
NOTES = Form(is_mapping, "must be a mapping, such as {why: a try}")
PATTERNS = Form(are_mappings, "must be a list of mappings, such as [{model: mlp, init: dirac}]")


@dataclass(frozen=True)
class Named:
    """A section whose `name` says which schema it has.

    Attributes:
        schemas: The schemas by name.
        targets: Whether a `_target_` of torch's or of the user's own may stand there instead.
    """

    schemas: dict[str, type]
    targets: bool = False


@dataclass
class Seeds:
    """`seeds`: seeds apart from `seed`, for what is to vary or to stay by itself."""

    init: Annotated[int | None, Whole(0, MAX_SEED)] = None
    order: Annotated[int | None, Whole(0, MAX_SEED)] = None
    split: Annotated[int | None, Whole(0, MAX_SEED)] = None


@dataclass
class Optimizer:
    """Group `optimizer`; a field that an optimizer does not have is absent from its file."""

    name: str = MISSING
    lr: Annotated[float, Number(above=True)] = MISSING
    weight_decay: Annotated[float, Number()] = 0.0


@dataclass
class SGD(Optimizer):
    """`optimizer=sgd`."""

    base_width: Annotated[int | None, Whole(1), MAY_BE_ABSENT] = None
    momentum: Annotated[float, Number(high=1, below=True), MAY_BE_ABSENT] = 0.0
    nesterov: Annotated[bool, MAY_BE_ABSENT] = False


@dataclass
class Adam(Optimizer):
    """`optimizer=adam` and `optimizer=adamw`."""

    base_width: Annotated[int | None, Whole(1), MAY_BE_ABSENT] = None
    betas: Annotated[tuple[float, float], BETAS, MAY_BE_ABSENT] = (0.9, 0.999)
    eps: Annotated[float, Number(), MAY_BE_ABSENT] = 1e-8


@dataclass
class RMSprop(Optimizer):
    """`optimizer=rmsprop`."""

    momentum: Annotated[float, Number(high=1, below=True), MAY_BE_ABSENT] = 0.0
    alpha: Annotated[float, Number(high=1, below=True), MAY_BE_ABSENT] = 0.99
    eps: Annotated[float, Number(), MAY_BE_ABSENT] = 1e-8
    centered: Annotated[bool, MAY_BE_ABSENT] = False


@dataclass
class Lion(Optimizer):
    """`optimizer=lion`."""

    betas: Annotated[tuple[float, float], BETAS, MAY_BE_ABSENT] = (0.9, 0.99)


@dataclass
class Muon(Optimizer):
    """`optimizer=muon`."""

    momentum: Annotated[float, Number(high=1, below=True), MAY_BE_ABSENT] = 0.95
    nesterov: Annotated[bool, MAY_BE_ABSENT] = True
    ns_steps: Annotated[int, Whole(1, 99), MAY_BE_ABSENT] = 5
    adjust_lr_fn: Annotated[str, OneOf(*ADJUSTMENTS), MAY_BE_ABSENT] = "original"
    adamw_lr: Annotated[float, Number(above=True), MAY_BE_ABSENT] = 3e-4
    betas: Annotated[tuple[float, float], BETAS, MAY_BE_ABSENT] = (0.9, 0.95)
    eps: Annotated[float, Number(), MAY_BE_ABSENT] = 1e-10


@dataclass
class Schedule:
    """Group `schedule`, and `schedule=constant`."""

    name: str = MISSING
    warmup: Annotated[int, Whole(0), MAY_BE_ABSENT] = 0


@dataclass
class Decay(Schedule):
    """`schedule=linear` and `schedule=cosine`."""

    end_factor: Annotated[float, Number(high=1), MAY_BE_ABSENT] = 0.0


@dataclass
class Steps(Schedule):
    """`schedule=step`."""

    step_size: Annotated[int, Whole(1), MAY_BE_ABSENT] = 1000
    gamma: Annotated[float, Number(high=1, above=True), MAY_BE_ABSENT] = 0.1


@dataclass
class Probes:
    """Group `probes`."""

    preset: Annotated[str, OneOf("off", "basic", "full")] = "basic"
    every: Annotated[int, Whole(1)] = 20


@dataclass
class Tracking:
    """Group `tracking`."""

    mode: Annotated[str, OneOf("offline", "online", "off")] = "offline"
    project: str = "initstudy"
    entity: str | None = None
    granularity: Annotated[str, OneOf("run", "study")] = "run"


@dataclass
class Executor:
    """Group `executor`."""

    name: str = MISSING
    retries: Annotated[int, Whole(0)] = 3


@dataclass
class Local(Executor):
    """`executor=local`."""

    workers: Annotated[int | None, Whole(1)] = None


@dataclass
class Slurm(Executor):
    """`executor=slurm`."""

    partition: str | None = None
    time: Annotated[int, Whole(1)] = 60
    notice: Annotated[int, Whole(1)] = 60
    requeues: Annotated[int, Whole(0)] = 100
    cpus: Annotated[int, Whole(1)] = 1
    gpus: Annotated[int, Whole(0)] = 0
    memory: Annotated[int | None, Whole(1)] = 4
    array_size: Annotated[int, Whole(1)] = 1000
    array_parallelism: Annotated[int, Whole(1)] = 256
    packs_per_job: Annotated[int, Whole(1)] = 1
    poll: Annotated[float, Number(above=True)] = 10.0
    setup: Annotated[list[str], SETUP] = field(default_factory=list)
    sbatch: Annotated[dict[str, Any], SBATCH] = field(default_factory=dict)


@dataclass
class Ray(Executor):
    """`executor=ray`."""

    address: str = "auto"
    cpus: Annotated[float, Number(above=True)] = 1
    gpus: Annotated[float, Number()] = 0


@dataclass
class Planner:
    """`planner`."""

    pack_size: Annotated[int | None, Whole(1)] = None
    workers: Annotated[int | None, Whole(1)] = None
    timing: Annotated[str, OneOf("remembered", "anew", "off")] = "remembered"


@dataclass
class Checkpoint:
    """`checkpoint`."""

    every: Annotated[float | None, SECONDS] = 60


@dataclass
class Paper:
    """`paper`: the paper whose statements the claims are, for the report."""

    source: Annotated[str | None, MAY_BE_ABSENT] = None
    used: Annotated[str | None, MAY_BE_ABSENT] = None
    here: Annotated[str | None, MAY_BE_ABSENT] = None
    discussion: Annotated[str | None, MAY_BE_ABSENT] = None


OPTIMIZERS = Named(
    {"sgd": SGD, "adam": Adam, "adamw": Adam, "rmsprop": RMSprop, "lion": Lion, "muon": Muon},
    targets=True,
)
SCHEDULES = Named(
    {"constant": Schedule, "linear": Decay, "cosine": Decay, "step": Steps}, targets=True
)
EXECUTORS = Named({"local": Local, "slurm": Slurm, "ray": Ray})


@dataclass
class Config:
    """The whole configuration. What `model`, `init`, `data` and `loss` hold is up to their targets.

    The type of a field is what OmegaConf converts a value to; a rule beside it says which values
    are valid. OmegaConf knows no unions of sections, so that those are `Any` to it.
    """

    model: Any = MISSING
    init: Any = MISSING
    data: Any = MISSING
    loss: Any = MISSING
    metrics: Annotated[dict[str, Any], METRICS] = field(default_factory=dict)
    objective: str | None = None
    output: Annotated[Any, OUTPUT] = None
    optimizer: Annotated[Any, OPTIMIZERS] = MISSING
    schedule: Annotated[Any, SCHEDULES] = MISSING
    clip_norm: Annotated[float | None, Number(above=True)] = None
    decay: Annotated[str, OneOf("all", "matrices")] = "all"
    precision: Annotated[str, OneOf("highest", "tf32", "bf16")] = "highest"
    probes: Probes = MISSING
    tracking: Tracking = MISSING
    executor: Annotated[Any, EXECUTORS] = MISSING
    planner: Planner = field(default_factory=Planner)
    seed: Annotated[int, Whole(0, MAX_SEED)] = 0
    seeds: Annotated[Any, Seeds] = field(default_factory=Seeds)
    max_seeds: Annotated[int, Whole(3, 20)] = 20
    epochs: Annotated[int, Whole(1)] = 60
    max_steps: Annotated[int | None, Whole(1)] = None
    batch_size: Annotated[int, Whole(1)] = 32
    log_every: Annotated[int, Whole(1)] = 20
    eval_every: Annotated[int, Whole(1)] = 100
    save_weights: Annotated[str, OneOf("none", "init", "final", "both")] = "none"
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    device: str = "auto"
    name: str = MISSING
    dir: str = MISSING
    by: str | None = None
    across: str | None = None
    tune: str | None = None
    criterion: Annotated[float | None, Number(above=True)] = None
    paper: Annotated[dict[str, str], Paper] = field(default_factory=dict)
    claims: Annotated[dict[str, Any], CLAIMS] = field(default_factory=dict)
    exclude: Annotated[list[dict[str, Any]], PATTERNS] = field(default_factory=list)
    notes: Annotated[dict[str, Any], NOTES] = field(default_factory=dict)


def register() -> None:
    """Makes the schema and the resolvers of conf/ known to Hydra; safe to call again."""
    schema = OmegaConf.structured(Config)
    for key in ("claims", "metrics", "paper", "notes"):
        # Hydra forbids new keys everywhere; here they are the user's own.
        OmegaConf.set_struct(schema[key], False)
    ConfigStore.instance().store(name="schema", node=schema)
    if not OmegaConf.has_resolver("geomspace"):
        OmegaConf.register_new_resolver("geomspace", geomspace)
        OmegaConf.register_new_resolver("linspace", linspace)
        OmegaConf.register_new_resolver("folder", folder)


def linspace(first: float, last: float, count: int) -> str:
    """`count` evenly spaced values, to four digits, as the text of a Hydra sweep.

    In a file of conf/sweep: `model.depth: ${linspace:10,300,30}`.
    """
    step = (last - first) / (count - 1)
    return ",".join(f"{first + step * i:.4g}" for i in range(count))


def geomspace(first: float, last: float, count: int) -> str:
    """`count` values evenly spaced in log, to four digits, as the text of a Hydra sweep.

    In a file of conf/sweep: `init.std: ${geomspace:0.001,4,14}`.
    """
    ratio = (last / first) ** (1 / (count - 1))
    return ",".join(f"{first * ratio**i:.4g}" for i in range(count))


def folder(name: str) -> str:
    """The folder of a study, which has the study's name; checked before Hydra makes it.

    Raises:
        ConfigError: The name would lead out of the folder in which studies lie.
    """
    if name.strip(".") == "" or any(c in name for c in "/\\\0"):
        raise ConfigError(
            f"name={name}: must be a plain name, without slashes; for another place use dir=PATH"
        )
    return name
