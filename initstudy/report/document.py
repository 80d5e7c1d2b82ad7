"""The report as a whole: the page, its pictures and its claims, written side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from initstudy import claims
from initstudy.claims import Result
from initstudy.report.data.sources import read
from initstudy.report.page import html, pdf, words
from initstudy.store.frames import Study, prepare

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from initstudy.report.charts import style
    from initstudy.report.charts.catalogue import Draw

FORMATS = ("html", "markdown", "pdf")
PNG_SCALE = 2.0
SHAPE, OPACITY = re.compile(r"<(?:path|line)\b[^>]*>"), re.compile(r' opacity="([^"]*)"')
WORKERS = 3


@dataclass(frozen=True)
class Report:
    """A written report.

    Attributes:
        index: Where it lies.
        headline: The verdict in words.
        results: Of the claims.
        table: What came of each value.
        charts: The specifications of its pictures, by name.
        runs: The runs that it is about, as their source has them.
    """

    index: Path
    headline: str
    results: list[Result]
    table: words.Table
    charts: dict[str, style.Spec]
    runs: pl.DataFrame


def write(
    source: str | Path, out: str | Path | None = None, formats: Sequence[str] = FORMATS[:2]
) -> Report:
    """Evaluates a sweep's claims, draws its charts and writes the page.

    Args:
        source: What `sources.read` takes, such as the sweep's directory.
        out: Where to write `index.html`, `README.md` with `charts/`, `report.pdf`, and always
            `claims.json`; by default the source's `report`.
        formats: Which of `FORMATS`.

    Raises:
        StoreError: There is nothing there to report on, or it cannot be printed.
    """
    from initstudy.report.charts.catalogue import ON_PAGES

    found = read(source)
    study = prepare(found)
    folder = Path(out) if out else Path(source) / "report"
    # The slowest parts are native code that runs beside Python: the page's scripts, the images.
    with ThreadPoolExecutor(WORKERS) as pool:
        scripts = pool.submit(html.scripts)
        results = claims.evaluate(study)
        specs, absent = _draw(study, {})
        index = words.write_text(folder / "claims.json", words.machine_readable(study, results))
        images = []
        if "markdown" in formats:
            _make_room(folder / "charts", set(specs))
            images = [pool.submit(_write_image, folder / "charts" / n, s) for n, s in specs.items()]
            text = words.markdown(study, results, list(specs), absent)
            index = words.write_text(folder / "README.md", text)
        if {"html", "pdf"} & set(formats):
            page = html.page_of(study, results, *_draw(study, ON_PAGES, specs))
            index = words.write_text(folder / "index.html", html.render(page, scripts.result()))
        if "pdf" in formats:
            index = pdf.write(folder / "index.html", folder / "report.pdf")
        for image in images:
            image.result()
    return Report(
        index, words.headline(study, results), results, words.table(study), specs, found.runs
    )


def compare_sweeps(
    sources: Sequence[str | Path], out: str | Path | None = None
) -> tuple[Path, words.Table]:
    """Writes a page with sweeps side by side, and gives its path and the table of differences.

    Args:
        sources: Two or more that `sources.read` takes; the others are compared with the first.
        out: Where to write `index.html`; by default `compare/FIRST_OTHER`.

    Raises:
        StoreError: One of them cannot be read, or they have nothing in common.
    """
    from initstudy.report import compare

    studies = {}
    for source in sources:
        study = prepare(read(source))
        name = str(study.about.get("name") or source)
        studies[str(source) if name in studies else name] = study
    found = compare.pairs(studies)
    page = compare.page(studies, found)
    names = list(studies)
    joined = "_".join("".join(c if c.isalnum() else "_" for c in name) for name in names)
    folder = Path(out) if out else Path("compare") / joined
    index = words.write_text(folder / "index.html", html.render(page, html.scripts()))
    return index, compare.table(names[0], studies[names[0]], found)


def _draw(
    study: Study, instead: Mapping[str, Draw], drawn: Mapping[str, style.Spec] | None = None
) -> tuple[dict[str, style.Spec], dict[str, str]]:
    """Every chart of every facet, by name, and why those that are absent are.

    Args:
        study: The sweep.
        instead: What to draw in place of some of the study's charts.
        drawn: Charts that need not be drawn again.
    """
    from initstudy.report.charts import style
    from initstudy.report.charts.catalogue import charts_of

    specs, absent = {}, {}
    for name, draw in charts_of(study).items():
        for number, facet in enumerate(study.facets):
            key = name if len(study.facets) == 1 else f"{name}_{_slug(facet, number)}"
            try:
                ready = None if name in instead else (drawn or {}).get(key)
                specs[key] = ready or instead.get(name, draw)(study, facet)
            except style.NothingToShow as reason:
                absent[key] = str(reason)
    return specs, absent


def _slug(facet: str, number: int) -> str:
    simple = "".join(c if c.isalnum() else "_" for c in facet.lower()).strip("_")
    return simple if "," not in facet else f"{number}_{simple}"


def _make_room(folder: Path, names: set[str]) -> None:
    """Charts of an earlier report that this one does not draw would still look current."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        if file.suffix in (".png", ".svg") and file.stem not in names:
            file.unlink()


def _write_image(path: Path, spec: dict[str, Any]) -> None:
    """A chart as SVG and PNG."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg(spec)
    path.with_suffix(".svg").write_text(svg, encoding="utf-8")
    png = vl_convert.svg_to_png(without_layers(svg), scale=PNG_SCALE)
    path.with_suffix(".png").write_bytes(png)


def without_layers(svg: str) -> str:
    """The same picture with the opacity of shapes as that of their stroke or fill.

    For a shape's own opacity the renderer composes a layer as large as the picture.
    """
    return SHAPE.sub(_painted, svg)


def _painted(found: re.Match[str]) -> str:
    tag = found[0]
    both = all(re.search(rf' {kind}="(?!none|transparent)', tag) for kind in ("fill", "stroke"))
    if both or "-opacity=" in tag:
        return tag
    return OPACITY.sub(r' fill-opacity="\1" stroke-opacity="\1"', tag)
