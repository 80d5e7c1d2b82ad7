"""Every statistic against its definition, calculated one member at a time with plain autograd."""

from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from initstudy.columns import HISTOGRAM_EDGES
from initstudy.engine.autograd import OneByOne, Vmap
from initstudy.engine.batched.engine import Batched
from initstudy.engine.choose import choose_engine
from initstudy.engine.optimizers import SGD
from initstudy.engine.schedule import Schedule
from initstudy.engine.stack import Stack
from initstudy.engine.train import train
from initstudy.engine.workload import Workload
from initstudy.probes import statistics as statistics
from initstudy.probes.layers import find_layers
from initstudy.probes.statistics import Probes

MEMBERS, BATCH = 3, 16


def mlp(activation=nn.Tanh):
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(12, 8),
            act1=activation(),
            fc2=nn.Linear(8, 8),
            act2=activation(),
            head=nn.Linear(8, 5),
        )
    )


def cnn():
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 4, 3, padding=1),
            act1=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            head=nn.Linear(4 * 1 * 2, 5),
        )
    )


def trained_row(make, *, momentum=0.9, engine=Vmap):
    """One probe of a pack at step 0, and what is needed to calculate it again."""
    generator = torch.Generator().manual_seed(1)
    members = [
        {n: torch.randn(p.shape, generator=generator) * std for n, p in make().named_parameters()}
        for std in (0.3, 1.0, 2.0)
    ]
    x = torch.randn(MEMBERS, BATCH, 1, 3, 4, generator=generator)
    y = torch.randint(5, (MEMBERS, BATCH), generator=generator)
    layers = find_layers(make(), x[0])
    stack = Stack(make(), members)
    optimizer = SGD(list(stack.params.values()), lr=0.1, momentum=momentum)
    rows = train(
        choose_engine(Workload(make(), x[0]), (engine,)).build(stack, optimizer, layers),
        lambda _, m: (x[m], y[m]),
        lambda: iter([(x[0], y[0])]),
        Schedule(1, 1, 1, Probes("full", 1)),
    )
    first = {row.member: row.values for row in rows if getattr(row, "step", None) == 0}
    return members, x, y, layers, first


def by_autograd(make, params, x, y, layers):
    """Activations, their gradients and the weights' gradients of one model, with retain_grad."""
    model = make()
    model.load_state_dict(params)
    kept = {}

    def keep(name):
        def hook(_module, _args, output):
            output.retain_grad()
            kept[name] = output

        return hook

    for layer in layers:
        model.get_submodule(layer.output).register_forward_hook(keep(layer.output))
    F.cross_entropy(model(x), y).backward()
    return model, kept


@pytest.mark.parametrize("make", [mlp, lambda: mlp(nn.ReLU), cnn], ids=["tanh", "relu", "cnn"])
@pytest.mark.parametrize("engine", [Batched, Vmap, OneByOne])
def test_probes_agree_with_plain_autograd(make, engine):
    members, x, y, layers, rows = trained_row(make, engine=engine)
    for member, params in enumerate(members):
        model, kept = by_autograd(make, params, x[member], y[member], layers)
        row = rows[member]
        for layer in layers:
            activation = kept[layer.output]
            value, grad = activation.detach().double(), activation.grad.double()
            weight = model.get_parameter(layer.weights[0])
            expected = {
                "activation/mean": value.mean(),
                "activation/std": value.std(correction=0),
                "activation/rms": value.square().mean().sqrt(),
                "activation/absmax": value.abs().max(),
                "activation/zero": (value == 0).double().mean(),
                "activation/nonfinite": torch.tensor(0.0),
                "gradient/rms": grad.square().mean().sqrt(),
                "gradient/weight_rms": weight.grad.double().square().mean().sqrt(),
                "weight/rms": weight.detach().double().square().mean().sqrt(),
                "weight/spectral_norm": torch.linalg.svdvals(
                    weight.detach().double().flatten(1)
                ).max(),
                # The first step of SGD with momentum is the gradient times the learning rate.
                "weight/update_ratio": 0.1
                * weight.grad.double().norm()
                / weight.detach().double().norm(),
            }
            for key, number in expected.items():
                kind, statistic = key.split("/")
                measured = row[f"{kind}/{layer.name}/{statistic}"]
                assert measured == pytest.approx(float(number), rel=2e-5, abs=1e-7), key


def test_dead_units_are_zero_for_the_whole_batch():
    activation = torch.ones(1, 4, 3)
    activation[0, :, 0] = 0.0  # dead
    activation[0, :3, 1] = 0.0  # silent for all but one example
    assert statistics.dead(activation).tolist() == [pytest.approx(1 / 3)]
    channels = torch.ones(1, 4, 2, 5, 5)
    channels[0, :, 1] = 0.0
    channels[0, :, 0, :, :4] = 0.0
    assert statistics.dead(channels, units=2).tolist() == [0.5]
    tokens = torch.ones(1, 4, 7, 3)
    tokens[0, ..., 2] = 0.0
    tokens[0, :, 1] = 0.0
    assert statistics.dead(tokens).tolist() == [pytest.approx(1 / 3)]


@pytest.mark.parametrize(
    ("activation", "far", "near"),
    [(nn.Tanh(), [-3.0, 3.0], [0.0, 1.0]), (nn.Sigmoid(), [-5.0, 5.0], [0.0, 2.0])],
)
def test_saturated_means_close_to_the_activations_own_limits(activation, far, near):
    x = torch.tensor([far + near])
    model = nn.Sequential(OrderedDict(fc=nn.Linear(4, 4), act=activation))
    limits = find_layers(model, x)[0].limits
    assert statistics.saturated(activation(x), limits).tolist() == [0.5]


def test_relu_and_linear_layers_have_no_saturation():
    layers = find_layers(mlp(nn.ReLU), torch.zeros(2, 12))
    assert [layer.limits for layer in layers] == [None, None, None]
    assert [layer.output for layer in layers] == ["act1", "act2", "head"]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True),
        min_size=1,
        max_size=60,
    )
)
def test_no_value_falls_outside_the_histogram(values):
    tensor = torch.tensor([values], dtype=torch.float32)
    counts = statistics.histogram(tensor)[0].numpy()
    finite = np.abs(np.array(values, dtype=np.float32)[np.isfinite(values)]).astype(np.float64)
    expected, _ = np.histogram(finite, bins=np.array(HISTOGRAM_EDGES))
    assert counts.tolist() == expected.tolist()
    assert counts.sum() + statistics.nonfinite(tensor).item() == len(values)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_rms_neither_overflows_nor_underflows(scale):
    values = torch.linspace(-1, 1, 100)[None] * scale
    expected = math.sqrt(float((torch.linspace(-1, 1, 100).double() ** 2).mean())) * scale
    assert statistics.rms(values).item() == pytest.approx(expected, rel=1e-6)
    assert statistics.rms(torch.zeros(1, 4)).item() == 0.0


def test_non_finite_values_are_counted_and_not_hidden():
    values = torch.tensor([[1.0, float("nan"), float("inf"), -float("inf")]])
    assert statistics.nonfinite(values).item() == 3
    assert not math.isfinite(statistics.rms(values).item())
    weights = torch.stack([torch.eye(2), torch.full((2, 2), torch.inf)])
    norms = statistics.spectral_norm([weights])
    assert norms[0] == 1
    assert torch.isnan(norms[1])
