"""At initialization the activations grow with depth above a critical value, shrink below it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from initstudy.claims.finding import ABOVE_ZERO, Finding, shortfall
from initstudy.claims.second_key import FEWEST_WITH_CHOICE
from initstudy.claims.statistics import FEWEST, mean_interval, slope, smallest
from initstudy.claims.worse_than_best import complete
from initstudy.columns import ACTIVATION_RMS
from initstudy.store.cells import chooses
from initstudy.store.frames import STD, Study


@dataclass(frozen=True)
class SignalGrowth:
    """At initialization the activations grow with depth above a critical value, shrink below it.

    For each run: the slope of ln(rms of the activations) against the layer's number, over hidden
    layers. For each seed: the mean slope above the critical value, and the mean slope below it with
    its sign changed. Both have to be above zero.

    Args:
        statement: What is claimed, in words.
        critical: The critical value; None takes √(2/width) for a ReLU MLP (He et al. 2015, eq. 10).
            Of other models every third seed shows where the sign changes, and the others decide.

    Example:
        >>> from initstudy.claims import SignalGrowth, synthetic_study
        >>> def results(std, seed):
        ...     power = lambda number: (4 * std) ** (number * (1 + seed / 100))
        ...     return {f"activation/fc{number}/rms": power(number) for number in range(1, 5)}
        >>> study = synthetic_study({"init.std": [0.1, 0.5, 1.0]}, results)
        >>> finding = SignalGrowth("It grows above a critical value.").check(study, "MLP")
        >>> finding.verdict, finding.detail.partition("; ")[2]
        ('PASS', 'the sign changes at init.std 0.25')
    """

    statement: str
    critical: float | None = None

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        unit = "change of ln(rms) per layer, away from the critical value"
        hidden = study.layers(facet)[:-1]
        slopes = _slopes(study, facet, hidden)
        seeds = [c for c in slopes.columns if c != "by"]
        values = slopes["by"].to_numpy() if study.numeric else np.array([])
        theory = self.critical or _relu_critical(study, facet)
        fewest = FEWEST if theory else FEWEST_WITH_CHOICE
        lacking = shortfall(
            (2, len(hidden), "probed hidden layers"),
            (fewest, len(seeds), "seeds"),
            (2, len(values), f"values of {study.label}"),
        )
        if lacking:
            return Finding.undecided(unit, lacking, fewest)
        data = slopes.select(seeds).to_numpy()
        decides = np.ones(len(seeds), dtype=bool)
        border = theory
        if border is None:
            decides = ~np.array(chooses(seeds), dtype=bool)
            found = [_crossing(values, data[:, i]) for i in np.flatnonzero(~decides)]
            if not all(math.isfinite(c) for c in found):
                why = "the slope does not change its sign within the grid: extend the grid"
                return Finding.undecided(unit, why)
            border = float(np.exp(np.mean(np.log(found))))
        above = values > border
        if above.all() or not above.any():
            side = "below" if above.all() else "above"
            why = f"the whole grid lies on one side of {border:.3g}: extend the grid {side} it"
            return Finding.undecided(unit, why)
        up, down = (
            mean_interval(sign * data[part][:, decides].mean(0))
            for sign, part in ((1, above), (-1, ~above))
        )
        critical = f"critical {'std' if study.by == STD else f'value of {study.label}'}"
        crossings = [_crossing(values, data[:, i]) for i in range(len(seeds))]
        changes = [c for c in crossings if math.isfinite(c)]
        where = f"{float(np.exp(np.mean(np.log(changes)))):.3g}" if changes else "no value"
        expected = f", and theory says {theory:.3g}" if theory else ""
        detail = (
            f"ln(rms) changes by {_signed(up.estimate)} per layer above the {critical} "
            f"and by {_signed(-down.estimate)} below; the sign changes at {study.label} "
            f"{where}{expected}"
        )
        per_decider = len(seeds) / int(decides.sum())
        both = smallest([up, down])
        ends = (values[0], values[~above][-1], values[above][0], values[-1])
        arms = frozenset(float(value) for value in ends)
        return Finding.judged(
            both, ABOVE_ZERO, unit, detail, arms=arms, seeds_per_decider=per_decider
        )


def _slopes(study: Study, facet: str, hidden: list[str]) -> pl.DataFrame:
    """One row per value and one column per seed: the slope of ln(rms) over the hidden layers.

    Values that not all seeds have are left out; if fewer than two remain, seeds that not all values
    have.
    """
    if len(hidden) < 2:
        return pl.DataFrame({"by": []})
    columns = [ACTIVATION_RMS.of(name) for name in hidden]
    rows = study.history_of(facet, "by", "seed", "step", *columns).filter(pl.col("step") == 0)
    logs = np.log(rows.select(columns).to_numpy().astype(float))
    slopes = slope(np.arange(len(hidden)), logs)
    kept = np.isfinite(slopes)
    table = rows.select("by", "seed").filter(kept).with_columns(pl.Series("slope", slopes[kept]))
    wide = table.pivot(on="seed", index="by", values="slope", aggregate_function="mean")
    of_all = wide.drop_nulls().sort("by")
    return of_all if len(of_all) > 1 else complete(wide)


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
