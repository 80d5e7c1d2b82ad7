"""muP's learning rates: what they do to a model that gets wider, and what the table says."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initstudy.initializers import KaimingNormal, MuP, as_policy, draw, mup_learning_rates
from initstudy.models import CNN, LSTM, MLP


def test_the_table_of_tensor_programs_v():
    model = MLP((4, 4), 10, depth=2, width=256, layer_norm=True)
    adam = mup_learning_rates(model, "adam", 64)
    assert adam["fc1.weight"] == 1
    assert adam["fc2.weight"] == adam["head.weight"] == 64 / 256
    assert {v for k, v in adam.items() if "bias" in k or "norm" in k} == {1.0}
    sgd = mup_learning_rates(model, "sgd", 64)
    assert sgd["fc1.weight"] == sgd["fc1.bias"] == sgd["fc2.bias"] == sgd["norm2.weight"] == 4
    assert sgd["fc2.weight"] == 1
    assert sgd["head.weight"] == 1 / 4
    assert sgd["head.bias"] == 1


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_at_the_base_width_nothing_changes(optimizer):
    models = (MLP((4, 4), 10, width=64), CNN((1, 8, 8), 10, channels=[64, 64, 64]))
    for model in models:
        assert set(mup_learning_rates(model, optimizer, 64).values()) == {1.0}


def change_of_logits(kind, rate, width, seed, mup):
    """How far five steps of a plain loop, with torch's parameter groups, move the logits."""
    x = torch.randn(64, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    y = x.flatten(1)[:, :10].argmax(1)
    model = MLP((1, 6, 6), 10, depth=3, width=width)
    model.load_state_dict(draw(model, MuP(64) if mup else as_policy(KaimingNormal()), seed))
    rates = mup_learning_rates(model, kind.__name__.lower(), 64) if mup else {}
    groups = [{"params": [p], "lr": rate * rates.get(n, 1)} for n, p in model.named_parameters()]
    optimizer = kind(groups)
    before = model(x).detach()
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return (model(x).detach() - before).square().mean().sqrt().item()


@pytest.mark.parametrize(("kind", "rate"), [(torch.optim.Adam, 0.001), (torch.optim.SGD, 0.01)])
def test_what_five_steps_do_is_the_same_at_every_width(kind, rate):
    def growth(mup):
        narrow, wide = (
            sum(change_of_logits(kind, rate, width, seed, mup) for seed in range(3))
            for width in (256, 2048)
        )
        return math.log(wide / narrow) / math.log(2048 / 256)

    assert abs(growth(mup=True)) < 0.1
    assert growth(mup=False) > 0.3


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(nn.Linear(3, 3)), "it has not two"),
        (LSTM((1, 8, 8), 10), "recurrent is a LSTM"),
    ],
)
def test_models_that_it_does_not_cover_are_named(model, said):
    with pytest.raises(ValueError, match=said):
        mup_learning_rates(model, "adam", 64)
