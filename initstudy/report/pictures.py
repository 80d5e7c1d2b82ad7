"""Charts as pictures: SVG and PNG files, drawn with no browser and no network."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from initstudy.report.charts.style import Spec

PNG_SCALE = 2.0
COLOURS = 256
SHAPE, OPACITY = re.compile(r"<(?:path|line)\b[^>]*>"), re.compile(r' opacity="([^"]*)"')


def write(path: Path, spec: Spec) -> None:
    """Writes a chart as PATH.svg and PATH.png."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg(spec)
    path.with_suffix(".svg").write_text(svg, encoding="utf-8")
    png = vl_convert.svg_to_png(without_layers(svg), scale=PNG_SCALE)
    path.with_suffix(".png").write_bytes(with_palette(png))


def remove_others(folder: Path, names: set[str]) -> None:
    """Creates a folder, or removes the pictures there that are none of these.

    Charts of an earlier report that this one does not draw would still look current.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        if file.suffix in (".png", ".svg") and file.stem not in names:
            file.unlink()


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


def _painted(shape: re.Match[str]) -> str:
    tag = shape[0]
    both = all(re.search(rf' {kind}="(?!none|transparent)', tag) for kind in ("fill", "stroke"))
    if both or "-opacity=" in tag:
        return tag
    return OPACITY.sub(r' fill-opacity="\1" stroke-opacity="\1"', tag)
