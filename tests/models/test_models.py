from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initstudy.models import CNN, MLP, DeepCNN
from initstudy.models.activations import ACTIVATIONS

FUNCTIONS = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "selu": F.selu,
    "linear": lambda x: x,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_mlp_is_its_formula(name):
    model = MLP((1, 3, 4), 5, depth=2, width=7, activation=name)
    x = torch.randn(6, 1, 3, 4)
    p = dict(model.named_parameters())
    h = x.flatten(1)
    for layer in ("fc1", "fc2"):
        h = FUNCTIONS[name](h @ p[f"{layer}.weight"].T + p[f"{layer}.bias"])
    torch.testing.assert_close(model(x), h @ p["head.weight"].T + p["head.bias"])


def test_a_layer_norm_stands_before_the_activation():
    model = MLP((4,), 3, depth=1, width=6, layer_norm=True)
    x = torch.randn(5, 4)
    h = F.relu(F.layer_norm(model.fc1(x), (6,)))
    torch.testing.assert_close(model(x), model.head(h))


def test_a_cnn_is_its_formula():
    model = CNN((2, 8, 8), 3, channels=(4, 5), pooling="avg", activation="tanh", batch_norm=True)
    model.eval()
    h = x = torch.randn(6, 2, 8, 8)
    for number in (1, 2):
        conv, norm = (model.get_submodule(f"{kind}{number}") for kind in ("conv", "norm"))
        h = F.conv2d(h, conv.weight, conv.bias, padding=1)
        h = F.batch_norm(h, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        h = F.avg_pool2d(torch.tanh(h), 2)
    torch.testing.assert_close(model(x), model.head(h.flatten(1)))


def test_a_deep_cnn_wraps_around():
    model = DeepCNN((2, 8, 8), 3, depth=5, channels=4, strided=1)
    x = torch.randn(6, 2, 8, 8)
    h = x
    for number in range(1, 6):
        conv = model.get_submodule(f"conv{number}")
        wrapped = F.pad(h, (1, 1, 1, 1), mode="circular")
        h = torch.tanh(F.conv2d(wrapped, conv.weight, conv.bias, stride=1 + (number == 1)))
    torch.testing.assert_close(model(x), model.head(h.flatten(1)))
    # An image that is rolled by a stride's multiple gives the same maps, rolled.
    maps = nn.Sequential(*list(model)[:-2])
    torch.testing.assert_close(maps(x.roll((2, -4), (2, 3))), maps(x).roll((1, -2), (2, 3)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: MLP((1, 8, 8), 10, layer_norm=True),
        lambda: CNN((1, 8, 8), 10, batch_norm=True),
    ],
)
def test_stacked_members_are_the_members(make):
    members = [make().eval() for _ in range(3)]
    params, buffers = torch.func.stack_module_state(members)
    x = torch.randn(3, 5, 1, 8, 8)
    base = make().eval()
    stacked = torch.vmap(lambda p, b, x: torch.func.functional_call(base, (p, b), (x,)))(
        params, buffers, x
    )
    alone = torch.stack([m(x[i]) for i, m in enumerate(members)])
    torch.testing.assert_close(stacked, alone)


def test_parameters_are_counted_by_formula():
    def count(model: nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    assert count(MLP((1, 8, 8), 10, depth=3, width=128)) == 65 * 128 + 2 * 129 * 128 + 129 * 10
    assert count(MLP((5,), 2, depth=0)) == 12
    assert count(CNN((1, 8, 8), 10, (16, 32))) == 160 + (16 * 9 + 1) * 32 + (32 * 4 + 1) * 10


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MLP((4,), 2, width=0), r"model\.width=0: must be a whole number of at least 1"),
        (lambda: MLP((4,), 2, depth=-1), r"model\.depth=-1"),
        (lambda: MLP((4,), 2, activation="tahn"), r"model\.activation=tahn: choose one of relu"),
        (lambda: CNN((1, 8, 8), 2, kernel_size=4), r"model\.kernel_size=4: must be odd"),
        (lambda: CNN((1, 8, 8), 2, pooling="mean"), r"model\.pooling=mean: choose one of max"),
        (lambda: CNN((1, 8, 8), 2, channels=(2,) * 5), "too small for 5 poolings"),
        (lambda: DeepCNN((1, 8, 8), 2, strided=4), r"model\.strided=4: \(1, 8, 8\) images are too"),
    ],
)
def test_bad_sizes_are_one_line(make, said):
    with pytest.raises(ValueError, match=said):
        make()
