"""Our initializers and presets beside the real torch, Keras and JAX."""

from __future__ import annotations

import importlib.util
import math
import sys

import numpy as np
import pytest
from scipy import stats

from conformance import OUT, fans_table
from frameworks.initializers import LAYERS, cases, measure
from frameworks.layers import layer_presets, matlab

missing = [name for name in ("jax", "keras", "flax") if not importlib.util.find_spec(name)]
pytestmark = [
    pytest.mark.skipif(bool(missing), reason='needs pip install -e ".[conformance]"'),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def frameworks():
    """Imports them all, once."""
    list(cases())
    from absl import logging

    # absl closes the stream that was stderr when it was imported, as soon as Hydra sets up logging
    # again; here that stream is pytest's.
    logging.get_absl_handler().python_handler.stream = sys.__stderr__


def test_every_shared_initializer_has_the_same_law():
    """Two-sample Kolmogorov–Smirnov where the law is the same, the deviation alone where it is
    documented to differ in shape, and a real difference where it is documented to be one."""
    compared = 0
    for case in cases():
        for layer in LAYERS:
            found = measure(case, layer)
            mine = np.ravel(found.pop("initstudy", np.array([]))).astype(float)
            for framework, array in found.items():
                theirs = np.ravel(np.asarray(array, dtype=float))
                note = (case.differs or {}).get(framework, "")
                agree(case.name, mine, theirs, note)
                compared += 1
    assert compared > 60


def agree(name, mine, theirs, note):
    assert theirs.size == mine.size
    if np.unique(mine).size == 1 or name in ("identity", "Dirac"):
        assert np.array_equal(np.sort(mine), np.sort(theirs)), name
    elif "0.88" in note:
        assert theirs.std() / mine.std() == pytest.approx(0.8796, rel=0.01), name
    elif "sparse" in name:
        assert (mine == 0).sum() == (theirs == 0).sum(), name
        assert stats.ks_2samp(mine[mine != 0], theirs[theirs != 0]).pvalue > 1e-4, name
    else:
        # Four standard errors of the difference of two deviations measured on n entries each.
        assert theirs.std() == pytest.approx(mine.std(), rel=4 / math.sqrt(mine.size)), name
        if "same variance" not in note:
            assert stats.ks_2samp(mine, theirs).pvalue > 1e-4, name


def test_presets_are_the_frameworks_own_layers():
    rows = list(layer_presets())
    assert len(rows) > 20
    for name, framework, theirs, mine in rows:
        assert mine == pytest.approx(theirs, rel=0.02), (name, framework)


def test_matlabs_preset_is_its_published_formulas():
    for name, formula, measured in matlab():
        assert measured == pytest.approx(formula, rel=0.02), name


def test_the_committed_page_speaks_of_every_case():
    page = OUT.read_text(encoding="utf-8")
    for name in [case.name for case in cases()] + [row[0] for row in fans_table()]:
        assert f"| {name} |" in page
