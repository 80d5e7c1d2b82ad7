"""The report as a whole: the page, its pictures and its claims, written side by side."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Sequence
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

    from initstudy.report.charts.catalogue import Draw
    from initstudy.report.charts.style import Spec

FORMATS = ("html", "markdown", "pdf")
PNG_SCALE = 2.0
COLOURS = 256
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
    charts: dict[str, Spec]
    runs: pl.DataFrame


def write(
    source: str | Path,
    out: str | Path | None = None,
    formats: Sequence[str] = FORMATS[:2],
    only_on_page: Collection[str] = (),
) -> Report:
    """Evaluates a sweep's claims, draws its charts and writes the page.

    Args:
        source: What `sources.read` takes, such as the sweep's directory.
        out: Where to write `index.html`, `README.md` with `charts/`, `report.pdf`, and always
            `claims.json`; by default the source's `report`.
        formats: Which of `FORMATS`.
        only_on_page: Names of charts that `README.md` mentions without showing them, such as
            `parallel`.

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
            left = [key for name in only_on_page for key in _keys(study, name) if key in specs]
            shown = {name: spec for name, spec in specs.items() if name not in left}
            _make_room(folder / "charts", set(shown))
            images = [pool.submit(_write_image, folder / "charts" / n, s) for n, s in shown.items()]
            text = words.markdown(study, results, list(shown), absent, left, "html" in formats)
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
    study: Study, instead: Mapping[str, Draw], drawn: Mapping[str, Spec] | None = None
) -> tuple[dict[str, Spec], dict[str, str]]:
    """Every chart of every facet, by name, and why those that are absent are.

    Args:
        study: The sweep.
        instead: What to draw in place of some of the study's charts.
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
    path.with_suffix(".png").write_bytes(with_palette(png))


def with_palette(png: bytes) -> bytes:
    """The same picture with at most 256 colours, in about a sixth of the bytes.

    A chart has some thousand colours, nearly all of them from smoothed edges, so that the nearest
    of 256 is not told apart from the original by eye. Dithering would put noise into flat areas.
    """
    from PIL import Image

    packed = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return packed.getvalue()


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
