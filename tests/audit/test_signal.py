"""The audit's one pass against plain autograd, and that it leaves no trace."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import initstudy
from initstudy.initializers import KaimingNormal, Normal, as_policy, initialize
from initstudy.models import CNN, MLP


def batch(count=32, shape=(1, 8, 8)):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))


def labels(count=32):
    return torch.arange(count) % 10


def rms(tensor):
    return tensor.detach().double().square().mean().sqrt().item()


def test_rms_dead_and_loss_agree_with_plain_autograd():
    net = initialize(CNN((1, 8, 8), 10), as_policy(KaimingNormal(), bias=-0.3), seed=0)
    found = initstudy.audit_model(net, batch(), targets=labels()).signal
    kept = {}
    for name in ("act1", "act2", "head"):
        net.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: (out.retain_grad(), kept.update({name: out}))[1]
        )
    loss = F.cross_entropy(net(batch()), labels())
    loss.backward()
    assert found.loss == pytest.approx(loss.item(), rel=1e-6)
    assert found.guessing_loss == pytest.approx(math.log(10))
    assert [layer.name for layer in found.layers] == ["conv1", "conv2", "head"]
    for layer, read in zip(found.layers, ("act1", "act2", "head"), strict=True):
        out = kept[read]
        assert layer.activation_rms == pytest.approx(rms(out), rel=1e-5)
        assert layer.gradient_rms == pytest.approx(rms(out.grad), rel=1e-5)
        weight = net.get_submodule(layer.name).weight
        assert layer.weight_gradient_rms == pytest.approx(rms(weight.grad), rel=1e-5)
        zero = (out == 0).movedim(1, 0).flatten(1).all(1).double().mean().item()
        assert layer.dead == pytest.approx(zero)


def test_nothing_is_left_behind():
    net = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 20),
        nn.BatchNorm1d(20),
        nn.Dropout(0.3),
        nn.ReLU(inplace=True),
        nn.Linear(20, 10),
    ).eval()
    net[1].weight.grad = torch.ones(20, 64)
    before, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    first = initstudy.audit_model(net, batch(), targets=labels())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not net.training
    assert (net[1].weight.grad == 1).all()
    assert not any(module._forward_hooks for module in net.modules())
    assert initstudy.audit_model(net, batch(), targets=labels()) == first


def test_normalizations_use_the_batch_as_the_first_step_will():
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 30), nn.BatchNorm1d(30), nn.ReLU(), nn.Linear(30, 10)
    ).eval()
    initialize(net, as_policy(Normal(5.0)), seed=0)
    layer = initstudy.audit_model(net, batch(200), targets=labels(200)).signal.layers[0]
    # Half of a standard normal: the mean square of its positive part is one half.
    assert layer.activation_rms == pytest.approx(math.sqrt(0.5), rel=0.05)


def test_a_model_that_is_no_classifier_or_takes_several_inputs():
    torch.manual_seed(0)
    net = nn.Transformer(16, 2, 1, 1, 24, batch_first=True)
    found = initstudy.audit_model(net, (torch.randn(3, 5, 16), torch.randn(3, 4, 16)))
    assert found.signal.loss is None
    assert all(layer.gradient_rms > 0 for layer in found.signal.layers)
    regression = nn.Linear(4, 1)
    x = torch.randn(6, 4)
    found = initstudy.audit_model(regression, x, loss=lambda y: y.square().mean())
    assert found.signal.loss == pytest.approx(regression(x).square().mean().item())


def test_frozen_parameters_are_audited_too():
    net = MLP((1, 8, 8), 10, depth=1).requires_grad_(False)
    assert (
        initstudy.audit_model(net, batch(), targets=labels()).signal.layers[0].weight_gradient_rms
        > 0
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: initstudy.audit_model(nn.ReLU(), batch()), "ReLU has no parameters"),
        (
            lambda: initstudy.audit_model(nn.Linear(3, 2), batch()),
            r"cannot run on .* \(32, 1, 8, 8\)",
        ),
        (lambda: initstudy.audit_model(nn.Linear(8, 2), batch() * math.nan), "batch holds NaN"),
        (
            lambda: initstudy.audit_model(MLP((64,), 3), batch(), targets=labels()),
            "between 0 and 9, .* has 3",
        ),
        (
            lambda: initstudy.audit_model(MLP((64,), 3), batch(), targets=labels(5)),
            r"targets=\(5,\)",
        ),
    ],
)
def test_what_cannot_be_audited_is_one_line(make, said):
    with pytest.raises(ValueError, match=said):
        make()
