"""Residual branches in the data flow of real models, counted by hand from their papers."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from initstudy.initializers import residual_branches
from initstudy.models import CNN, LSTM, MLP, DeepCNN, ResNet, Transformer

IMAGE = (3, 32, 32)
VISION = torchvision.models


@pytest.mark.parametrize(
    ("build", "count", "projections", "layers", "ends_in_norm"),
    [
        # He et al. 2016, table 1: 8 blocks of two convolutions, 16 of three.
        (VISION.resnet18, 8, 3, 2, True),
        (VISION.resnet50, 16, 4, 3, True),
        (VISION.resnext50_32x4d, 16, 4, 3, True),
        # Sandler et al. 2018: 17 blocks, of which 10 keep their shape.
        (VISION.mobilenet_v2, 10, 0, 3, True),
        # Liu et al. 2022: 3, 3, 9, 3 blocks of three layers.
        (VISION.convnext_tiny, 18, 0, 3, False),
        # Dosovitskiy et al. 2021: twelve layers of two branches.
        (VISION.vit_b_32, 24, 0, None, False),
    ],
)
def test_published_numbers_of_blocks(build, count, projections, layers, ends_in_norm):
    with torch.device("meta"):
        model = build()
    branches = residual_branches(model)
    assert len(branches) == count
    assert sum(bool(branch.shortcut) for branch in branches) == projections
    assert {branch.norm is not None for branch in branches} == {ends_in_norm}
    assert all(branch.weight is not None and branch.end is None for branch in branches)
    if layers is not None:
        assert {len(branch.layers) for branch in branches} == {layers}


@pytest.mark.parametrize(
    "build",
    [
        VISION.vgg11,
        VISION.alexnet,
        VISION.densenet121,
        VISION.squeezenet1_0,
        VISION.shufflenet_v2_x0_5,
        lambda: VISION.googlenet(init_weights=False),
        lambda: CNN(IMAGE, 10),
        lambda: DeepCNN(IMAGE, 10, 4),
        lambda: MLP(IMAGE, 10),
    ],
)
@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet")
def test_networks_without_additions_have_none(build):
    assert residual_branches(build()) == []


def test_a_model_that_asks_for_the_shape_of_its_input_is_run_on_it():
    assert residual_branches(LSTM(IMAGE, 10), torch.zeros(2, *IMAGE)) == []


def test_a_feature_pyramid_adds_but_is_not_residual():
    """Lin et al. 2017: the top-down path adds an upsampled map to a lateral convolution."""

    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            self.down = nn.ModuleList([nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)])
            self.side = nn.ModuleList([nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 1)])
            self.out = nn.ModuleList([nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1)])

        def forward(self, x):
            low = F.relu(self.down[0](x))
            high = self.side[1](F.relu(self.down[1](low)))
            merged = self.side[0](low) + F.interpolate(high, scale_factor=2)
            return self.out[0](merged), self.out[1](high)

    assert residual_branches(Pyramid()) == []


def test_parallel_branches_approximations_and_gates():
    """GPT-J's two branches of one norm; the cubic in GELU's approximation; a GRU's gate."""

    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.mix, self.one = nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)

        def forward(self, x):
            h = self.norm(x)
            u = self.up(h)
            u = 0.5 * u * (1 + torch.tanh(0.797 * (u + 0.0447 * u**3)))
            return self.one(self.mix(h).softmax(-1)) + self.down(u) + x

    assert [b.weight for b in residual_branches(Parallel())] == ["one.weight", "down.weight"]

    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.z, self.n = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            z = torch.sigmoid(self.z(x))
            return (1 - z) * torch.tanh(self.n(x)) + z * x

    assert residual_branches(Gate()) == []


def test_sums_of_embeddings_are_not_residual():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.word, self.place = nn.Embedding(9, 4), nn.Embedding(5, 4)

        def forward(self, x):
            return self.word(x) + self.place(torch.arange(x.shape[1]))

    assert residual_branches(Tokens()) == []
    assert len(residual_branches(Transformer(IMAGE, 10, depth=3))) == 6


class Block(nn.Module):
    def __init__(self, last=None, pre=False):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.bn1, self.bn2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.last, self.pre = last or nn.Identity(), pre
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        if self.pre:
            y = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        else:
            y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        x += self.scale * self.last(y)
        return x


def test_what_a_branch_ends_in():
    (plain,) = residual_branches(Block())
    assert (plain.weight, plain.norm) == ("conv2.weight", "bn2")
    assert plain.multipliers == ("scale",)
    (pre,) = residual_branches(Block(pre=True))
    assert (pre.weight, pre.norm) == ("conv2.weight", None)
    (steep,) = residual_branches(Block(nn.SiLU()))
    assert (steep.norm, steep.activation, steep.end) == ("bn2", "SiLU", None)
    (flat,) = residual_branches(Block(nn.ReLU()))
    assert (flat.norm, flat.weight, flat.end) == (None, None, "last (ReLU)")
    (dropped,) = residual_branches(Block(nn.Dropout(0.5)))
    assert dropped.norm == "bn2"


def test_code_that_cannot_be_read_is_run():
    """It branches on a value; torch.fx cannot follow it, and so the model runs on a batch."""

    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.up, self.down = nn.Linear(6, 4), nn.Linear(4, 8), nn.Linear(8, 4)

        def forward(self, x, shift=None):
            x = self.body(x)
            if x.sum() > 1e9:
                return x
            hidden = torch.relu(self.up(x))
            x = x + self.down(hidden)
            return x if shift is None else x + shift

    model = Branching().train()
    expected = [("up", "down")]
    for batch in (None, torch.randn(2, 6), (torch.randn(2, 6),), {"x": torch.randn(2, 6)}):
        assert [branch.layers for branch in residual_branches(model, batch)] == expected
    assert model.training
    with pytest.raises(ValueError, match="the Branching fails on the batch") as error:
        residual_branches(model, torch.randn(2, 5))
    assert "\n" not in str(error.value)
    picky = nn.Sequential(Branching())
    picky.forward = lambda x, y: picky[0](x if len(y) == 7 else y)
    with pytest.raises(ValueError, match="give a batch of inputs to run it on"):
        residual_branches(picky)


def test_running_changes_nothing():
    torch.manual_seed(0)
    model = nn.Sequential(VISION.swin_transformer.swin_t(num_classes=10), nn.BatchNorm1d(10))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hooks = [len(m._forward_hooks) for m in model.modules()]
    state = torch.get_rng_state()
    assert len(residual_branches(model)) == 24
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert model.training


def test_torchs_own_transformers():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert len(residual_branches(layer)) == 2
    encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    assert [b.weight for b in residual_branches(nn.Sequential(encoder))][:2] == [
        "0.layers.0.self_attn.out_proj.weight",
        "0.layers.0.linear2.weight",
    ]
    assert len(residual_branches(nn.Transformer(8, 2, 2, 3, 16, batch_first=True))) == 2 * 2 + 3 * 3


def test_our_resnet():
    branches = residual_branches(ResNet(IMAGE, 10, channels=(4, 8), blocks=2))
    assert [branch.norm for branch in branches] == [
        f"stage{stage}.block{block}.norm2" for stage in (1, 2) for block in (1, 2)
    ]
    assert [branch.shortcut for branch in branches] == [
        (),
        (),
        ("stage2.block1.shortcut.conv",),
        (),
    ]
