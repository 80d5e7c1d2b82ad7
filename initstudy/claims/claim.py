"""Claims: published statements, checked against the results of a sweep.

A sweep's configuration declares them as Hydra `_target_`s. Every comparison is paired: the runs of
one seed start from the same draws and see the same data, so their differences are what varies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Protocol

import numpy as np
import polars as pl
from hydra.utils import instantiate

from initstudy.claims.statistics import Interval, mean_interval, slope
from initstudy.config import ConfigError
from initstudy.store.frames import Study

PASS, FAIL, UNDECIDED = "PASS", "FAIL", "UNDECIDED"


@dataclass(frozen=True)
class Result:
    """What became of one claim on one facet.

    Attributes:
        claim: The claim's name in the configuration.
        facet: The model it was checked on.
        statement: What is claimed, in words.
        verdict: PASS, FAIL, or UNDECIDED where the sweep cannot tell.
        estimate, low, high: The number that decided, and its 95% interval; NaN where there is none.
        unit: What the number measures.
        method: How the interval was found.
        detail: The finding in one sentence.
        paper: What the paper found, where the claim is one of a paper's.
    """

    claim: str
    facet: str
    statement: str
    verdict: str
    estimate: float
    low: float
    high: float
    unit: str
    method: str
    detail: str
    paper: str = ""


class Claim(Protocol):
    """What the configuration's targets build."""

    statement: str

    def check(self, study: Study, facet: str) -> tuple[str, Interval | None, str, str]:
        """Verdict, deciding interval, its unit, and the finding in a sentence."""


def evaluate(study: Study) -> list[Result]:
    """Checks every claim of a study on every facet, or on those its `where` is a pattern for."""
    results = []
    for name, config in study.about.get("claims", {}).items():
        claim, where, paper = _build(config)
        facets = [facet for facet in study.facets if fnmatchcase(facet, where)]
        found = [_result(name, claim, study, facet) for facet in facets]
        found = found or [_undecided(name, claim.statement, where)]
        results += [replace(result, paper=paper) for result in found]
    return results


def check(claims: Mapping[str, Any]) -> None:
    """Builds every claim of a configuration, so that none fails after the training.

    Raises:
        ConfigError: One cannot be built.
    """
    for name, config in claims.items():
        try:
            _build(config)
        except Exception as error:
            reason = " ".join(str(error.__cause__ or error).split())
            raise ConfigError(f"claims.{name}: cannot be built: {reason}") from error


def _build(config: Mapping[str, Any]) -> tuple[Claim, str, str]:
    """A claim, the pattern of the facets that it is about, and the paper that it is from."""
    if not isinstance(config, Mapping) or "_target_" not in config:
        raise ValueError(f"{config} names no _target_, such as {__name__}.WorseThanBest")
    arguments = dict(config)
    where, paper = arguments.pop("where", "*"), arguments.pop("paper", "")
    claim = instantiate(arguments, _convert_="all")
    if not callable(getattr(claim, "check", None)):
        raise ValueError(f"{config['_target_']} is no claim: it has no method check")
    return claim, where, paper


def _result(name: str, claim: Claim, study: Study, facet: str) -> Result:
    verdict, interval, unit, detail = claim.check(study, facet)
    found = interval or Interval(math.nan, math.nan, math.nan, 0, "–")
    return Result(
        name,
        facet,
        claim.statement,
        verdict,
        found.estimate,
        found.low,
        found.high,
        unit,
        found.method,
        detail,
    )


def _undecided(name: str, statement: str, where: str) -> Result:
    why = f"no part of the sweep is {where}"
    return Result(name, where, statement, UNDECIDED, math.nan, math.nan, math.nan, "–", "–", why)


@dataclass(frozen=True)
class WorseThanBest:
    """One end of the studied variable does worse than the best value away from that end.

    For each seed: the mean of the metric over the `count` values at the end, less the metric at the
    best other value. Which value is best is decided by the *other* seeds, so that no number is
    compared with a best that it helped to choose. (Where there is no effect at all, three seeds and
    eleven other values pass in 5% of sweeps; choosing by all seeds, in 12%.)

    Args:
        statement: What is claimed, in words.
        at: "largest" or "smallest".
        count: How many values make up that end.
        metric: A column of the summary.
        higher_is_better: Whether large values of the metric are good.
        log: Whether to compare log10 of the metric. A run that diverged then counts with the worst
            finite value of the sweep, or with `diverged_as` if that is worse: a lower bound of how
            bad it was.
        diverged_as: What a metric that is not finite counts as.
    """

    statement: str
    at: str = "largest"
    count: int = 3
    metric: str = "test/accuracy"
    higher_is_better: bool = True
    log: bool = False
    diverged_as: float = 0.0

    def __post_init__(self) -> None:
        if self.at not in ("largest", "smallest"):
            raise ValueError(f"claims: at={self.at}: choose largest or smallest")

    def check(self, study: Study, facet: str) -> tuple[str, Interval | None, str, str]:
        """See `Claim`."""
        unit = f"difference of {'log10 ' if self.log else ''}{self.metric}"
        table = self._table(study, facet)
        values = table["by"].to_list()
        seeds = [c for c in table.columns if c != "by"]
        if not study.numeric or len(values) < self.count + 1 or len(seeds) < 2:
            why = f"needs two seeds and {self.count + 1} values of {study.label}"
            return UNDECIDED, None, unit, f"{why}; the sweep has {len(seeds)} and {len(values)}"
        end = slice(-self.count, None) if self.at == "largest" else slice(0, self.count)
        rest = slice(0, -self.count) if self.at == "largest" else slice(self.count, None)
        data = table.select(seeds).to_numpy()
        best = [
            rest.indices(len(data))[0] + self._best(np.delete(data[rest], i, axis=1))
            for i in range(len(seeds))
        ]
        differences = [data[end, i].mean() - data[best[i], i] for i in range(len(seeds))]
        interval = mean_interval(differences)
        hurts = interval.below_zero if self.higher_is_better else interval.above_zero
        at_end = self._shown(data[end].mean())
        at_best = self._shown(np.mean([data[b, i] for i, b in enumerate(best)]))
        diverged = self._diverged(study, facet, values[end])
        detail = (
            f"{self.metric} is {at_end} at the {self.count} {self.at} values "
            f"({study.label} {values[end][0]:g} to {values[end][-1]:g}{diverged}) "
            f"and {at_best} at the best other one ({_span([values[b] for b in best])})"
        )
        return (PASS if hurts else FAIL), interval, unit, detail

    def _table(self, study: Study, facet: str) -> pl.DataFrame:
        """A row a value, a column a seed; seeds that lack a value are left out."""
        runs = study.runs.filter(pl.col("facet") == facet)
        metric = pl.col(self.metric).cast(pl.Float64)
        finite = runs.filter(metric.is_finite())[self.metric]
        worst: Any = finite.max() if self.log else None
        stand_in = max(self.diverged_as, worst or 0.0) if self.log else self.diverged_as
        value = pl.when(metric.is_finite()).then(metric).otherwise(stand_in)
        value = value.clip(1e-12).log10() if self.log else value
        table = runs.with_columns(value.alias("value")).pivot(
            on="seed", index="by", values="value", aggregate_function="mean"
        )
        return _complete(table)

    def _best(self, data: np.ndarray) -> int:
        means = np.mean(data, axis=1)
        return int(np.argmax(means) if self.higher_is_better else np.argmin(means))

    def _shown(self, value: float) -> str:
        return f"{10**value:.3g}" if self.log else f"{value:.3f}"

    def _diverged(self, study: Study, facet: str, values: list[float]) -> str:
        runs = study.runs.filter((pl.col("facet") == facet) & pl.col("by").is_in(values))
        count = int(runs["diverged"].sum())
        return f", {count} of {len(runs)} runs diverged" if count else ""


@dataclass(frozen=True)
class SignalGrowth:
    """At initialization the activations grow with depth above a critical value, shrink below it.

    For each run: the slope of ln(rms of the activations) against the layer's number, over hidden
    layers. For each seed: the mean slope above the critical value and below it, and where the slope
    changes sign (linear in the logarithm between neighbouring values).

    Args:
        statement: What is claimed, in words.
        critical: The critical value; None takes √(2/width) for a ReLU MLP (He et al. 2015, eq. 10)
            and otherwise the sign change that the other seeds show.
    """

    statement: str
    critical: float | None = None

    def check(self, study: Study, facet: str) -> tuple[str, Interval | None, str, str]:
        """See `Claim`."""
        unit = f"{study.label} where the slope changes sign"
        slopes = self._slopes(study, facet)
        seeds = [c for c in slopes.columns if c != "by"]
        values = slopes["by"].to_numpy() if study.numeric else np.array([])
        if len(seeds) < 2 or len(values) < 2:
            return UNDECIDED, None, unit, "needs probes, two hidden layers, two seeds, two values"
        data = slopes.select(seeds).to_numpy()
        crossings = [_crossing(values, data[:, i]) for i in range(len(seeds))]
        if not all(math.isfinite(c) for c in crossings):
            return FAIL, None, unit, "the slope does not change its sign within the grid"
        theory = self.critical or _relu_critical(study, facet)
        above, below = [], []
        for i in range(len(seeds)):
            others = [c for j, c in enumerate(crossings) if j != i]
            border = theory or float(np.exp(np.mean(np.log(others))))
            if (values > border).all() or (values <= border).all():
                return FAIL, None, unit, f"the grid lies on one side of {border:.3g}"
            above.append(data[values > border, i].mean())
            below.append(data[values <= border, i].mean())
        up, down = mean_interval(above), mean_interval(below)
        where = mean_interval(crossings)
        expected = f"; theory says {theory:.3g}" if theory else ""
        detail = (
            f"slope of ln(rms) a layer {up.estimate:+.2f} [{up.low:+.2f}, {up.high:+.2f}] above, "
            f"{down.estimate:+.2f} [{down.low:+.2f}, {down.high:+.2f}] below; "
            f"it changes sign at {where.estimate:.3g}{expected}"
        )
        return (PASS if up.above_zero and down.below_zero else FAIL), where, unit, detail

    def _slopes(self, study: Study, facet: str) -> pl.DataFrame:
        hidden = study.layers(facet)[:-1]
        if len(hidden) < 2:
            return pl.DataFrame({"by": []})
        columns = [f"activation/{name}/rms" for name in hidden]
        rows = study.history.filter((pl.col("facet") == facet) & (pl.col("step") == 0))
        logs = np.log(rows.select(columns).to_numpy().astype(float))
        slopes = pl.Series("slope", slope(np.arange(len(hidden)), logs))
        table = rows.select("by", "seed").with_columns(slopes)
        wide = table.pivot(on="seed", index="by", values="slope", aggregate_function="mean")
        return _complete(wide)


def _complete(table: pl.DataFrame) -> pl.DataFrame:
    """A row a value, a column a seed: without the seeds that lack a value."""
    kept = [c for c in table.columns if c == "by" or table[c].null_count() == 0]
    return table.select(kept).sort("by")


def _crossing(values: np.ndarray, slopes: np.ndarray) -> float:
    """Where the slopes turn from negative to positive; NaN where they do not."""
    for i in range(len(values) - 1):
        if slopes[i] < 0 <= slopes[i + 1]:
            share = -slopes[i] / (slopes[i + 1] - slopes[i])
            low, high = math.log(values[i]), math.log(values[i + 1])
            return math.exp(low + share * (high - low))
    return math.nan


def _relu_critical(study: Study, facet: str) -> float | None:
    first = study.runs.filter(pl.col("facet") == facet).row(0, named=True)
    is_relu_mlp = facet.startswith("MLP") and first.get("model.activation") == "relu"
    if study.by != "init.std" or not is_relu_mlp or not first.get("model.width"):
        return None
    return math.sqrt(2 / first["model.width"])


def _span(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
