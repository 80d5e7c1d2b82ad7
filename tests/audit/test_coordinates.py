"""The coordinate check on muP as its authors set it up, and with one error planted."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import initstudy

BASE = 32
WIDTHS = [32, 64, 128]
X = torch.randn(32, 16, generator=torch.Generator().manual_seed(0))
Y = torch.arange(32) % 8
TOKENS = torch.randint(64, (8, 12), generator=torch.Generator().manual_seed(0))


class MLP(nn.Module):
    """The MLP of microsoft/mup's examples: a readout with a multiplier that starts at zero."""

    def __init__(self, width, depth, readout="mup"):
        super().__init__()
        self.first = nn.Linear(16, width, bias=False)
        self.hidden = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.readout = nn.Linear(width, 8, bias=False)
        self.multiplier = BASE / width if readout == "mup" else 1.0
        for layer in (self.first, *self.hidden):
            nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(self.readout.weight)

    def forward(self, x):
        x = F.relu(self.first(x))
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.readout(x) * self.multiplier


class Transformer(nn.Module):
    """A transformer as in microsoft/mup's examples: scores over d instead of √d, tied tokens."""

    def __init__(self, width, depth, attention="mup", tied="mup"):
        super().__init__()
        self.tokens = nn.Embedding(64, width)
        self.query, self.key, self.value, self.out = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        for layer in (self.key, self.value, self.out, self.up, self.down):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        # The authors start queries at zero.
        nn.init.zeros_(self.query.weight)
        self.scale = 8 / width if attention == "mup" else width**-0.5
        self.multiplier = BASE / width if tied == "mup" else 1.0

    def forward(self, ids):
        x = self.tokens(ids)
        h = F.layer_norm(x, x.shape[-1:])
        scores = self.query(h) @ self.key(h).mT * self.scale
        x = x + self.out(scores.softmax(-1) @ self.value(h))
        x = x + self.down(F.relu(self.up(F.layer_norm(x, x.shape[-1:]))))
        x = F.layer_norm(x, x.shape[-1:])
        return F.linear(x, self.tokens.weight) * self.multiplier


def adam(model, rate=0.02):
    """Adam with muP's rates: those of matrices between two widths fall with the width."""
    hidden = [p for p in model.parameters() if p.dim() > 1 and min(p.shape) >= BASE]
    hidden = [p for p in hidden if p is not getattr(getattr(model, "tokens", None), "weight", 0)]
    rest = [p for p in model.parameters() if all(p is not h for h in hidden)]
    groups = [{"params": [p], "lr": rate * BASE / p.shape[1]} for p in hidden]
    return torch.optim.Adam([*groups, {"params": rest, "lr": rate}])


def check(make, optimizer=adam, batch=X, targets=Y, **options):
    return initstudy.coordinate_check(
        make, WIDTHS, [2], optimizer, batch=batch, targets=targets, **options
    )


def test_mups_own_mlp_passes_and_a_readout_without_its_multiplier_is_named():
    assert check(MLP).passes, str(check(MLP))
    found = check(lambda w, d: MLP(w, d, readout="standard"))
    assert found.culprit == "readout"
    # Adam's steps of one size add up over the width; at first nothing else moves.
    (worst,) = check(lambda w, d: MLP(w, d, readout="standard"), steps=1).broken
    assert (worst.name, worst.what) == ("readout", "change")
    assert worst.slope == pytest.approx(1.0, abs=0.2)


def test_adam_with_one_rate_breaks_the_first_hidden_matrix():
    """The spectral norm of an update of n² entries of one size is n (Yang et al. 2023)."""
    found = check(MLP, lambda m: torch.optim.Adam(m.parameters(), 0.002))
    assert found.culprit == "hidden.0.weight"
    update = next(e for e in found.exponents if e.name == found.culprit and e.what == "update")
    assert update.slope == pytest.approx(1.0, abs=0.2)


def check_transformer(**changes):
    return initstudy.coordinate_check(
        lambda w, d: Transformer(w, d, **changes),
        [64, 128, 256],
        [1],
        lambda model: adam(model, 0.05),
        batch=TOKENS,
        targets=TOKENS.flip(1),
        steps=2,
        seeds=2,
    )


def test_mups_own_transformer_passes_and_planted_errors_are_named():
    found = check_transformer()
    assert found.passes, str(found)
    scale = check_transformer(attention="standard")
    assert scale.culprit == " scores"
    tied = check_transformer(tied="standard")
    assert tied.culprit == "linear(tokens.weight)"


def test_along_the_depth_residual_branches_need_a_factor():
    """Without 1/√depth the stream of a residual network grows as √depth."""

    class Residual(nn.Module):
        def __init__(self, width, depth, power):
            super().__init__()
            self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
            self.last, self.factor = nn.Linear(width, width), depth**-power
            self.readout = nn.Linear(width, 4)
            for block in self.blocks:
                nn.init.normal_(block.weight, std=(width) ** -0.5)
                nn.init.zeros_(block.bias)

        def forward(self, x):
            for block in self.blocks:
                x = x + self.factor * block(F.layer_norm(x, x.shape[-1:]))
            return self.readout(self.last(x))

    x = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))

    def exponent(power):
        found = initstudy.coordinate_check(
            lambda w, d: Residual(w, d, power),
            [64],
            [4, 16, 64],
            lambda m: torch.optim.SGD(m.parameters(), 1e-6),
            batch=x,
        )
        return next(e for e in found.exponents if (e.name, e.what) == ("last", "activation"))

    assert exponent(0.5).holds
    assert exponent(0.0).slope == pytest.approx(0.5, abs=0.15)
    assert not exponent(0.0).holds
    assert exponent(0.0).axis == "depth"
    assert math.isfinite(exponent(0.0).high)
