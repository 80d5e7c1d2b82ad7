from __future__ import annotations

import textwrap

import pytest

from tests.clusters import GRID, SMALL, coordinator
from tests.scheduling.workers import HELD


@pytest.fixture
def held(tmp_path):
    """A folder from which the models of `HELD` can be named."""
    (tmp_path / "held.py").write_text(textwrap.dedent(HELD))
    return tmp_path


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """The grid as one process of this machine trains it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with coordinator(folder, *GRID, *SMALL, "tracking=offline", "name=grid") as local:
        assert local.wait() == 0, local.said()
    return folder / "runs/grid"
