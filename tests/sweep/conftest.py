from __future__ import annotations

import pytest

from tests.clusters import GRID, SMALL, head


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """The grid as one process of this machine trains it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with head(folder, *GRID, *SMALL, "tracking=offline", "name=grid") as local:
        assert local.wait() == 0, local.said()
    return folder / "runs/grid"
