"""A study's tables, prepared for claims and charts: what it is about, and its facets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import polars as pl

from initstudy.columns import (
    ACTIVATION_RMS,
    DIVERGED_STEP,
    FATE,
    LEARNING_TIME,
    SCHEMA,
    STEP,
    Schema,
)
from initstudy.config import WITHOUT_EFFECT
from initstudy.store.fates import fates
from initstudy.store.results import Store

MODEL = "model._target_"
STD = "init.std"
SEED = "seed"
# What stands in the place of the value of a key that a run does not have.
NO_VALUE = "–"
# What `prepare` adds, and the names of the chosen initializer and model.
PREPARED = ("facet", "by", "across", "tune", "diverged", "init", "model")
# Values whose largest is so many times the smallest are drawn on a logarithmic axis.
LOG_FROM = 20.0


@dataclass(frozen=True)
class Study:
    """The results of one study, ready for claims and charts.

    Attributes:
        runs: One row per run, with `by` (its value of the studied key), `facet` (its model and what
            else varies) and `diverged`; with `across` and `tune` if the study has such keys, and
            with `learning_time` if it has a criterion of what counts as learned.
        history: One row per run and step, with `by`, `facet` and `seed` of the run.
        by: The studied key, or None if nothing varies.
        numeric: Whether the values of the studied key are numbers.
        logarithmic: Whether they are drawn on a logarithmic axis.
        about: The study's description.
        across: The second studied key, or None.
        tune: The key of which every point of both takes its best value, or None.
        diverged_as: How a run that diverged counts where one number is needed: as "chance", or with
            the "worst" rank.
    """

    runs: pl.DataFrame
    history: pl.DataFrame
    by: str | None
    numeric: bool
    logarithmic: bool
    about: dict[str, Any]
    across: str | None = None
    tune: str | None = None
    diverged_as: Literal["chance", "worst"] = "chance"

    @cached_property
    def schema(self) -> Schema:
        """The columns of the study."""
        return Schema.described(self.about)

    @property
    def objective(self) -> str:
        """The column that the study compares, such as "test/accuracy"."""
        return self.schema.objective

    @property
    def facets(self) -> list[str]:
        """The facets, in the order of their first run."""
        return self.runs["facet"].unique(maintain_order=True).to_list()

    @property
    def trained(self) -> bool:
        """Whether the study trained, rather than only measuring the initialization."""
        steps: Any = self.history["step"].max()
        return steps > 1

    @property
    def label(self) -> str:
        """The title of an axis of the studied key."""
        return "run" if self.by is None else self.by

    @property
    def varied(self) -> list[str]:
        """The configuration's keys in which runs differ, the studied ones first.

        Keys that only repeat which model it is, such as its arguments, are left out.
        """
        keys = _swept(self.runs, self.about)
        if "swept" not in self.about:
            keys = [
                key
                for key in keys
                if key in (self.by, MODEL) or not _same_partition(self.runs, key, MODEL)
            ]
        named = dict.fromkeys([*([] if self.by is None else [self.by]), *keys])
        return sorted(named, key=lambda key: (key != self.by, key != self.across, key))

    def runs_of(self, facet: str) -> pl.DataFrame:
        """The runs of one facet."""
        return self.runs.filter(pl.col("facet") == facet)

    def history_of(self, facet: str, *columns: str) -> pl.DataFrame:
        """The history of one facet.

        Args:
            facet: The facet.
            columns: The columns to take; all if none is named. Histograms of thousands of runs
                are large.
        """
        taken = self.history.select({"facet", *columns}) if columns else self.history
        return taken.filter(pl.col("facet") == facet).select(columns or pl.all())

    def is_lower_better(self, metric: str) -> bool:
        """Whether small values of a column are good, as those of losses and learning times."""
        return self.schema.better(metric) == "lower"

    def value(self, metric: str, facet: str | None = None) -> pl.Expr:
        """A metric of the runs as float64, in which a run that diverged counts as `stand_in` says.

        What a diverged run's frozen weights reach depends on the step at which it was frozen, so it
        is not taken for an accuracy.

        Args:
            metric: A column of the runs.
            facet: The facet whose runs these are, or None for the whole study.
        """
        value = pl.col(metric).cast(pl.Float64)
        kept = value.is_finite() & ~pl.col("diverged")
        return pl.when(kept).then(value).otherwise(self.stand_in(metric, facet))

    def stand_in(self, metric: str, facet: str | None = None) -> float:
        """What a metric counts as for a run that diverged, or that has no finite value of it.

        Args:
            metric: A column of the runs.
            facet: The facet, or None for the whole study.

        Returns:
            For a learning time the number of steps trained, at which a run that never learned was
            last seen. Otherwise infinity on the bad side if diverged runs have the worst rank. Else
            what guessing reaches, or for a metric of which small values are good the largest finite
            value if that is worse. Where guessing is not known, zero or the worst finite value.
        """
        if metric == LEARNING_TIME.name:
            return self._steps(facet)
        lower = self.is_lower_better(metric)
        if self.diverged_as == "worst":
            return math.inf if lower else -math.inf
        runs = self.runs if facet is None else self.runs_of(facet)
        values = runs[metric].cast(pl.Float64)
        finite = [float(v) for v in values.filter(values.is_finite())]
        known = self.schema.metric(metric)
        chance = None if known is None else known.chance
        if lower:
            return max([chance or 0.0, *finite])
        return min([0.0, *finite]) if chance is None else chance

    def horizon(self, metric: str, facet: str) -> float:
        """From which value on a run had not learned when last seen; infinite if all have learned.

        Args:
            metric: A column of the runs.
            facet: The facet.
        """
        if metric != LEARNING_TIME.name:
            return math.inf
        runs = self.runs_of(facet)
        never = runs[LEARNING_TIME.name].is_null() | runs["diverged"]
        return self._steps(facet) if never.any() else math.inf

    def _steps(self, facet: str | None) -> float:
        history = self.history if facet is None else self.history_of(facet, STEP.name)
        steps: Any = history[STEP.name].max()
        return float(steps)

    def without_diverged(self) -> Study:
        """The study without the runs that diverged."""
        kept = self.runs.filter(~pl.col("diverged"))
        history = self.history.join(kept.select("run"), on="run", how="semi")
        return replace(self, runs=kept, history=history)

    def values(self, facet: str | None = None) -> list[Any]:
        """The values of the studied key: numbers ascending, others from the best to the worst.

        Args:
            facet: The facet whose values these are, and whose objective ranks them; None for all.
        """
        runs = self.runs if facet is None else self.runs_of(facet)
        if self.numeric or self.objective not in runs.columns:
            return runs["by"].drop_nulls().unique().sort().to_list()
        mean = self.value(self.objective, facet).mean().alias("mean")
        ranked = runs.drop_nulls("by").group_by("by").agg(mean)
        order = [not self.is_lower_better(self.objective), False]
        return ranked.sort(["mean", "by"], descending=order)["by"].to_list()

    def layers(self, facet: str) -> list[str]:
        """The layers of a facet's model, from input to output."""
        before, after = ACTIVATION_RMS.of("\0").split("\0")
        named = {
            name: name.removeprefix(before).removesuffix(after)
            for name in self.history.columns
            if self.schema.find(name) == ACTIVATION_RMS
        }
        if not named:
            return []
        rows = self.history_of(facet, *named)
        present = [layer for name, layer in named.items() if rows[name].null_count() < len(rows)]
        known = self.about.get("layers", {}).get(facet.split(",")[0], present)
        return [layer for layer in known if layer in present] or present


def prepare(store: Store) -> Study:
    """Finds out what a study is about, and which facets it has.

    The study says which keys it sweeps. Where it does not, as that of a W&B project of somebody
    else's, those are taken in which its runs differ.
    """
    runs = store.runs.drop(FATE.name, strict=False)
    swept = _swept(runs, store.study)
    by = _studied(runs, swept, store.study)
    numeric = by is not None and not runs[by].null_count() and runs[by].dtype.is_numeric()
    roles = {role: _role(runs, store.study.get(role)) for role in ("across", "tune")}
    free = [c for c in swept if not any(_same_partition(runs, c, k) for k in roles.values())]
    others = _others(runs, free, by)
    runs = runs.with_columns(
        (pl.lit(None, pl.Float64) if by is None else _values(runs, by)).alias("by"),
        _facet(runs, others, by).alias("facet"),
        pl.col(DIVERGED_STEP.name).is_not_null().alias("diverged"),
        *(_values(runs, key).alias(role) for role, key in roles.items() if key),
    )
    if numeric:
        runs = runs.with_columns(pl.col("by").cast(pl.Float64))
    keys = runs.select("run", "by", "facet", *({"seed"} & {*runs.columns}))
    history = store.history.join(keys, on="run", how="inner").sort("run", "step")
    schema = Schema.described(store.study)
    criterion = store.study.get("criterion")
    if criterion is not None:
        runs = runs.join(_learning_times(history, criterion, schema), on="run", how="left")
    layers = [layer for those in store.study.get("layers", {}).values() for layer in those]
    runs = runs.join(fates(runs, history, schema, layers), on="run", how="left")
    logarithmic = numeric and _spans(runs["by"])
    return Study(
        runs, history, by, numeric, logarithmic, store.study, roles["across"], roles["tune"]
    )


def _role(runs: pl.DataFrame, key: str | None) -> str | None:
    """A key to which the study gives a role, if it varies and all runs have it."""
    if key not in runs.columns or (runs[key].null_count() and not _null_is_a_value(runs, key)):
        return None
    return key if runs[key].n_unique() > 1 else None


def _learning_times(history: pl.DataFrame, criterion: float, schema: Schema) -> pl.DataFrame:
    value = pl.col(schema.learning)
    lower = schema.better(schema.learning) == "lower"
    learned = value <= criterion if lower else value >= criterion
    first = pl.col(STEP.name).min().alias(LEARNING_TIME.name)
    return history.filter(learned & (pl.col(STEP.name) > 0)).group_by("run").agg(first)


def _null_is_a_value(runs: pl.DataFrame, key: str) -> bool:
    """Whether some runs have null where others have a value, as in `clip_norm=null,1`.

    Of an initializer or a model null says that it has no such argument.
    """
    nulls = runs[key].null_count()
    return 0 < nulls < len(runs) and not key.startswith(("init.", "model."))


def _values(runs: pl.DataFrame, key: str) -> pl.Expr:
    """The values of a key; texts if some runs have none, or have null."""
    if not runs[key].null_count():
        return pl.col(key)
    absent = "null" if _null_is_a_value(runs, key) else NO_VALUE
    return pl.col(key).cast(pl.String).str.replace(r"\.0$", "").fill_null(absent)


def _varying(runs: pl.DataFrame) -> list[str]:
    """The configuration's keys in which runs differ, of those that can change a result."""
    return [c for c in runs.columns if _is_configuration(c) and runs[c].n_unique() > 1]


def _is_configuration(column: str) -> bool:
    # Keys of the configuration have dots; what was measured or predicted has a slash.
    if "/" in column or column in PREPARED or column.startswith("fingerprints."):
        return False
    if SCHEMA.find(column) is not None:
        return False
    return not any(column == key or column.startswith(f"{key}.") for key in WITHOUT_EFFECT)


def _swept(runs: pl.DataFrame, study: Mapping[str, Any]) -> list[str]:
    """The keys of the grid in which runs differ, as the study says; where it does not, all keys."""
    if "swept" not in study:
        return _varying(runs)
    return [key for key in study["swept"] if key in runs.columns and runs[key].n_unique() > 1]


def _studied(runs: pl.DataFrame, swept: list[str], study: Mapping[str, Any]) -> str | None:
    """The key that the study is about: the one that it names, or the likeliest that was swept.

    A key that some runs do not have, such as the standard deviation of one initializer among many,
    gives way to one that all of them have.
    """
    asked = study.get("by")
    if asked in runs.columns:
        return asked
    swept = [key for key in swept if key not in (SEED, study.get("across"), study.get("tune"))]
    if "swept" not in study and "init" in runs.columns and runs["init"].n_unique() > 1:
        swept.append("init")
    candidates = [key for key in swept if not runs[key].null_count()] or swept
    # A grid over models and something else is about the other key, for each of the models.
    first = [STD, "init", *(key for key in candidates if key not in (MODEL, "model"))]
    return next((key for key in (*first, *candidates) if key in candidates), None)


def _others(runs: pl.DataFrame, swept: list[str], by: str | None) -> list[str]:
    """What varies besides the studied key and the seed, and does not follow from either.

    An initializer's own arguments follow from the initializer, or from it and the model.
    """
    free = [c for c in swept if c not in (by, SEED) and not _same_partition(runs, c, by)]
    if "init" in runs.columns and not (_is_one(runs, "init") or _same_partition(runs, "init", by)):
        # One name stands for everything that comes with a choice of initializer.
        free = [c for c in free if c in (MODEL, "init") or not _same_partition(runs, c, "init")]
        free = [*(c for c in free if c != "init"), "init"]
    base = [c for c in free if not c.startswith("init.")] + ([by] if by else [])
    kinds = runs.select(base).n_unique() if base else 1
    return [
        c for c in free if not c.startswith("init.") or runs.select(*base, c).n_unique() > kinds
    ]


def _is_one(runs: pl.DataFrame, column: str) -> bool:
    """Whether all runs have the same value there."""
    return runs[column].n_unique() == 1


def _same_partition(runs: pl.DataFrame, column: str, by: str | None) -> bool:
    """Whether a column tells no more runs apart than the studied one does."""
    if by is None or column == by:
        return column == by
    return runs.select(by, column).n_unique() == runs[by].n_unique()


def _facet(runs: pl.DataFrame, varying: list[str], by: str | None) -> pl.Expr:
    """The model's name, with what else varies: "MLP", or "MLP, lr=0.1"."""
    model = pl.col(MODEL).str.split(".").list.last()
    if runs[MODEL].n_unique() > 1 and not {MODEL, "model"} & {*varying}:
        # The studied choice brings its model along: one facet holds them all.
        names = runs.select(model.unique(maintain_order=True))[MODEL].to_list()
        model = pl.lit(" and ".join(names))
    extra = [
        c
        for c in varying
        if c != MODEL and runs.select(MODEL, c).n_unique() != runs[MODEL].n_unique()
    ]
    last = [c.rsplit(".", 1)[-1] for c in extra]
    names = last if len(set(last)) == len(last) else extra
    parts = [
        pl.format(f", {name}={{}}", pl.col(c).cast(pl.String).fill_null(NO_VALUE))
        for name, c in zip(names, extra, strict=True)
    ]
    return pl.concat_str([model, *parts])


def _spans(values: pl.Series) -> bool:
    low, high = values.min(), values.max()
    if not isinstance(low, float) or not isinstance(high, float):
        return False
    return low > 0 and math.isfinite(high) and high / low > LOG_FROM
