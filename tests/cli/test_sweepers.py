"""Hydra's sweepers, launchers and search paths, as its users use them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from initstudy import store
from initstudy.cli.sweeps import direction_of
from initstudy.columns import LOSS, SCHEMA, Metric, Schema
from initstudy.config import ConfigError
from initstudy.store.frames import prepare
from tests.users_own import MINE

SMALL = ("max_steps=3", "data.subset=64", "model.width=8", "tracking=off", "eval_every=3")
QUICK = ("data.subset=300", "tracking=off", "probes=off", "planner.workers=1", "planner.timing=off")
SEARCH = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=3")


@pytest.fixture
def reported(monkeypatch, command):
    """The directories whose report was drawn, in order."""
    drawn: list[Path] = []
    monkeypatch.setattr(
        "initstudy.scheduling.study._report", lambda console, directory, _: drawn.append(directory)
    )
    return drawn


@pytest.fixture
def optuna():
    with warnings.catch_warnings():
        # Of what optuna 2 imports.
        warnings.simplefilter("ignore")
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason='needs ".[optuna]"')
        import optuna  # noqa: F401


def best():
    return yaml.safe_load(Path("runs/search/optimization_results.yaml").read_text())


@pytest.mark.slow
@pytest.mark.usefixtures("optuna")
def test_optuna_finds_a_standard_deviation_at_which_a_deep_network_trains(command, reported):
    """Of the nine values of an even grid over the same range one or two are as good."""
    code, out, err = command(
        *SEARCH,
        *QUICK,
        "hydra.sweeper.direction=maximize",
        "hydra.sweeper.n_trials=20",
        "hydra.sweeper.n_jobs=4",
        "init.std=tag(log, interval(0.001, 10))",
        "max_steps=80",
        "model.width=64",
        "name=search",
    )
    assert code == 0, out + err
    runs = store.load("runs/search").runs
    assert len(runs) == 20
    # Trials of one batch train as one pack.
    assert "training 4 in 1 pack" in out
    found = best()
    assert found["best_value"] == pytest.approx(runs["test/accuracy"].max())
    assert found["best_value"] > 0.8
    assert 0.05 < found["best_params"]["init.std"] < 0.5
    assert reported == [Path("runs/search")]
    study = prepare(store.load("runs/search"))
    assert (study.by, study.numeric, study.about["runs"]) == ("init.std", True, 20)


@pytest.mark.slow
@pytest.mark.usefixtures("optuna")
def test_what_is_searched_on_is_held_out_where_there_is_such(command):
    code, out, err = command(
        *SEARCH[:2],
        *QUICK,
        "hydra.sweeper.direction=maximize",
        "hydra/sweeper/sampler=grid",
        "init.std=choice(0.1,1e30)",
        "data.validation=0.2",
        "max_steps=5",
        "name=search",
    )
    assert code == 0, out + err
    runs = store.load("runs/search").runs
    value = runs.filter(runs["init.std"] == 0.1)["validation/accuracy"].item()
    assert best()["best_value"] == pytest.approx(value)
    # The other one diverged, which is as bad as can be, and no failure.
    assert runs["diverged_step"].null_count() == 1


@pytest.mark.slow
@pytest.mark.usefixtures("optuna")
def test_a_run_that_fails_fails_its_trial_alone(command, reported):
    Path("mine.py").write_text(textwrap.dedent(MINE))
    grid = [
        *SEARCH[:2],
        *QUICK,
        "hydra.sweeper.direction=maximize",
        "hydra/sweeper/sampler=random",
        "hydra.sweeper.sampler.seed=1",
        "hydra.sweeper.n_trials=6",
        "hydra.sweeper.n_jobs=2",
        "model._target_=choice(mine.Net,mine.Raising)",
        "max_steps=20",
        "name=search",
    ]
    code, _, err = command(*grid, "hydra.sweeper.max_failure_rate=1.0")
    assert code == 3
    assert "the ninth call is one too many" in err
    assert "Traceback" not in err
    assert best()["best_params"] == {"model._target_": "mine.Net"}
    assert reported == [Path("runs/search")]
    # The same trials were asked for again, and had their values at once.
    assert len(store.load("runs/search").runs) == 1
    # By default one failure ends the search; what was trained is reported all the same.
    code, _, err = command(*grid)
    assert code == 3
    assert "Traceback" not in err
    assert reported == [Path("runs/search")] * 2


@pytest.mark.slow
@pytest.mark.usefixtures("optuna")
def test_a_search_in_the_wrong_direction_is_refused(command):
    """Optuna minimizes by default: it would find the worst initialization."""
    code, out, err = command(*SEARCH, *SMALL, "init.std=interval(0.01,1)", "name=search")
    assert (code, err.count("\n")) == (2, 1), out + err
    assert "hydra.sweeper.direction=minimize: test/accuracy is better when it is higher" in err
    assert not Path("runs").exists()
    loss = (*SEARCH, *SMALL, "objective=loss", "init.std=choice(0.1,0.2)", "name=search")
    assert command(*loss, "hydra.sweeper.n_trials=1", "hydra/launcher=basic")[0] == 0


def sweeper(**options):
    return OmegaConf.create({"hydra": {"sweeper": options}})


@pytest.mark.parametrize(
    ("options", "right"),
    [
        ({"optim": {"maximize": True}}, "higher"),
        ({"optim": {"maximize": False}}, "lower"),
        ({"ax_config": {"experiment": {"minimize": False}}}, "higher"),
        ({"direction": ["maximize"]}, "higher"),
        ({"params": {}}, "either"),
    ],
)
def test_every_sweeper_is_held_to_the_direction_of_the_objective(options, right):
    for schema, better in ((SCHEMA, "higher"), (Schema((LOSS,), "test/loss"), "lower")):
        accept = direction_of(sweeper(**options))
        if right in (better, "either"):
            accept(schema)
        else:
            with pytest.raises(ConfigError, match=r"is better when it is .*; set hydra\.sweeper\."):
                accept(schema)


def test_a_search_for_several_objectives_is_refused():
    with pytest.raises(ConfigError, match="a study has one objective"):
        direction_of(sweeper(direction=["minimize", "maximize"]))(SCHEMA)


def test_what_diverged_is_worse_than_everything():
    from initstudy.cli.sweeps import _finite

    r2 = Metric("r2", "R²", "1", "higher")
    assert _finite(0.3, SCHEMA) == 0.3
    assert _finite(float("nan"), SCHEMA) == 0.0
    assert _finite(None, Schema((LOSS,), "test/loss")) == float("inf")
    assert _finite(None, Schema((LOSS, r2), "test/r2")) == -float("inf")


@pytest.mark.parametrize("arguments", [["-m", "seed=0,1"], []])
def test_a_launcher_of_jobs_apart_is_refused_in_a_line(command, arguments):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs its plugin")
    code, out, err = command(*arguments, "hydra/launcher=joblib")
    assert (code, out) == (2, "")
    assert err == (
        "initstudy: hydra/launcher=joblib: leave it out and set executor=local, which trains the "
        "runs of a grid together and side by side\n"
    )
    assert not Path("runs").exists()


FILES = {
    "sweep/mine.yaml": """
        # @package _global_
        name: of_mine
        by: init
        hydra:
          mode: MULTIRUN
          sweeper:
            params:
              init: small,torch
              seed: 0,1
    """,
    "init/small.yaml": "_target_: initstudy.initializers.Normal\nstd: 0.01\n",
    "data/few.yaml": "_target_: mine.few\ncount: 40\nsubset: null\nvalidation: null\n",
    "model/narrow.yaml": "_target_: mine.Net\nhidden: 3\n",
    # A group that initstudy does not know, as in lightning-hydra-template.
    "experiment/fast.yaml": "# @package _global_\noptimizer: {lr: 0.1}\nbatch_size: 8\n",
    "experiment/slow.yaml": "# @package _global_\noptimizer: {lr: 0.001}\nbatch_size: 8\n",
}
FEW = """
    def few(count):
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(2 * count, 64, generator=draw)
        y = (x[:, 0] > 0).long()
        return (x[:count], y[:count]), (x[count:], y[count:])
"""


@pytest.fixture
def folder(tmp_path):
    """A folder `own` with files for every group."""
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE) + textwrap.dedent(FEW))
    for name, text in FILES.items():
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())
    sys.modules.pop("mine", None)
    yield tmp_path / "own"
    sys.modules.pop("mine", None)


OWN = ("data=few", "model=narrow", "max_steps=2", "batch_size=8", "tracking=off", "probes=off")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("way", [["--config-dir=own"], ["hydra.searchpath=[file://own]"]])
def test_files_of_ones_own_for_every_group(command, way, folder):
    # Hydra takes absolute paths alone for its search path.
    way = [word.replace("file://own", f"file://{folder}") for word in way]
    code, out, err = command(*way, "+sweep=mine", *OWN)
    assert code == 0, out + err
    runs = store.load("runs/of_mine").runs
    assert sorted(runs.select("init", "seed").iter_rows()) == [
        ("small", 0),
        ("small", 1),
        ("torch", 0),
        ("torch", 1),
    ]
    assert set(runs["model._target_"]) == {"mine.Net"}
    assert set(runs["model.hidden"]) == {3}
    assert set(runs["data.count"]) == {40}
    # A search path that is not there is no choice that is not there.
    code, _, err = command("+sweep=mine", *OWN)
    assert code == 2
    assert "sweep=mine: there is no such choice" in err


@pytest.mark.usefixtures("folder")
def test_a_group_that_initstudy_does_not_know_is_an_axis_like_any_other(command):
    code, out, err = command("--config-dir=own", "-m", "+experiment=fast,slow", *OWN, "name=groups")
    assert code == 0, out + err
    study = prepare(store.load("runs/groups"))
    assert study.by == "experiment"
    assert sorted(study.values()) == ["fast", "slow"]
    assert sorted(study.runs["optimizer.lr"]) == [0.001, 0.1]


APPLICATION = """
    import hydra

    @hydra.main(config_path=None, config_name="mine", version_base="1.3")
    def main(cfg):
        print(cfg.init._target_, cfg.model.width)

    main()
"""


COMPOSED = """
    defaults:
      - model: mlp
      - init: kaiming_normal
      - _self_
    hydra:
      searchpath: [pkg://initstudy.conf]
      output_subdir: null
      run: {dir: .}
"""


def test_the_configuration_is_a_search_path_of_other_applications(tmp_path):
    """As the package is installed here, editable or not."""
    (tmp_path / "app.py").write_text(textwrap.dedent(APPLICATION))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.yaml").write_text(textwrap.dedent(COMPOSED))
    done = subprocess.run(
        [sys.executable, "app.py", "--config-dir", "own", "model.width=9"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "initstudy.initializers.KaimingNormal 9\n"


def test_batches_of_a_grid_are_one_study_with_one_report(command, reported):
    """With excluded points among them, for which Hydra's sweeper gets no value."""
    code, out, err = command(
        "-m",
        *SMALL,
        "init=normal,torch",
        "seed=0,1",
        "exclude=[{init: torch, seed: 0}]",
        "hydra.sweeper.max_batch_size=1",
        "name=batches",
    )
    assert code == 0, out + err
    assert sorted(store.load("runs/batches").runs.select("init", "seed").iter_rows()) == [
        ("normal", 0),
        ("normal", 1),
        ("torch", 1),
    ]
    assert reported == [Path("runs/batches")]
    study = prepare(store.load("runs/batches"))
    assert (study.by, study.about["runs"]) == ("init", 3)
