"""Sweeps side by side, against truths known beforehand; and the page as a PDF."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from initstudy.report import compare_studies, write
from initstudy.report.compare import pairs
from initstudy.report.page import pdf
from initstudy.report.page.pdf import BROWSERS
from initstudy.store import StoreError
from initstudy.store.frames import prepare
from tests.synthetic import STDS, save, sweep

HAS_BROWSER = any(map(shutil.which, BROWSERS))


def better_above(std):
    base = 0.5
    return base + 0.2 if std > 0.1 else base


def never(std):
    return False


def studies(first, other):
    return {"a": prepare(first), "b": prepare(other)}


def test_the_difference_is_paired_over_seeds():
    """Same seeds, same noise: what is left is the effect, with next to no interval."""
    first = sweep(accuracy=lambda std: 0.5, seeds=6, diverges=never)
    found = pairs(studies(first, sweep(accuracy=better_above, seeds=6, diverges=never)))
    assert len(found) == len(STDS)
    for pair in found:
        expected = 0.2 if pair.by > 0.1 else 0.0
        assert pair.difference.estimate == pytest.approx(expected, abs=1e-9)
        assert pair.difference.high - pair.difference.low < 1e-6
        assert pair.other - pair.first == pytest.approx(pair.difference.estimate)


def test_seeds_and_values_that_only_one_has_do_not_count():
    found = pairs(studies(sweep(seeds=3), sweep(seeds=2, stds=STDS[::2], noise=0.02)))
    assert [pair.by for pair in found] == list(STDS[::2])
    assert {pair.difference.n for pair in found} == {2}


def test_sweeps_about_different_keys_and_strangers_are_refused():
    with pytest.raises(StoreError, match=r"a is about init.std, b about optimizer.lr"):
        pairs(studies(sweep(), sweep(by="optimizer.lr")))
    with pytest.raises(StoreError, match="no model, value and seed in common"):
        pairs(studies(sweep(), sweep(stds=np.array(STDS) * 1.01)))


def test_the_page_names_both_and_says_where_which_is_better(tmp_path):
    save(sweep(accuracy=lambda std: 0.5, seeds=6, diverges=never), tmp_path / "a")
    store = sweep(accuracy=better_above, seeds=6, diverges=never)
    store.study["name"] = "other"
    save(store, tmp_path / "b")
    index, table = compare_studies([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    text = index.read_text()
    above = sum(std > 0.1 for std in STDS)
    assert f"other is better at {above} and worse at 0 of {len(STDS)}" in text
    assert len(table.rows) == len(STDS)
    assert "+0.200" in {row[5] for row in table.rows}
    for name in ("synthetic", "other"):
        assert f"{name}: MLP" in text


@pytest.mark.skipif(not HAS_BROWSER, reason="no Chromium is installed")
def test_the_page_is_printed(tmp_path):
    save(sweep(), tmp_path)
    report = write(tmp_path, formats=["pdf"])
    content = report.index.read_bytes()
    assert content.startswith(b"%PDF")
    assert content.rstrip().endswith(b"%%EOF")
    assert not (tmp_path / "report/README.md").exists()


def test_without_a_browser_printing_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(pdf.shutil, "which", lambda _: None)
    with pytest.raises(StoreError, match="--format pdf: needs Chromium or Chrome"):
        pdf.write(tmp_path / "index.html", tmp_path / "report.pdf")
