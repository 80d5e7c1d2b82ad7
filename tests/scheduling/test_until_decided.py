"""Seeds until decided: which runs are asked for next, on results made up as they are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from initstudy import store
from initstudy.claims import evaluate_study
from initstudy.claims.looks import Looks, schedule
from initstudy.config import ConfigError, as_columns
from initstudy.config.command_line import compose_grid
from initstudy.scheduling.until_decided import Looking
from initstudy.store.frames import prepare

WORDS = ("+sweep=std_grid", "seeds=until_decided", "seed=7")


def clear(std, large=0.1):
    """The accuracy at each of the fourteen values, of which the largest three may be anything."""
    return large if std > 1 else (0.1 if std < 0.004 else 0.95 if 0.05 < std < 0.4 else 0.7)


CLAIMS = {
    "large": {
        "_target_": "initstudy.claims.WorseThanBest",
        "statement": "Large is worse.",
        "count": 3,
    },
    "small": {
        "_target_": "initstudy.claims.WorseThanBest",
        "statement": "Small is worse.",
        "count": 3,
        "at": "smallest",
    },
}


def looking(tmp_path, *words, claims=CLAIMS):
    grid = compose_grid([*WORDS, *words])
    for run in grid.runs:
        run.config["claims"] = claims
    description = {"by": "init.std", "claims": claims}
    store.write_study(tmp_path, store.read_study(tmp_path) | description)
    return Looking.of(grid.runs, grid.config, tmp_path)


def train(tmp_path, runs, truth, noise=0.01):
    """Writes made-up results of the runs that have none; gives how many these are."""
    missing = [run for run in runs if run.id not in store.finished(tmp_path)]
    rows, history = [], []
    for run in missing:
        std, seed = run.config["init"]["std"], run.config["seed"]
        rng = np.random.default_rng([round(std * 1000), seed])
        value = float(np.clip(truth(std) + noise * rng.standard_normal(), 0, 1))
        measured = {"test/accuracy": value, "train/accuracy": value, "train/loss": 1 - value}
        rows.append({"run": run.id, **as_columns(run.config), **measured, "diverged_step": None})
        history.append({"run": run.id, "step": 40, "train/loss": 1 - value})
    if rows:
        store.write_pack(tmp_path, f"pack{len(store.finished(tmp_path))}", rows, history)
    return len(missing)


def drive(tmp_path, truth, *words, killed=False, **more):
    """Trains and looks until nothing is asked for; if killed, with a new coordinator every time."""
    found = looking(tmp_path, *words, **more)
    train(tmp_path, found.first(), truth)
    while True:
        wanted = found.next()
        if killed:
            found = looking(tmp_path, *words, **more)
            assert wanted is None or {r.id for r in found.first()} == {r.id for r in wanted}
        if wanted is None:
            return found
        train(tmp_path, wanted, truth)


def verdicts(tmp_path):
    return {r.claim: r.finding.verdict for r in evaluate_study(prepare(store.load(tmp_path)))}


def test_what_is_clear_is_decided_with_a_third_of_the_runs(tmp_path):
    found = drive(tmp_path / "looks", clear)
    assert set(found.decided) == {"large on MLP", "small on MLP"}
    trained = len(store.finished(tmp_path / "looks"))
    assert (len(found.runs), trained) == (280, len(found.wanted))
    assert trained <= 280 / 3
    # The fixed design, of which all seeds are trained at every point.
    train(tmp_path / "fixed", found.runs, clear)
    store.write_study(tmp_path / "fixed", {"by": "init.std", "claims": CLAIMS})
    assert (
        verdicts(tmp_path / "looks")
        == verdicts(tmp_path / "fixed")
        == dict.fromkeys(CLAIMS, "PASS")
    )


def test_a_claim_that_is_decided_asks_for_no_more_seeds(tmp_path):
    """The small ones are clear; whether the large ones are worse takes far more seeds."""
    found = drive(tmp_path, lambda std: clear(std, 0.942), "max_seeds=8")
    assert set(found.decided) == {"small on MLP"}
    runs = store.load(tmp_path).runs
    seeds = dict(runs.group_by("init.std").len().iter_rows())
    assert (seeds[4.0], seeds[0.001]) == (8, 8)
    assert min(seeds.values()) < 8
    assert verdicts(tmp_path) == {"large": "UNDECIDED", "small": "PASS"}


def test_a_command_that_goes_on_keeps_what_was_decided(tmp_path):
    for name, killed in (("whole", False), ("killed", True)):
        drive(tmp_path / name, lambda std: clear(std, 0.93), "max_seeds=8", killed=killed)
    whole, killed = (store.read_study(tmp_path / name)["looks"] for name in ("whole", "killed"))
    assert whole == killed
    assert store.finished(tmp_path / "whole") == store.finished(tmp_path / "killed")
    # Trained again, it has nothing to do.
    again = looking(tmp_path / "whole", "max_seeds=8")
    assert train(tmp_path / "whole", again.first(), clear) == 0
    assert again.next() is None


def test_what_cannot_be_decided_by_seeds_asks_for_none(tmp_path):
    missing = {"gone": CLAIMS["large"] | {"where": "CNN*"}}
    found = drive(tmp_path, clear, claims=missing)
    assert len(store.finished(tmp_path)) == 14 * 3
    assert found.taken == 1 or not found.decided


def test_wishes_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="the study has no claims to be decided"):
        looking(tmp_path, claims={})
    with pytest.raises(ConfigError, match="max_seeds=21: must be at most 20"):
        looking(tmp_path, "max_seeds=21")
    with pytest.raises(ConfigError, match=r"seeds=until_decided: needs a grid with claims"):
        compose_grid(["seeds=until_decided"])
    with pytest.raises(ConfigError, match="seeds=often: must be a mapping"):
        compose_grid(["seeds=often", "init.std=1,2"], multirun=True)
    looks = Looks(schedule(10), {})
    store.write_study(tmp_path, {"looks": looks.description()})
    with pytest.raises(ConfigError, match="looked at its claims with 3, 5, 8, 10 seeds; use the"):
        looking(tmp_path, "max_seeds=7")
