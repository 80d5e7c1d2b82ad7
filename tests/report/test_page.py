"""The page, as a person opens it: in a real browser, from disk, with no network."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys

import polars as pl
import pytest

from initstudy import store as stores
from initstudy.report import write
from initstudy.report.charts import CHARTS, NothingToShow
from initstudy.report.frames import prepare
from tests.report.synthetic import STDS, sweep

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome")
     if (found := shutil.which(name))),
    None,
)  # fmt: skip


def save(store, path):
    stores.write_pack(path, "p", store.runs.to_dicts(), store.history.to_dicts())
    stores.write_study(path, store.study)
    return path


def drawn(draw, study):
    """A chart, or None where it gives a sentence instead."""
    with contextlib.suppress(NothingToShow):
        return draw(study, "MLP")
    with pytest.raises(NothingToShow, match=r"\.$"):
        draw(study, "MLP")
    return None


@pytest.mark.parametrize(
    "truth",
    [
        {},
        {"seeds": 1, "stds": [0.1], "by": None},
        {"diverges": lambda std: True},
        {"probes": False},
        {"seeds": 11, "stds": STDS[::5]},
    ],
    ids=["grid", "one-run", "all-diverged", "no-probes", "many-seeds"],
)
def test_every_chart_is_drawn_or_says_why_not(truth):
    import vl_convert

    study = prepare(sweep(**truth))
    for name, draw in CHARTS.items():
        spec = drawn(draw, study)
        if spec is None:
            assert truth, name
            continue
        svg = vl_convert.vegalite_to_svg(spec)
        assert svg.count("<path") > 5, name
        assert "NaN" not in svg, name


def test_a_categorical_variable_is_drawn_in_its_order():
    runs = sweep(stds=[0.1]).runs
    kinds = [f"initstudy.initializers.{k}" for k in ("Normal", "Uniform", "Zero")]
    runs = runs.with_columns(pl.Series("init._target_", kinds))
    store = sweep(stds=[0.1])
    study = prepare(stores.Store(runs, store.history, store.study | {"by": "init._target_"}))
    assert not study.numeric
    assert '"type": "ordinal"' in str(CHARTS["accuracy"](study, "MLP")).replace("'", '"')


def test_diverged_runs_are_on_the_accuracy_chart():
    study = prepare(sweep())
    text = str(CHARTS["accuracy"](study, "MLP"))
    lost = study.runs.filter("diverged").group_by("by").len()
    assert len(lost) == 3
    for std in lost["by"]:
        assert f'"by": {std}' in text
    assert "diverged" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_page_opens_in_a_browser_with_every_chart_and_no_error(tmp_path, monkeypatch):
    from playwright.sync_api import sync_playwright

    report = write(save(sweep(models=("MLP", "CNN")), tmp_path))
    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
                  "--disable-background-networking", "--disable-component-update"],
        )  # fmt: skip
        context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda r: problems.append(r.url) if r.url.startswith("http") else None)
        page.goto(report.index.as_uri())
        page.evaluate("() => window.drawn.then(() => null)")
        charts = page.locator(".chart")
        assert charts.count() == 2 * len(CHARTS)
        for number in range(charts.count()):
            assert charts.nth(number).locator("svg path").count() > 5
        assert page.locator("td.PASS").count() == 4
        assert "4 of 4 claims hold" in page.inner_text("h1")
        # Text from a configuration is text, not markup.
        assert "It grows & <shrinks>." in page.inner_text("body")
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
    assert problems == []


def test_the_report_command_draws_again_and_refuses_what_is_no_sweep(tmp_path):
    def command(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "initstudy.report", *arguments], cwd=tmp_path, text=True,
            capture_output=True, check=False, env=os.environ | {"PYTHONPATH": os.getcwd()},
        )  # fmt: skip

    refused = command("nowhere")
    assert refused.returncode == 2
    assert refused.stderr.strip() == (
        "initstudy.report: nowhere: no such directory; give one that a sweep has written"
    )
    save(sweep(stds=STDS[::3]), tmp_path / "s")
    done = command("s", "--out", "elsewhere")
    assert done.returncode == 0, done.stderr
    assert "PASS" in done.stdout
    pictures = {p.name for p in (tmp_path / "elsewhere/charts").iterdir()}
    assert pictures == {f"{name}.{kind}" for name in CHARTS for kind in ("png", "svg")}
    readme = (tmp_path / "elsewhere/README.md").read_text()
    for name in CHARTS:
        assert f"(charts/{name}.png)" in readme
