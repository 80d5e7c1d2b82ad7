"""`import initstudy`: what a user sees, what is loaded, and what a type checker knows."""

from __future__ import annotations

import os
import pydoc
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import initstudy

ROOT = Path(__file__).parent.parent
# What the study needs, and the initializers, the audit and the theory do without.
AUDIT = {"torch", "numpy", "jaxtyping", "rich"}
OF_THE_STUDY = (
    "hydra",
    "omegaconf",
    "wandb",
    "polars",
    "numba",
    "altair",
    "vl_convert",
    "sklearn",
    "torchvision",
    "jinja2",
    "filelock",
    "safetensors",
    "threadpoolctl",
)


def python(program, folder, **env):
    """Runs a program in a fresh process, in a folder of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
        check=False,
        capture_output=True,
        text=True,
    )


def test_every_public_name_is_there_and_completion_offers_these_alone():
    for name in initstudy.__all__:
        assert getattr(initstudy, name) is not None
    offered = [name for name in dir(initstudy) if not name.startswith("_")]
    assert offered == sorted(initstudy.__all__)
    with pytest.raises(AttributeError, match="no attribute 'audit_modle'"):
        initstudy.audit_modle  # noqa: B018


def test_help_shows_the_public_functions_with_signatures_and_descriptions():
    shown = pydoc.plain(pydoc.render_doc(initstudy))
    for name in ("audit_model", "compute_fans", "initialize", "load_weights"):
        assert f"    {name}(" in shown
        assert (getattr(initstudy, name).__doc__ or "").splitlines()[0] in shown
    assert "import_module" not in shown


@pytest.mark.parametrize(
    ("statement", "loaded"),
    [
        ("import initstudy", set()),
        ("from initstudy import initializers, models", {"torch", "numpy", "jaxtyping"}),
        ("from initstudy import audit, audit_model", {"torch", "numpy", "jaxtyping", "rich"}),
        ("from initstudy import coordinate_check, critical_scale, testing", AUDIT),
        ("from initstudy import meanfield", {"numpy", "scipy"}),
        ("import initstudy.theory.predict", {"torch", "numpy", "scipy", "jaxtyping"}),
    ],
)
def test_importing_loads_what_is_needed_and_no_more(tmp_path, statement, loaded):
    program = f"""
        import sys
        {statement}
        packages = {{name.partition(".")[0] for name in sys.modules}}
        print(*packages & {{"torch", "numpy", "scipy", "jaxtyping", "rich", *{OF_THE_STUDY}}})
    """
    done = python(program, tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= loaded


def test_initializers_audit_and_theory_serve_where_nothing_else_is_installed(tmp_path):
    program = f"""
        import sys

        class Missing:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {OF_THE_STUDY}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

        sys.meta_path.insert(0, Missing())
        import torch
        from rich.console import Console
        from torch import nn
        import initstudy

        layers = [layer for _ in range(20) for layer in (nn.Linear(64, 64), nn.ReLU())]
        net = nn.Sequential(*layers, nn.Linear(64, 10))
        result = initstudy.audit_model(net, torch.randn(32, 64))
        assert "gradient" in {{warning.code for warning in result.warnings}}, result.warnings
        initstudy.initialize(net, "keras", seed=0)
        initstudy.initialize(net, initstudy.initializers.KaimingNormal(), seed=0)
        result = initstudy.audit_model(net, torch.randn(32, 64))
        assert {{warning.code for warning in result.warnings}} <= {{"loss"}}, result.warnings
        initstudy.audit.show(Console(), result, every=True)
        initstudy.meanfield.analyze("tanh", sigma_w2=1.5, sigma_b2=0.05)
        initstudy.models.MLP((1, 8, 8), 10)
    """
    done = python(program, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "40.weight" in done.stdout


USERS_SCRIPT = """
import torch
from torch import nn

import initstudy
from initstudy import claims, meanfield

net = nn.Linear(8, 2)
reveal_type(initstudy.audit_model(net, torch.randn(4, 8)))
reveal_type(initstudy.compute_fans(net, "weight").fan_in)
reveal_type(meanfield.analyze("tanh", sigma_w2=1.5).chi1)
reveal_type(claims.WorseThanBest("Large is worse.").count)
initstudy.audit_model()
initstudy.audit_modle(net)
"""


@pytest.mark.slow
def test_a_type_checker_follows_the_public_names(tmp_path):
    pytest.importorskip("mypy", reason='needs pip install -e ".[dev]"')
    (tmp_path / "mine.py").write_text(USERS_SCRIPT)
    # Reading torch and the like takes most of a minute, and says nothing of initstudy.
    skipped = "".join(
        f"[mypy-{name}.*]\nfollow_imports = skip\nignore_missing_imports = true\n"
        for name in ("torch", "numpy", "scipy", "rich", *OF_THE_STUDY)
    )
    (tmp_path / "mypy.ini").write_text(f"[mypy]\n{skipped}")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "mine.py"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("mine.py:")]
    assert [line.partition(": ")[2] for line in lines] == [
        'note: Revealed type is "initstudy.audit.result.Audit"',
        'note: Revealed type is "int"',
        'note: Revealed type is "float"',
        'note: Revealed type is "int"',
        'error: Missing positional argument "model" in call to "audit_model"  [call-arg]',
        'error: Module has no attribute "audit_modle"; maybe "audit_model"?  [attr-defined]',
    ]
