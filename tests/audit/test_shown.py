"""What a person reads: text, a picture, a page in a notebook."""

from __future__ import annotations

import io
import json

import pytest
import torch
from rich.console import Console
from torch import nn

import initstudy
from initstudy.audit import show
from initstudy.audit.table import grouped, pattern
from tests.audit.networks import BROKEN, data, mlp

X, Y = data()


@pytest.fixture(scope="module")
def broken():
    return initstudy.audit_model(BROKEN["one bad layer"].make(), X, targets=Y)


def text(audit, **options):
    out = io.StringIO()
    show(Console(file=out, width=140), audit, **options)
    return out.getvalue()


def test_causes_come_first_with_what_follows_from_them(broken):
    lines = text(broken).splitlines()
    assert lines[0].startswith("warning odd-layer: the signal changes ×")
    assert "from this follow: signal, gradient" in text(broken)


def test_large_models_are_shown_in_groups_and_on_request_in_full():
    net = mlp(40)
    found = initstudy.audit_model(net, X)
    short, full = text(found), text(found, every=True)
    assert len(short.splitlines()) < 65 < 82 < len(full.splitlines())
    assert "*.weight (40)" in short
    assert sum(len(rows) for rows in grouped(found.parameters)) == len(found.parameters)
    assert {len({r.distribution for r in rows}) for rows in grouped(found.parameters)} == {1}
    assert pattern(["a.0.weight", "a.1.weight"]) == "a.*.weight (2)"


def rows_in(spec):
    """Every row of data in a specification, wherever it lies."""
    if isinstance(spec, dict):
        if "culprit" in spec:
            yield spec
        spec = list(spec.values())
    if isinstance(spec, list):
        for part in spec:
            yield from rows_in(part)


def test_the_picture_marks_the_culprit_and_holds_what_was_measured(broken):
    spec = broken.chart().to_dict()
    json.dumps(spec)
    rows = list(rows_in(spec))
    assert {row["what"] for row in rows} == {"activation", "gradient"}
    assert {row["layer"] for row in rows if row["culprit"]} == {"8"}
    by_layer = {layer.name: layer for layer in broken.signal.layers}
    for row in rows:
        layer = by_layer[row["layer"]]
        sizes = {"activation": layer.activation_rms, "gradient": layer.gradient_rms}
        assert row["rms"] == pytest.approx(sizes[row["what"]])


def test_a_notebook_shows_causes_and_escapes_names(broken):
    page = broken._repr_html_()
    assert page.index("odd-layer") < page.index("<table>")
    net = nn.ModuleDict({"a<b": nn.Linear(4, 4)})
    page = initstudy.audit_model(net)._repr_html_()
    assert "a&lt;b.weight" in page
    assert "a<b" not in page
    assert repr(broken).endswith("layers: odd-layer)")


def test_json_holds_causes_and_consequences(broken):
    found = json.loads(json.dumps(broken.as_dict()))
    assert [w["follows"] for w in found["warnings"]][:2] == [None, "odd-layer"]
    assert found["signal"]["layers"][4]["activation"] == "relu"
    nan = nn.Linear(4, 4)
    with torch.no_grad():
        nan.weight[0, 0] = float("nan")
    dumped = json.dumps(initstudy.audit_model(nan).as_dict(), allow_nan=False)
    assert "NaN or infinities" in dumped
