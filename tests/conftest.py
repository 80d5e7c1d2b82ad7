from __future__ import annotations

import os
import sys

import jaxtyping
import pytest
import torch

from tests import shapes
from tests.wandb_server import KEY, WandbServer

# What takes minutes together: files whose tests are all slow.
SLOW = (
    "audit/test_critical.py",
    "cli/test_check.py",
    "cli/test_completion.py",
    "engine/test_compiled_code.py",
    "report/test_many_runs.py",
    "report/test_page.py",
    "runtime/test_signals.py",
    "scheduling/test_lost_workers.py",
    "scheduling/test_pool.py",
    "scheduling/test_ray.py",
    "scheduling/test_slurm.py",
    "store/test_disk.py",
    "tasks/test_recipes.py",
    "test_any_configuration.py",
    "test_conformance.py",
    "test_documentation.py",
    "test_experiments.py",
    "test_faults.py",
    "test_notebooks.py",
    "test_throughput.py",
    "training/test_checkpoints.py",
)


def pytest_configure(config):
    """In a run of all tests, every call is checked against its annotations, shapes included.

    These checks take as long as what they check. The hook has to be in place before the first
    import of the packages, which is why nothing here imports them at the top.
    """
    if "not slow" not in config.option.markexpr:
        jaxtyping.install_import_hook(
            ["initstudy.initializers", "initstudy.probes", "initstudy.engine"],
            f"{shapes.__name__}.{shapes.checked.__name__}",
        )


def pytest_collection_modifyitems(items):
    """Marks the tests of slow files."""
    for item in items:
        if item.path.as_posix().endswith(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def unchecked(monkeypatch):
    """For arguments of a wrong type, which the function itself has to refuse."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def _compiled_code():
    """The folder of this machine's compiled code; it is worth half a minute to each process."""
    from initstudy.engine.compiled import jit

    folder = jit.folder()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(autouse=True)
def _quiet_machine(monkeypatch, tmp_path, _compiled_code):
    """Nothing of the caller's reaches a test but compiled code.

    That holds for W&B's settings and key, for Hydra's variables and for measured rates. The home
    lies beside the folder of the test, so that a test can say what a command leaves there.
    """
    from initstudy.runtime.files import cache

    for name in list(os.environ):
        if name.startswith(("WANDB_", "HYDRA_", "XDG_")):
            monkeypatch.delenv(name)
    home = tmp_path.with_name(f"{tmp_path.name}-home")
    monkeypatch.setenv("HOME", str(home))
    compiled = cache() / _compiled_code.name
    compiled.parent.mkdir(parents=True)
    compiled.symlink_to(_compiled_code, target_is_directory=True)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small tensors: threads would only wait for one another."""
    torch.set_num_threads(1)


@pytest.fixture
def server(monkeypatch):
    """A stand-in W&B server on loopback, to which the client in this test talks."""
    with WandbServer() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield server


@pytest.fixture(autouse=True)
def _fresh_service():
    """wandb keeps one service process; each test's environment needs its own."""
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


@pytest.fixture
def command(monkeypatch, tmp_path, capfd):
    """Runs `python -m initstudy ARGUMENTS` in an empty folder; gives exit code and output."""
    from initstudy.__main__ import main
    from initstudy.config.paths import CONF

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    # Pictures take seconds; the tests of the report draw them.
    monkeypatch.setattr("initstudy.scheduling.study._report", lambda *_: None)
    # `main` sets this for Hydra; undone after the test.
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        monkeypatch.setattr(sys, "argv", [str(CONF.parent / "initstudy/__main__.py"), *arguments])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return run
