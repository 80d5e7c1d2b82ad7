"""Seeds until decided: which runs a study trains next, given what its claims still lack.

A study looks at its claims when it has 3, 5, 8, 12 and 20 seeds (`initstudy.claims.looks`). A claim
that is decided at a look stays decided, and the next seeds are trained only at the points of the
grid that an undecided claim asks for. What was decided is written into the study's description
after every look, so that a command that goes on neither forgets nor repeats it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from initstudy import store
from initstudy.config import UNTIL_DECIDED, ConfigError, Run

Look = tuple[int, float]


@dataclass
class Looking:
    """The looks of one study.

    Attributes:
        runs: The grid with as many seeds as there may be.
        directory: The study's directory.
        schedule: The number of seeds and the error rate of each look.
        taken: How many of the looks were taken.
        decided: At how many seeds each claim was decided on each facet.
        wanted: The ids of the runs of the next look.
    """

    runs: Sequence[Run]
    directory: Path
    schedule: tuple[Look, ...]
    taken: int = 0
    decided: dict[str, int] = field(default_factory=dict)
    wanted: list[Run] = field(default_factory=list)

    @classmethod
    def of(cls, runs: Sequence[Run], config: DictConfig, directory: Path) -> Looking | None:
        """The looks of a study that adds seeds until its claims are decided; None of any other.

        What an earlier command has decided stays decided.

        Raises:
            ConfigError: There is no claim, or an earlier command has looked at other numbers of
                seeds.
        """
        if config.get("seeds") != UNTIL_DECIDED:
            return None
        if not runs[0].config["claims"]:
            raise ConfigError(f"seeds={UNTIL_DECIDED}: the study has no claims to be decided")
        from initstudy.claims.looks import Looks, schedule

        looks = schedule(int(config.max_seeds))
        before = Looks.recorded(store.read_study(directory))
        looking = cls(runs, directory, looks)
        if before is not None:
            if before.taken != looks[: len(before.taken)]:
                seeds = ", ".join(str(seeds) for seeds, _ in before.taken)
                raise ConfigError(
                    f"max_seeds={config.max_seeds}: this study has looked at its claims with "
                    f"{seeds} seeds; use the same number as before, or another name"
                )
            looking.taken, looking.decided = len(before.taken), dict(before.decided)
        looking._plan()
        return looking

    def first(self) -> list[Run]:
        """The runs that the command has to have before the next look: those of all looks so far."""
        return self.wanted

    def next(self) -> list[Run] | None:
        """Takes the look that is due, and gives the runs that are to be trained then.

        Returns:
            The runs, or None if there is nothing more to train.
        """
        if self.taken < len(self.schedule):
            self._look()
        before = {run.id for run in self.wanted}
        self._plan()
        return self.wanted if {run.id for run in self.wanted} - before else None

    def said(self) -> str:
        """What the last look has found, in one line."""
        seeds = self.schedule[self.taken - 1][0]
        here = [key for key, at in self.decided.items() if at == seeds]
        found = f"decided {', '.join(here)}" if here else "decided nothing"
        trained, most = len(self.wanted), len(self.runs)
        return f"look at {seeds} seeds: {found}; {trained} of at most {most} runs so far"

    def _look(self) -> None:
        from initstudy.claims import UNDECIDED
        from initstudy.claims.evaluation import at_look
        from initstudy.claims.looks import key_of

        seeds, level = self.schedule[self.taken]
        self.taken += 1
        study = self._study()
        if study is not None:
            for result in at_look(study, seeds, level, lambda key: key not in self.decided):
                if result.finding.verdict != UNDECIDED:
                    self.decided[key_of(result.claim, result.facet)] = seeds
        self._record()

    def _plan(self) -> None:
        """Finds the runs of all looks up to the next one."""
        self.wanted = [run for run in self.runs if run.config["seed"] < self.schedule[0][0]]
        for number in range(self.taken):
            if number + 1 == len(self.schedule):
                return
            seeds, more = self.schedule[number][0], self.schedule[number + 1][0]
            points = self._points(seeds)
            self.wanted += [
                run
                for run in self.runs
                if seeds <= run.config["seed"] < more and _point(run) in points
            ]

    def _points(self, seeds: int) -> set[tuple[str, ...]]:
        """The points of the grid of which claims need more seeds that were open at a look."""
        from initstudy.claims.evaluation import at_look
        from initstudy.claims.looks import key_of

        study = self._study()
        if study is None:
            return set()
        level = dict(self.schedule)[seeds]
        open_before = lambda key: self.decided.get(key, seeds + 1) > seeds  # noqa: E731
        rows = {row["run"]: row for row in study.runs.iter_rows(named=True)}
        arms: list[tuple[str, frozenset[Any] | None]] = []
        for result in at_look(study, seeds, level, open_before):
            finding = result.finding
            undecidable = finding.blocked or (
                finding.interval is None and finding.seeds_needed is None
            )
            if open_before(key_of(result.claim, result.facet)) and not undecidable:
                arms.append((result.facet, finding.arms))
        wanted = set()
        for run in self.runs:
            row = rows.get(run.id)
            if row is not None and any(_asks(*claim, row) for claim in arms):
                wanted.add(_point(run))
        return wanted

    def _study(self) -> Any:
        """The results so far, with the study's description; None if there are none."""
        from initstudy.store.frames import prepare

        if not store.finished(self.directory):
            return None
        return prepare(store.load(self.directory))

    def _record(self) -> None:
        from initstudy.claims.looks import Looks

        looks = Looks(self.schedule[: self.taken], self.decided)
        described = store.read_study(self.directory)
        store.write_study(
            self.directory,
            described | {"looks": looks.description() | {"most": len(self.runs)}},
        )


def _point(run: Run) -> tuple[str, ...]:
    """What tells a run from others, besides the seed."""
    return tuple(word for word in run.overrides if not word.startswith("seed="))


def _asks(facet: str, arms: frozenset[Any] | None, row: dict[str, Any]) -> bool:
    """Whether a claim on a facet needs more seeds of the point at which a run lies."""
    if row["facet"] != facet:
        return False
    by, across = row["by"], row.get("across")
    return arms is None or bool({by, str(by), (by, across)} & arms)
