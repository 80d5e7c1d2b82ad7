from __future__ import annotations

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import open_dict

from initstudy.config import ConfigError, make_run, register
from initstudy.config.compose import compose_jobs
from initstudy.config.paths import CONF


@pytest.fixture
def loader():
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def compose(loader, jobs, overrides=("name=x",)):
    config = loader.load_configuration("config", list(overrides), run_mode=RunMode.MULTIRUN)
    return config, compose_jobs(loader, config, jobs)


def as_hydra_does(loader, config, job):
    """Every override composed by Hydra itself."""
    cfg = loader.load_sweep_config(config, list(job))
    with open_dict(cfg):
        choices = dict(cfg.pop("hydra").runtime.choices)
    return make_run(cfg, job, choices)


JOBS = {
    "values": [["name=x", "seed=1", "init.std=0.1"], ["name=x", "seed=2", "init.std=1"]],
    "text for a number": [["name=x", "max_steps='5'"], ["name=x", "max_steps=3"]],
    "null": [["name=x", "data.subset=10"], ["name=x", "data.subset=null"]],
    "choices": [["name=x", "init=xavier_normal", "seed=1"], ["name=x", "model=cnn", "seed=1"]],
    "new keys": [["name=x", "+init.rest=1", "seed=1"], ["name=x", "+init.rest=2", "seed=1"]],
    "one follows another": [
        ["name=x", "optimizer.lr='${init.std}'", "init.std=0.1"],
        ["name=x", "optimizer.lr='${init.std}'", "init.std=0.2"],
    ],
    "the name that the folder follows": [["name=a", "seed=1"], ["name=b", "seed=2"]],
    "lists": [["name=x", "exclude=[{seed: 7}]"], ["name=x", "seed=3"]],
    "the same key twice": [["name=x", "seed=1", "seed=2"]],
}


@pytest.mark.parametrize("jobs", JOBS.values(), ids=JOBS.keys())
def test_runs_are_those_that_hydra_composes(loader, jobs):
    config, runs = compose(loader, jobs)
    expected = [as_hydra_does(loader, config, job) for job in jobs]
    assert [(run.id, run.config, run.overrides) for run in runs] == [
        (run.id, run.config, run.overrides) for run in expected
    ]
    assert [run.choices for run in runs] == [run.choices for run in expected]


def test_a_run_shares_no_value_that_differs(loader):
    _, runs = compose(loader, [["name=x", f"init.std={std}"] for std in (0.1, 0.2, 0.3)])
    assert [run.config["init"]["std"] for run in runs] == [0.1, 0.2, 0.3]


def test_what_a_sweep_excludes_is_no_run(loader):
    jobs = [[f"seed={seed}", "name=x", "exclude=[{seed: 1}]"] for seed in range(3)]
    assert [run.config["seed"] for run in compose(loader, jobs)[1]] == [0, 2]


@pytest.mark.parametrize(
    "bad", ["init.sdt=1", "seed=abc", "optimizer.lr=-1", "model.nothing.at.all=1"]
)
def test_one_bad_job_among_good_ones_is_named(loader, bad):
    jobs = [["name=x", "seed=1"], ["name=x", "seed=2"], ["name=x", bad]]
    with pytest.raises(ConfigError, match=bad.split("=")[0]):
        compose(loader, jobs)
