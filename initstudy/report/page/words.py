"""The report in words: headline, paragraph, table of values; as a README and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import polars as pl

from initstudy.claims import FAIL, PASS, Finding, Result
from initstudy.claims.statistics import mean_interval
from initstudy.columns import SECONDS, STEP, TRAIN_LOSS
from initstudy.report.charts.style import Measure
from initstudy.runtime import markdown as md
from initstudy.store.cells import points
from initstudy.store.frames import Study, finite_or


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
    columns = (
        study.label,
        *(["model"] if several else []),
        "runs",
        measure.label,
        "95% interval",
        "final training loss",
        "diverged",
    )
    order = [(facet, value) for facet in study.facets for value in study.values(facet) or [None]]
    groups = dict(study.runs.group_by("facet", "by", maintain_order=True))
    rows = []
    for facet, value in order:
        runs = groups[facet, value]
        reached = finite_or(measure.column, study.worst(measure.column, facet))
        interval = mean_interval(runs.select(reached.alias("value"))["value"].to_list())
        loss = runs[TRAIN_LOSS.name].cast(pl.Float64)
        finite = loss.filter(loss.is_finite()).to_list()
        rows.append(
            (
                _value(value, runs, study),
                *([str(facet)] if several else []),
                str(len(runs)),
                f"{interval.estimate:.3f}",
                span(measure.clipped(interval.low), measure.clipped(interval.high)),
                f"{fmean(finite):.3g}" if finite else "–",
                str(int(runs["diverged"].sum()) or "–"),
            )
        )
    return Table(columns, tuple(rows))


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
    """The verdict in words."""
    decided = [r for r in results if r.finding.verdict in (PASS, FAIL)]
    if study.runs["diverged"].all():
        return f"Every run diverged: {len(study.runs)} of {len(study.runs)}"
    if not decided:
        count = len(study.runs)
        return f"{count} run{'s' if count > 1 else ''} of {study.about.get('name', 'a study')}"
    passed = sum(r.finding.verdict == PASS for r in decided)
    failed = [r for r in decided if r.finding.verdict == FAIL]
    text = f"{passed} of {len(decided)} claims hold on {'; '.join(study.facets)}"
    if failed:
        return f"{text}; this one does not: {failed[0].statement.rstrip('.')} ({failed[0].facet})"
    return text


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
        f"{diverged or 'none'} diverged. "
        f"{missing}Trained on {study.about.get('device', 'an unknown device')} ({versions}).{code}"
    )


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
    heads = ["verdict", "claim", *(["the paper"] if papers else []), "finding", "95% interval"]
    rows = [
        [
            f"**{result.finding.verdict}**",
            f"{result.statement} ({result.facet})",
            *([result.paper] if papers else []),
            result.finding.detail,
            evidence(result.finding),
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
    """The number that decided, its interval, its unit, and how the interval was calculated."""
    return f"{numbers(finding)} {finding.unit}; {finding.method}"


def span(low: float, high: float) -> str:
    """An interval; nothing if there is none."""
    return "" if math.isnan(low) else f"[{low:.3f}, {high:.3f}]"


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
