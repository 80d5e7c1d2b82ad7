"""A step that is captured and replayed is the step itself."""

from __future__ import annotations

import pytest
import torch

from initstudy.engine.batched.engine import Batched
from initstudy.engine.contract import Batch
from initstudy.engine.graph import WARM_UP, Graph
from initstudy.engine.optimizers import SGD, Adam, AdamW
from initstudy.engine.schedule import Schedule
from initstudy.engine.stack import Stack
from initstudy.engine.train import Row, train
from initstudy.engine.workload import Workload
from initstudy.probes.layers import find_layers
from initstudy.probes.statistics import Probes
from tests.engine.test_train import cnn, draws, mlp, problem

MODELS = {"mlp": mlp, "cnn-batchnorm": cnn}
OPTIMIZERS = {
    "sgd": lambda p: SGD(p, lr=[0.05, 0.05, 0.02], momentum=[0.9, 0.5, 0.0], weight_decay=0.01),
    "adam": lambda p: Adam(p, lr=[0.003, 0.01, 0.02]),
    "adamw": lambda p: AdamW(p, lr=0.003, weight_decay=[0.1, 0.0, 0.01]),
}
STEPS = 50


class Recorded:
    """Stands for a GPU's recorder: what it replays is the function over the same tensors."""

    def __init__(self, error=None):
        self.error = error
        self.calls = []

    def warm_up(self, step):
        self.calls.append("warm-up")
        return step()

    def capture(self, step):
        self.calls.append("capture")
        if self.error is not None:
            raise self.error

        def replay():
            self.calls.append("replay")
            step()

        return replay


def engine_of(kind, make, optimizer, device="cpu", recorder=None):
    """Three members, the second of which diverges after some steps."""
    stack = Stack(make(), draws(make, (0.1, 0.2, 0.3)), device=device)
    example = torch.zeros(2, 1, 6, 6)
    engine = kind.build(
        Workload(make(), example),
        stack,
        optimizer(list(stack.params.values())),
        find_layers(make(), example),
    )
    if kind is Graph:
        engine.recorder = recorder
    return engine


def batch(step, device="cpu"):
    """The second member's seventh batch is what no model can take."""
    x, y = (t.to(device) for t in problem(3)(step % 20))
    if step == 7:
        x[1] = torch.inf
    return Batch(x, y)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_step_over_fixed_tensors_is_the_ordinary_step(make, optimizer):
    """All that it returns and all that it leaves behind, bit for bit; with a member frozen."""
    recorder = Recorded()
    plain, again = (
        engine_of(kind, make, optimizer, recorder=recorder) for kind in (Batched, Graph)
    )
    earlier = []
    for step in range(20):
        expected, found = plain.step(batch(step)), again.step(batch(step))
        earlier.append((found, expected))
    for found, expected in earlier:  # What a step returned, later ones do not overwrite.
        for a, b in zip(found.means().values(), expected.means().values(), strict=True):
            assert torch.equal(a[[0, 2]], b[[0, 2]])
    states = plain.state(), again.state()
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=0, atol=0, equal_nan=True)
    assert states[1]["health/diverged_at"].tolist() == [-1, 7, -1]
    assert recorder.calls == ["warm-up"] * WARM_UP + ["capture"] + ["replay"] * 17


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_step_leaves_every_tensor_where_it_was(optimizer):
    """A graph reads and writes the addresses of its capture."""
    engine = engine_of(Batched, cnn, optimizer)
    before = {name: tensor.data_ptr() for name, tensor in engine._live().items()}
    for step in range(10):
        engine.step(batch(step))
    assert {name: tensor.data_ptr() for name, tensor in engine._live().items()} == before


def test_what_cannot_be_captured_goes_on_as_before(caplog):
    recorder = Recorded(RuntimeError("operation not permitted\nwhen capturing"))
    plain, again = (
        engine_of(kind, mlp, OPTIMIZERS["sgd"], recorder=recorder) for kind in (Batched, Graph)
    )
    for step in range(10):
        plain.step(batch(step))
        again.step(batch(step))
    for name, tensor in plain.state().items():
        torch.testing.assert_close(again.state()[name], tensor, rtol=0, atol=0, equal_nan=True)
    assert "cannot be captured: operation not permitted" in caplog.text


def rows(kind, make, device="cpu", recorder=None):
    """A training with probes, evaluations and a member that diverges."""
    x, y = batch(0, device)
    out = train(
        engine_of(kind, make, OPTIMIZERS["adam"], device, recorder),
        lambda step, members: tuple(t[members] for t in batch(step, device)),
        lambda: iter([(x[0], y[0])]),
        Schedule(STEPS, 1, 10, Probes("basic", 12)),
    )
    return [row for row in out if isinstance(row, Row)]


def assert_alike(found, expected, rel):
    assert [(r.member, r.step) for r in found] == [(r.member, r.step) for r in expected]
    for a, b in zip(found, expected, strict=True):
        assert a.values == pytest.approx(b.values, rel=rel, nan_ok=True), (a.member, a.step)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_training_with_replayed_steps_gives_the_same_rows(make):
    expected = rows(Batched, make)
    assert {row.member: row.step for row in expected} == {0: STEPS, 1: 7, 2: STEPS}
    recorder = Recorded()
    assert_alike(rows(Graph, make, recorder=recorder), expected, rel=0)
    assert "replay" in recorder.calls


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_training_by_a_cuda_graph_is_training_without_one(make, caplog):
    captured = rows(Graph, make, "cuda")
    assert "cannot be captured" not in caplog.text
    assert_alike(captured, rows(Batched, make, "cuda"), rel=1e-4)
