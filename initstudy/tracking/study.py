"""One more W&B run for the study as a whole: its report, findings, charts and store."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

JOB = "study"
# How many runs are made the artifact's producers at once.
AT_ONCE = 8
MOST_ROWS = 10_000


@dataclass(frozen=True)
class StudyRecord:
    """What a study's own W&B run holds.

    Attributes:
        directory: The study's directory, with its store.
        page: The report's page.
        headline: The verdict in words.
        claims: One mapping per claim.
        charts: The charts' Vega-Lite specifications, by name.
        pictures: The same charts as PNG files, for a mirror without a server that keeps
            specifications.
        runs: The store's runs.
    """

    directory: Path
    page: Path
    headline: str
    claims: Sequence[Mapping[str, Any]]
    charts: Mapping[str, Mapping[str, Any]]
    pictures: Mapping[str, Path] = field(default_factory=dict)
    runs: pl.DataFrame = field(default_factory=pl.DataFrame)


def study_id(group: str) -> str:
    """The id of a study's own run, the same at every call, so that the run is continued."""
    return f"study-{hashlib.sha256(group.encode()).hexdigest()[:12]}"


def log_study(opened: Any, record: StudyRecord, *, online: bool) -> None:
    """Logs everything into an open run; it is not finished here.

    Args:
        opened: The W&B run, of job type `JOB`.
        record: What to log.
        online: Whether there is a server, which keeps the charts' specifications and the lineage.
    """
    import wandb

    verdicts = Counter(str(claim["verdict"]) for claim in record.claims)
    counted = {f"verdicts/{name}": count for name, count in sorted(verdicts.items())}
    opened.summary.update({"headline": record.headline, "runs": len(record.runs), **counted})
    values: dict[str, Any] = {"report": wandb.Html(str(record.page), inject=False)}
    if record.claims:
        columns = list(record.claims[0])
        rows = [[claim[c] for c in columns] for claim in record.claims]
        values["claims"] = wandb.Table(columns=[*columns], data=rows)
    if len(record.runs):
        values["runs"] = _table(record.runs.head(MOST_ROWS))
    values |= dict(_charts(opened, record, online=online))
    opened.log(values)
    members = record.runs["run"].to_list() if "run" in record.runs.columns else []
    page = wandb.Artifact(f"{_name(opened.group)}-report", type="report")
    page.add_file(str(record.page), name="index.html")
    opened.log_artifact(page)
    results = wandb.Artifact(
        f"{_name(opened.group)}-store",
        type="results",
        description=record.headline,
        metadata={"group": opened.group, "runs": members[:MOST_ROWS]},
    )
    for file in sorted((record.directory / "store").glob("[!.]*")):
        results.add_file(str(file), name=f"store/{file.name}")
    results.add_file(str(record.directory / "study.json"), name="study.json")
    logged = opened.log_artifact(results)
    if online:
        _make_producers(logged.wait(), opened, members)


def _charts(opened: Any, record: StudyRecord, *, online: bool) -> Iterator[tuple[str, Any]]:
    import wandb

    for name, spec in record.charts.items():
        if online:
            preset = _preset(opened, name, spec)
            table = wandb.Table(columns=["chart"], data=[[name]])
            yield f"charts/{name}", wandb.plot_table(preset, table, {}, {})
        elif name in record.pictures:
            yield f"charts/{name}", wandb.Image(str(record.pictures[name]))


def _preset(opened: Any, name: str, spec: Mapping[str, Any]) -> str:
    """Keeps a specification, with its data, on the server."""
    import wandb

    return wandb.Api().create_custom_chart(
        entity=opened.entity,
        name=f"initstudy-{_name(opened.group)}-{name}".lower(),
        display_name=f"{opened.group}: {name}",
        spec_type="vega2",
        access="private",
        spec=dict(spec),
    )


def _make_producers(artifact: Any, opened: Any, members: Sequence[str]) -> None:
    """Declares the store an output of each run that it comes from."""
    import wandb

    api = wandb.Api()
    path = f"{opened.entity}/{opened.project}"

    def declare(run: str) -> None:
        api.run(f"{path}/{run}").log_artifact(artifact)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(declare, members))


def _table(runs: pl.DataFrame) -> Any:
    import wandb

    return wandb.Table(columns=[*runs.columns], data=[list(row) for row in runs.rows()])


def _name(group: str) -> str:
    """A name that W&B takes for an artifact."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in group)
