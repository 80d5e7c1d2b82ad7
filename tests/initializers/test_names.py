"""Every name of `conf/init` means the same in Python and on the command line."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from initstudy.config import register
from initstudy.config.paths import CONF
from initstudy.initializers import Normal, Policy, Uniform, as_policy, preset
from initstudy.initializers.own import Own
from initstudy.training import factory

NAMES = sorted(file.stem for file in (CONF / "init").glob("*.yaml"))


@pytest.fixture(scope="module")
def sections():
    register()
    with initialize_config_dir(str(CONF), version_base=None):
        found = {}
        for name in NAMES:
            if name == "weight_selection":
                # Its file is the user's; tests/cli trains with one.
                continue
            config = OmegaConf.to_container(compose("config", [f"init={name}"]), resolve=True)
            found[name] = config["init"]
    return found


@pytest.mark.parametrize("name", [name for name in NAMES if name != "weight_selection"])
def test_a_name_is_the_same_policy(sections, name):
    expected = factory.policy(sections[name])
    if isinstance(expected, Own):
        # A study builds the model anew; in Python it is there already, and stays.
        assert preset("own").rules[0].initializer.__class__.__name__ == "Keep"
    elif name == "policy":
        assert preset(name, rules=list(expected.rules)) == expected
    else:
        assert preset(name) == expected


def test_arguments_are_those_of_the_command_line():
    assert preset("normal", std=0.02, bias=0.5) == as_policy(Normal(0.02), 0.5)
    assert preset("dirac", rest=Uniform(0.1)).rules[1].initializer == Uniform(0.1)
    assert preset("lsuv", iterations=3).iterations == 3
    assert isinstance(preset("keras"), Policy)


@pytest.mark.parametrize(
    ("name", "arguments", "error", "said"),
    [
        ("kears", {}, ValueError, "no preset 'kears'; choose one of"),
        ("normal", {"sdt": 1}, TypeError, r"init=normal: .*sdt.*; it takes .*std"),
        ("keras", {"std": 1}, TypeError, "init=keras: .*; it takes no arguments"),
        ("normal", {"std": -1}, ValueError, r"init\.std=-1"),
        ("normal", {"bias": "much"}, ValueError, r"init\.bias=much"),
        ("dirac", {"rest": 3}, TypeError, "3 is neither"),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(name, arguments, error, said):
    with pytest.raises(error, match=said) as raised:
        preset(name, **arguments)
    assert "\n" not in str(raised.value)
