"""The page, as a person opens it: in a real browser, from disk, with no network."""

from __future__ import annotations

import csv
import io
import shutil
from itertools import pairwise

import polars as pl
import pytest

from initstudy.report import write
from initstudy.report.charts.catalogue import CHARTS
from initstudy.report.data.runs import text
from tests.synthetic import STDS, save, sweep

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
FAINT = """id => [...document.querySelectorAll(`#${id} .mark-symbol path, #${id} .mark-line path,
    #${id} .mark-rect path`)].map(p => Number(p.getAttribute('opacity') ?? 1))
    .filter(opacity => 0 < opacity && opacity < 0.1).length"""
STEPPED = ("activations", "activation_heat")
LOOK = """id => [...document.querySelectorAll(`#${id} .mark-symbol path, #${id} .mark-rect path`)]
    .map(p => p.getAttribute('fill') + p.getAttribute('transform')).join()"""
LINKED = ("loss", "accuracy", "activations", "gradients", "activation_heat", "parallel")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-sync",
                "--disable-background-networking",
                "--disable-component-update",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Opens a file with the network cut; anything the page complains of fails the test."""
    problems: list[str] = []
    contexts = []

    def open_page(path, **options):
        context = browser.new_context(
            offline=True, viewport={"width": 1280, "height": 900}, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda r: problems.append(r.url) if r.url.startswith("http") else None)
        page.goto(path.as_uri())
        settle(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def settle(page):
    page.wait_for_function("() => window.drawn")
    page.evaluate("() => window.drawn.then(() => null)")


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """The report of 112 runs with a W&B address."""
    store = sweep(histograms=True, seeds=8)
    store.study["wandb"] = "https://wandb.example/team/p"
    return write(save(store, tmp_path_factory.mktemp("grid"))).index


def test_every_chart_is_drawn_with_data_and_the_verdict_is_in_words(grid, opened):
    page = opened(grid)
    for name in CHARTS:
        assert page.locator(f"#{name} svg path, #{name} canvas").count() > 5, name
    assert page.locator("td.PASS").count() == 2
    assert "2 verdicts: 2 PASS, 0 REFUTED, 0 UNDECIDED" in page.inner_text("h1")
    # Text from a configuration is text, not markup.
    assert "It grows & <shrinks>." in page.inner_text("body")
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(300)
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert grid.stat().st_size < 5e6


def test_a_value_chosen_in_one_place_is_chosen_in_all(grid, opened):
    page = opened(grid)
    assert {name: page.evaluate(FAINT, name) for name in LINKED} == dict.fromkeys(LINKED, 0)
    page.select_option("#by", index=5)
    page.wait_for_function("() => document.querySelectorAll('tr.chosen').length === 8")
    chosen = page.input_value("#by")
    assert float(chosen) == STDS[4]
    for name in LINKED:
        assert page.evaluate(FAINT, name) > 0, name
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.querySelectorAll('tr.chosen').length === 0")
    assert page.evaluate(FAINT, "loss") == 0


def test_a_click_on_a_mark_chooses_its_run(grid, opened):
    page = opened(grid)
    dot = page.locator("#accuracy .mark-symbol path").nth(4)
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#vg-tooltip-element.visible")
    tooltip = page.inner_text("#vg-tooltip-element")
    assert "configuration" in tooltip
    assert "init.std=" in tooltip
    page.mouse.down()
    page.mouse.up()
    page.wait_for_selector("tr.chosen")
    assert page.locator("tr.chosen").count() == 1
    run = page.inner_text("tr.chosen td button")
    assert run in tooltip
    assert page.inner_text("#said") == f"run {run}"
    # Its own loss is drawn, and it stands first in the table.
    assert page.locator("#runs tbody tr").first.get_attribute("class") == "chosen"
    assert page.evaluate(FAINT, "parallel") == 111


def test_the_slider_moves_every_chart_of_the_layers_to_its_step(grid, opened):
    page = opened(grid)
    before = {name: page.evaluate(LOOK, name) for name in STEPPED}
    assert page.inner_text("#at") == "0"
    page.focus("#step")
    page.keyboard.press("End")
    page.wait_for_function("() => document.getElementById('at').textContent === '40'")
    for name in STEPPED:
        page.wait_for_function(f"before => ({LOOK})('{name}') !== before", arg=before[name])
    page.keyboard.press("Home")
    for name in STEPPED:
        page.wait_for_function(f"before => ({LOOK})('{name}') === before", arg=before[name])


def test_runs_are_sorted_filtered_and_linked(grid, opened):
    page = opened(grid)
    rows = page.locator("#runs tbody tr")
    assert rows.count() < 112
    page.click("#more")
    assert rows.count() == 112
    assert rows.first.locator("svg path").get_attribute("d").startswith("M0.0,")
    page.fill("#filter", "seed=2")
    assert rows.count() == 14
    assert page.inner_text("#count") == "14 of 112"
    page.fill("#filter", "diverged")
    assert rows.count() == 24
    page.fill("#filter", "")
    page.click("#more")
    page.get_by_role("button", name="test accuracy", exact=True).click()
    header = page.locator("#runs th").filter(has_text="test accuracy")
    assert header.get_attribute("aria-sort") == "ascending"
    column = page.locator("#runs th").all_inner_texts().index("test accuracy")
    values = [float(rows.nth(i).locator("td").nth(column).inner_text()) for i in range(112)]
    assert all(a <= b for a, b in pairwise(values))
    link = rows.first.locator("a")
    run = rows.first.locator("button").inner_text()
    assert link.get_attribute("href") == f"https://wandb.example/team/p/runs/{run}"


def test_the_theme_follows_the_system_and_the_button(grid, opened):
    page = opened(grid, color_scheme="dark")
    ink = "() => document.querySelector('#loss svg .role-axis-label text').getAttribute('fill')"
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate(ink) == "#e6e9ec"
    page.click("#theme")
    settle(page)
    assert page.evaluate(ink) == "#1b1f24"


def test_charts_are_saved_as_pictures_and_their_data_as_csv(grid, opened):
    page = opened(grid)
    saved = {}
    for kind in ("png", "svg", "csv"):
        with page.expect_download() as download:
            page.click(f"button[data-chart='accuracy'][data-kind='{kind}']")
        assert download.value.suggested_filename == f"accuracy.{kind}"
        saved[kind] = download.value.path().read_bytes()
    assert saved["png"].startswith(b"\x89PNG")
    # The picture stands alone, so it has the title that the page writes above it.
    assert b"Test accuracy at the end" in saved["svg"]
    rows = list(csv.DictReader(io.StringIO(saved["csv"].decode())))
    runs = {row["run"]: float(row["accuracy"]) for row in rows if row["run"]}
    expected = sweep(seeds=8).runs.filter(pl.col("init.std") <= 1)
    assert runs == {
        row["run"]: pytest.approx(row["test/accuracy"], abs=1e-5) for row in expected.to_dicts()
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_barrier(grid, opened, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(grid, color_scheme=scheme)
    found = Axe().run(page).response["violations"]
    serious = [
        (v["id"], [n["html"][:90] for n in v["nodes"]][:3])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        ({"seeds": 1, "stds": [0.1], "by": None}, "UNDECIDED"),
        ({"diverges": lambda std: True}, "Every run diverged: 42 of 42"),
        ({"probes": False}, "Not measured: the study ran with probes=off."),
        (
            {"models": ("MLP", "CNN"), "stds": STDS[::4]},
            "4 verdicts: 0 PASS, 0 REFUTED, 4 UNDECIDED",
        ),
    ],
    ids=["one-run", "all-diverged", "no-probes", "two-models"],
)
def test_a_page_that_has_little_to_show_says_so(tmp_path, opened, truth, said):
    page = opened(write(save(sweep(**truth), tmp_path)).index)
    assert said in page.inner_text("body")
    for plot in page.locator(".plot").all():
        assert plot.locator("svg path").count() > 3


def test_values_are_written_as_the_pages_script_writes_them(grid, opened):
    values = [0.1, 1.0, 4.0, 1e-3, 1.5e-7, 2.5e-5, 1e21, 123456.789, 1e16, -0.25, 0.0, 5e-324]
    page = opened(grid)
    assert [text(value) for value in values] == page.evaluate("v => v.map(String)", values)
