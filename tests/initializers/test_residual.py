"""Policies for residual networks and widths, against the papers' formulas and the authors' code."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from initstudy.initializers import (
    GPT2,
    Constant,
    Fixup,
    MuP,
    MuPOutput,
    Normal,
    Rule,
    ZeroResidual,
    draw,
    initialize,
    keras,
)
from initstudy.models import CNN, ResNet

VISION = torchvision.models


@pytest.mark.parametrize("layers", [1, 3])
def test_gpt2_scales_what_ends_a_branch_by_the_number_of_branches(layers):
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128), layers, None, False)
    values = draw(encoder, GPT2(), 0)
    for name, value in values.items():
        if name.endswith(("out_proj.weight", "linear2.weight")):
            assert value.std() == pytest.approx(0.02 / math.sqrt(2 * layers), rel=0.1), name
        elif name.endswith(("in_proj_weight", "linear1.weight")):
            assert value.std() == pytest.approx(0.02, rel=0.1), name
        else:
            assert value.unique().tolist() == [1.0 if name.endswith("weight") else 0.0], name


@pytest.mark.parametrize(("build", "ends"), [
    (VISION.vit_b_32, ("out_proj.weight", "mlp.3.weight")),
    (VISION.swin_t, ("attn.proj.weight", "mlp.3.weight")),
])  # fmt: skip
def test_gpt2_finds_every_branch_of_other_transformers(build, ends):
    """Both have twelve layers of two branches; what is not a layer's own stays as it is."""
    torch.manual_seed(0)
    model = initialize(build(), GPT2(), seed=0, unknown="keep")
    for name, value in model.named_parameters():
        if name.endswith(ends):
            assert value.std().item() == pytest.approx(0.02 / math.sqrt(24), rel=0.1), name
        elif name.endswith(("qkv.weight", "mlp.0.weight", "in_proj_weight")):
            assert value.std().item() == pytest.approx(0.02, rel=0.1), name


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return x + self.conv2(self.act1(self.conv1(x)))


def residual(blocks, width=16):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        *[Block(width) for _ in range(blocks)],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    )


def test_fixup_scales_branches_by_their_number_and_starts_as_the_identity():
    net = initialize(residual(9), Fixup(), seed=0)
    he = math.sqrt(2 / (16 * 9))
    for block in net[1:10]:
        # L^(-1/(2m-2)) with L = 9 branches of m = 2 convolutions is 1/3.
        assert block.conv1.weight.std().item() == pytest.approx(he / 3, rel=0.1)
        assert (block.conv2.weight == 0).all()
        x = torch.randn(1, 16, 8, 8)
        assert torch.equal(block(x), x)
    assert (net[-1].weight == 0).all()
    # The authors' code leaves the first convolution as torch makes it, U(±1/√fan_in).
    assert net[0].weight.std().item() == pytest.approx(1 / math.sqrt(3 * 9), rel=0.2)


class Scalar(nn.Parameter):
    def __new__(cls, value):
        return super().__new__(cls, torch.full((1,), float(value)))


class FixupBlock(nn.Module):
    """A block of the paper's figure 1, right: biases before every layer, one multiplier."""

    def __init__(self, inputs, outputs, stride, bottleneck):
        super().__init__()
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        widths = [inputs, *[outputs // 4] * 2, outputs] if bottleneck else [inputs, *[outputs] * 2]
        strides = (1, stride, 1) if bottleneck else (stride, 1)
        self.convs = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], k, strides[i], k // 2, bias=False)
            for i, k in enumerate(kernels)
        )
        # As if nobody had thought of what they start as.
        self.before = nn.ParameterList(Scalar(3) for _ in kernels)
        self.after = nn.ParameterList(Scalar(3) for _ in kernels)
        self.scale = Scalar(3)
        changes = stride != 1 or inputs != outputs
        self.downsample = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else None

    def forward(self, x):
        kept = x if self.downsample is None else self.downsample(x + self.before[0])
        y = x
        for i, conv in enumerate(self.convs):
            y = conv(y + self.before[i])
            y = F.relu(y + self.after[i]) if i + 1 < len(self.convs) else y * self.scale
        return F.relu(y + self.after[-1] + kept)


class FixupNet(nn.Sequential):
    def __init__(self, blocks, bottleneck):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        width = 16
        for stage in range(3):
            outputs = 2**stage * (64 if bottleneck else 16)
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                self.append(FixupBlock(width, outputs, stride, bottleneck))
                width = outputs
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.fc = nn.Linear(width, 10)


@pytest.mark.parametrize("bottleneck", [False, True])
def test_fixup_fills_its_authors_network_with_their_numbers(bottleneck):
    """std = √(2/(outputs·k²))·L^(-1/2), or L^(-1/4) in bottlenecks (hongyi-zhang/Fixup)."""
    net = initialize(FixupNet(3, bottleneck), Fixup(), seed=0, unknown="keep")
    blocks = [m for m in net if isinstance(m, FixupBlock)]
    factor = len(blocks) ** (-1 / 4 if bottleneck else -1 / 2)
    for block in blocks:
        *others, last = block.convs
        for conv in others:
            he = math.sqrt(2 / (conv.out_channels * conv.kernel_size[0] ** 2))
            assert conv.weight.std().item() == pytest.approx(he * factor, rel=0.1)
        assert not last.weight.any()
        if block.downsample is not None:
            he = math.sqrt(2 / block.downsample.out_channels)
            assert block.downsample.weight.std().item() == pytest.approx(he, rel=0.1)
        assert block.scale.item() == 1
        assert all(not bias.any() for bias in (*block.before, *block.after))
    assert not net.fc.weight.any()
    assert not net.fc.bias.any()
    assert net.stem.weight.abs().max().item() == pytest.approx(1 / math.sqrt(27), rel=0.02)
    x = torch.randn(2, 3, 16, 16)
    assert not net(x).any()


def test_the_branches_of_torchvisions_resnets_start_at_zero():
    for build, last, count in ((VISION.resnet18, "bn2", 8), (VISION.resnet50, "bn3", 16)):
        values = draw(build(), ZeroResidual(), 0)
        zero = [n for n, v in values.items() if n.endswith("weight") and not v.any()]
        assert len(zero) == count
        assert all(name.endswith(f"{last}.weight") for name in zero)
        norms = [v for n, v in values.items() if "bn" in n and "weight" in n and n not in zero]
        assert all((v == 1).all() for v in norms)


class PreActivation(nn.Module):
    """He et al. 2016, Identity mappings: its bn2 stands before a ReLU, within the branch."""

    def __init__(self, width):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, 1, 1, bias=False)

    def forward(self, x):
        out = self.conv1(F.relu(self.bn1(x)))
        return x + self.conv2(F.relu(self.bn2(out)))


def trained(model, steps=40):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 3, 8, 8, generator=generator)
    y = torch.randint(10, (16,), generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("policy", [ZeroResidual(), Fixup()])
def test_every_parameter_of_a_pre_activation_network_learns(policy):
    """None of them stays for ever what it is, as it would behind a ReLU of zeros."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1),
        *[PreActivation(8) for _ in range(2)],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )
    initialize(net, policy, seed=0)
    assert not net[1].conv2.weight.any()
    before = {name: value.detach().clone() for name, value in net.named_parameters()}
    for name, value in trained(net).named_parameters():
        assert not torch.equal(value, before[name]), name


def test_zero_residual_takes_another_policy_for_the_rest():
    values = draw(residual(2), ZeroResidual(keras()), 0)
    assert not values["1.conv2.weight"].any()
    # Glorot's bound of the first convolution in Keras.
    assert values["0.weight"].abs().max() <= math.sqrt(6 / (9 + 144))
    values = draw(residual(2), ZeroResidual(Normal(0.5)), 0)
    assert values["1.conv1.weight"].std() == pytest.approx(0.5, rel=0.1)


class Tutorial(nn.Module):
    """PyTorch's CIFAR tutorial: conv1 and conv2, and nothing residual."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2 = nn.Linear(16 * 5 * 5, 120), nn.Linear(120, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Flat(Block):
    def forward(self, x):
        return x + F.relu(self.conv2(self.act1(self.conv1(x))))


@pytest.mark.parametrize("policy", [Fixup(), ZeroResidual(), GPT2()])
@pytest.mark.parametrize(
    ("build", "said"),
    [
        (Tutorial, "found no residual branch in the data flow of the Tutorial"),
        (lambda: VISION.shufflenet_v2_x0_5(num_classes=10), "found no residual branch"),
        (lambda: VISION.densenet121(num_classes=10), "found no residual branch"),
        (lambda: CNN((3, 8, 8), 10), "found no residual branch"),
        (lambda: nn.Sequential(Flat(4)), "needs branches that end in a weight; .* ends in relu"),
    ],
)
def test_networks_that_have_no_such_branches_are_refused_in_a_line(policy, build, said):
    model = build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=said) as error:
        initialize(model, policy, seed=0)
    assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_policy_for_residual_networks_is_extended_like_any_other():
    model = residual(2)
    model.register_parameter("token", nn.Parameter(torch.ones(3)))
    values = draw(model, GPT2() + Rule(Constant(5.0), name="token"), 0)
    assert values["token"].tolist() == [5, 5, 5]


def test_mup_shrinks_the_output_with_width_and_the_rest_as_he():
    for width in (128, 512):
        net = nn.Sequential(
            nn.Linear(64, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 50),
        )
        values = draw(net, MuP(base_width=128), 0)
        assert values["0.weight"].std() == pytest.approx(math.sqrt(2 / 64), rel=0.05)
        assert values["2.weight"].std() == pytest.approx(math.sqrt(2 / width), rel=0.05)
        assert values["4.weight"].std() == pytest.approx(math.sqrt(128) / width, rel=0.05)


def test_mups_logits_vanish_with_width_as_the_law_of_large_numbers_wants():
    """At initialization the output of a muP network is O(1/√width) (Tensor Programs V, app. J)."""
    sizes = []
    for width in (64, 1024):
        x = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
        net = nn.Sequential(nn.Linear(32, width), nn.ReLU(), nn.Linear(width, 10))
        outputs = [initialize(net, MuP(64), seed=s)(x).std().item() for s in range(20)]
        sizes.append(sum(outputs) / len(outputs))
    assert sizes[0] / sizes[1] == pytest.approx(4.0, rel=0.15)


@pytest.mark.parametrize(
    ("policy", "model", "said"),
    [
        (GPT2(), nn.Linear(2, 2), "GPT2 found no residual branch"),
        (Fixup(), nn.Sequential(nn.Conv2d(1, 1, 3)), "Fixup found no residual branch"),
        (ZeroResidual(), nn.Linear(2, 2), "ZeroResidual found no residual branch"),
        (MuP(), nn.LayerNorm(3), "muP found no layer"),
        (
            ZeroResidual(),
            ResNet((1, 8, 8), 10).apply(lambda m: setattr(m, "weight", None) if
                                        isinstance(m, nn.BatchNorm2d) else None),
            "this normalization has no scale",
        ),
    ],
)  # fmt: skip
def test_models_that_a_policy_is_not_for(policy, model, said):
    with pytest.raises(ValueError, match=said):
        draw(model, policy, 0)
    with pytest.raises(ValueError, match=r"init\.base_fan_in=0"):
        MuPOutput(0)
