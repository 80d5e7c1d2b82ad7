"""No warning on models that are known to train as their libraries make them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import initstudy
from initstudy.testing import assert_initialized
from tests.audit.networks import images, linears, mlp

vision = pytest.importorskip("torchvision.models")


def default_mlp():
    """Three hidden layers as torch fills them, which reach 99% on digits."""
    layers = [m for i in range(3) for m in (nn.Linear(128 if i else 64, 128), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(128, 10))


class Bag(nn.Module):
    """Learned embeddings with padding, averaged."""

    def __init__(self):
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(256, 16, padding_idx=0), nn.Linear(16, 4)
        nn.init.normal_(self.bag.weight, std=0.1)
        nn.init.zeros_(self.bag.weight[0].detach())

    def forward(self, x):
        return self.head(self.bag(x))


def relu6():
    """A multilayer perceptron whose zeros are those of ReLU."""
    return nn.Sequential(*(nn.ReLU6() if isinstance(m, nn.ReLU) else m for m in mlp(8)))


def normalized():
    """A deep batch-normalized network, whose gradients grow with depth whatever its weights."""
    kinds = (lambda: nn.Linear(64, 64), lambda: nn.BatchNorm1d(64), nn.ReLU)
    body = [make() for _ in range(20) for make in kinds]
    return nn.Sequential(*body, nn.Linear(64, 4))


def dropped():
    """A residual network that drops its branch for most batches."""
    from torchvision.ops import StochasticDepth

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Linear(64, 64), nn.Linear(64, 64)
            self.drop = StochasticDepth(0.5, "batch")
            nn.init.kaiming_normal_(self.inner.weight, nonlinearity="relu")

        def forward(self, x):
            return x + self.drop(self.outer(self.inner(x).relu()))

    return nn.Sequential(*(Block() for _ in range(4)), nn.LayerNorm(64), nn.Linear(64, 4))


TABLE = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
HEALTHY = {
    "default MLP": (default_mlp, TABLE),
    "He MLP": (lambda: mlp(12), TABLE[:, :32]),
    "two examples": (lambda: mlp(6), TABLE[:2, :32]),
    "ReLU6": (relu6, TABLE[:, :32]),
    "batch norms": (normalized, TABLE),
    "dropped branches": (dropped, TABLE),
    "padding": (Bag, torch.randint(256, (16, 5), generator=torch.Generator().manual_seed(0))),
    "resnet18, two images": (lambda: vision.resnet18(), images(2, 32)),
    "mobilenet_v2": (lambda: vision.mobilenet_v2(), images(8, 32)),
    "googlenet": (lambda: vision.googlenet(init_weights=True), images(2, 64)),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_model_gets_no_warning(name):
    make, batch = HEALTHY[name]
    torch.manual_seed(0)
    found = assert_initialized(make(), batch)
    assert found.signal.layers


def test_a_fitting_helper_fails_with_all_warnings():
    net = mlp(6)
    with torch.no_grad():
        for layer in linears(net)[:-1]:
            layer.weight.mul_(6)
    with pytest.raises(AssertionError) as caught:
        assert_initialized(net, TABLE[:, :32])
    assert str(caught.value).splitlines()[0] == "Sequential is not well initialized:"
    assert "  signal: signal grows" in str(caught.value)
    codes = {w.code for w in initstudy.audit_model(net, TABLE[:, :32]).warnings}
    assert_initialized(net, TABLE[:, :32], ignore=sorted(codes))


def test_frozen_and_shared_layers_are_notes_and_no_warnings():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.body, self.head = (nn.Linear(64, 64) for _ in range(3))
            self.first.requires_grad_(False)

        def forward(self, x):
            return self.head(self.body(self.body(self.first(x).relu()).relu()))

    torch.manual_seed(0)
    found = initstudy.audit_model(Shared(), TABLE)
    assert {(note.code, note.where[0]) for note in found.notes} == {
        ("frozen", "first.weight"),
        ("used-twice", "body"),
    }
    assert not {"frozen", "used-twice"} & {w.code for w in found.warnings}
