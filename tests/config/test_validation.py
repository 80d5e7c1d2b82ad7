"""What makes a configuration valid: the schema's own rules, over everything that it declares."""

from __future__ import annotations

import copy
import math
import re
from dataclasses import fields

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from initstudy.config import ConfigError, as_columns, as_run, make_run, register
from initstudy.config.errors import closest
from initstudy.config.paths import CONF
from initstudy.config.schema import EXECUTORS, OPTIMIZERS, SCHEDULES
from initstudy.config.validation import fault_of


@pytest.fixture(scope="module")
def configured():
    """Composes a configuration, as plain values."""
    register()
    made = {}

    def make(*overrides):
        if overrides not in made:
            with initialize_config_dir(str(CONF), version_base="1.3"):
                cfg = compose("config", ["name=x", *overrides])
            made[overrides] = OmegaConf.to_container(cfg, resolve=True)
        return copy.deepcopy(made[overrides])

    return make


SECTIONS = [
    "",
    "optimizer",
    "schedule",
    "probes",
    "tracking",
    "executor",
    "planner",
    "checkpoint",
    "seeds",
]


@pytest.mark.parametrize("section", [*SECTIONS, "paper", "model", "init", "data", "loss"])
def test_a_key_that_nothing_reads_is_refused_at_every_level(configured, section):
    config = configured()
    (config[section] if section else config)["nonsense"] = 1
    key = f"{section}.nonsense".lstrip(".")
    with pytest.raises(ConfigError, match=f"^unknown key '{key}'"):
        as_run(config)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_key_that_is_deleted_is_missed(configured, section):
    whole = configured()
    present = whole[section] if section else whole
    optional = {"base_width", "momentum", "nesterov", "warmup", "_target_"}
    for name in present.keys() - optional:
        config = configured()
        del (config[section] if section else config)[name]
        with pytest.raises(ConfigError, match=f"^{f'{section}.{name}'.lstrip('.')}"):
            as_run(config)


@pytest.mark.parametrize("section", [*SECTIONS[1:], "paper"])
@pytest.mark.parametrize("value", [3, "text", [1], None])
def test_a_section_is_a_mapping(configured, section, value):
    config = configured()
    config[section] = value
    with pytest.raises(ConfigError, match=f"^{section}=.*must be a mapping from keys to values"):
        as_run(config)


NAMED = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "executor": EXECUTORS}
CHOICES = [(group, choice) for group, named in NAMED.items() for choice in named.schemas]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_the_shipped_files_have_exactly_the_keys_of_the_schema(group, choice):
    schema = NAMED[group].schemas[choice]
    written = yaml.safe_load((CONF / group / f"{choice}.yaml").read_text())
    if NAMED[group].targets:
        # Where another optimizer or schedule may be named.
        assert written.pop("_target_") is None
    assert written.keys() == {field.name for field in fields(schema)}
    for key, value in written.items():
        assert fault_of(f"{group}.{key}", value) is None


# Around each bound: the last value that is right, and the first that is wrong.
BOUNDS = [
    ("seed", 0, -1),
    ("seed", 2**63 - 1, 2**63),
    ("epochs", 1, 0),
    ("batch_size", 1, True),
    ("log_every", 1, 1.0),
    ("max_steps", None, 0),
    ("data.subset", None, 0),
    ("criterion", math.ulp(0), 0),
    ("checkpoint.every", 0, -math.ulp(0)),
    ("checkpoint.every", None, math.inf),
    ("optimizer.lr", math.ulp(0), 0),
    ("optimizer.lr", 1e300, math.inf),
    ("optimizer.weight_decay", 0, -math.ulp(0)),
    ("optimizer.momentum", math.nextafter(1, 0), 1),
    ("optimizer.momentum", 0, math.nan),
    ("optimizer.nesterov", True, 1),
    ("optimizer.base_width", None, 0),
    ("schedule.warmup", 0, -1),
    ("clip_norm", math.ulp(0), 0),
    ("clip_norm", None, math.inf),
    ("decay", "matrices", "vectors"),
    ("precision", "bf16", "fp16"),
    ("planner.workers", 1, "1"),
    ("tracking.entity", None, ["me"]),
]


@pytest.mark.parametrize(("key", "right", "wrong"), BOUNDS)
def test_the_bounds_are_where_the_schema_says(configured, key, right, wrong):
    section, _, name = key.rpartition(".")
    for value in (right, wrong):
        config = configured()
        (config[section] if section else config)[name] = value
        if value is right:
            as_run(config)
        else:
            with pytest.raises(ConfigError, match=f"^{re.escape(f'{key}={value}')}: (must|choose)"):
                as_run(config)


@pytest.mark.parametrize("betas", [[0.9], [0.9, 1.0], [0.9, -0.1], [0.9, math.nan], 0.9, [0.9] * 3])
def test_adams_betas_are_two_fractions(configured, betas):
    config = configured("optimizer=adam")
    as_run(config)
    config["optimizer"]["betas"] = betas
    with pytest.raises(ConfigError, match=r"^optimizer\.betas=.* such as \[0\.9, 0\.999\]"):
        as_run(config)


def test_notes_are_free_text_that_changes_no_run(configured):
    plain, noted = as_run(configured()), as_run(configured("notes={why: a try}"))
    assert noted.config["notes"] == {"why": "a try"}
    assert noted.id == plain.id
    assert not any(key.startswith("notes") for key in as_columns(noted.config))


@pytest.mark.parametrize(
    ("key", "known", "meant"),
    [
        ("sed", ["seed", "epochs"], "seed"),
        ("init.sdt", ["init.std", "init.mean"], "init.std"),
        ("lr", ["seed", "optimizer.lr"], "optimizer.lr"),
        ("optimizer.rl", ["optimizer.lr"], "optimizer.lr"),
        # A key of the same section goes before one of the same name elsewhere.
        ("b.widht", ["a.width", "b.widths"], "b.widths"),
        ("optimizer.foo", ["optimizer.lr", "seed"], None),
        ("precision", ["executor.partition"], None),
    ],
)
def test_the_key_that_was_probably_meant(key, known, meant):
    assert closest(key, known) == meant


def test_a_target_of_ones_own_is_given_only_what_it_takes(configured, monkeypatch, tmp_path):
    (tmp_path / "mine_fitted.py").write_text("def make(depth, *, classes): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    overrides = ["model._target_=mine_fitted.make"]
    model = as_run(configured(*overrides), overrides).config["model"]
    # What conf/model/mlp.yaml says of MLPs is no other model's.
    assert model == {"_target_": "mine_fitted.make"}
    named = [*overrides, "model.width=3"]
    with pytest.raises(
        ConfigError, match=r"model\.width=3: mine_fitted\.make takes classes, depth"
    ):
        as_run(configured(*named), named)


def test_a_module_that_cannot_be_imported_is_told_from_a_name_that_is_not_there(
    configured, monkeypatch, tmp_path
):
    package = tmp_path / "mine_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "net.py").write_text("import nonexistent_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for target, reason in {
        "mine_package.net.Net": "No module named 'nonexistent_package'",
        "mine_package.Net": "module 'mine_package' has no attribute 'Net'",
    }.items():
        with pytest.raises(ConfigError, match=reason):
            make_run(OmegaConf.create(configured(f"model._target_={target}")))
