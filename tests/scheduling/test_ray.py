"""`executor=ray` on a real cluster of two nodes, which are processes of this machine."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap

import pytest

from initstudy.scheduling.backends import mailbox
from tests.clusters import (
    GRID,
    SMALL,
    assert_same_results,
    coordinator,
    environment,
    started,
    wait_for,
)

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("ray"), reason='needs pip install -e ".[ray]"'
)
# In a process of its own: what Ray warns of is not for our tests to settle.
CLUSTER = """
    import sys
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    print(cluster.address, flush=True)
    for line in sys.stdin:
        cluster.remove_node(second, allow_graceful=False)
    cluster.shutdown()
"""


class TwoNodes:
    """A cluster of two nodes with one CPU each, the second of which can be killed."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CLUSTER)],
            env=environment(),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.address = next(line.strip() for line in self.process.stdout if line[0].isdigit())

    def kill_the_second(self) -> None:
        self.process.stdin.write("kill\n")
        self.process.stdin.flush()

    def shut_down(self) -> None:
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def cluster():
    nodes = TwoNodes()
    yield nodes
    nodes.shut_down()


def test_a_coordinator_that_was_killed_trains_what_is_missing(cluster, tmp_path, undisturbed):
    directory = tmp_path / "runs/grid"
    (tmp_path / "hold").touch()
    command = [*GRID, *SMALL, "executor=ray", f"executor.address={cluster.address}", "name=grid"]
    with coordinator(tmp_path, *command):
        wait_for(lambda: len(started(directory)) == 2)
    (tmp_path / "hold").unlink()
    with coordinator(tmp_path, *command) as study:
        assert study.wait() == 0, study.said()
    assert_same_results(directory, undisturbed)


# The last of those that use the cluster: it loses a node.
def test_a_node_that_is_lost_in_the_middle_changes_no_result(cluster, tmp_path, undisturbed):
    """Both nodes train when the second dies; its pack goes to the first."""
    directory = tmp_path / "runs/grid"
    (tmp_path / "hold").touch()
    ray = ["executor=ray", f"executor.address={cluster.address}"]
    with coordinator(tmp_path, *GRID, *SMALL, *ray, "name=grid") as study:
        wait_for(lambda: len(started(directory)) == 2)
        first = {pack: mailbox.read_submission(directory, pack).job for pack in started(directory)}
        cluster.kill_the_second()
        wait_for(lambda: "its pack is submitted again" in study.said())
        (tmp_path / "hold").unlink()
        assert study.wait() == 0, study.said()
    assert len(first) == 2
    assert study.said().count("its pack is submitted again") == 1
    assert "Traceback" not in study.said()
    assert_same_results(directory, undisturbed)


def test_an_address_where_no_cluster_answers_is_one_line(tmp_path):
    # "auto" would find a cluster that another process has on this machine.
    address = "127.0.0.1:1"
    command = [*GRID, *SMALL, "executor=ray", f"executor.address='{address}'", "name=grid"]
    with coordinator(tmp_path, *command) as study:
        assert study.wait() == 2, study.said()
    lines = [line for line in study.said().splitlines() if line.startswith("initstudy: ")]
    assert len(lines) == 1
    assert f"executor.address={address}: no Ray cluster answers there" in lines[0]
    assert "Traceback" not in study.said()
