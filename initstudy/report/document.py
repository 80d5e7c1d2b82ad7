"""The report as a whole: the page, its pictures and its findings, written side by side."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from initstudy import claims
from initstudy.claims import Result
from initstudy.report import pictures
from initstudy.report.data.sources import read
from initstudy.report.page import html, pdf, words
from initstudy.store.frames import Study, prepare

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from initstudy.report.charts.catalogue import Draw
    from initstudy.report.charts.style import Spec

FORMATS = ("html", "markdown", "pdf")
WORKERS = 3


@dataclass(frozen=True)
class Report:
    """A report that has been written.

    Attributes:
        index: The file to open.
        headline: The verdict in words.
        results: What was found of the claims.
        table: What came of each value.
        charts: The Vega-Lite specifications of its pictures, by name.
        runs: The runs that it is about, as their source has them.
    """

    index: Path
    headline: str
    results: list[Result]
    table: words.Table
    charts: dict[str, Spec]
    runs: pl.DataFrame


def write(
    source: str | Path,
    out: str | Path | None = None,
    formats: Sequence[str] = FORMATS[:2],
    only_on_page: Collection[str] = (),
) -> Report:
    """Evaluates a study's claims, draws its charts and writes the page.

    Args:
        source: A source that `initstudy.report.data.sources.read` takes, such as the study's
            directory.
        out: The folder for `index.html`, `README.md` with `charts/`, `report.pdf`, and always
            `claims.json`; by default `report` in the source.
        formats: Which of `FORMATS` to write.
        only_on_page: Names of charts that `README.md` mentions without showing them, such as
            `parallel`.

    Raises:
        StoreError: There is nothing there to report on, or it cannot be printed.
    """
    from initstudy.report.charts.catalogue import ON_PAGES

    store = read(source)
    study = prepare(store)
    folder = Path(out) if out else Path(source) / "report"
    # The slowest parts are native code that runs beside Python: the page's scripts, the pictures.
    with ThreadPoolExecutor(WORKERS) as pool:
        scripts = pool.submit(html.scripts)
        results = claims.evaluate_study(study)
        specs, absent = _draw(study, {})
        index = words.write_text(folder / "claims.json", words.machine_readable(study, results))
        drawn = []
        if "markdown" in formats:
            left = {key: name for name in only_on_page for key in _keys(study, name)}
            shown = {key: spec for key, spec in specs.items() if key not in left}
            pictures.remove_others(folder / "charts", set(shown))
            drawn = [
                pool.submit(pictures.write, folder / "charts" / name, spec)
                for name, spec in shown.items()
            ]
            named = list(dict.fromkeys(name for key, name in left.items() if key in specs))
            text = words.markdown(study, results, list(shown), absent, named, "html" in formats)
            index = words.write_text(folder / "README.md", text)
        if {"html", "pdf"} & set(formats):
            page = html.page_of(study, results, *_draw(study, ON_PAGES, specs))
            index = words.write_text(folder / "index.html", html.render(page, scripts.result()))
        if "pdf" in formats:
            index = pdf.write(folder / "index.html", folder / "report.pdf")
        for picture in drawn:
            picture.result()
    headline, table = words.headline(study, results), words.table(study)
    return Report(index, headline, results, table, specs, store.runs)


def compare_studies(
    sources: Sequence[str | Path], out: str | Path | None = None
) -> tuple[Path, words.Table]:
    """Writes a page with studies side by side.

    Args:
        sources: Two or more sources that `read` takes; the others are compared with the first.
        out: The folder for `index.html`; by default `compare/FIRST_OTHER`.

    Returns:
        The page's path, and the table of differences.

    Raises:
        StoreError: One of them cannot be read, or they have nothing in common.
    """
    from initstudy.report import compare

    studies: dict[str, Study] = {}
    for source in sources:
        study = prepare(read(source))
        name = str(study.about.get("name") or source)
        studies[str(source) if name in studies else name] = study
    compared = compare.pairs(studies)
    page = compare.page(studies, compared)
    names = list(studies)
    joined = "_".join("".join(c if c.isalnum() else "_" for c in name) for name in names)
    folder = Path(out) if out else Path("compare") / joined
    index = words.write_text(folder / "index.html", html.render(page, html.scripts()))
    return index, compare.table(names[0], studies[names[0]], compared)


def _draw(
    study: Study, instead: Mapping[str, Draw], drawn: Mapping[str, Spec] | None = None
) -> tuple[dict[str, Spec], dict[str, str]]:
    """Every chart of every facet by name, and why others are absent, by name.

    Args:
        study: The study.
        instead: What to draw in place of some of the study's charts, by name.
        drawn: Charts that need not be drawn again.
    """
    from initstudy.report.charts.catalogue import charts_of
    from initstudy.report.charts.style import NothingToShow

    specs, absent = {}, {}
    for name, draw in charts_of(study).items():
        for key, facet in zip(_keys(study, name), study.facets, strict=True):
            try:
                ready = None if name in instead else (drawn or {}).get(key)
                specs[key] = ready or instead.get(name, draw)(study, facet)
            except NothingToShow as reason:
                absent[key] = str(reason)
    return specs, absent


def _keys(study: Study, name: str) -> list[str]:
    """A chart's name in a report, one per facet of the study."""
    if len(study.facets) == 1:
        return [name]
    return [f"{name}_{_slug(facet, number)}" for number, facet in enumerate(study.facets)]


def _slug(facet: str, number: int) -> str:
    simple = "".join(c if c.isalnum() else "_" for c in facet.lower()).strip("_")
    return simple if "," not in facet else f"{number}_{simple}"
