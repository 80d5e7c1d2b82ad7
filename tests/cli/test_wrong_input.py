"""What a user gets wrong: one line, exit code 2, nothing trained and nothing left behind."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path

import pytest

from initstudy.cli import run
from initstudy.config import ConfigError
from tests.users_own import MINE

# The hook that checks types in the tests would refuse before the program does.
pytestmark = pytest.mark.usefixtures("unchecked")

SMALL = [
    "model=cnn",
    "max_steps=2",
    "data.subset=40",
    "batch_size=16",
    "tracking=off",
    "probes=off",
]
BETAS = "must be two numbers of at least 0 and below 1, such as [0.9, 0.999]"
CLAIM = "_target_: initstudy.claims.WorseThanBest, statement: x"
# Arguments, and what the line says.
KEYS = [
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
    (["init=gpt2"], "init: GPT2 found no residual branch in the data flow of the MLP"),
    (
        ["init=fixup", "model=cnn"],
        "init: Fixup found no residual branch in the data flow of the CNN",
    ),
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
]
# Keys that nothing reads, at every level, with a plus and without.
UNKNOWN = [
    (["sed=1"], "unknown key 'sed' (did you mean 'seed'?); see --help"),
    (["lr=0.1"], "unknown key 'lr' (did you mean 'optimizer.lr'?)"),
    (["init.sdt=1"], "unknown key 'init.sdt' (did you mean 'init.std'?)"),
    (["init=kaiming_normal", "init.std=1"], "unknown key 'init.std'; init has bias, gain, mode"),
    (["optimizer.betas=[0.9]"], "unknown key 'optimizer.betas'; optimizer has base_width, lr"),
    (["+nonsense=1"], "unknown key 'nonsense'; see --help"),
    (["+clip_grad=0.1"], "unknown key 'clip_grad'"),
    (["+loss.what=1"], "unknown key 'loss.what'"),
    (
        ["optimizer._target_=torch.optim.Adagrad", "+optimizer.wat=1"],
        "torch.optim.Adagrad takes",
    ),
    (["optimizer=lion", "optimizer.momentum=0.9"], "unknown key 'optimizer.momentum'"),
    (["schedule.gamma=0.5"], "unknown key 'schedule.gamma'"),
    (["schedule=cosine", "+schedule.cycles=2"], "'schedule.cycles': schedule=cosine does not have"),
    (["+optimizer.scheduler=cosine"], "unknown key 'optimizer.scheduler': optimizer=sgd does not"),
    (["+probes.foo=3"], "unknown key 'probes.foo'; probes has every, preset"),
    (["+planner.foo=1"], "unknown key 'planner.foo'; planner has pack_size, timing, workers"),
    (["+checkpoint.evry=1"], "unknown key 'checkpoint.evry' (did you mean 'checkpoint.every'?)"),
    (["+data.x=1"], "unknown key 'data.x': digits does not have it; data has subset, validation"),
    (["+seeds.data=1"], "unknown key 'seeds.data'; seeds has init, order, split"),
    (["+tracking.foo=3"], "unknown key 'tracking.foo'; tracking has entity, granularity"),
    (["+executor.foo=3"], "unknown key 'executor.foo': executor=local does not have it"),
    (["+paper.foo=3"], "unknown key 'paper.foo'; paper has discussion, here, source, used"),
    (["+model.what=1"], "unknown key 'model.what': MLP does not have it; model has activation"),
    (
        ["+init.what=1"],
        "unknown key 'init.what': Normal does not have it; init has bias, mean, rest, std",
    ),
    (["-m", "seed=0,1", "by=nope"], "by=nope: is no key of the configuration"),
    (["-m", "seed=0,1", "across=nope"], "across=nope: is no key of the configuration"),
    (["-m", "seed=0,1", "tune=optimizer.rl"], "(did you mean 'optimizer.lr'?)"),
    (["-m", "seed=0,1", "exclude=[{modle: mlp}]"], "exclude: modle: is no key"),
    (["~foo"], "~foo: there is no such key"),
    (["hydra.foo=1"], "unknown key 'hydra.foo'"),
]
VALUES = [
    (["seed=99999999999999999999"], "seed=99999999999999999999: must be at most 9223372036854775"),
    (["seed=1.5"], "seed=1.5: must be a whole number of at least 0"),
    (["seed=null"], "seed=null: must be a whole number"),
    (["seed="], "seed=: must be a whole number"),
    (["seed=???"], "seed: missing; give it a value"),
    (["epochs=0", "max_steps=null"], "epochs=0: must be a whole number of at least 1"),
    (["max_steps=0"], "max_steps=0: must be a whole number of at least 1"),
    (["max_steps=-5"], "max_steps=-5: must be a whole number of at least 1"),
    (["log_every=0"], "log_every=0: must be a whole number of at least 1"),
    (["probes.every=1.5"], "probes.every=1.5: must be a whole number of at least 1"),
    (["batch_size=201", "data.subset=200"], "batch_size=201: must be at most the number of train"),
    (["data.subset=10"], "batch_size=32: must be at most the number of training images, 10"),
    (["data.subset=0"], "data.subset=0: must be a whole number of at least 1"),
    (["data.subset=999999"], "data.subset=999999: digits has 1438 training images"),
    (["data=imagefolder"], "data=imagefolder: there is no such choice; did you mean image_folder?"),
    (["optimizer.lr=-1"], "optimizer.lr=-1: must be a finite number above 0"),
    (["optimizer.lr=nan"], "optimizer.lr=nan: must be a finite number above 0"),
    (["optimizer.lr=${nothing}"], "optimizer.lr: Interpolation key 'nothing' not found"),
    (["optimizer.momentum=2"], "optimizer.momentum=2: must be below 1"),
    (["optimizer.nesterov=maybe"], "optimizer.nesterov=maybe: must be true or false"),
    (["-m", "precision=bf16,fp32"], "precision=fp32: choose one of highest, tf32, bf16"),
    (["precision=tf32", "device=cpu"], "precision=tf32: only GPUs have it, and device=cpu"),
    (["optimizer=rmsprop", "optimizer.alpha=1"], "optimizer.alpha=1: must be below 1"),
    (["optimizer=lion", "optimizer.betas=[1,1]"], f"optimizer.betas=[1, 1]: {BETAS}"),
    (["optimizer=muon", "optimizer.ns_steps=0"], "optimizer.ns_steps=0: must be a whole number"),
    (["optimizer=muon", "optimizer.adjust_lr_fn=none"], "choose one of original, match_rms_adamw"),
    (["schedule.warmup=-1"], "schedule.warmup=-1: must be a whole number of at least 0"),
    (["schedule.warmup=9", "max_steps=9"], "warmup=9: must be below the number of steps, 9"),
    (["schedule=step", "schedule.gamma=0"], "schedule.gamma=0: must be a finite number above 0"),
    (["schedule=linear", "schedule.end_factor=2"], "schedule.end_factor=2: must be at most 1"),
    (["clip_norm=0"], "clip_norm=0.0: must be a finite number above 0"),
    (["clip_norm=lots"], "clip_norm=lots: must be a finite number"),
    (["decay=biases"], "decay=biases: choose one of all, matrices"),
    (["optimizer=adam", "optimizer.betas=[0.9]"], f"optimizer.betas=[0.9]: {BETAS}"),
    (["optimizer=adam", "optimizer.betas=[2,3]"], f"optimizer.betas=[2, 3]: {BETAS}"),
    (["optimizer=adam", "optimizer.eps=-1"], "optimizer.eps=-1: must be a finite number"),
    (["device=gpu"], "device=gpu: not usable here"),
    (["device=mps"], "device=mps: not usable here"),
    (["name=a/b"], "name=a/b: must be a plain name, without slashes"),
    (["name=.."], "name=..: must be a plain name"),
    (["name=''"], "name=: must be a plain name"),
    (["dir=/proc/x"], "dir=/proc/x: cannot be made: No such file or directory"),
    (["dir=/etc/passwd"], "dir=/etc/passwd: cannot be made: File exists"),
    (["save_weights=all"], "save_weights=all: choose one of none, init, final, both"),
    (["init.std=inf"], "init.std=inf: a standard deviation must be a finite number"),
    (["criterion=5"], "criterion=5.0: must be at most 1"),
    (["planner.pack_size=0"], "planner.pack_size=0: must be a whole number of at least 1"),
    (["planner=5"], "planner=5: must be a mapping from keys to values"),
    (["checkpoint.every=-1"], "checkpoint.every=-1.0: must be a number of seconds"),
    (["tracking.mode=onlin"], "tracking.mode=onlin: choose one of offline, online, off"),
    (["tracking.granularity=x"], "tracking.granularity=x: choose one of run, study"),
    (["notes=5"], "notes=5: must be a mapping, such as {why: a try}"),
    (["exclude={a: 1}"], "exclude: must be a list of mappings"),
    (["claims={a: 3}"], "claims.a: cannot be built: 3 names no _target_"),
    ([f"claims={{a: {{{CLAIM}, at: bigest, count: 3}}}}"], "at=bigest: choose largest or smallest"),
    (["claims={a: {_target_: initstudy.claims.Nope}}"], "claims.a: cannot be built"),
    (
        [f"claims={{a: {{{CLAIM}, at: largest, count: 3, metric: test/acuracy}}}}"],
        "claims.a.metric=test/acuracy: there is no such metric; did you mean test/accuracy?",
    ),
    (
        [f"claims={{a: {{{CLAIM}, at: largest, count: 3, metric: learning_time}}}}"],
        "claims.a.metric=learning_time: set criterion",
    ),
    (
        [f"claims={{a: {{{CLAIM}, at: largest, count: 3, metric: nope}}}}"],
        "claims.a.metric=nope: there is no such metric; choose one of train/loss, train/accuracy",
    ),
]
CHOICES = [
    (["probes=nope"], "probes=nope: there is no such choice; choose one of basic, full, off"),
    (["model=mpl"], "model=mpl: there is no such choice; did you mean mlp?"),
    (["init="], "init=: there is no such choice; choose one of ZerO, article, bert"),
    (["init=null"], "init=null: must be the name of a choice"),
    (["tracking=off", "data=3"], "data=3: must be the name of a choice"),
    (["~init"], "init: missing; give it a value"),
    (["+init=normal"], "+init: a choice of it is made already; leave out the +"),
    (["sweep=std_grid"], "sweep=std_grid: nothing is chosen there that it could replace; write +s"),
    (["+seed=3"], "+seed=3: there is such a key already; leave out the +"),
    (["hydra/launcher=nope"], "hydra/launcher=nope: there is no such choice"),
    (["-m", "hydra/launcher=submitit_slurm", "seed=0,1"], "leave it out and set executor=slurm"),
    (["-m", "hydra/launcher=submitit_local", "seed=0,1"], "leave it out and set executor=local"),
    (["--config-name", "nope"], "--config-name nope: there is no such configuration"),
    (["--config-dir", "nope"], "config directory"),
]
TARGETS = [
    (["model._target_=bad_input.NoSuch"], "module 'bad_input' has no attribute 'NoSuch'"),
    (["model._target_=nomodule.X"], "model._target_=nomodule.X: cannot be loaded from"),
    (["model._target_=bad_import.X"], "No module named 'nonexistent_package'"),
    (["model._target_=bad_syntax.X"], "invalid syntax (bad_syntax.py, line 1)"),
    (["model._target_=bad_input.not_a_module"], "builds no torch.nn.Module"),
    (["model._target_=bad_input.Shapeless"], "returns (2, 1, 8, 8) for 2 images; 10 classes need"),
    (["init._target_=bad_input.wrong_shape"], "is itself an initializer; add +init._partial_=true"),
    (
        ["init._target_=bad_input.wrong_shape", "+init._partial_=true"],
        "init fills fc1.weight with (3,); it needs a tensor of shape (128, 64)",
    ),
    (["init._target_=bad_input.in_place"], "fills a tensor in place; an initializer takes (shape"),
    (["init._target_=torch.nn.init.normal_"], "fills a tensor in place"),
    (
        ["optimizer._target_=torch.optim.Nope"],
        "torch.optim.Nope: cannot be load",
    ),
    (["optimizer._target_=torch.optim.LBFGS"], "LBFGS.step() missing 1 required positional argume"),
    (["optimizer._target_=torch.optim.Muon"], "Muon only supports 2D parameters"),
    (["optimizer._target_=torch.optim.Rprop", "optimizer.lr=-1"], "optimizer.lr=-1: must be a fin"),
    (
        ["optimizer._target_=torch.optim.RMSprop", "+optimizer.eps=-1"],
        "optimizer._target_=torch.optim.RMSprop: Invalid epsilon value: -1",
    ),
    (["optimizer._target_=torch.optim.Rprop", "decay=matrices"], "no optimizer.weight_decay to"),
    (["schedule._target_=bad_input.negative"], "gives -1 at step 0; it has to give a finite num"),
    (["schedule._target_=bad_input.negative", "schedule.warmup=3"], "takes no arguments"),
    (
        ["schedule._target_=bad_input.nothing"],
        "bad_input.nothing: cannot be load",
    ),
    (["init._target_=bad_input.Raises"], "init._target_=bad_input.Raises: RuntimeError: boom"),
]
GRIDS = [
    (["init.std=0.1,0.2"], "init.std=0.1,0.2: several values are a grid, which needs -m (--multi"),
    (["seed=range(3)"], "seed=range(3): several values are a grid, which needs -m (--multirun)"),
    (["seed=0,1", "init.sdt=3"], "unknown key 'init.sdt' (did you mean 'init.std'?)"),
    (["sed=0,1"], "unknown key 'sed' (did you mean 'seed'?)"),
    (
        ["seed=0,1", "+sweep=std_gird"],
        "sweep=std_gird: there is no such choice; did you mean std_g",
    ),
    (["+sweep=std_grid", "seed=0,1", "modle=cnn"], "unknown key 'modle' (did you mean 'model'?)"),
    (["+sweep=std_grid", "init.sdt=0.1,0.2"], "unknown key 'init.sdt'"),
    (["-m", "seed=0,1", "sed=1"], "unknown key 'sed' (did you mean 'seed'?)"),
    (["-m", "init=torch,nope"], "init=nope: there is no such choice"),
    (["-m", "init.std=0.1,0.1"], "init.std=0.1,0.1: names 0.1 twice; give each value once"),
    (["-m", "seed=0,0"], "seed=0,0: names 0 twice"),
    (["-m", "device=cpu,cuda"], "device=cpu,cuda: device changes no result"),
    (["-m", "+notes.why=a,b"], "notes.why=a,b: notes.why changes no result"),
    (["-m", "seed=range(0)"], "it has no run"),
    (["-m", "exclude=[{init: normal}]"], "it has no run"),
]
COMMAND_LINE = [
    (["foo=1", "--frobnicate"], "unrecognized arguments: --frobnicate; see --help"),
    (["--cfg", "jib"], "invalid choice: 'jib'"),
    (["-m", "--cfg", "job"], "Only one of --run, --multirun, --cfg"),
    (["seed=1", "foo"], "foo: is neither an option nor KEY=VALUE"),
    (["seed=["], "seed=[: cannot be read: no viable alternative"),
    (["reprot", "runs/x"], "reprot: there is no such command; did you mean report?"),
    (["report"], "the following arguments are required: source; see initstudy report --help"),
    (["report", "nowhere"], "nowhere: no such directory"),
    (["report", "nowhere", "--format", "docx"], "--format docx: choose from html, markdown, pdf"),
    (["status", "nowhere"], "nowhere: no study has been there"),
    (["check", "nowhere"], "nowhere: no such directory"),
    (["audit", "--josn"], "--josn: there is no such option"),
    (["audit", "--config-dir", "nowhere"], "--config-dir nowhere: there is no such folder"),
    (["completion", "tcsh"], "invalid choice: 'tcsh'"),
]
MODULES = {
    "mine_bad.py": textwrap.dedent(MINE),
    "bad_import.py": "import nonexistent_package",
    "bad_syntax.py": "def (",
    "bad_input.py": textwrap.dedent("""
        import torch

        def wrong_shape(shape, fans, *, generator, dtype):
            return torch.zeros(3)

        def in_place(tensor):
            torch.nn.init.normal_(tensor)

        class Raises:
            def __init__(self, std=1.0):
                pass
            def __call__(self, shape, fans, *, generator, dtype):
                raise RuntimeError("boom")

        class Shapeless(torch.nn.Module):
            def __init__(self, classes):
                super().__init__()
            def forward(self, x):
                return x

        def not_a_module(classes):
            return 3

        def negative(step):
            return -1
    """),
}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [*KEYS, *UNKNOWN, *VALUES, *CHOICES, *TARGETS, *GRIDS, *COMMAND_LINE],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_user_gets_wrong_is_one_line_with_code_2_and_leaves_nothing(
    command, tmp_path, arguments, said
):
    for name, text in MODULES.items():
        (tmp_path / name).write_text(text)
    code, out, err = command(*arguments)
    assert (code, out) == (2, ""), err
    (line,) = err.splitlines()
    assert line.startswith("initstudy: ")
    assert said in line
    # What Python and wandb write for themselves is not the command's.
    others = {"__pycache__", ".cache"}
    left = {path.name for path in tmp_path.rglob("*") if not others & set(path.parts)}
    assert left == set(MODULES)


def test_a_refused_command_takes_back_only_what_it_has_made(command, tmp_path):
    (tmp_path / "there").mkdir()
    assert command("init.std=-1", "dir=there/new/study")[0] == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
    kept = tmp_path / "mine"
    kept.mkdir()
    assert command("init.std=-1", "dir=mine")[0] == 2
    assert kept.is_dir()
    assert command(*SMALL, "name=good")[0] == 0
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert command(*SMALL, "name=good", "init.std=-1")[0] == 2
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


def test_a_traceback_is_there_for_those_who_want_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ConfigError, match="seed=-1"):
        run.main(["seed=-1"])
    monkeypatch.delenv("HYDRA_FULL_ERROR")
    assert run.main(["seed=-1"]) == 2
    # Hydra is told to raise its errors, and no program that comes after it.
    assert "HYDRA_FULL_ERROR" not in os.environ


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
