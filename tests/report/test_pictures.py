"""Charts as files: small, crisp, and only those that a README shows."""

from __future__ import annotations

import io

import numpy as np
import pytest
import vl_convert
from PIL import Image

from initstudy.report import write
from initstudy.report.charts.catalogue import CHARTS
from initstudy.report.pictures import with_palette
from initstudy.store.frames import prepare
from tests.synthetic import save, sweep


@pytest.mark.parametrize("name", ["loss", "activations", "activation_heat", "parallel"])
def test_a_palette_makes_a_chart_small_and_changes_nothing_that_is_seen(name):
    png = vl_convert.vegalite_to_png(CHARTS[name](prepare(sweep()), "MLP"), scale=2)
    packed = with_palette(png)
    assert len(packed) < len(png) / 3
    before, after = pixels(png), pixels(packed)
    assert before.shape == after.shape
    away = np.abs(before - after).max(-1)
    assert away.mean() < 1
    # A level in eight of 256 is not seen; some pixels of smoothed edges may be further off.
    assert (away > 8).mean() < 0.02
    white = (before == 255).all(-1)
    assert white.mean() > 0.2
    assert (after[white] == 255).all()


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_charts_that_are_left_to_the_page_are_named_and_not_written(tmp_path):
    left = ("parallel", "activation_heat")
    source = save(sweep(stds=[0.05, 0.2]), tmp_path / "s")
    found = write(source, tmp_path / "out", formats=["markdown"], only_on_page=left)
    assert set(left) <= set(found.charts)
    written = {file.stem for file in (tmp_path / "out/charts").iterdir()}
    assert written == set(found.charts) - set(left)
    readme = (tmp_path / "out/README.md").read_text()
    assert "On the page only: parallel, activation heat." in readme
    assert "This command writes the page" in readme
    assert readme.count("![") == len(written)


def test_a_readme_beside_its_page_does_not_say_how_to_write_it(tmp_path):
    source = save(sweep(stds=[0.05, 0.2]), tmp_path / "s")
    write(source, formats=["html", "markdown"])
    assert "This command writes the page" not in (tmp_path / "s/report/README.md").read_text()
