"""What a configuration cannot do, and what never leaves the process. SECURITY.md states it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from initstudy.config.paths import CONF
from tests.wandb_server import KEY

ROOT = Path(__file__).parent.parent
SMALL = ["max_steps=2", "data.subset=40", "batch_size=16", "model.width=8"]


@pytest.mark.parametrize("name", ["../../out", "a/../../../out", "/tmp/out", "..", ".", "a\\b"])
@pytest.mark.parametrize("many", [[], ["-m", "seed=0,1"]], ids=["run", "sweep"])
def test_a_name_cannot_lead_out_of_the_folder_of_studies(command, tmp_path, name, many):
    before = {file for file in tmp_path.parent.rglob("*")}
    quoted = name.replace("\\", "\\\\")
    code, out, err = command(*many, *SMALL, "tracking=off", f"name='{quoted}'")
    assert code == 2, out
    lines = [line for line in err.splitlines() if line.startswith("initstudy: ")]
    assert len(lines) == 1
    assert "must be a plain name, without slashes" in lines[0]
    assert {file for file in tmp_path.parent.rglob("*")} == before
    assert not Path("/tmp/out").exists()


@pytest.mark.slow
def test_the_key_of_wandb_is_in_no_file_and_in_no_output(server, tmp_path):
    arguments = ["-m", "seed=0,1", *SMALL, "tracking=online", "name=grid"]
    done = subprocess.run(
        [sys.executable, "-m", "initstudy", *arguments],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    # Two runs, and the sweep's own.
    assert len(server.complete) == 3
    assert KEY.encode() not in done.stdout + done.stderr
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.name == "index.html" for file in files)
    assert any(file.suffix == ".wandb" for file in files)
    assert [file for file in files if KEY.encode() in file.read_bytes()] == []


def test_nothing_is_read_from_disk_in_a_form_that_can_hold_code():
    """No pickle, no marshal, no shelve, no eval or exec.

    But for what a command and its own workers say to each other through a pipe, and for weights
    that a user names: `torch.load` reads them with the unpickler that makes nothing but tensors.
    """
    piped = {ROOT / "initstudy/scheduling/backends/pipe.py"}
    for file in [*(ROOT / "initstudy").rglob("*.py"), *(ROOT / "hydra_plugins").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                allowed = {"pickle"} if file in piped else set()
                assert not names & {"pickle", "dill", "marshal", "shelve", "joblib"} - allowed, file
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called == "pickle.loads":
                    assert "recv_bytes()" in ast.unparse(node.args[0]), file
                assert called != "pickle.load", file
                if called == "np.load":
                    assert "allow_pickle=False" in ast.unparse(node), file
                if called == "torch.load":
                    assert "weights_only=True" in ast.unparse(node), file
                assert called not in ("eval", "exec", "yaml.load"), file


def test_targets_stay_under_hydras_own_policy(command):
    """Nothing here widens what Hydra lets a `_target_` name."""
    for target in ("os.system", "builtins.eval", "subprocess.run"):
        code, out, err = command(f"init._target_={target}", *SMALL, "tracking=off", "name=x")
        assert code == 2, out
        assert "Traceback" not in out + err
    for file in [*(ROOT / "initstudy").rglob("*.py"), *CONF.rglob("*.yaml")]:
        assert "HYDRA_INSTANTIATE" not in file.read_text(), file
