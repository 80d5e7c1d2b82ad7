"""What a user gets wrong: one line, exit code 2, and nothing trained."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from tests.users_own import MINE


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sed=1"], "sed"),
        (["model.dpeth=3"], "dpeth"),
        (["model=mpl"], "mpl"),
        (["+sweep=std_gird"], "std_gird"),
        (["init.std=-1"], "init.std=-1: a standard deviation must be"),
        (["init.std=abc"], "init.std=abc"),
        (["-m", "init.std=0.1,-0.2"], "init.std=-0.2"),
        (["seed=-1"], "seed=-1: must be a whole number"),
        (["seed=lots"], "seed"),
        (["optimizer.lr=0"], "optimizer.lr=0"),
        (["model.activation=rleu"], "model.activation=rleu: choose one of relu"),
        (["model=cnn", "model.kernel_size=2"], "model.kernel_size=2"),
        (["data=mnist", "data.download=false", "data.root=none"], "data.root=none: mnist is miss"),
        (["model._target_=mine_bad.Wrong"], "model._target_=mine_bad.Wrong"),
        (["model._target_=mine_bad.Nothing"], "model._target_=mine_bad.Nothing: cannot be"),
        (["model._target_=mine_bad.Scaled"], "init leaves scale"),
        (["model._target_=mine_bad.Net", "model.width=3"], "takes classes, hidden"),
        (["batch_size=5000"], "batch_size=5000: must be at most"),
        (["tracking=online"], "tracking.mode=online: no W&B key"),
        (["dir=/proc/nowhere"], "/proc/nowhere"),
        (["device=tpu0"], "device=tpu0"),
        (["init=sparse", "init.sparsity=1"], "init.sparsity=1: must be below 1"),
        (["init=orthogonal", "init.gain=-1"], "init.gain=-1"),
        (["init=truncated_normal_between", "init.low=3"], "nothing lies between the bounds"),
        (["init=dirac", "init.rest=null"], "init leaves fc1.weight"),
        (["init=gpt2"], "no parameter of the model has such a name"),
        (["init=fixup", "model=cnn"], "Fixup found no residual block"),
        (["init=policy", "init.rules=[]"], "init leaves fc1.weight"),
        (["init=lsuv", "init.tolerance=0", "init.iterations=1"], "LSUV cannot bring fc1 to unit"),
        (["init=mean_field", "init.sigma_b2=-0.1"], "init.sigma_b2=-0.1: a variance must be"),
        (["checkpoint.every=60s"], "checkpoint.every=60s: must be a number of seconds"),
        (["~optimizer.lr"], "optimizer.lr: missing"),
        (["claims=${seed}"], "claims=0: must be a mapping"),
        (["+claims.a={_target_: os.getcwd}"], "claims.a: cannot be built"),
        (["+claims.a={at: largest}"], "claims.a: cannot be built: {'at': 'largest'} names no"),
        (["across=model.dpth"], "across=model.dpth: is no key"),
        (["criterion=1.5"], "criterion=1.5: must be at most 1"),
        (["model=lstm", "optimizer.base_width=64"], "recurrent is a LSTM"),
        (["optimizer.base_width=0"], "optimizer.base_width=0: must be a whole number"),
        (["model=rnn", "model.nonlinearity=sigmoid"], "model.nonlinearity=sigmoid: choose one of"),
        (["model=transformer", "model.patch_size=3"], "model.patch_size=3: must divide"),
        (["executor=slrum"], "slrum"),
        (["executor.workers=0"], "executor.workers=0: must be a whole number of at least 1"),
        (["planner.pack_size=two"], "planner.pack_size=two: must be a whole number"),
        (["executor=slurm", "executor.time=1h"], "executor.time=1h: must be a whole number"),
        (["executor=slurm", "executor.poll=0"], "executor.poll=0: must be a finite number above 0"),
        (["executor=slurm", "executor.sbatch=mine"], "must be options of sbatch"),
        (
            ["executor=slurm", "+executor.workers=2"],
            "unknown key 'executor.workers': executor=slurm does not have it",
        ),
        (["executor=ray", "executor.gpus=-1"], "executor.gpus=-1: must be a finite number"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line_and_exit_code_2(command, tmp_path, arguments, said):
    (tmp_path / "mine_bad.py").write_text(textwrap.dedent(MINE))
    code, out, err = command(*arguments)
    assert code == 2
    lines = [line for line in err.splitlines() if line.startswith("initstudy: ")]
    assert len(lines) == 1, err
    assert said in lines[0]
    assert "Traceback" not in err + out
    assert not list(Path().rglob("*.parquet"))


@pytest.mark.parametrize(("name", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    command, monkeypatch, name, package
):
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = command(f"executor={name}", "max_steps=1")
    assert code == 2
    assert f'pip install "initstudy[{name}]"' in err
    assert not list(Path().rglob("*.parquet"))


def test_a_machine_without_slurm_says_so(command, monkeypatch):
    pytest.importorskip("submitit", reason='needs pip install -e ".[slurm]"')
    monkeypatch.setenv("PATH", "")
    code, _, err = command("executor=slurm", "max_steps=1")
    assert code == 2
    assert "executor=slurm: there is no sbatch here" in err
