"""The process that a W&B agent starts, with the real client and a stand-in server."""

from __future__ import annotations

from pathlib import Path

import pytest

from initstudy import grid, store
from initstudy.config import ConfigError

SMALL = ("max_steps=4", "data.subset=64", "model.width=8", "eval_every=4", "log_every=2")


@pytest.fixture
def _agent(monkeypatch):
    """What an agent sets: https://docs.wandb.ai/models/sweeps."""
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc12345")
    monkeypatch.setenv("WANDB_RUN_ID", "agentsrun")
    monkeypatch.setenv("WANDB_PROJECT", "searches")


@pytest.mark.usefixtures("_agent")
def test_one_agents_run_is_one_run(command, server):
    code, out, err = command(
        *SMALL, "init.std=0.2", "tracking=online", "dir=runs/agent/${oc.env:WANDB_RUN_ID}"
    )
    assert code == 0, out + err
    assert "Ignoring" not in out + err
    sent = server.buckets["agentsrun"]
    # No other run was opened, not even that of a study.
    assert set(server.buckets) == set(server.history) == {"agentsrun"}
    assert (sent["sweep"], sent["project"]) == ("abc12345", "searches")
    assert sent["groupName"] == "abc12345"
    stored = store.load("runs/agent/agentsrun").runs
    assert server.summary["agentsrun"]["test/accuracy"] == stored["test/accuracy"].item()
    assert "agentsrun" in server.complete


@pytest.mark.usefixtures("_agent")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-m", "seed=0,1", "tracking=online"], "2 runs: the agent of W&B sweep abc12345 starts"),
        (["tracking=offline"], "tracking.mode=offline: the agent of W&B sweep abc12345 waits"),
        (["tracking=online", "tracking.granularity=study"], "set tracking.granularity=run"),
    ],
)
def test_what_an_agent_would_wait_for_in_vain_is_refused(command, arguments, said):
    code, out, err = command(*SMALL, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert not Path("runs").exists()


@pytest.mark.usefixtures("_agent")
def test_a_loop_of_ones_own_under_an_agent_is_one_run_too(monkeypatch, tmp_path, server):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="2 runs: the agent of W&B sweep"):
        next(iter(grid(seeds=2, name="mine", tracking="online")))
    for run in grid(name="mine", tracking="online"):
        run.log(0, loss=0.5)
        run.finish()
    assert set(server.buckets) == {"agentsrun"}
