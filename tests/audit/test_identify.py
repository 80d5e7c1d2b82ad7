"""An initialization is recognized from its values alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import initstudy
from initstudy.initializers import (
    KaimingNormal,
    KaimingUniform,
    LecunNormal,
    Normal,
    Orthogonal,
    Policy,
    Rule,
    TruncatedNormal,
    Uniform,
    XavierNormal,
    XavierUniform,
    as_policy,
    initialize,
    torch_default,
)


def rows(model, batch):
    return {row.name: row for row in initstudy.audit_model(model, batch).parameters}


def mlp():
    return nn.Sequential(
        nn.Linear(80, 120), nn.ReLU(), nn.Linear(120, 60), nn.ReLU(), nn.Linear(60, 10)
    )


X = torch.randn(16, 80, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("initializer", "name"),
    [
        (XavierUniform(), "Xavier uniform"),
        (XavierNormal(), "Xavier normal"),
        (KaimingNormal(), "He normal"),
        (KaimingUniform(), "He uniform"),
        (KaimingNormal(mode="fan_out"), "He normal, fan_out"),
        (LecunNormal(), "LeCun normal"),
        (Normal(0.02), "N(0, 0.02²)"),
        (TruncatedNormal(0.02, restore=False), "N(0, 0.02²) cut at 2 std"),
        (Uniform(0.05), "U(±0.05)"),
        (Orthogonal(), "orthogonal"),
        (Orthogonal(math.sqrt(2)), "orthogonal, gain 1.414"),
        (Normal(0.234), "normal, no known scale"),
        (Uniform(0.234), "uniform, no known scale"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_known_scheme_is_named(initializer, name, seed):
    found = rows(initialize(mlp(), as_policy(initializer, bias=0.1), seed=seed), X)
    for layer in ("0", "2"):
        row = found[f"{layer}.weight"]
        assert row.distribution == name
        if row.intended_std:
            assert row.std == pytest.approx(row.intended_std, rel=0.05)
            assert row.pvalue is None or row.pvalue > 1e-3
        assert found[f"{layer}.bias"].distribution == "constant 0.1"
    assert (found["0.weight"].fan_in, found["0.weight"].fan_out) == (80, 120)


def test_what_torch_does_by_itself_is_named_for_every_kind():
    torch.manual_seed(0)
    for layer, batch in (
        (nn.Linear(30, 40), X[:, :30]),
        (nn.Conv2d(3, 20, 3), torch.randn(2, 3, 8, 8)),
        (nn.LSTM(20, 30, batch_first=True), torch.randn(2, 5, 20)),
        (nn.GRU(20, 30), torch.randn(2, 5, 20)),
    ):
        for row in rows(layer, batch).values():
            assert "torch's default" in row.distribution, row.name
    bilinear = nn.Bilinear(20, 30, 5)
    found = rows(bilinear, (torch.randn(4, 20), torch.randn(4, 30)))
    assert found["weight"].distribution == "U(±1/√in1), torch's default"
    embedding = nn.Sequential(nn.Embedding(200, 30, padding_idx=0), nn.Flatten(), nn.Linear(60, 3))
    found = rows(embedding, torch.randint(200, (4, 2)))
    assert found["0.weight"].distribution == "N(0, 1)"


def test_a_scale_that_goes_by_torchs_count_is_told_from_the_layers_own():
    """Xavier of torch.nn.init against the layer's own fans, where the two differ."""
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(64, 4, batch_first=True)
    query = torch.randn(2, 5, 64)
    row = rows(attention, (query, query, query))["in_proj_weight"]
    assert (row.distribution, row.convention) == ("Xavier uniform by torch's fans", "torch")
    assert row.std == pytest.approx(math.sqrt(2 / (64 + 192)), rel=0.03)
    initialize(attention, as_policy(XavierUniform()), seed=0)
    row = rows(attention, (query, query, query))["in_proj_weight"]
    assert (row.distribution, row.convention) == ("Xavier uniform", "layer")

    transposed = nn.ConvTranspose2d(64, 8, 3)
    nn.init.kaiming_normal_(transposed.weight)
    row = rows(transposed, torch.randn(2, 64, 5, 5))["weight"]
    assert (row.distribution, row.convention) == ("He normal by torch's fans", "torch")
    assert (row.fan_in, row.fan_out) == (64 * 9, 8 * 9)


def test_the_rule_that_fits_most_parameters_names_the_ambiguous_ones():
    """For a square layer fan_in and fan_out are the same; its neighbours decide."""
    net = nn.Sequential(*[nn.Linear(a, b) for a, b in ((80, 50), (50, 50), (50, 20))])
    initialize(net, as_policy(KaimingNormal(mode="fan_out")), seed=0)
    found = rows(net, X)
    assert {found[f"{i}.weight"].distribution for i in range(3)} == {"He normal, fan_out"}


def test_against_a_policy_every_parameter_is_tested():
    policy = as_policy(KaimingNormal())
    net = initialize(mlp(), policy, seed=3)
    found = initstudy.audit_model(net, X, policy=policy)
    assert all(row.pvalue > 1e-3 for row in found.parameters)
    assert not [w for w in found.warnings if w.code == "not-initialized"]
    with torch.no_grad():
        net[2].weight.mul_(1.3)
        net[4].bias[0] = 1.0
    warned = [
        w
        for w in initstudy.audit_model(net, X, policy=policy).warnings
        if w.code == "not-initialized"
    ]
    assert warned[0].where == ("2.weight", "4.bias")


def test_what_a_policy_says_nothing_of_is_named():
    policy = Policy([Rule(KaimingNormal(), kind="linear", role="weight")])
    found = initstudy.audit_model(mlp(), X, policy=policy)
    row = next(r for r in found.parameters if r.name == "2.bias")
    assert "no rule; looks like U(±1/√fan_in)" in row.distribution
    assert "2.bias" in next(w for w in found.warnings if w.code == "not-initialized").where


def test_the_torch_policy_knows_its_own_modules():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 5, 3), nn.Flatten(), nn.Linear(320, 9)
    )
    found = initstudy.audit_model(net, torch.randn(2, 3, 8, 8), policy=torch_default())
    assert all(row.pvalue > 1e-3 for row in found.parameters)
