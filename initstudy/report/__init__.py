"""From the store to what a person reads. Needs no training and no network."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from initstudy.report import claims, html, words
from initstudy.report.claims import Result
from initstudy.report.frames import Study, prepare
from initstudy.report.sources import read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from initstudy.report.charts import Draw
    from initstudy.report.style import Spec

PNG_SCALE = 2.0
WORKERS = 3


@dataclass(frozen=True)
class Report:
    """A written report: where it lies and what it says."""

    index: Path
    results: list[Result]
    table: words.Table


def write(path: str | Path, out: str | Path | None = None) -> Report:
    """Evaluates a sweep's claims, draws its charts and writes the page.

    Args:
        path: The sweep's directory.
        out: Where to write `index.html`, `README.md`, `claims.json` and `charts/`; by default its
            `report`.

    Raises:
        StoreError: There is nothing there to report on.
    """
    from initstudy.report.charts import ON_PAGES

    study = prepare(read(path))
    folder = Path(out) if out else Path(path) / "report"
    # The slowest parts are native code that runs beside Python: the page's scripts, the images.
    with ThreadPoolExecutor(WORKERS) as pool:
        scripts = pool.submit(html.scripts)
        results = claims.evaluate(study)
        specs, absent = _draw(study, {})
        _make_room(folder / "charts", set(specs))
        images = [pool.submit(_write_image, folder / "charts" / n, s) for n, s in specs.items()]
        text = words.markdown(study, results, list(specs), absent)
        words.write_text(folder / "README.md", text)
        page = html.page_of(study, results, *_draw(study, ON_PAGES, specs))
        index = words.write_text(folder / "index.html", html.render(page, scripts.result()))
        words.write_text(folder / "claims.json", words.machine_readable(study, results))
        for image in images:
            image.result()
    return Report(index, results, words.table(study))


def _draw(
    study: Study, instead: Mapping[str, Draw], drawn: Mapping[str, Spec] | None = None
) -> tuple[dict[str, Spec], dict[str, str]]:
    """Every chart of every facet, by name, and why those that are absent are.

    Args:
        study: The sweep.
        instead: What to draw in place of some of the study's charts.
        drawn: Charts that need not be drawn again.
    """
    from initstudy.report.charts import charts_of
    from initstudy.report.style import NothingToShow

    specs, absent = {}, {}
    for name, draw in charts_of(study).items():
        for number, facet in enumerate(study.facets):
            key = name if len(study.facets) == 1 else f"{name}_{_slug(facet, number)}"
            try:
                ready = None if name in instead else (drawn or {}).get(key)
                specs[key] = ready or instead.get(name, draw)(study, facet)
            except NothingToShow as reason:
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
    path.with_suffix(".png").write_bytes(vl_convert.svg_to_png(svg, scale=PNG_SCALE))
