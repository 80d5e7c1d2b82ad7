"""At initialization the activations grow with depth above a critical value, shrink below it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from initstudy.claims.finding import FAIL, Finding, shortfall
from initstudy.claims.statistics import mean_interval, slope
from initstudy.claims.worse_than_best import complete
from initstudy.columns import ACTIVATION_RMS
from initstudy.store.frames import STD, Study


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

    Example:
        >>> from initstudy.claims import SignalGrowth, synthetic_study
        >>> def results(std, seed):
        ...     return {f"activation/fc{number}/rms": (4 * std) ** number for number in range(1, 5)}
        >>> study = synthetic_study({"init.std": [0.1, 0.5, 1.0]}, results)
        >>> finding = SignalGrowth("It grows above a critical value.").check(study, "MLP")
        >>> finding.verdict, round(finding.estimate, 3)
        ('PASS', 0.25)
    """

    statement: str
    critical: float | None = None

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        unit = f"{study.label} where the slope changes sign"
        hidden = study.layers(facet)[:-1]
        slopes = _slopes(study, facet, hidden)
        seeds = [c for c in slopes.columns if c != "by"]
        values = slopes["by"].to_numpy() if study.numeric else np.array([])
        lacking = shortfall(
            (2, len(hidden), "probed hidden layers"),
            (2, len(seeds), "seeds"),
            (2, len(values), f"values of {study.label}"),
        )
        if lacking:
            return Finding.undecided(unit, lacking)
        data = slopes.select(seeds).to_numpy()
        crossings = [_crossing(values, data[:, i]) for i in range(len(seeds))]
        if not all(math.isfinite(c) for c in crossings):
            return _refuted(unit, "the slope does not change its sign within the grid")
        theory = self.critical or _relu_critical(study, facet)
        above, below = [], []
        for i in range(len(seeds)):
            others = [c for j, c in enumerate(crossings) if j != i]
            border = theory or float(np.exp(np.mean(np.log(others))))
            if (values > border).all() or (values <= border).all():
                return _refuted(unit, f"the whole grid lies on one side of {border:.3g}")
            above.append(data[values > border, i].mean())
            below.append(data[values <= border, i].mean())
        up, down = mean_interval(above), mean_interval(below)
        where = mean_interval(crossings)
        critical = "std" if study.by == STD else f"value of {study.label}"
        expected = f"; theory says {theory:.3g}" if theory else ""
        detail = (
            f"ln(rms) changes by {_signed(up.estimate)} per layer above the critical {critical} "
            f"and by {_signed(down.estimate)} below; sign change at "
            f"{critical if study.by == STD else study.label} = {where.estimate:.3g}{expected}"
        )
        return Finding.decided(up.above_zero and down.below_zero, where, unit, detail)


def _refuted(unit: str, detail: str) -> Finding:
    """A claim of a sign change that does not take place has no interval."""
    return Finding(FAIL, unit, detail)


def _slopes(study: Study, facet: str, hidden: list[str]) -> pl.DataFrame:
    """One row per value and one column per seed: the slope of ln(rms) over the hidden layers."""
    if len(hidden) < 2:
        return pl.DataFrame({"by": []})
    columns = [ACTIVATION_RMS.of(name) for name in hidden]
    rows = study.history_of(facet, "by", "seed", "step", *columns).filter(pl.col("step") == 0)
    logs = np.log(rows.select(columns).to_numpy().astype(float))
    slopes = pl.Series("slope", slope(np.arange(len(hidden)), logs))
    table = rows.select("by", "seed").with_columns(slopes)
    return complete(table.pivot(on="seed", index="by", values="slope", aggregate_function="mean"))


def _crossing(values: np.ndarray, slopes: np.ndarray) -> float:
    """Where the slopes change from negative to positive; NaN if they do not."""
    for i in range(len(values) - 1):
        if slopes[i] < 0 <= slopes[i + 1]:
            fraction = -slopes[i] / (slopes[i + 1] - slopes[i])
            low, high = math.log(values[i]), math.log(values[i + 1])
            return math.exp(low + fraction * (high - low))
    return math.nan


def _relu_critical(study: Study, facet: str) -> float | None:
    first = study.runs_of(facet).row(0, named=True)
    is_relu_mlp = facet.startswith("MLP") and first.get("model.activation") == "relu"
    if study.by != STD or not is_relu_mlp or not first.get("model.width"):
        return None
    return math.sqrt(2 / first["model.width"])


def _signed(value: float) -> str:
    """A number with its sign, a true minus."""
    return f"{value:+.2f}".replace("-", "−")
