"""The models for other tasks than images, against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from initstudy.models import GPT, ResidualMLP, Siren


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("tied", [True, False])
def test_a_gpt_is_its_formula(tied):
    model = GPT((6,), 11, width=8, depth=2, heads=2, tied=tied)
    x = torch.randint(11, (3, 6))
    p = dict(model.named_parameters())
    assert ("head.weight" in p) is not tied
    h = p["tokens.weight"][x] + p["positions.weight"]

    def norm(h, name):
        return F.layer_norm(h, (8,), p[f"{name}.weight"], p[f"{name}.bias"])

    for block in ("block1", "block2"):
        y = norm(h, f"{block}.norm1")
        qkv = y @ p[f"{block}.attention.in_proj_weight"].T + p[f"{block}.attention.in_proj_bias"]
        q, k, v = (part.unflatten(2, (2, 4)).transpose(1, 2) for part in qkv.chunk(3, -1))
        scores = q @ k.mT / math.sqrt(4)
        scores = scores.masked_fill(torch.ones(6, 6).triu(1) > 0, -torch.inf)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        out = f"{block}.attention.out_proj"
        h = h + mixed @ p[f"{out}.weight"].T + p[f"{out}.bias"]
        y = norm(h, f"{block}.norm2") @ p[f"{block}.mlp1.weight"].T + p[f"{block}.mlp1.bias"]
        h = h + F.gelu(y) @ p[f"{block}.mlp2.weight"].T + p[f"{block}.mlp2.bias"]
    head = p["tokens.weight"] if tied else p["head.weight"]
    torch.testing.assert_close(model(x), norm(h, "norm") @ head.T)


def test_a_gpt_never_sees_what_it_is_to_predict():
    model = GPT((6,), 11, width=8, heads=2).eval()
    x = torch.randint(11, (1, 6))
    changed = x.clone()
    changed[0, 4:] = (changed[0, 4:] + 1) % 11
    torch.testing.assert_close(model(x)[:, :4], model(changed)[:, :4])
    assert not torch.allclose(model(x)[:, 4:], model(changed)[:, 4:])


def test_a_siren_is_its_formula_and_starts_as_the_paper_says():
    model = Siren((2,), 3, depth=3, width=256, w0=30.0)
    x = torch.rand(4000, 2) * 2 - 1
    p = dict(model.named_parameters())
    h = x
    for layer in ("fc1", "fc2", "fc3"):
        h = torch.sin(30 * (h @ p[f"{layer}.weight"].T + p[f"{layer}.bias"]))
    torch.testing.assert_close(model(x), h @ p["head.weight"].T + p["head.bias"])
    assert p["fc1.weight"].abs().max().item() == pytest.approx(1 / 2, rel=0.01)
    for layer in ("fc2", "fc3", "head"):
        bound = math.sqrt(6 / 256) / 30
        assert p[f"{layer}.weight"].abs().max().item() == pytest.approx(bound, rel=0.01)
    # Sitzmann et al. 2020, theorem 1.8: activations have the arcsine distribution, of variance 1/2,
    # and what the weights make of them has a standard deviation of 1 within the next sine.
    with torch.no_grad():
        first = model.act1(model.fc1(x))
        argument = 30 * first @ model.fc2.weight.T
    assert first.var().item() == pytest.approx(0.5, abs=0.03)
    assert argument.std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("layer_norm", [True, False])
def test_a_residual_mlp_is_its_formula(layer_norm):
    model = ResidualMLP((1, 4, 4), 5, depth=2, width=6, activation="tanh", layer_norm=layer_norm)
    x = torch.randn(7, 1, 4, 4)
    h = model.stem(x.flatten(1))
    for block in (model.block1, model.block2):
        branch = block.norm(h) if layer_norm else h
        h = h + block.mlp2(torch.tanh(block.mlp1(branch)))
    torch.testing.assert_close(model(x), model.head(model.norm(h) if layer_norm else h))


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: GPT((1, 8, 8), 10), r"model=gpt: takes sequences of tokens .* \(1, 8, 8\)"),
        (lambda: GPT((8,), 10, width=9, heads=2), r"model\.heads=2: must divide model\.width=9"),
        (lambda: GPT((8,), 10, tied="yes"), r"model\.tied=yes: must be true or false"),
        (lambda: Siren((2,), 3, w0=0), r"model\.w0=0: must be a finite number above 0"),
        (lambda: Siren((2,), 3, depth=0), r"model\.depth=0: must be a whole number of at least 1"),
        (lambda: ResidualMLP((2,), 3, hidden_ratio=0), r"model\.hidden_ratio=0"),
    ],
)
def test_bad_sizes_are_one_line(make, line):
    with pytest.raises(ValueError, match=line):
        make()
