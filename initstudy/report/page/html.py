"""The report as a page: one file that holds its charts, its data and the scripts that draw them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from initstudy.claims import Result
from initstudy.report.charts import style
from initstudy.report.data.runs import run_table, text
from initstudy.report.data.steps import few
from initstudy.report.page import words
from initstudy.store.frames import Study

MOST_CHOICES = 200
FOOTER = "initstudy wrote this page from the results beside it; the same command draws it again."


@dataclass(frozen=True)
class Chart:
    """One chart in a page, or the sentence in its place.

    Attributes:
        id: The id of the element, and the name of the files that are saved from it.
        title: What the chart shows.
        subtitle: What its marks mean.
        absent: The sentence in its place if there is nothing to show, or None.
        wide: Whether it takes the whole width of the page.
    """

    id: str
    title: str
    subtitle: str = ""
    absent: str | None = None
    wide: bool = False


@dataclass(frozen=True)
class Page:
    """What a page shows, from top to bottom.

    Attributes:
        title: The study's name.
        headline: The verdict in words.
        paragraphs: What was run, in words.
        command: The command that runs it again.
        claims: One mapping per claim, as `claim_row` gives it.
        charts: The charts, in their order.
        specs: Their Vega-Lite specifications, by id.
        tables: What came of each value: one mapping per table, of its title, columns and rows.
        label: The studied key.
        choices: Its values, as a script writes them (`text`) and as people read them (`shown`).
        runs: The table of runs, as `run_table` gives it.
        paper: Headings and texts on the paper whose claims are checked.
    """

    title: str
    headline: str
    paragraphs: Sequence[str]
    command: str
    claims: Sequence[Mapping[str, Any]]
    charts: Sequence[Chart]
    specs: Mapping[str, style.Spec]
    tables: Sequence[Mapping[str, Any]]
    label: str = ""
    choices: Sequence[Mapping[str, str]] = ()
    runs: Mapping[str, Any] | None = None
    paper: Sequence[tuple[str, str]] = field(default=())

    @property
    def steps(self) -> list[int]:
        """The steps that any of the charts can show."""
        shown = (spec.get("usermeta", {}).get("steps", []) for spec in self.specs.values())
        return sorted({step for steps in shown for step in steps})


def scripts() -> str:
    """Vega, Vega-Lite and Vega-Embed, to stand inside a script element."""
    import vl_convert

    bundle = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    return bundle.replace("</script", "<\\/script")


def page_of(
    study: Study, results: list[Result], specs: Mapping[str, style.Spec], absent: Mapping[str, str]
) -> Page:
    """The page of one study.

    Args:
        study: The study.
        results: What was found of its claims.
        specs: Its charts, by name.
        absent: Why other charts are not there, by name.
    """
    return Page(
        title=study.about.get("name", "study"),
        headline=words.headline(study, results),
        paragraphs=[words.paragraph(study)],
        command=study.about.get("command", ""),
        claims=[claim_row(r) for r in results],
        charts=all_charts(study, specs, absent),
        specs=specs,
        tables=[{"title": "Values", **asdict(words.table(study))}],
        label=study.label,
        choices=choices(study),
        runs=run_table(study),
        paper=words.paper(study),
    )


def claim_row(result: Result) -> dict[str, Any]:
    """A result as the page's table of claims takes it."""
    return result.as_row() | {
        "numbers": words.numbers(result.finding),
        "needed": words.needed(result.finding),
        "remarks": words.remarks(result),
    }


def choices(study: Study) -> list[dict[str, str]]:
    """The values of the studied key that a reader may choose from."""
    values = [] if study.by is None else few(study.values(), MOST_CHOICES)
    return [{"text": str(text(value)), "shown": words.short(value)} for value in values]


def all_charts(
    study: Study, specs: Mapping[str, style.Spec], absent: Mapping[str, str]
) -> list[Chart]:
    """Every chart, first those that are drawn."""
    drawn = [
        Chart(name, spec["title"]["text"], " ".join(spec["title"]["subtitle"]), wide=_is_wide(spec))
        for name, spec in specs.items()
    ]
    missing = [Chart(name, words.spoken(name, study), absent=why) for name, why in absent.items()]
    return [*drawn, *missing]


def render(page: Page, bundle: str) -> str:
    """The page as HTML; `bundle` is what `scripts` returns."""
    from jinja2 import Environment, PackageLoader, select_autoescape

    environment = Environment(
        loader=PackageLoader("initstudy.report.page", "template"),
        autoescape=select_autoescape(("html", "j2")),
        trim_blocks=True,
    )
    data = {"specs": page.specs, "runs": page.runs, "steps": page.steps}
    return environment.get_template("page.html.j2").render(
        page=page,
        css=_asset("page.css"),
        script=_asset("page.js"),
        # In a script element "</" would end the script, and "<!--" change how it is read.
        data=json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", r"\u003c"),
        bundle=bundle,
        footer=FOOTER,
    )


@cache
def _asset(name: str) -> str:
    return files("initstudy.report.page").joinpath("template", name).read_text(encoding="utf-8")


def _is_wide(spec: style.Spec) -> bool:
    panels: list[style.Spec] = spec.get("hconcat") or spec.get("concat") or []
    return len(panels) > 1 or "least" in spec.get("usermeta", {})
