"""Each warning where its cause is, and none where it is not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import initstudy
from initstudy.initializers import (
    Constant,
    KaimingNormal,
    Normal,
    Orthogonal,
    XavierNormal,
    XavierUniform,
    as_policy,
    initialize,
    unit_forget_gate,
)
from initstudy.models import CNN, LSTM, MLP, Transformer

X = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(64) % 10


def warned(model, batch=X, targets=Y, **options):
    return {
        w.code: w for w in initstudy.audit_model(model, batch, targets=targets, **options).warnings
    }


def deep(std, depth=12, activation="relu"):
    net = MLP((1, 8, 8), 10, depth=depth, width=128, activation=activation)
    return initialize(net, as_policy(Normal(std)), seed=0)


def test_a_healthy_model_has_no_warnings():
    he = initialize(MLP((1, 8, 8), 10, depth=12), as_policy(KaimingNormal()), seed=0)
    assert warned(he) == {}
    xavier = initialize(MLP((1, 8, 8), 10, activation="tanh"), as_policy(XavierNormal()), seed=0)
    assert warned(xavier) == {}
    small = initialize(CNN((1, 8, 8), 10), as_policy(KaimingNormal()), seed=0)
    assert warned(small) == {}


@pytest.mark.parametrize("factor", [1.8, 0.5])
def test_growth_is_the_theorys_factor_a_layer(factor):
    """A ReLU layer of n inputs multiplies the rms by std·√(n/2) (He et al. 2015)."""
    found = warned(deep(factor * math.sqrt(2 / 128)))
    direction = "grows" if factor > 1 else "shrinks"
    for code in ("signal", "gradient"):
        message = found[code].message
        assert direction in message
        stated = float(message.split("×")[1].split(" ")[0])
        assert stated == pytest.approx(factor, rel=0.1)
        layers = int(message.split("after ")[1].split(" ")[0])
        assert layers == pytest.approx(math.log(1e4) / abs(math.log(factor)), abs=2)


def test_large_logits_show_in_the_loss():
    net = initialize(MLP((1, 8, 8), 10), as_policy(KaimingNormal()), seed=0)
    assert "loss" not in warned(net)
    with torch.no_grad():
        net.head.weight.mul_(20)
    assert "guessing gives 2.3" in warned(net)["loss"].message


def test_dead_and_saturated_layers():
    net = initialize(MLP((1, 8, 8), 10), as_policy(KaimingNormal()), seed=0)
    nn.init.constant_(net.fc2.bias, -50.0)
    assert warned(net)["dead"].where == ("fc2", "fc3")
    assert "fc2" in warned(deep(2.0, depth=3, activation="tanh"))["saturated"].where


def test_weights_that_are_all_alike():
    net = initialize(MLP((1, 8, 8), 10), as_policy(Constant(0.1)), seed=0)
    assert set(warned(net)["symmetric"].where) == {"fc1.weight", "fc2.weight", "fc3.weight"}
    zero = initialize(MLP((1, 8, 8), 10), as_policy(Constant(0.0)), seed=0)
    assert "no-gradient" in warned(zero)
    head = initialize(MLP((1, 8, 8), 10), as_policy(KaimingNormal()), seed=0)
    nn.init.zeros_(head.head.weight)
    assert warned(head) == {}
    (note,) = initstudy.audit_model(head, X, targets=Y).notes
    assert note.code == "no-gradient"
    assert "since head.weight is zero" in note.message


def test_wrong_fans_are_said_with_their_cause():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(64, 4, batch_first=True)
    q = torch.randn(4, 6, 64)
    assert "packed QKV" in warned(attention, (q, q, q), None)["wrong-fan"].message
    initialize(attention, as_policy(XavierUniform()), seed=0)
    assert "wrong-fan" not in warned(attention, (q, q, q), None)
    transposed = nn.ConvTranspose2d(32, 4, 3)
    x = torch.randn(2, 32, 6, 6)
    assert "transposed" in warned(transposed, x, None)["wrong-fan"].message
    initialize(transposed, as_policy(KaimingNormal()), seed=0)
    assert "wrong-fan" not in warned(transposed, x, None)
    depthwise = nn.Conv2d(32, 32, 3, groups=32)
    nn.init.kaiming_normal_(depthwise.weight, mode="fan_out")
    assert "grouped" in warned(depthwise, x, None)["wrong-fan"].message


def test_wide_embeddings_closed_gates_and_values_below_resolution():
    torch.manual_seed(0)
    tokens = nn.Sequential(nn.Embedding(100, 16), nn.Flatten(), nn.Linear(32, 10))
    numbers = torch.randint(100, (64, 2))
    assert warned(tokens, numbers)["embedding"].where == ("0.weight",)
    nn.init.normal_(tokens[0].weight, std=0.02)
    assert "embedding" not in warned(tokens, numbers)

    lstm = LSTM((1, 8, 8), 10)
    assert warned(lstm)["forget-gate"].where == ("recurrent.bias_ih_l0",)
    assert "forget-gate" not in warned(initialize(lstm, unit_forget_gate(), seed=0))

    half = nn.Linear(64, 10).to(torch.float16)
    nn.init.normal_(half.weight, std=2e-6)
    x = X.flatten(1)
    assert warned(half, x.half(), Y)["resolution"].where == ("weight",)
    near_one = nn.Linear(64, 10).to(torch.bfloat16)
    nn.init.normal_(near_one.bias, mean=1.0, std=4e-3)
    assert warned(near_one, x.bfloat16(), Y)["resolution"].where == ("bias",)
    assert "resolution" not in warned(nn.Linear(64, 10), x)


def test_overflow_names_the_layer_where_it_begins():
    net = deep(1e13)
    found = warned(net)
    assert found["not-finite"].message.startswith("NaN or infinity from fc")
    assert found["not-finite"].where[0] in found["not-finite"].message


def test_orthogonal_tanh_and_a_transformer_are_judged_by_their_own_signal():
    orthogonal = MLP((1, 8, 8), 10, depth=8, activation="linear")
    assert warned(initialize(orthogonal, as_policy(Orthogonal()), seed=0)) == {}
    transformer = initialize(Transformer((1, 8, 8), 10), as_policy(Normal(0.02)), seed=0)
    assert not {"wrong-fan", "embedding", "symmetric"} & set(warned(transformer))
