"""From the store to what a person reads. Needs no training and no network."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from initstudy.report import claims, page
from initstudy.report.claims import Result
from initstudy.report.frames import Study, prepare
from initstudy.store import load

PNG_SCALE = 2.0
WORKERS = 3


@dataclass(frozen=True)
class Report:
    """A written report: where it lies and what it says."""

    index: Path
    results: list[Result]
    table: page.Table


def write(path: str | Path, out: str | Path | None = None) -> Report:
    """Evaluates a sweep's claims, draws its charts and writes the page.

    Args:
        path: The sweep's directory.
        out: Where to write `index.html`, `README.md`, `claims.json` and `charts/`; by default its
            `report`.

    Raises:
        StoreError: There is nothing there to report on.
    """
    study = prepare(load(path))
    folder = Path(out) if out else Path(path) / "report"
    # The slowest parts are native code that runs beside Python: the page's scripts, the images.
    with ThreadPoolExecutor(WORKERS) as pool:
        scripts = pool.submit(page.scripts)
        results = claims.evaluate(study)
        specs, absent = _draw(study)
        _make_room(folder / "charts", set(specs))
        images = [pool.submit(_write_image, folder / "charts" / n, s) for n, s in specs.items()]
        page.write_text(folder / "README.md", page.markdown(study, results, list(specs), absent))
        text = page.html(study, results, specs, absent, scripts.result())
        index = page.write_text(folder / "index.html", text)
        page.write_text(folder / "claims.json", page.machine_readable(study, results))
        for image in images:
            image.result()
    return Report(index, results, page.table(study))


def _draw(study: Study) -> tuple[dict[str, Any], dict[str, str]]:
    """Every chart of every facet, by name, and why those that are absent are."""
    from initstudy.report.charts import NothingToShow, charts_of

    specs, absent = {}, {}
    for name, draw in charts_of(study).items():
        for number, facet in enumerate(study.facets):
            key = name if len(study.facets) == 1 else f"{name}_{_slug(facet, number)}"
            try:
                specs[key] = draw(study, facet)
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
