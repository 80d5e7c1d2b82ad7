"""What goes wrong while a sweep trains: the rest of it goes on, and nothing written is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from initstudy import store
from tests.users_own import MINE

SMALL = ["max_steps=12", "data.subset=200", "tracking=off", "eval_every=12", "probes=off"]
RESULTS = ["run", "train/loss", "test/loss", "test/accuracy"]


def results(path):
    return store.load(path).runs.select(RESULTS).sort("run")


def test_a_run_that_cannot_train_is_recorded_and_the_others_finish(command, tmp_path):
    (tmp_path / "mine_choosy.py").write_text(textwrap.dedent(MINE))
    grid = ["-m", "init._target_=mine_choosy.Choosy", "init.std=0.1,0.2,0.3", "seed=0,1", *SMALL]
    code, out, err = command(*grid, "name=grid")
    assert code == 3
    assert "trained 4 runs" in out
    assert "std=0.2 seed=0" in err
    assert err.count("not with 0.2") >= 2
    assert "2 runs failed" in err
    assert "Traceback" not in out + err
    loaded = store.load("runs/grid")
    assert sorted(loaded.runs["init.std"].to_list()) == [0.1, 0.1, 0.3, 0.3]
    reasons = store.failures("runs/grid")
    assert len(reasons) == 2
    assert all("not with 0.2" in reason for reason in reasons.values())
    # A record that is damaged stops nobody.
    record = sorted(Path("runs/grid/store").glob("*.failed.json"))[0]
    record.write_text("{half")
    assert "its record is damaged" in store.failures("runs/grid").values()
    assert len(store.load("runs/grid").study["failed"]) == 2
    # The neighbours are what they would have been without them.
    alone = ["0.1,0.3" if "init.std" in a else a for a in grid]
    alone = [f"init.std={a}" if a == "0.1,0.3" else a for a in alone]
    assert command(*alone, "name=alone")[0] == 0
    assert_frame_equal(results("runs/grid"), results("runs/alone"), rel_tol=1e-5)
    # Once it is mended the same command trains what is missing.
    code, out, _ = command(*[a.replace("Choosy", "MyInit") for a in grid], "name=grid")
    assert code == 0


def test_a_model_that_raises_in_training_fails_without_a_trace(command, tmp_path):
    (tmp_path / "mine_raising.py").write_text(textwrap.dedent(MINE))
    model = "model._target_=mine_raising.Raising"
    code, out, err = command("-m", model, "seed=0,1", *SMALL, "name=raising")
    assert code == 3
    assert "ninth call is one too many" in err
    assert "Traceback" not in out + err
    assert set(store.failures("runs/raising").values()) == {
        "ArithmeticError: the ninth call is one too many"
    }


def test_a_model_whose_output_loses_a_class_in_training_fails_and_says_so(command, tmp_path):
    (tmp_path / "mine_shrinks.py").write_text(textwrap.dedent(MINE))
    model = "model._target_=mine_shrinks.Shrinking"
    code, out, err = command("-m", model, "seed=0,1", *SMALL, "name=shrinks")
    # Nine classes are a loss like another until a label names the tenth.
    assert code == 3, err
    assert "2 runs failed" in err
    assert "Traceback" not in out + err
    assert len(store.failures("runs/shrinks")) == 2


def test_a_model_that_returns_nan_has_diverged_and_not_failed(command, tmp_path):
    (tmp_path / "mine_nan.py").write_text(textwrap.dedent(MINE))
    model = "model._target_=mine_nan.Undefined"
    code, _, err = command("-m", model, "seed=0,1", *SMALL, "name=nan")
    assert code == 0, err
    assert store.load("runs/nan").runs["diverged_step"].to_list() == [0, 0]
    assert store.failures("runs/nan") == {}


@pytest.mark.parametrize("part", [".runs.parquet", ".history.parquet"])
@pytest.mark.parametrize("how", ["truncated", "garbled", "one bit"])
def test_a_damaged_pack_is_set_aside_and_trained_again(command, part, how):
    grid = ["-m", "init.std=0.1,0.2", "seed=0,1", "planner.pack_size=2", *SMALL, "name=grid"]
    command(*grid)
    before = results("runs/grid")
    file = sorted(Path("runs/grid/store").glob(f"*{part}"))[0]
    content = file.read_bytes()
    damaged = {
        "truncated": content[: len(content) // 2],
        "garbled": b"x" * len(content),
        # Inside a page of values: it still decodes.
        "one bit": content[:80] + bytes([content[80] ^ 1]) + content[81:],
    }
    file.write_bytes(damaged[how])
    code, out, _ = command(*grid)
    assert code == 0
    assert f"{file}: damaged, set aside" in out
    assert "2 of 4 complete; training 2" in out
    assert file.with_name(f"{file.name}.damaged").exists()
    # The pack is the one that it was: what trains together is told by the grid, not by the rest.
    assert file.exists()
    assert results("runs/grid").equals(before)


def test_the_same_command_writes_the_same_bytes_but_for_the_time_it_took(command):
    grid = ["-m", "init.std=0.1,3", "seed=0,1", *SMALL]
    for name in ("one", "two"):
        assert command(*grid, f"name={name}")[0] == 0
    stores = [Path(f"runs/{name}/store") for name in ("one", "two")]
    names = [sorted(f.name for f in folder.iterdir()) for folder in stores]
    assert names[0] == names[1]
    kinds = [".history.parquet", ".runs.parquet", ".sha256", ".timing.json"]
    assert [name[name.index(".") :] for name in names[0]] == kinds
    for name in names[0][:3]:
        assert (stores[0] / name).read_bytes() == (stores[1] / name).read_bytes()
    assert store.load("runs/one").runs["seconds"].gt(0).all()


def test_a_damaged_description_is_written_anew(command):
    command("-m", "seed=0,1", *SMALL, "name=grid")
    study = Path("runs/grid/study.json")
    study.write_text("{half")
    code, out, _ = command("-m", "seed=0,1", *SMALL, "name=grid")
    assert (code, "2 of 2 complete" in out) == (0, True)
    assert "study.json: damaged, set aside" in out
    assert store.read_study("runs/grid")["name"] == "grid"


def test_a_second_sweep_into_one_directory_is_refused_and_a_crash_leaves_no_lock(command):
    holder = textwrap.dedent("""
        import sys, time
        from initstudy.store import locks
        with locks.lock("runs/grid"):
            print("held", flush=True)
            time.sleep(60)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", holder],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert process.stdout
    with process.stdout:
        assert process.stdout.readline() == "held\n"
        code, _, err = command("-m", "seed=0,1", *SMALL, "name=grid")
        assert code == 2
        assert "another process is writing there" in err
        process.kill()
        process.wait()
    assert command("-m", "seed=0,1", *SMALL, "name=grid")[0] == 0


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_a_pack_that_does_not_fit_is_halved_until_it_does(tmp_path):
    """A real limit of the address space, between what 2 and 4 runs of 37 MB of weights take.

    Half of the runs take 0.25 GB less than the limit, so that nothing but their pack meets it.
    """
    script = textwrap.dedent("""
        import resource, sys
        import altair, polars, scipy.special, torch, torchvision
        import initstudy.__main__, initstudy.cli.run, initstudy.scheduling.study
        import initstudy.tasks.images, initstudy.scheduling.backends.local
        from initstudy.engine import SGD, Batch, Stack, Workload, choose_engine
        torch.set_num_threads(1)
        torch.ones(64, 64) @ torch.ones(64, 64)
        polars.DataFrame({"a": [1]}).write_parquet("warm")
        model = torch.nn.Sequential(torch.nn.Linear(1, 2))
        stack = Stack(model, [dict(model.named_parameters())])
        choice = choose_engine(Workload(model, torch.ones(2, 1)))
        engine = choice.build(stack, SGD(list(stack.params.values()), lr=0.1))
        engine.step(Batch(torch.ones(1, 2, 1), torch.zeros(1, 2, dtype=torch.long)))
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        limit = used + 1300 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        sys.argv = ["x", "-m", "seed=range(4)", "model.width=3000", "planner.pack_size=4",
                    "max_steps=2", "data.subset=64", "tracking=off", "probes=off", "name=grid"]
        initstudy.scheduling.study._report = lambda *_: None
        initstudy.__main__.main()
    """)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "could not train together" in done.stdout + done.stderr
    assert len(store.load(tmp_path / "runs/grid").runs) == 4
