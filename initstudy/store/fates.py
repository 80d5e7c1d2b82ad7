"""What became of each run, by its accuracies and by what the probes saw of its layers."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from initstudy.columns import (
    ACTIVATION_DEAD,
    ACTIVATION_RMS,
    ACTIVATION_SATURATED,
    DIVERGED_STEP,
    FATE,
    GRADIENT_RMS,
    TRAIN,
    Column,
    Schema,
    layer_of,
)

TRAINED, MEMORIZED, PLATEAU, UNTRAINED = "trained", "memorized", "plateau", "not trained"
DEAD, VANISHED, SATURATED = "dead units", "vanished signal", "saturated signal"
DIVERGED = "diverged"
# From the best to the worst, in which charts stack them.
FATES = (TRAINED, MEMORIZED, PLATEAU, UNTRAINED, SATURATED, VANISHED, DEAD, DIVERGED)

# Of the way from chance to 1: at least so much is trained, at most so much is at chance.
HALF_WAY, AT_CHANCE = 0.5, 0.1
# In some hidden layer, so many of the units are dead, or of the activations saturated.
NEARLY_ALL = 0.95
# The activations of the last hidden layer by those of the first, or the gradient at the first by
# that at the last: below this the weights of either end learn nothing.
VANISHING = 1e-3


def fates(
    runs: pl.DataFrame, history: pl.DataFrame, schema: Schema, layers: Sequence[str] = ()
) -> pl.DataFrame:
    """The fate of each run.

    | fate | the run |
    | --- | --- |
    | diverged | has a step at which its loss was not finite (`diverged_step`, `diverged_layer`) |
    | trained | got at least half of the way from chance to 1, on training and test data |
    | memorized | got that far on the training data alone |
    | dead units | is at chance, and nearly all units of a hidden layer are zero |
    | vanished signal | is at chance, and activations or gradients fade to a thousandth |
    | saturated signal | is at chance, and a hidden layer's activations lie at their limits |
    | plateau | did not get half of the way, for none of these reasons |
    | not trained | the same, without probes that could tell |

    Args:
        runs: The runs.
        history: Their history.
        schema: The columns of the study.
        layers: The layers from input to output; by default in the order of the history's columns.

    Returns:
        Columns `run` and `fate`, which is null for a run that did not diverge in a study of no
        fraction such as the accuracy.
    """
    metric = schema.metric(schema.objective)
    train = None if metric is None else f"{TRAIN}/{metric.name}"
    diverged = pl.col(DIVERGED_STEP.name).is_not_null()
    if metric is None or not metric.fraction or train not in runs.columns:
        only = pl.when(diverged).then(pl.lit(DIVERGED))
        return runs.select("run", only.alias(FATE.name))
    chance = metric.chance or 0.0
    half_way, at_chance = (chance + part * (1 - chance) for part in (HALF_WAY, AT_CHANCE))
    learned = pl.col(train).cast(pl.Float64) >= half_way
    if schema.objective in runs.columns:
        generalizes = pl.col(schema.objective).cast(pl.Float64) >= half_way
    else:
        generalizes = learned
    stuck = pl.col(train).cast(pl.Float64).fill_null(0.0) <= at_chance
    seen = _last_seen(history, layers)
    table = runs.join(seen, on="run", how="left")
    fate = (
        pl.when(diverged)
        .then(pl.lit(DIVERGED))
        .when(learned & generalizes)
        .then(pl.lit(TRAINED))
        .when(learned)
        .then(pl.lit(MEMORIZED))
        .when(pl.col("probed").is_null())
        .then(pl.lit(UNTRAINED))
        .when(stuck & (pl.col("most_dead") >= NEARLY_ALL))
        .then(pl.lit(DEAD))
        .when(stuck & (pl.col("most_saturated") >= NEARLY_ALL))
        .then(pl.lit(SATURATED))
        .when(stuck & (pl.min_horizontal("forward", "backward") < VANISHING))
        .then(pl.lit(VANISHED))
        .otherwise(pl.lit(PLATEAU))
    )
    return table.select("run", fate.alias(FATE.name))


def _last_seen(history: pl.DataFrame, layers: Sequence[str]) -> pl.DataFrame:
    """What the probes last saw of each run that they measured."""
    depth = {layer: index for index, layer in enumerate(layers)}
    columns = sorted(history.columns, key=lambda name: depth.get(layer_of(name) or "", -1))
    names = {
        column: [c for c in columns if _is(c, column)]
        for column in (ACTIVATION_RMS, GRADIENT_RMS, ACTIVATION_DEAD, ACTIVATION_SATURATED)
    }
    every = [name for some in names.values() for name in some]
    empty = {"most_dead": None, "most_saturated": None, "forward": None, "backward": None}
    if not names[ACTIVATION_RMS]:
        nothing = {name: pl.lit(value, pl.Float64) for name, value in empty.items()}
        return history.select(pl.col("run").unique()).with_columns(
            probed=pl.lit(None, pl.Boolean), **nothing
        )
    last = (
        history.sort("run", "step")
        .group_by("run", maintain_order=True)
        .agg(pl.col(name).drop_nulls().last() for name in every)
    )
    rows = []
    for row in last.iter_rows(named=True):
        activations = _present(row, names[ACTIVATION_RMS])
        hidden = activations[:-1]
        inner = {layer_of(name) for name, _ in hidden}
        gradients = [v for name, v in _present(row, names[GRADIENT_RMS])]
        most = {
            key: max((v for n, v in _present(row, names[c]) if layer_of(n) in inner), default=None)
            for key, c in (("most_dead", ACTIVATION_DEAD), ("most_saturated", ACTIVATION_SATURATED))
        }
        rows.append(
            {
                "run": row["run"],
                "probed": True if activations else None,
                **most,
                "forward": _ratio([v for _, v in hidden]),
                "backward": _ratio(gradients[::-1]),
            }
        )
    floats = dict.fromkeys(empty, pl.Float64)
    return pl.DataFrame(rows, schema={"run": pl.String, "probed": pl.Boolean, **floats})


def _is(name: str, column: Column) -> bool:
    before, after = column.of("\0").split("\0")
    return name.startswith(before) and name.endswith(after)


def _present(row: dict, names: list[str]) -> list[tuple[str, float]]:
    return [(name, float(row[name])) for name in names if row[name] is not None]


def _ratio(values: list[float]) -> float | None:
    """The last value by the first; None if there are no two."""
    return values[-1] / values[0] if len(values) > 1 and values[0] > 0 else None
