"""Policies that depend on depth and width, against the papers' formulas and the networks."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch import nn

from initstudy.initializers import GPT2, Fixup, MuP, MuPOutput, ZeroResidual, draw, initialize


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


def test_the_branches_of_torchvisions_resnets_start_at_zero():
    for build, last, count in (
        (torchvision.models.resnet18, "bn2", 8),
        (torchvision.models.resnet50, "bn3", 16),
    ):
        values = draw(build(), ZeroResidual(), 0)
        zero = [n for n, v in values.items() if n.endswith("weight") and not v.any()]
        assert len(zero) == count
        assert all(name.endswith(f"{last}.weight") for name in zero)
        norms = [v for n, v in values.items() if "bn" in n and "weight" in n and n not in zero]
        assert all((v == 1).all() for v in norms)


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
    ],
)
def test_models_that_a_policy_is_not_for(policy, model, said):
    with pytest.raises(ValueError, match=said):
        draw(model, policy, 0)
    with pytest.raises(ValueError, match=r"init\.base_fan_in=0"):
        MuPOutput(0)
