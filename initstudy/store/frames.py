"""The store's frames, prepared for claims and charts: which variable is studied, and the facets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import polars as pl

from initstudy.store import Store

LEARNING_TIME = "learning_time"
NOT_CONFIGURATION = (
    "run",
    "diverged",
    "diverged_step",
    "diverged_layer",
    "device",
    "torch",
    "float32_precision",
    "seconds",
    "facet",
    "by",
    "init",
    "model",
    "across",
    "tune",
    LEARNING_TIME,
)
MODEL = "model._target_"
LOG_FROM = 20.0


@dataclass(frozen=True)
class Study:
    """One sweep, ready to be drawn.

    Attributes:
        runs: A row a run, with `by` (the studied variable's value), `facet` (which model and what
            else varies), and `diverged`; with `across` and `tune` where the study has such keys,
            and with `learning_time`, the first step at which the training accuracy reached the
            study's criterion.
        history: Rows over steps, with `by`, `facet` and `seed` of their run.
        by: The studied key, or None where nothing varies.
        across: The second studied key, or None.
        tune: The key of which every point of both takes its best value, or None.
        numeric: Whether its values are numbers.
        logarithmic: Whether they are better drawn in log.
        about: The study's description.
    """

    runs: pl.DataFrame
    history: pl.DataFrame
    by: str | None
    numeric: bool
    logarithmic: bool
    about: dict[str, Any]
    across: str | None = None
    tune: str | None = None

    @property
    def facets(self) -> list[str]:
        """The facets, in the order of their first run."""
        return self.runs["facet"].unique(maintain_order=True).to_list()

    @property
    def trained(self) -> bool:
        """Whether there was training, and not only a look at the start."""
        steps: Any = self.history["step"].max()
        return steps > 1

    @property
    def label(self) -> str:
        """The studied variable as an axis is labelled."""
        return "run" if self.by is None else self.by

    @property
    def varied(self) -> list[str]:
        """The keys of the configuration in which runs differ, the studied ones first.

        Without those that only say once more which model it is.
        """
        keys = [
            key
            for key in _varying(self.runs)
            if key in (self.by, MODEL) or not _same_partition(self.runs, key, MODEL)
        ]
        if self.by in ("init", "model"):
            keys = [self.by, *keys]
        return sorted(keys, key=lambda key: (key != self.by, key != self.across, key))

    def values(self, facet: str | None = None) -> list[Any]:
        """The studied variable's values: numbers ascending, others from the best accuracy down.

        Args:
            facet: Whose values, and whose accuracy; None for all.
        """
        runs = self.runs if facet is None else self.runs.filter(pl.col("facet") == facet)
        if self.numeric or "test/accuracy" not in runs.columns:
            return runs["by"].drop_nulls().unique().sort().to_list()
        mean = pl.col("test/accuracy").cast(pl.Float64).fill_nan(0.0).fill_null(0.0).mean()
        ranked = runs.drop_nulls("by").group_by("by").agg(mean)
        return ranked.sort(["test/accuracy", "by"], descending=[True, False])["by"].to_list()

    def layers(self, facet: str) -> list[str]:
        """The layers of a facet's model, in running order."""
        prefix = "activation/"
        columns = [c for c in self.history.columns if c.startswith(prefix) and c.endswith("/rms")]
        rows = self.history.select("facet", *columns).filter(pl.col("facet") == facet)
        present = [c for c in columns if rows[c].null_count() < len(rows)]
        names = [c.removeprefix(prefix).removesuffix("/rms") for c in present]
        known = self.about.get("layers", {}).get(facet.split(",")[0], names)
        return [name for name in known if name in names] or names


def prepare(store: Store) -> Study:
    """A store's frames with the studied variable and the facets found."""
    runs = store.runs
    varying = _varying(runs)
    by = _studied(runs, varying, store.study.get("by"))
    numeric = by is not None and runs[by].dtype.is_numeric()
    roles = {role: _role(runs, store.study.get(role)) for role in ("across", "tune")}
    free = [c for c in varying if not any(_same_partition(runs, c, k) for k in roles.values())]
    others = _others(runs, free, by)
    runs = runs.with_columns(
        (pl.col(by) if by else pl.lit(None, pl.Float64)).alias("by"),
        _facet(runs, others, by).alias("facet"),
        pl.col("diverged_step").is_not_null().alias("diverged"),
        *(pl.col(key).alias(role) for role, key in roles.items() if key),
    )
    if numeric:
        runs = runs.with_columns(pl.col("by").cast(pl.Float64))
    keys = runs.select("run", "by", "facet", *([] if "seed" not in runs.columns else ["seed"]))
    history = store.history.join(keys, on="run", how="inner").sort("run", "step")
    criterion = store.study.get("criterion")
    if criterion is not None:
        runs = runs.join(_learning_times(history, criterion), on="run", how="left")
    logarithmic = numeric and _spans(runs["by"])
    return Study(runs, history, by, numeric, logarithmic, store.study, **roles)


def _role(runs: pl.DataFrame, key: str | None) -> str | None:
    """A key that the study gives a role, where it varies."""
    return key if key in runs.columns and runs[key].n_unique() > 1 else None


def _learning_times(history: pl.DataFrame, criterion: float) -> pl.DataFrame:
    reached = history.filter((pl.col("train/accuracy") >= criterion) & (pl.col("step") > 0))
    return reached.group_by("run").agg(pl.col("step").min().alias(LEARNING_TIME))


def _varying(runs: pl.DataFrame) -> list[str]:
    # Keys of the configuration have dots; what was measured or foreseen has a slash.
    columns = [c for c in runs.columns if c not in NOT_CONFIGURATION and "/" not in c]
    return [c for c in columns if runs[c].n_unique() > 1]


def _studied(runs: pl.DataFrame, varying: list[str], asked: str | None) -> str | None:
    candidates = [c for c in varying if c != "seed"]
    if asked in runs.columns:
        return asked
    if "init.std" in candidates:
        return "init.std"
    if "init" in runs.columns and runs["init"].n_unique() > 1:
        return "init"
    numeric = [c for c in candidates if runs[c].dtype.is_numeric()]
    if "init._target_" in candidates:
        return "init._target_"
    return next(iter(numeric or candidates), None)


def _others(runs: pl.DataFrame, varying: list[str], by: str | None) -> list[str]:
    """What varies besides the studied key and the seed, and is no matter of either.

    An initializer's own arguments follow from the initializer, or from it and the model.
    """
    free = [c for c in varying if c not in (by, "seed") and not _same_partition(runs, c, by)]
    if by != "init" and "init" in runs.columns and runs["init"].n_unique() > 1:
        # One name for all that goes with a choice of initializer.
        free = [c for c in free if c == MODEL or not _same_partition(runs, c, "init")]
        free.append("init")
    base = [c for c in free if not c.startswith("init.")] + ([by] if by else [])
    kinds = runs.select(base).n_unique() if base else 1
    return [
        c for c in free if not c.startswith("init.") or runs.select(*base, c).n_unique() > kinds
    ]


def _same_partition(runs: pl.DataFrame, column: str, by: str | None) -> bool:
    """Whether a column says no more than the studied one (an initializer's own arguments)."""
    if by is None or column == by:
        return column == by
    return runs.select(by, column).n_unique() == runs[by].n_unique()


def _facet(runs: pl.DataFrame, varying: list[str], by: str | None) -> pl.Expr:
    """The model's name, with what else varies: "MLP", or "MLP, lr=0.1"."""
    model = pl.col(MODEL).str.split(".").list.last()
    if runs[MODEL].n_unique() > 1 and MODEL not in varying and by != MODEL:
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
        pl.format(f", {name}={{}}", pl.col(c).cast(pl.String).fill_null("–"))
        for name, c in zip(names, extra, strict=True)
    ]
    return pl.concat_str([model, *parts])


def _spans(values: pl.Series) -> bool:
    low, high = values.min(), values.max()
    if not isinstance(low, float) or not isinstance(high, float):
        return False
    return low > 0 and math.isfinite(high) and high / low > LOG_FROM
