"""Configurations at random: each trains three steps or is refused with one line."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from initstudy import store
from initstudy.__main__ import main
from initstudy.config.paths import CONF

SECONDS = 60


def choices(group):
    return st.sampled_from(sorted(file.stem for file in (CONF / group).glob("*.yaml")))


ODD = st.sampled_from(["", "null", "nan", "inf", "-1", "0", "1e400", "true", "[]", "{}", "abc",
                       "[1,2]", "1.5", "'a b'", "${seed}", "${init}", "${name}", "${claims}",
                       "${exclude}", "${nothing}", "???", "é"])  # fmt: skip
SIZES = st.sampled_from([1, 2, 8, 17, 0, -3, 10**13]) | ODD
NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0, 1, -1, 0.1]) | ODD
COUNTS = st.integers(-2, 60) | st.sampled_from([10**9, 2**63, 2**64]) | ODD
# What a user might set, and to what; half of it is nonsense.
KEYS = {
    "model": choices("model"), "init": choices("init"), "optimizer": choices("optimizer"),
    "probes": choices("probes"), "model.width": SIZES, "model.activation": st.sampled_from(
        ["relu", "tanh", "gelu", "selu", "linear", "sigmoid"]) | ODD,
    "model.depth": st.sampled_from([1, 2, 5, 0, -1]) | ODD, "model.channels": SIZES,
    "init.std": NUMBERS, "init.bias": NUMBERS, "init.gain": NUMBERS, "init.mode": ODD,
    "init.rest": ODD, "init.sparsity": NUMBERS, "init.rules": ODD,
    "optimizer.lr": NUMBERS, "optimizer.weight_decay": NUMBERS, "optimizer.momentum": NUMBERS,
    "optimizer.betas": ODD, "optimizer.eps": NUMBERS, "optimizer.nesterov": ODD,
    "optimizer.base_width": SIZES, "probes.every": COUNTS, "probes.preset": ODD,
    "seed": COUNTS, "epochs": COUNTS, "batch_size": COUNTS, "log_every": COUNTS,
    "eval_every": COUNTS, "save_weights": st.sampled_from(["both", "init"]) | ODD,
    "checkpoint.every": NUMBERS, "planner.pack_size": COUNTS, "data.subset": COUNTS,
    "data.name": ODD, "device": ODD, "by": ODD, "across": ODD, "tune": ODD, "criterion": NUMBERS,
    "paper": ODD, "claims": ODD | st.sampled_from(["{a: 1}", "{a: {_target_: x}}"]),
    "exclude": ODD, "name": ODD, "tracking.mode": ODD,
    "+model.what": NUMBERS, "+what": NUMBERS, "~optimizer.lr": st.just(None),
    "init._target_": st.sampled_from(["torch.nn.Linear", "math.sqrt", "os.getcwd", "x", "x.y"]),
    "model._target_": st.sampled_from(["torch.nn.Identity", "torch.nn.Flatten", "os.getcwd", "x"]),
}  # fmt: skip
SETTING = st.sampled_from(sorted(KEYS)).flatmap(lambda key: st.tuples(st.just(key), KEYS[key]))


def overrides(chosen):
    return [key if value is None else f"{key}={value}" for key, value in chosen.items()]


class Hung(BaseException):
    """It took far too long."""


def give(arguments):
    """Runs the command in a folder of its own.

    Returns:
        Its exit code, what it printed, the runs that it trained, and the files that it left.

    Raises:
        Hung: It took far too long.
    """

    def alarm(*_):
        raise Hung

    out, err = io.StringIO(), io.StringIO()
    before, here, argv = signal.signal(signal.SIGALRM, alarm), Path.cwd(), sys.argv
    sys.argv = [str(CONF.parent / "initstudy/__main__.py"), *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "0"
    signal.alarm(SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
            os.chdir(here)
            sys.argv = argv
        trained = {run for study in Path(folder).glob("runs/*") for run in store.finished(study)}
        left = [path.relative_to(folder) for path in Path(folder).rglob("*")]
        return code, out.getvalue(), err.getvalue(), trained, left


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    monkeypatch.setattr("initstudy.scheduling.study._report", lambda *_: None)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")


@given(
    chosen=st.lists(SETTING, max_size=4, unique_by=lambda item: item[0]).map(dict),
    many=st.booleans(),
)
# The suite tries the same ones each time; with CONFIGURATIONS=1000 it looks further, at random.
@settings(
    max_examples=int(os.environ.get("CONFIGURATIONS", "40")),
    deadline=None,
    derandomize="CONFIGURATIONS" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
def test_a_configuration_trains_three_steps_or_is_refused_with_one_line(chosen, many):
    small = [
        "max_steps=3",
        "tracking=off",
        *([] if "data.subset" in chosen else ["data.subset=80"]),
    ]
    code, out, err, trained, left = give([*(["-m"] if many else []), *small, *overrides(chosen)])
    said = [line for line in err.splitlines() if line.startswith("initstudy: ")]
    assert "Traceback" not in out + err
    assert code in (0, 2, 3), err
    if code == 0:
        assert trained, out
        assert not said
    elif code == 2:
        assert err.splitlines() == said
        assert len(said) == 1
        assert len(said[0]) > len("initstudy: ") + 5
        assert not left
    else:
        assert "failed: " in said[0]
