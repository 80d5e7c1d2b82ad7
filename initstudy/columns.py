"""Every column that a study writes: the one schema of probes, store, W&B, report and docs.

A history has one row per run and step, a summary one row per run. A column's name is a path:
`train/loss`, or `activation/fc1/rms` for the layer `fc1`, which stands as `{layer}` in the pattern
`activation/{layer}/rms`. Keys of the configuration have dots in place of slashes and are defined by
`initstudy.config`.

`python -m initstudy.columns` prints docs/columns.md.

Example:
    >>> from initstudy import columns
    >>> columns.ACTIVATION_RMS.of("fc1")
    'activation/fc1/rms'
    >>> columns.SCHEMA.find("weight/encoder.0.linear/update_ratio").unit
    'ratio'
    >>> columns.SCHEMA.better("validation/loss")
    'lower'
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

from initstudy.runtime.markdown import table

Dtype = Literal["float", "int", "text", "counts"]
Better = Literal["higher", "lower"]
Preset = Literal["off", "basic", "full"]

PRESETS: tuple[Preset, ...] = ("off", "basic", "full")
LAYER = "{layer}"

LOWEST_OCTAVE, HIGHEST_OCTAVE = -40, 40
# The largest float32, as `numpy.finfo` and `torch.finfo` give it.
FLOAT32_MAX = (2.0 - 2.0**-23) * 2.0**127
# The bins of histograms of |value|, one per octave. The first and the last bin take what lies
# below and above all octaves, so that every finite value is counted.
HISTOGRAM_EDGES: tuple[float, ...] = (
    0.0,
    *(2.0**k for k in range(LOWEST_OCTAVE, HIGHEST_OCTAVE + 1)),
    FLOAT32_MAX,
)


@dataclass(frozen=True)
class Column:
    """One column of a study's history, of its summary, or of both.

    Attributes:
        name: The name, or with `{layer}` in it the pattern of one column per layer.
        meaning: What the value says, as a phrase.
        unit: The unit, such as "nats", "steps" or "fraction"; empty if there is none.
        dtype: "float" (64 bits), "int" (64 bits), "text", or "counts" (a list of integers, one per
            bin between `HISTOGRAM_EDGES`). A column has this type in every file.
        better: Which direction is an improvement, or None if neither is.
        history: Whether the history has the column.
        summary: Whether the summary has it.
        preset: The smallest preset of the probes that measures it, or None if it is no probe.
    """

    name: str
    meaning: str
    unit: str = ""
    dtype: Dtype = "float"
    better: Better | None = None
    history: bool = False
    summary: bool = False
    preset: Preset | None = None

    @property
    def per_layer(self) -> bool:
        """Whether there is one such column per layer."""
        return LAYER in self.name

    def of(self, layer: str) -> str:
        """The name of the column that belongs to one layer."""
        return self.name.replace(LAYER, layer)


@dataclass(frozen=True)
class Metric:
    """What a task measures of a model's outputs, on each part of its data.

    Attributes:
        name: The name, such as "accuracy"; the columns are `train/NAME` and `test/NAME`.
        meaning: What the value says, as a phrase.
        unit: The unit; empty if there is none.
        better: Which direction is an improvement.
        fraction: Whether all values lie between 0 and 1.
        chance: What guessing reaches, such as 0.1 among ten classes; None if that is not known. A
            run that diverged counts as it where one number is needed.
    """

    name: str
    meaning: str
    unit: str
    better: Better
    fraction: bool = False
    chance: float | None = None

    def column(self, split: str) -> Column:
        """The metric's column on one part of the data.

        Args:
            split: "train", which is the mean over the minibatches since the row before, or the
                name of a part that is evaluated as a whole, such as "test".
        """
        what = "the minibatches since the row before" if split == TRAIN else f"the {split} data"
        return Column(
            f"{split}/{self.name}",
            f"{self.meaning}, over {what}",
            self.unit,
            better=self.better,
            history=True,
            summary=True,
        )


TRAIN, VALIDATION, TEST = "train", "validation", "test"
RUN = Column("run", "the run's id", dtype="text", history=True, summary=True)
STEP = Column(
    "step", "how many updates were made before the row was written", "steps", "int", history=True
)

LOSS = Metric("loss", "mean loss per example", "nats", "lower")
ACCURACY = Metric(
    "accuracy", "fraction of examples that are classified correctly", "fraction", "higher", True
)
TRAIN_LOSS, TEST_LOSS = LOSS.column(TRAIN), LOSS.column(TEST)
TEST_ACCURACY = ACCURACY.column(TEST)


def _probe(
    name: str, meaning: str, unit: str = "", dtype: Dtype = "float", preset: Preset = "basic"
) -> Column:
    return Column(name, meaning, unit, dtype, history=True, preset=preset)


def _histogram(name: str, of_what: str) -> Column:
    meaning = f"how many {of_what} have a magnitude in each bin, one bin per octave"
    return _probe(name, meaning, "entries", "counts", "full")


ACTIVATION_MEAN = _probe(
    "activation/{layer}/mean", "mean of the activations over the batch and all units"
)
ACTIVATION_STD = _probe("activation/{layer}/std", "standard deviation of the activations")
ACTIVATION_RMS = _probe("activation/{layer}/rms", "root mean square of the activations")
ACTIVATION_ABSMAX = _probe("activation/{layer}/absmax", "largest magnitude of the activations")
ACTIVATION_ZERO = _probe(
    "activation/{layer}/zero", "fraction of the activations that are exactly zero", "fraction"
)
ACTIVATION_DEAD = _probe(
    "activation/{layer}/dead",
    "fraction of the units (channels of a convolution, features of other layers) that are zero for "
    "the whole batch",
    "fraction",
)
ACTIVATION_NONFINITE = _probe(
    "activation/{layer}/nonfinite",
    "how many activations are NaN or infinite; none is dropped",
    "entries",
    "int",
)
ACTIVATION_SATURATED = _probe(
    "activation/{layer}/saturated",
    "fraction of the activations within 1% of the activation function's range of one of its "
    "limits; absent for functions without limits, such as ReLU",
    "fraction",
)
ACTIVATION_THEORY = _probe(
    "activation/{layer}/theory",
    "what mean-field theory predicts for `activation/{layer}/rms` at step 0; absent for models "
    "that the theory does not cover",
)
ACTIVATION_SPREAD = _probe(
    "activation/{layer}/theory_spread",
    "the variance over random weights that theory predicts for the mean square of the activations "
    "at step 0, divided by the square of its mean; it grows with depth and falls with width",
)
ACTIVATION_HISTOGRAM = _histogram("activation/{layer}/histogram", "activations")
GRADIENT_RMS = _probe(
    "gradient/{layer}/rms",
    "root mean square of the gradient of the batch's mean loss with respect to the activations",
)
GRADIENT_WEIGHT_RMS = _probe(
    "gradient/{layer}/weight_rms", "root mean square of that gradient with respect to the weights"
)
GRADIENT_NONFINITE = _probe(
    "gradient/{layer}/nonfinite",
    "how many entries of both gradients are NaN or infinite",
    "entries",
    "int",
)
GRADIENT_THEORY = _probe(
    "gradient/{layer}/theory",
    "what mean-field theory predicts for `gradient/{layer}/rms` at step 0",
)
GRADIENT_HISTOGRAM = _histogram(
    "gradient/{layer}/histogram", "entries of the gradient with respect to the activations"
)
WEIGHT_RMS = _probe("weight/{layer}/rms", "root mean square of the weights")
WEIGHT_UPDATE_RATIO = _probe(
    "weight/{layer}/update_ratio",
    "root mean square of the step's weight update, divided by that of the weights",
    "ratio",
)
WEIGHT_SPECTRAL_NORM = _probe(
    "weight/{layer}/spectral_norm",
    "largest singular value of the weights, flattened to `[out, rest]`",
    preset="full",
)
WEIGHT_HISTOGRAM = _histogram("weight/{layer}/histogram", "weights")

# In the order in which a layer's columns stand in a file.
PROBES: tuple[Column, ...] = (
    ACTIVATION_MEAN,
    ACTIVATION_STD,
    ACTIVATION_RMS,
    ACTIVATION_ABSMAX,
    ACTIVATION_ZERO,
    ACTIVATION_DEAD,
    ACTIVATION_NONFINITE,
    ACTIVATION_SATURATED,
    ACTIVATION_THEORY,
    ACTIVATION_SPREAD,
    GRADIENT_RMS,
    GRADIENT_WEIGHT_RMS,
    GRADIENT_NONFINITE,
    GRADIENT_THEORY,
    WEIGHT_RMS,
    WEIGHT_UPDATE_RATIO,
    WEIGHT_SPECTRAL_NORM,
    ACTIVATION_HISTOGRAM,
    GRADIENT_HISTOGRAM,
    WEIGHT_HISTOGRAM,
)


def _of_a_run(name: str, meaning: str, unit: str = "", dtype: Dtype = "float") -> Column:
    return Column(name, meaning, unit, dtype, summary=True)


DIVERGED_STEP = _of_a_run(
    "diverged_step",
    "the first step whose loss was not finite, at which the run was frozen; null for a run that "
    "did not diverge",
    "steps",
    "int",
)
DIVERGED_LAYER = _of_a_run(
    "diverged_layer",
    "the first layer whose activations were not finite at that step",
    dtype="text",
)
INIT_EXAMPLES = _of_a_run(
    "init/examples",
    "how many examples a data-dependent initializer looked at; null for other initializers",
    "examples",
    "int",
)
INIT_PASSES = _of_a_run(
    "init/passes", "how many forward passes a data-dependent initializer made", "passes", "int"
)
THEORY_ACTIVATION = _of_a_run(
    "theory/activation",
    "the activation function that mean-field theory took; null where the theory does not cover "
    "the model",
    dtype="text",
)
THEORY_CRITICAL_STD = _of_a_run(
    "theory/critical_std",
    "the standard deviation of the weights at which theory has signals neither grow nor shrink",
)
THEORY_SIGMA_W2 = _of_a_run(
    "theory/sigma_w2", "fan_in times the weights' variance, the mean over the hidden layers"
)
THEORY_SIGMA_B2 = _of_a_run(
    "theory/sigma_b2", "the biases' variance, the mean over the hidden layers"
)
DEVICE = _of_a_run("device", "where the run trained", dtype="text")
TORCH = _of_a_run("torch", "the version of torch that trained it", dtype="text")
PRECISION = _of_a_run(
    "float32_precision",
    "the arithmetic of its matrix products: ieee (float32), tf32, or bf16 (autocast)",
    dtype="text",
)
SECONDS = _of_a_run(
    "seconds", "the run's share of its pack's training time, added when a store is read", "s"
)
LEARNING_TIME = Column(
    "learning_time",
    "the first step at which the objective's metric on the training data (the training accuracy "
    "of a classifier) reached the study's `criterion`, added when a report is drawn",
    "steps",
    "int",
    better="lower",
    summary=True,
)

FATE = Column(
    "fate",
    "what became of the run: trained, memorized, plateau, not trained, saturated signal, vanished "
    "signal, dead units, or diverged (`initstudy.store.fates` says when), added when a report is "
    "drawn",
    dtype="text",
    summary=True,
)

# What every summary holds besides metrics and configuration, if only as null.
OUTCOME: tuple[Column, ...] = (
    DIVERGED_STEP,
    DIVERGED_LAYER,
    INIT_EXAMPLES,
    INIT_PASSES,
    THEORY_ACTIVATION,
    THEORY_CRITICAL_STD,
    THEORY_SIGMA_W2,
    THEORY_SIGMA_B2,
    DEVICE,
    TORCH,
    PRECISION,
)
# What is worked out after the training and stands in no file.
DERIVED: tuple[Column, ...] = (SECONDS, LEARNING_TIME, FATE)


@dataclass(frozen=True)
class Schema:
    """The columns of a study whose task has certain metrics.

    Attributes:
        metrics: What the task measures.
        objective: The name of the column that the study is about: what its charts, tables and
            claims compare where they name no other.
        splits: The parts of the data that metrics are measured on.

    Example:
        >>> from initstudy.columns import ACCURACY, LOSS, Schema
        >>> Schema((LOSS, ACCURACY), splits=("train", "validation", "test")).selection
        'validation/accuracy'
    """

    metrics: tuple[Metric, ...] = (LOSS, ACCURACY)
    objective: str = TEST_ACCURACY.name
    splits: tuple[str, ...] = (TRAIN, TEST)

    @property
    def selection(self) -> str:
        """The column by which everything is selected, such as the best step or rate.

        It is the objective on the validation data if there are such, so that nothing is selected by
        what is reported.
        """
        split, _, metric = self.objective.partition("/")
        validated = VALIDATION in self.splits and split == TEST
        return f"{VALIDATION}/{metric}" if validated else self.objective

    @property
    def learning(self) -> str:
        """The column in which a study's `criterion` says what counts as learned.

        Example:
            >>> from initstudy.columns import SCHEMA
            >>> SCHEMA.learning
            'train/accuracy'
        """
        return f"{TRAIN}/{self.objective.rpartition('/')[2]}"

    @classmethod
    def described(cls, about: Mapping[str, Any]) -> Schema:
        """The schema of a study from its description, `study.json`.

        Args:
            about: The description. What it does not state is as in `SCHEMA`; its `metrics` are
                mappings with the fields of `Metric`.
        """
        given: dict[str, Any] = {}
        if about.get("metrics"):
            given["metrics"] = tuple(Metric(**metric) for metric in about["metrics"])
        if about.get("objective"):
            given["objective"] = about["objective"]
        if about.get("splits"):
            given["splits"] = tuple(about["splits"])
        return cls(**given)

    def about(self, objective: str) -> Schema:
        """The same columns, with another objective.

        Args:
            objective: The name of a metric, which is that on the test data, or a column such as
                "train/loss".

        Raises:
            ValueError: There is no such metric.

        Example:
            >>> from initstudy.columns import SCHEMA
            >>> SCHEMA.about("loss").objective
            'test/loss'
        """
        split, _, name = objective.rpartition("/")
        split = split or TEST
        names = [metric.name for metric in self.metrics]
        if name not in names or split not in self.splits:
            choices = names if name not in names else self.splits
            raise ValueError(f"objective={objective}: choose one of {', '.join(choices)}")
        return replace(self, objective=f"{split}/{name}")

    def description(self) -> dict[str, Any]:
        """What `described` reads, as plain values."""
        return {**asdict(self), "metrics": [asdict(metric) for metric in self.metrics]}

    def __iter__(self) -> Iterator[Column]:
        """All columns, in the order in which they stand in a file."""
        yield from (RUN, STEP, *self.measured, *PROBES, *OUTCOME, *DERIVED)

    @cached_property
    def measured(self) -> tuple[Column, ...]:
        """The columns of the metrics, and the best value of the objective."""
        columns = [metric.column(split) for split in self.splits for metric in self.metrics]
        chosen = {self.objective, self.selection}
        return (*columns, *(_best(c, self.selection) for c in columns if c.name in chosen))

    @property
    def directed(self) -> tuple[Column, ...]:
        """The columns of the history that are better in one direction, which trackers must know."""
        return tuple(column for column in self.measured if column.history and column.better)

    def find(self, name: str) -> Column | None:
        """The column of that name, or the pattern that it is an instance of.

        Args:
            name: A full name, such as "activation/fc1/rms".

        Returns:
            The column, or None if the schema has none of that name.
        """
        kind, _, rest = name.partition("/")
        statistic = rest.rpartition("/")[2]
        return self._by_name.get(name) or self._by_name.get(f"{kind}/{LAYER}/{statistic}")

    def metric(self, name: str) -> Metric | None:
        """The metric that a column holds, on whatever part of the data, or None."""
        last = name.rpartition("/")[2]
        return next((metric for metric in self.metrics if metric.name == last), None)

    def better(self, name: str) -> Better | None:
        """Which direction of a column is an improvement; None if neither is, or it is unknown.

        A metric has the same direction on every part of the data, such as `validation/loss`.
        """
        column = self.find(name)
        if column is not None:
            return column.better
        metric = self.metric(name)
        return None if metric is None else metric.better

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self}


def _best(column: Column, selection: str) -> Column:
    """The value of a column at the evaluation at which another one, or it itself, is best."""
    meaning = f"the best `{column.name}` of any evaluation"
    if column.name != selection:
        meaning = f"`{column.name}` at the evaluation with the best `{selection}`"
    return replace(column, name=f"best/{column.name}", meaning=meaning, history=False)


SCHEMA = Schema()
# Metrics whose usual names are no words.
SYMBOLS = {"r2": "R²", "psnr": "PSNR"}

READING = """\
from glob import glob

import duckdb, pandas, polars, pyarrow.dataset

polars.read_parquet("runs/std_grid/store/*.runs.parquet")
pandas.read_parquet(glob("runs/std_grid/store/*.runs.parquet"))
pyarrow.dataset.dataset(glob("runs/std_grid/store/*.runs.parquet")).to_table()
duckdb.sql("select * from 'runs/std_grid/store/*.runs.parquet'")
# Studies, or models, whose columns differ:
duckdb.sql("select * from read_parquet('runs/*/store/*.parquet', union_by_name=true)")
"""


def label(name: str) -> str:
    """A column's name as a title has it.

    Example:
        >>> label("train/loss"), label("test/accuracy"), label("diverged_step"), label("test/r2")
        ('training loss', 'test accuracy', 'diverged step', 'test R²')
    """
    split, slash, metric = name.rpartition("/")
    place = split.replace("/", " ").replace(TRAIN, "training")
    return f"{place}{' ' if slash else ''}{SYMBOLS.get(metric, metric.replace('_', ' '))}"


def layer_of(name: str) -> str | None:
    """The layer that a column belongs to, or None if it belongs to the whole run.

    Example:
        >>> layer_of("activation/encoder.0.linear/rms")
        'encoder.0.linear'
    """
    column = SCHEMA.find(name)
    if column is None or not column.per_layer:
        return None
    return name.partition("/")[2].rpartition("/")[0]


def page(schema: Schema = SCHEMA) -> str:
    """The schema as a page of Markdown, which is docs/columns.md."""
    parts = [
        "# Columns",
        "",
        "What a study measures and writes, under the names that it has in the store, in Weights &",
        "Biases and in reports. `python -m initstudy.columns > docs/columns.md` writes this page.",
        "",
        "The history (`store/PACK.history.parquet`) has one row per run and step, the summary",
        "(`store/PACK.runs.parquet`) one row per run. A column has one type in every file. NaN is",
        "a value that was measured and is not a number; null was not measured.",
        "",
        "The summary also holds the configuration, one column per key, such as `init.std`. Numbers",
        "among the arguments of models and initializers are floats there, so that `init.std=1` and",
        "`init.std=0.5` share a column; an argument that is null is left out.",
        "",
        "```python",
        *READING.splitlines(),
        "```",
        "",
        "`initstudy.store.load` reads both tables of a study, whatever its columns, with what the",
        "files leave out: each run's seconds, and arguments that are whole numbers as integers.",
        "",
        "## Metrics",
        "",
        *_table([RUN, STEP, *schema.measured]),
        "",
        "## Probes",
        "",
        "One column per layer, where `{layer}` is its name. A layer is a module with a weight",
        "matrix; its activations are read after the activation function that follows it. Probes",
        "measure every `probes.every` steps.",
        "",
        *_table(PROBES),
        "",
        f"A histogram has {len(HISTOGRAM_EDGES) - 1} bins: [0, 2^{LOWEST_OCTAVE}), then one per",
        f"octave up to 2^{HIGHEST_OCTAVE}, then all larger finite values.",
        "",
        "## Outcome of a run",
        "",
        *_table([*OUTCOME, *DERIVED]),
    ]
    return "\n".join(parts) + "\n"


def _table(columns: Sequence[Column]) -> list[str]:
    heads = ["column", "meaning", "unit", "better", "type", "in", "`probes`"]
    rows = [
        [
            f"`{column.name}`",
            column.meaning,
            column.unit,
            column.better or "",
            column.dtype,
            ", ".join(kind for kind in ("history", "summary") if getattr(column, kind)),
            column.preset or "",
        ]
        for column in columns
    ]
    # A column of the table that is empty throughout says nothing.
    kept = [i for i in range(len(heads)) if any(row[i] for row in rows)]
    return table([heads[i] for i in kept], [[row[i] for i in kept] for row in rows])


if __name__ == "__main__":
    print(page(), end="")
