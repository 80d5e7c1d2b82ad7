"""A step that is captured and replayed is the step itself."""

from __future__ import annotations

import importlib

import pytest
import torch

from initstudy.engine.batched import stages
from initstudy.engine.graph import WARM_UP, Replayed
from initstudy.engine.optimizers import SGD, Adam, AdamW
from initstudy.engine.schedule import Schedule
from initstudy.engine.stack import Stack
from initstudy.engine.stepper import Stepper
from initstudy.engine.train import Row, train
from initstudy.probes.layers import find_layers
from initstudy.probes.statistics import Probes
from tests.engine.test_train import cnn, draws, mlp, problem

# The package gives the name to the function.
training = importlib.import_module("initstudy.engine.train")
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


def stepper(make, optimizer, device="cpu"):
    """Three members, the second of which diverges after some steps."""
    members = draws(make, (0.1, 0.2, 0.3))
    model = make()
    chain = stages(model, torch.zeros(2, 1, 6, 6))
    stack = Stack(model, members, device=device, stages=chain)
    return Stepper(stack, optimizer(list(stack.params.values())))


def batch(step, device="cpu"):
    """The second member's seventh batch is what no model can take."""
    x, y = (t.to(device) for t in problem(3)(step % 20))
    if step == 7:
        x[1] = torch.inf
    return x, y


def state_of(stepper):
    live = {**stepper.stack.params, **stepper.stack.buffers}
    live |= {f"{k}{i}": v for k, vs in stepper.optimizer.state.items() for i, v in enumerate(vs)}
    for name in ("alive", "diverged_at", "last_loss", "number"):
        live[name] = getattr(stepper, name)
    return {name: tensor.detach() for name, tensor in live.items()}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_step_over_fixed_tensors_is_the_ordinary_step(make, optimizer):
    """All that it returns and all that it leaves behind, bit for bit; with a member frozen."""
    plain, fixed = stepper(make, optimizer), stepper(make, optimizer)
    recorder = Recorded()
    again = Replayed(fixed, recorder)
    earlier = []
    for step in range(20):
        expected, found = plain(*batch(step)), again(*batch(step))
        earlier.append((found, expected))
    for found, expected in earlier:  # What a step returned, later ones do not overwrite.
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a[[0, 2]], b[[0, 2]])
    states = state_of(plain), state_of(fixed)
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=0, atol=0, equal_nan=True)
    assert states[1]["diverged_at"].tolist() == [-1, 7, -1]
    assert recorder.calls == ["warm-up"] * WARM_UP + ["capture"] + ["replay"] * 17


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_step_leaves_every_tensor_where_it_was(optimizer):
    """A graph reads and writes the addresses of its capture."""
    one = stepper(cnn, optimizer)
    before = {name: tensor.data_ptr() for name, tensor in state_of(one).items()}
    for step in range(10):
        one(*batch(step))
    assert {name: tensor.data_ptr() for name, tensor in state_of(one).items()} == before


def test_what_cannot_be_captured_goes_on_as_before(caplog):
    plain, other = (stepper(mlp, OPTIMIZERS["sgd"]) for _ in range(2))
    again = Replayed(other, Recorded(RuntimeError("operation not permitted\nwhen capturing")))
    for step in range(10):
        plain(*batch(step))
        again(*batch(step))
    for name, tensor in state_of(plain).items():
        torch.testing.assert_close(state_of(other)[name], tensor, rtol=0, atol=0, equal_nan=True)
    assert "cannot be captured: operation not permitted" in caplog.text


def rows(make, device="cpu"):
    """A training with probes, evaluations and a member that diverges."""
    one = stepper(make, OPTIMIZERS["adam"], device)
    x, y = batch(0, device)
    layers = find_layers(make(), torch.zeros(2, 1, 6, 6))
    out = train(
        one.stack,
        one.optimizer,
        lambda step, members: tuple(t[members] for t in batch(step, device)),
        lambda: iter([(x[0], y[0])]),
        layers,
        Schedule(STEPS, 1, 10, Probes("basic", 12)),
    )
    return [row for row in out if isinstance(row, Row)]


def assert_alike(found, expected, rel):
    assert [(r.member, r.step) for r in found] == [(r.member, r.step) for r in expected]
    for a, b in zip(found, expected, strict=True):
        assert a.values == pytest.approx(b.values, rel=rel, nan_ok=True), (a.member, a.step)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_training_with_replayed_steps_gives_the_same_rows(make, monkeypatch):
    monkeypatch.setattr(training, "program", lambda stepper: None)
    expected = rows(make)
    assert {row.member: row.step for row in expected} == {0: STEPS, 1: 7, 2: STEPS}
    recorders = []

    def recorded(stepper):
        recorders.append(Recorded())
        return Replayed(stepper, recorders[-1])

    monkeypatch.setattr(training, "replayed", recorded)
    assert_alike(rows(make), expected, rel=0)
    assert "replay" in recorders[0].calls


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_training_by_a_cuda_graph_is_training_without_one(make, monkeypatch, caplog):
    captured = rows(make, "cuda")
    assert "cannot be captured" not in caplog.text
    monkeypatch.setattr(training, "replayed", lambda stepper: stepper)
    assert_alike(captured, rows(make, "cuda"), rel=1e-4)
