"""`initstudy.grid`: the runs of a study whose training loop is the user's own."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import logging
import math
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from initstudy import __version__, store, tracking
from initstudy.api import given
from initstudy.api.compose import init_sections
from initstudy.api.measured import schema_of
from initstudy.api.results import Results
from initstudy.api.watch import Watch
from initstudy.claims import declared
from initstudy.columns import Preset
from initstudy.config import ConfigError, Plain, Run, Swept, as_columns, identity
from initstudy.initializers import Calibrated, initialize
from initstudy.initializers.own import Own
from initstudy.runtime.repository import revision
from initstudy.scheduling.superseded import superseded, told
from initstudy.store import hydra_files, locks
from initstudy.training import factory
from initstudy.training.identity import FINGERPRINTS

log = logging.getLogger(__name__)
OWN = "own"
LOSS = "train/loss"
# What stands in the place of a model's target: the loop alone knows the model before it begins.
OWN_LOOP = "own_loop"


def grid(
    *,
    init: Any = OWN,
    seeds: int | Sequence[int] = 1,
    name: str,
    by: str | None = None,
    claims: Mapping[str, Any] | None = None,
    directory: str | Path | None = None,
    probes: Preset = "basic",
    every: int = 20,
    objective: str | None = None,
    tracking: str = "offline",
    notes: Mapping[str, Any] | None = None,
    data: Any = None,
    **axes: Any,
) -> Grid:
    """The runs of a study to be trained in a loop of one's own, each point of the grid and seed.

    Iterating over it yields the runs that are not finished, one after another, with torch's global
    random numbers seeded by the run's seed. Results go to the same store, W&B group, claims and
    report as those of any study.

    Args:
        init: A name of conf/init, an initializer or policy, or a list of those. "own" leaves a
            model as its constructor made it.
        seeds: How many seeds, or which ones.
        name: The study's name. The same grid with the same name yields only what is missing.
        by: The axis that the study is about; the first one with several values by default.
        claims: Claims to decide, by name: see `initstudy.claims`.
        directory: Where the study lies; `runs/NAME` by default.
        probes: What `watch` measures: "off", "basic" or "full".
        every: Steps between two measurements.
        objective: The logged column that the study is about, such as "test/error"; by default a
            metric on the test data.
        tracking: W&B's mode: "offline", "online" or "off".
        notes: Free text about the study, by name.
        data: What the loop trains on, such as `(x, y)`: tensors, arrays, or anything made of them.
            With other contents the runs are others, and are trained again. Without it, and as to
            the code of the loop itself, nobody sees whether something has changed.
        **axes: Anything else, such as `lr=[0.1, 0.01]`. A list is an axis of the grid, anything
            else is one value; a run has them as attributes.

    Raises:
        ConfigError: An axis is empty, or a name is taken by an attribute of runs.

    Example:
        >>> import os, tempfile, torch, initstudy
        >>> os.chdir(tempfile.mkdtemp())
        >>> inits = ["zeros", "kaiming_normal"]
        >>> study = initstudy.grid(init=inits, lr=0.1, name="own_loop", tracking="off")
        >>> for run in study:
        ...     model = run.initialize(torch.nn.Linear(4, 1))
        ...     run.log(0, loss=model(torch.ones(1, 4)).item() ** 2)
        ...     run.finish(model)
        runs/own_loop: 0 of 2 complete
        >>> study.results().runs["init"].sort().to_list()
        ['kaiming_normal', 'zeros']
    """
    from initstudy.api.options import with_claims

    listed = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    inits = init if isinstance(init, list) else [init]
    values = {key: value if isinstance(value, list) else [value] for key, value in axes.items()}
    _check_axes({"init": inits, "seeds": listed, **values})
    content = given.fingerprint(data) if data is not None else None
    points = [
        Point(chosen, seed, dict(zip(values, point, strict=True)), content)
        for chosen in _choices(inits)
        for point in itertools.product(*values.values())
        for seed in listed
    ]
    varying = [key for key, items in {"init": inits, **values}.items() if len(items) > 1]
    return Grid(
        Path(directory) if directory else Path("runs") / name,
        points,
        by or next(iter(varying), None),
        with_claims(claims or {}),
        Probing(probes, every),
        tracking,
        dict(notes or {}),
        objective,
    )


def _check_axes(axes: Mapping[str, Sequence[Any]]) -> None:
    """Makes sure that the axes of a grid span one, and that runs can have their names.

    Raises:
        ConfigError: One is empty, holds objects, or has the name of an attribute of runs.
    """
    taken = sorted((set(axes) - {"init", "seeds"}) & {*dir(GridRun), "id", "seed", "values"})
    if taken:
        raise ConfigError(f"{taken[0]}: runs have an attribute of this name; choose another")
    for key, items in axes.items():
        if not items:
            raise ConfigError(f"{key}=[]: must have at least one value")
        if key != "init" and any(not isinstance(item, given.PLAIN) for item in items):
            raise ConfigError(f"{key}={items!r}: values must be numbers, texts or truth values")


@dataclass(frozen=True)
class InitChoice:
    """An initializer of a grid.

    Attributes:
        name: Its name in tables and charts.
        section: Its section of the configuration, from which it is built.
    """

    name: str
    section: Plain


def _choices(inits: Sequence[Any]) -> list[InitChoice]:
    """What was given as `init`, each with its section."""
    sections = init_sections([name for name in inits if isinstance(name, str) and name != OWN])
    sections[OWN] = {"_target_": OWN}
    return [
        InitChoice(choice, sections[choice])
        if isinstance(choice, str)
        else InitChoice(given.label(choice), given.as_section("init", choice))
        for choice in inits
    ]


@dataclass(frozen=True)
class Point:
    """One point of a grid.

    Attributes:
        init: The initializer.
        seed: The seed.
        values: The values of the other axes.
        data: The fingerprint of the data, if they were given.
    """

    init: InitChoice
    seed: int
    values: Mapping[str, Any]
    data: str | None = None

    def as_run(self) -> Run:
        """The point as a run, whose id is the hash of what the grid says of it."""
        config: Plain = {
            "model": {"_target_": OWN_LOOP},
            "init": self.init.section,
            "seed": self.seed,
            **self.values,
        }
        values = {"init": self.init.name, **self.values, "seed": self.seed}
        words = tuple(f"{key}={value}" for key, value in values.items())
        if self.data is not None:
            config[FINGERPRINTS] = {"point": identity(config), "data": self.data}
        return Run(config, words, identity(config), {"init": self.init.name})


@dataclass(frozen=True)
class Probing:
    """What is measured in layers, and every how many steps."""

    preset: Preset
    every: int


@dataclass
class Grid:
    """A study whose runs the user trains; iterate over it for those that are not finished.

    Attributes:
        directory: The study's directory.
        points: All points of the grid.
        by: The axis that the study is about.
    """

    directory: Path
    points: list[Point]
    by: str | None
    claims: Plain
    probing: Probing
    mode: str
    notes: Plain = field(default_factory=dict)
    objective: str | None = None

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[GridRun]:
        runs = {run.id: (run, point) for point in self.points for run in [point.as_run()]}
        store.ensure_writable(self.directory)
        settings = tracking.Settings(mode=self.mode)
        try:
            tracking.check(settings, runs=len(runs))
        except ValueError as error:
            raise ConfigError(str(error)) from error
        with locks.lock(self.directory):
            finished = store.finished(self.directory)
            todo = [(run, point) for run, point in runs.values() if run.id not in finished]
            self._describe([run for run, _ in runs.values()])
            print(f"{self.directory}: {len(runs) - len(todo)} of {len(runs)} complete")
            with tracking.Tracker(settings, self.directory, self.directory.name) as tracker:
                for run, point in todo:
                    torch.manual_seed(point.seed)
                    yield GridRun(run, point, self, tracker)

    def results(self) -> Results:
        """What the finished runs have come to.

        Raises:
            StoreError: No run is finished.
        """
        store.load(self.directory)
        return Results(self.directory, store.failures(self.directory))

    def _describe(self, runs: Sequence[Run]) -> None:
        """Writes what the study is about, as the command does for its own."""
        previous = store.read_study(self.directory)
        swept = Swept.of(runs).after(Swept.described(previous))
        old = superseded(self.directory, runs)
        for line in told(old):
            print(line)
        ids = {run.id for run in runs}
        left_out = {*previous.get("superseded", ()), *(run.id for run in old)} - ids
        described = {
            "name": self.directory.name,
            "command": f"initstudy.grid(…, name={self.directory.name!r})",
            "by": self.by,
            "across": None,
            "tune": None,
            "criterion": None,
            "paper": {},
            "claims": self.claims,
            "declared": declared.declare(
                previous.get("declared", {}), self.claims, len(store.finished(self.directory))
            ),
            "notes": self.notes,
            "layers": previous.get("layers", {}),
            "runs": len(self.points),
            "superseded": sorted(left_out),
            **swept.description(),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "device": f"{platform.machine()}, a loop of the user's own",
            "versions": {
                "initstudy": __version__,
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "torchvision", "wandb")},
            },
            "repository": revision(Path.cwd()),
        }
        store.write_study(self.directory, previous | described)


class GridRun:
    """One run, to be trained by the user.

    Attributes:
        id: The run's id.
        seed: Its seed.
        init: The name of its initializer.
        values: The values of the other axes, which are attributes as well: `run.lr`.
    """

    def __init__(self, run: Run, point: Point, study: Grid, tracker: tracking.Tracker) -> None:
        self.id, self.seed, self.init = run.id, point.seed, point.init.name
        self.values = dict(point.values)
        self._run, self._study, self._tracker = run, study, tracker
        self._watch: Watch | None = None
        self._history: list[dict[str, Any]] = []
        self._next = 0
        self._diverged: tuple[int, str] | None = None
        self._begun = time.perf_counter()
        self._started = False

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["values"][name]
        except KeyError:
            raise AttributeError(f"a run of this grid has no {name!r}") from None

    def initialize(self, model: nn.Module) -> nn.Module:
        """Fills a model in place as the run's initializer says, from the run's seed; returns it.

        Raises:
            ValueError: The initializer cannot fill the model.
        """
        if self.init == OWN:
            # Known by its name alone: there is no section of the configuration to build.
            return model
        chosen = factory.policy(self._run.config["init"])
        if isinstance(chosen, Calibrated):
            raise ValueError(f"init={self.init}: looks at data, which only a study's own loop has")
        if isinstance(chosen, Own):
            return model
        return initialize(model, chosen, seed=self.seed)

    def watch(self, model: nn.Module) -> Watch:
        """Measures the model's layers within a `with`; `log` writes what was measured."""
        probing = self._study.probing
        self._watch = Watch(model, probing.preset, lambda: self._next % probing.every == 0)
        return self._watch

    def log(self, step: int, loss: float | torch.Tensor | None = None, **values: Any) -> None:
        """One row of the run's history, with what `watch` has measured since the last one.

        Args:
            step: How many updates came before the batch of this row. Rows come in rising order.
            loss: The training loss, logged as `train/loss`. A run whose loss is not finite has
                diverged; what is logged after that is not kept.
            **values: Further columns, such as `**{"test/accuracy": 0.97}`.

        Raises:
            ValueError: The step is not larger than that of the row before.
        """
        if self._history and step <= self._history[-1]["step"]:
            raise ValueError(f"step={step}: must be above {self._history[-1]['step']}")
        if self._diverged:
            return
        row = {name: _number(name, value) for name, value in values.items()}
        if loss is not None:
            row = {LOSS: _number("loss", loss), **row}
        measured = self._watch.collect() if self._watch is not None else {}
        self._start()
        self._next = step + 1
        if not math.isfinite(row.get(LOSS, 0.0)):
            self._diverged = step, _first_nonfinite(measured)
            log.warning("%s: the loss is not finite at step %d", self._run.label, step)
        self._history.append({"run": self.id, "step": step, **row, **measured})
        self._tracker.log(self.id, step, {**row, **measured})

    def finish(self, model: nn.Module | None = None) -> None:
        """Writes the run to the store and to W&B: it is complete and will not be trained again.

        Args:
            model: The trained model, whose layers the report names; optional.

        Raises:
            ValueError: Nothing was logged.
            StoreError: The store cannot be written.
        """
        if not self._history:
            raise ValueError(f"{self._run.label}: nothing was logged; call log before finish")
        self._start()
        ended = self._ended()
        pack = hashlib.sha256(self.id.encode()).hexdigest()[:12]
        directory = self._study.directory
        row = {"run": self.id, **self._run.choices, **as_columns(self._run.config), **ended}
        hydra_files.write(directory, [self._run])
        study = store.read_study(directory)
        schema = schema_of(self._columns, self._study.objective).description()
        described = {
            **self._run.config,
            "choices": dict(self._run.choices),
            "swept": study.get("swept", []),
            "layers": self._layers,
            "schema": schema,
            "repository": study["repository"],
        }
        self._tracker.promise(pack, [(self._run, described, ended)])
        store.write_pack(directory, pack, [row], self._history, time.perf_counter() - self._begun)
        self._tracker.finish(pack)
        layers = study.get("layers", {}) | ({OWN_LOOP: self._layers} if self._layers else {})
        store.write_study(directory, study | schema | {"layers": layers})

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._tracker.start(self.id, dict(self._run.config), self._run.label)

    @property
    def _layers(self) -> list[str]:
        return [layer.name for layer in self._watch.layers] if self._watch is not None else []

    @property
    def _columns(self) -> list[str]:
        """The columns that were logged."""
        return list(dict.fromkeys(name for row in self._history for name in row))

    def _ended(self) -> dict[str, Any]:
        """The final value of every scalar column but the statistics of layers."""
        last: dict[str, Any] = {LOSS: None}
        for row in self._history:
            last |= {
                name: value
                for name, value in row.items()
                if isinstance(value, float | int) and name.count("/") == 1
            }
        step, layer = self._diverged or (None, None)
        return {**last, "diverged_step": step, "diverged_layer": layer}


def _number(name: str, value: Any) -> float:
    if isinstance(value, torch.Tensor) or hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name}={value!r}: must be a number")
    return float(value)


def _first_nonfinite(measured: Mapping[str, Any]) -> str:
    """The first layer whose activations are not finite; "loss" if none is, or none was measured."""
    for name, value in measured.items():
        kind, layer, *statistic = name.split("/")
        if kind == "activation" and statistic == ["nonfinite"] and value:
            return layer
    return "loss"
