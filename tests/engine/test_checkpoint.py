"""A training that goes on from a state is, bit for bit, the one that was never broken off."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from initstudy.engine.optimizers import SGD, Adam
from initstudy.engine.schedule import Schedule
from initstudy.engine.state import State
from initstudy.engine.train import train
from initstudy.probes.layers import find_layers
from initstudy.probes.statistics import Probes
from tests.engine.test_train import CHOICES, cnn, draws, engine_of, mlp, problem

STDS = (0.1, 1e12, 0.3)
STEPS = 13


def dropping():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 24), nn.Dropout(0.3), nn.Linear(24, 4))


def sgd(params):
    return SGD(params, lr=0.05, momentum=[0.9, 0.5, 0.0], weight_decay=0.01)


def adam(params):
    return Adam(params, lr=[0.003, 0.01, 0.02])


def begin(make, optimizer, choice, start=None, due=lambda: False):
    """Rows of a training whose second member diverges, at a cadence that states fall between."""
    torch.manual_seed(3 if start is None else 4)
    members, batches = draws(make, STDS), problem(len(STDS))
    x, y = batches(0)
    layers = find_layers(make(), x[0])
    engine = engine_of(make, members, x[0], optimizer, CHOICES[choice], layers)
    test = lambda: iter([(x[0], y[0])])  # noqa: E731
    schedule = Schedule(STEPS, 4, 6, Probes("full", 5), keep_weights=True)
    torch.manual_seed(0 if start is None else 4)
    return train(engine, batches, test, schedule, start=start, due=due)


def comparable(items):
    """As text, in which NaN is itself: floats are written so that they are read back exactly."""
    weights = [getattr(item, "weights", None) or {} for item in items]
    listed = [{name: tensor.tolist() for name, tensor in each.items()} for each in weights]
    rows = [(item.member, getattr(item, "step", None), repr(item.values)) for item in items]
    return rows, repr(listed)


@pytest.mark.parametrize(
    ("make", "choice"),
    [
        (mlp, "chosen"),
        (mlp, "batched"),
        (cnn, "batched"),
        (mlp, "vmap"),
        (cnn, "vmap"),
        (cnn, "one-by-one"),
        (dropping, "one-by-one"),
    ],
)
@pytest.mark.parametrize("optimizer", [sgd, adam])
def test_going_on_from_any_step_is_as_if_nothing_had_happened(make, choice, optimizer):
    undisturbed = comparable(list(begin(make, optimizer, choice)))
    before, states = [], []
    for item in begin(make, optimizer, choice, due=lambda: True):
        if isinstance(item, State):
            tensors = {name: tensor.clone() for name, tensor in item.tensors.items()}
            facts = json.loads(json.dumps(item.facts))
            states.append((len(before), replace(item, tensors=tensors, facts=facts)))
        else:
            before.append(item)
    assert comparable(before) == undisturbed
    assert len(states) == STEPS
    for count, state in states:
        after = list(begin(make, optimizer, choice, start=state))
        assert comparable([*before[:count], *after]) == undisturbed


@pytest.mark.parametrize("choice", ["chosen", "batched", "vmap"])
def test_a_state_of_another_model_is_refused(choice):
    state = next(i for i in begin(mlp, sgd, choice, due=lambda: True) if isinstance(i, State))
    for make, optimizer in ((cnn, sgd), (mlp, adam)):
        with pytest.raises(ValueError, match="is not as it was"):
            list(begin(make, optimizer, choice, start=state))
