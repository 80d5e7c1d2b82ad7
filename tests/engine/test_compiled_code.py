"""What the compiled step stands on: code kept on the machine, and matrix products on one thread."""

from __future__ import annotations

import os
import subprocess
import sys

from threadpoolctl import threadpool_info

from initstudy.engine.compiled import jit
from initstudy.engine.compiled.blas import one_thread


def test_matrix_products_have_one_thread_inside_and_the_old_ones_after():
    def threads():
        return {
            i["filepath"]: i["num_threads"]
            for i in threadpool_info()
            if "torch" not in i["filepath"] and i["user_api"] == "blas"
        }

    before = threads()
    with one_thread():
        inside = threads()
    assert set(inside.values()) == {1}
    assert {path: count for path, count in threads().items() if path in before} == before


USED = """
import torch, sys
from torch import nn
from initstudy.engine import SGD, Batch, Stack, Workload, choose_engine
model = nn.Sequential(nn.Linear(2, 2))
stack = Stack(model, [dict(model.named_parameters())])
choice = choose_engine(Workload(model, torch.zeros(2, 2), members=1))
engine = choice.build(stack, SGD(list(stack.params.values()), lr=0.1))
batch = Batch(torch.ones(1, 3, 2), torch.zeros(1, 3, dtype=torch.long))
print(engine.step(batch).loss.isfinite().all().item())
from initstudy.engine.compiled import kernels
print(sum(kernels.step.stats.cache_hits.values()))
"""


def used(**environment):
    done = subprocess.run(
        [sys.executable, "-c", USED], capture_output=True, text=True, env=environment, check=True
    )
    return done.stdout.split()


def test_the_code_is_compiled_once_on_a_machine():
    environment = {k: os.environ[k] for k in ("HOME", "XDG_CACHE_HOME") if k in os.environ}
    used(**environment)
    assert used(**environment) == ["True", "1"]


def test_without_a_place_to_keep_it_the_code_is_compiled_all_the_same(tmp_path):
    taken = tmp_path / "a file"
    taken.touch()
    assert used(XDG_CACHE_HOME=str(taken))[0] == "True"


def test_code_is_kept_apart_for_other_sources(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = tmp_path / "jit.py"
    source.write_text("one")
    monkeypatch.setattr(jit, "__file__", str(source))
    folders = set()
    for text in ("one", "two", "one"):
        source.write_text(text)
        jit.kept(lambda x: x + 1)(1)
        folders = set((tmp_path / "initstudy").iterdir())
    assert len(folders) == 2
