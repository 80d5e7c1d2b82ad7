"""The report in words: headline, paragraph, table of values; as a README and as JSON."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import polars as pl

from initstudy.claims import PASS, REFUTED, UNDECIDED, VERDICTS, Finding, Result
from initstudy.claims.declared import UNKNOWN
from initstudy.claims.ranking import Ranking, rank
from initstudy.columns import FATE, SECONDS, STEP, TRAIN_LOSS
from initstudy.report.charts.style import Measure
from initstudy.report.charts.theory import critical_std
from initstudy.runtime import markdown as md
from initstudy.store.cells import points
from initstudy.store.fates import TRAINED
from initstudy.store.frames import Study


@dataclass(frozen=True)
class Table:
    """What came of each value of the studied key, as text.

    Attributes:
        columns: The titles of the columns.
        rows: The cells.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def table(study: Study) -> Table:
    """One row per value and facet: the objective with its interval, final loss, divergences.

    For a study of two keys one row per value, and one column per value of the second key.
    """
    if study.across is not None:
        return _plane(study)
    several = len(study.facets) > 1
    measure = Measure.of(study)
    ranked = not study.numeric and study.by is not None
    columns = (
        study.label,
        *(["model"] if several else []),
        *(["rank"] if ranked else []),
        "runs",
        measure.label,
        "95% interval",
        "of those that train",
        "final training loss",
        "diverged",
    )
    rows = []
    for facet in study.facets:
        ranking = rank(study, facet) if ranked else None
        for value in study.values(facet) or [None]:
            runs = study.runs_of(facet).filter(pl.col("by").eq_missing(pl.lit(value)))
            interval = measure.interval(
                runs.select(study.value(measure.column, facet).alias("value"))["value"]
            )
            rows.append(
                (
                    _value(value, runs, study)
                    + ("" if ranking is None else _twins(ranking, value)),
                    *([str(facet)] if several else []),
                    *([] if ranking is None else [ranking.shown(value)]),
                    str(len(runs)),
                    f"{interval.estimate:.3f}",
                    span(interval.low, interval.high),
                    _of_trained(runs, measure),
                    _loss(runs),
                    str(int(runs["diverged"].sum()) or "–"),
                )
            )
    return Table(columns, tuple(rows))


def _of_trained(runs: pl.DataFrame, measure: Measure) -> str:
    """The mean of the runs that train, and how many these are; a dash if that is not known."""
    fate = runs[FATE.name]
    if fate.null_count() == len(runs):
        return "–"
    trained = runs.filter(pl.col(FATE.name) == TRAINED)[measure.column].cast(pl.Float64)
    share = f"{len(trained)} of {len(runs)}"
    return f"{fmean(trained.to_list()):.3f} ({share})" if len(trained) else f"– ({share})"


def _loss(runs: pl.DataFrame) -> str:
    loss = runs[TRAIN_LOSS.name].cast(pl.Float64)
    finite = loss.filter(loss.is_finite()).to_list()
    return f"{fmean(finite):.3g}" if finite else "–"


def _twins(ranking: Ranking, choice: Any) -> str:
    """The other choices whose runs are the same to the last digit."""
    twins = ranking.twins_of(choice)
    return f" (= {', '.join(short(twin) for twin in twins)})" if twins else ""


def _plane(study: Study) -> Table:
    several = len(study.facets) > 1
    measure = Measure.of(study)
    across = study.runs["across"].unique(maintain_order=True).sort().to_list()
    named = f"{study.label}, by {study.across}: mean {measure.label}"
    columns = (named, *(["model"] if several else []), *(short(value) for value in across))
    rows = []
    for facet in study.facets:
        values = points(study, facet, measure.column)
        for value in study.values(facet):
            seeds = [values[value].get(a, {}).values() for a in across]
            means = [f"{fmean(reached):.3f}" if reached else "–" for reached in seeds]
            rows.append((short(value), *([facet] if several else []), *means))
    return Table(columns, tuple(rows))


def headline(study: Study, results: list[Result]) -> str:
    """What was found, then how many verdicts of each kind there are."""
    if study.runs["diverged"].all():
        return f"Every run diverged: {len(study.runs)} of {len(study.runs)}"
    said = finding_of(study, results)
    counted = counts(results)
    return f"{said}. {counted}" if counted else said


def counts(results: Sequence[Result]) -> str:
    """How many verdicts of each kind there are, in words; empty if there is no claim.

    Example:
        >>> from initstudy.claims import Finding
        >>> counts([Result("a", "MLP", "x", Finding.undecided("", ""))])
        '1 verdict: 0 PASS, 0 REFUTED, 1 UNDECIDED'
    """
    if not results:
        return ""
    found = Counter(result.finding.verdict for result in results)
    each = ", ".join(f"{found[verdict]} {verdict}" for verdict in VERDICTS)
    return f"{len(results)} verdict{'s' if len(results) > 1 else ''}: {each}"


def finding_of(study: Study, results: Sequence[Result]) -> str:
    """What was found, in one sentence without its full stop."""
    if study.across is None and study.trained:
        if study.numeric and study.by is not None:
            parts = [_range_that_trains(study, facet) for facet in study.facets]
            if any(parts):
                return "; ".join(filter(None, parts))
        elif study.by is not None and study.runs["by"].n_unique() > 1:
            return "; ".join(_best_of(study, facet) for facet in study.facets)
    for verdict, word in ((PASS, "Holds"), (REFUTED, "Refuted")):
        for result in results:
            if result.finding.verdict == verdict:
                return f"{word}: {result.statement.rstrip('.')} ({result.facet})"
    count = len(study.runs)
    return f"{count} run{'s' if count > 1 else ''} of {study.about.get('name', 'a study')}"


def _range_that_trains(study: Study, facet: str) -> str:
    """For which values most seeds train, and whether theory's critical value is among them."""
    runs = study.runs_of(facet)
    trains = runs.group_by("by").agg((pl.col(FATE.name) == TRAINED).mean().alias("share"))
    if trains["share"].null_count() == len(trains):
        return ""
    whole = trains.sort("by")["by"].to_list()
    good = trains.filter(pl.col("share") > 0.5)["by"].sort().to_list()
    several = len(study.facets) > 1
    who = f"{facet} trains" if several else "Trains"
    if not good:
        return f"{who} at no {study.label} from {short(whole[0])} to {short(whole[-1])}"
    inner = [value for value in whole if good[0] <= value <= good[-1]]
    gaps = " with gaps" if len(inner) > len(good) else ""
    if len(good) == len(whole):
        said = f"{who} at every {study.label} from {short(good[0])} to {short(good[-1])}"
    elif len(good) == 1:
        said = f"{who} at {study.label} {short(good[0])} alone"
    else:
        said = f"{who} for {study.label} {short(good[0])} to {short(good[-1])}{gaps}"
    critical = critical_std(study, facet)
    if critical is None:
        return said
    where = "inside" if good[0] <= critical <= good[-1] else "outside"
    return f"{said}; theory's {critical:.3g} lies {where}"


def _best_of(study: Study, facet: str) -> str:
    """Which choice is best, and which others are not told apart from it."""
    ranking = rank(study, facet)
    measure = Measure.of(study)
    first = ranking.choices[0]
    same = [choice for choice in ranking.choices[1:] if ranking.ranks[choice][0] == 1]
    several = f" on {facet}" if len(study.facets) > 1 else ""
    said = f"{short(first)} has the best {measure.label}{several}, {ranking.means[first]:.3f}"
    if not same:
        return said
    shown = ", ".join(short(choice) for choice in same[:3])
    more = f" and {len(same) - 3} more" if len(same) > 3 else ""
    return f"{said}, not told apart from {shown}{more}"


def paragraph(study: Study) -> str:
    """What was run, in one paragraph."""
    first = study.runs.row(0, named=True)
    runs = study.runs
    seeds = runs["seed"].n_unique() if "seed" in runs.columns else 1
    values = study.values()
    what = "one configuration"
    if len(values) > 1 and study.numeric:
        between = f"from {short(values[0])} to {short(values[-1])}"
        what = f"{len(values)} values of {study.label} {between}"
    elif len(values) > 1:
        what = f"{len(values)} choices of {study.label}"
    versions = ", ".join(f"{k} {v}" for k, v in study.about.get("versions", {}).items())
    repository = study.about.get("repository")
    changed = " with changes that are not committed" if repository and repository["dirty"] else ""
    code = f" Code at commit {repository['commit'][:12]}{changed}." if repository else ""
    steps = int(study.history[STEP.name].max() or 0)  # type: ignore[arg-type]
    diverged = int(runs["diverged"].sum())
    failed = len(study.about.get("failed", {}))
    missing = f"{failed} more could not be trained. " if failed else ""
    data = str(first.get("data._target_")).removeprefix("initstudy.tasks.")
    return (
        f"{len(runs)} runs: {what}, {seeds} seed{'s' if seeds > 1 else ''}, "
        f"model {'; '.join(study.facets)}, on {data}; "
        f"{_each(runs, 'optimizer.name')} with learning rate {_each(runs, 'optimizer.lr')}"
        f"{_training(runs)}, batches of {_each(runs, 'batch_size')}, {steps:,} steps; "
        f"{_diverged(study, diverged)}. "
        f"{missing}Trained on {study.about.get('device', 'an unknown device')} ({versions}).{code}"
    )


def _diverged(study: Study, count: int) -> str:
    if not count:
        return "none diverged"
    measure = Measure.of(study)
    value = study.stand_in(measure.column)
    return f"{count} diverged, and count as a {measure.label} of {value:.3g}"


# The name of the chart of the objective, whatever that is.
OBJECTIVE_CHART = "accuracy"
PAPER = {
    "source": "The paper",
    "used": "What it used",
    "here": "What is smaller here, and why",
    "discussion": "Discussion",
}


def paper(study: Study) -> list[tuple[str, str]]:
    """What the study says of the paper whose claims it checks: headings and their texts."""
    said = study.about.get("paper") or {}
    return [(name, str(said[key])) for key, name in PAPER.items() if said.get(key)]


def markdown(
    study: Study,
    results: list[Result],
    charts: list[str],
    absent: dict[str, str],
    left: Sequence[str] = (),
    with_page: bool = True,
) -> str:
    """The report as a README.md, for a code host.

    Args:
        study: The study.
        results: What was found of its claims.
        charts: The names of the charts whose pictures lie in `charts/`.
        absent: Why other charts are not there, by name.
        left: Names of charts that the page alone shows.
        with_page: Whether the page lies beside this text; otherwise the text says how to write it.
    """
    lines = [
        f"# {headline(study, results)}",
        "",
        paragraph(study),
        "",
        "```sh",
        study.about.get("command", ""),
        "```",
        "",
    ]
    if not with_page:
        lines += ["This command writes the page, `report/index.html` in the study's folder.", ""]
    lines += [line for name, text in paper(study) for line in (f"**{name}.** {text}", "")]
    if results:
        lines += [*_claims(results), ""]
    lines += [f"![{spoken(name, study)}](charts/{name}.png)\n" for name in charts]
    for why in dict.fromkeys(absent.values()):
        names = ", ".join(spoken(name, study) for name, reason in absent.items() if reason == why)
        lines += [f"*{names}*: {why}", ""]
    if left:
        lines += [f"On the page only: {', '.join(spoken(name, study) for name in left)}.", ""]
    values = table(study)
    lines += md.table(values.columns, values.rows)
    return "\n".join(lines) + "\n"


def _claims(results: list[Result]) -> list[str]:
    """The table of claims; what the papers found is a column of its own, if there is any."""
    papers = any(result.paper for result in results)
    heads = ["verdict", "claim", *(["the paper"] if papers else []), "finding", "evidence"]
    rows = [
        [
            f"**{result.finding.verdict}**",
            f"{result.statement} ({result.facet})",
            *([result.paper] if papers else []),
            result.finding.detail,
            "; ".join(evidence_of(result)),
        ]
        for result in results
    ]
    return md.table(heads, rows)


def machine_readable(study: Study, results: list[Result]) -> str:
    """The claims as JSON, with how many runs decided them and how long those trained."""
    known = SECONDS.name in study.runs.columns
    seconds = study.runs[SECONDS.name].sum() if known else None
    described = {
        "name": study.about.get("name"),
        "command": study.about.get("command"),
        "headline": headline(study, results),
        "verdicts": {v: sum(r.finding.verdict == v for r in results) for v in VERDICTS},
        "runs": len(study.runs),
        "seconds": None if seconds is None else round(float(seconds), 1),
        "claims": [{k: _number(v) for k, v in result.as_row().items()} for result in results],
    }
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def numbers(finding: Finding) -> str:
    """The estimate and its interval as people read them; a dash if there are none."""
    if math.isnan(finding.estimate):
        return "–"
    return f"{finding.estimate:.3g} {span(finding.low, finding.high)}".strip()


def evidence(finding: Finding) -> str:
    """The number that decides, its interval, its unit, and how the interval was calculated."""
    return f"{numbers(finding)} {finding.unit}; {finding.method}"


def evidence_of(result: Result) -> list[str]:
    """Everything that a verdict rests on, in phrases."""
    wanted = needed(result.finding)
    return [evidence(result.finding), *([wanted] if wanted else []), *remarks(result)]


def needed(finding: Finding) -> str:
    """How many seeds would decide an undecided claim; empty if that is not known."""
    if finding.verdict != UNDECIDED or finding.seeds_needed is None:
        return ""
    return f"{finding.seeds_needed} seeds would decide it with a power of 80%"


def remarks(result: Result) -> list[str]:
    """What else a reader has to know of a verdict: its power, its rivals, when it was claimed."""
    finding, said = result.finding, []
    if finding.interval is not None and not math.isnan(finding.detects):
        said.append(f"would detect {finding.detects:.2g} beyond the border with 80%")
    if not math.isnan(result.p):
        said.append(f"Holm's p {_p(result.p)}")
    if finding.verdict != result.alone:
        said.append(f"{result.alone} as the only claim of the report")
    for verdict, words in (
        (result.without_diverged, "without the runs that diverged"),
        (result.worst_rank, "with those ranked last"),
    ):
        if verdict:
            said.append(f"{verdict} {words}")
    if result.declared != UNKNOWN:
        said.append(f"declared {result.declared}")
    return said


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 0.001 else "below 0.001"


def span(low: float, high: float) -> str:
    """An interval; nothing if there is none."""
    if math.isnan(low) or (low == -math.inf and high == math.inf):
        return ""
    ends = ("−∞" if low == -math.inf else f"{low:.3f}", "∞" if high == math.inf else f"{high:.3f}")
    return f"[{ends[0]}, {ends[1]}]"


def spoken(name: str, study: Study) -> str:
    """A chart's name in words: that of the objective's chart is the objective's own.

    Args:
        name: The name in the catalogue, perhaps with a facet behind it.
        study: The study.
    """
    if name.startswith(OBJECTIVE_CHART):
        metric = study.objective.rpartition("/")[2]
        name = metric + name.removeprefix(OBJECTIVE_CHART)
    return name.replace("_", " ")


def write_text(path: Path, text: str) -> Path:
    """Writes a text file in a folder that may not exist yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _value(value: Any, runs: pl.DataFrame, study: Study) -> str:
    return str(runs["run"][0]) if study.by is None else short(value)


def short(value: Any) -> str:
    """A value of the studied key as people read it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    # Of a dotted name, such as a target's, its end; the dot of "gain_1.4" is another one.
    parts = str(value).split(".")
    return parts[-1] if all(part.isidentifier() for part in parts) else str(value)


# What a training may have besides its optimizer: the value that says it has not, and its text.
BESIDES = {
    "schedule.name": ("constant", "schedule {}"),
    "schedule.warmup": (0, "warm-up of {} steps"),
    "clip_norm": (None, "gradients clipped at a norm of {}"),
    "decay": ("all", "weight decay of {}"),
    "precision": ("highest", "precision {}"),
}


def _training(runs: pl.DataFrame) -> str:
    """The schedule, clipping and precision of the runs, as far as they have some."""
    told = [
        text.format(_each(runs, column))
        for column, (usual, text) in BESIDES.items()
        if column in runs.columns and set(runs[column]) != {usual}
    ]
    return "".join(f", {text}" for text in told)


def _each(runs: pl.DataFrame, column: str) -> str:
    if column not in runs.columns:
        return "–"
    values = runs[column].unique().sort().to_list()
    return ", ".join("null" if value is None else short(value) for value in values)
