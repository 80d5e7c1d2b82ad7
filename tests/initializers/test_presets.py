"""Whole-model presets against freshly built modules and the published defaults."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import nn

from initstudy.initializers import (
    Fans,
    Uniform,
    article,
    as_policy,
    bert,
    draw,
    flax,
    initialize,
    irnn,
    keras,
    matlab,
    mean_field,
    torch_default,
    unit_forget_gate,
)

MODULES = {
    "linear": lambda: nn.Linear(60, 50),
    "bilinear": lambda: nn.Bilinear(12, 9, 20),
    "conv1d": lambda: nn.Conv1d(8, 12, 5),
    "conv2d-grouped": lambda: nn.Conv2d(8, 12, 3, groups=4),
    "conv2d-depthwise": lambda: nn.Conv2d(12, 24, 3, groups=12),
    "conv3d": lambda: nn.Conv3d(4, 6, 3),
    "transposed1d": lambda: nn.ConvTranspose1d(12, 8, 3),
    "transposed2d-grouped": lambda: nn.ConvTranspose2d(12, 8, 3, groups=2),
    "transposed3d": lambda: nn.ConvTranspose3d(6, 4, 3),
    "embedding": lambda: nn.Embedding(80, 30, padding_idx=0),
    "embedding-bag": lambda: nn.EmbeddingBag(80, 30, padding_idx=3),
    "rnn": lambda: nn.RNN(9, 16, num_layers=2),
    "lstm": lambda: nn.LSTM(9, 16, bidirectional=True, proj_size=5),
    "gru": lambda: nn.GRU(9, 16, num_layers=2),
    "lstm-cell": lambda: nn.LSTMCell(9, 16),
    "gru-cell": lambda: nn.GRUCell(9, 16),
    "rnn-cell": lambda: nn.RNNCell(9, 16),
    "attention-packed": lambda: nn.MultiheadAttention(16, 4, add_bias_kv=True),
    "attention-separate": lambda: nn.MultiheadAttention(16, 4, kdim=10, vdim=12),
    "layernorm": lambda: nn.LayerNorm(20),
    "rmsnorm": lambda: nn.RMSNorm(20),
    "groupnorm": lambda: nn.GroupNorm(4, 20),
    "batchnorm": lambda: nn.BatchNorm2d(20),
    "instancenorm": lambda: nn.InstanceNorm2d(20, affine=True),
    "prelu": lambda: nn.PReLU(20),
    "encoder-layer": lambda: nn.TransformerEncoderLayer(16, 4, 24),
    "transformer": lambda: nn.Transformer(16, 4, 1, 1, 24),
    "in-a-model": lambda: nn.Sequential(
        nn.Linear(20, 16), nn.Transformer(16, 2, 1, 1, 20), nn.MultiheadAttention(16, 2)
    ),
}


@pytest.mark.parametrize("build", MODULES.values(), ids=MODULES)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_the_torch_preset_is_what_fresh_modules_hold(build):
    """Kolmogorov–Smirnov of the pooled draws of many modules against ours, for each parameter."""
    torch.manual_seed(0)
    fresh = [dict(build().named_parameters()) for _ in range(30)]
    ours = [draw(build(), torch_default(), seed) for seed in range(30)]
    for name in fresh[0]:
        a, b = (torch.cat([m[name].detach().flatten() for m in some]) for some in (fresh, ours))
        if a.unique().numel() == 1:
            assert torch.equal(a, b), name
        else:
            assert stats.ks_2samp(a.numpy(), b.numpy()).pvalue > 1e-4, name
            assert torch.equal(a == 0, b == 0), name
            bounded = "bias_" not in name and "mbedding" not in str(build())
            # The largest of many uniform draws is the bound.
            largest = a.abs().max().item()
            assert not bounded or b.abs().max().item() == pytest.approx(largest, rel=0.03), name


def glorot(numIn, numOut):  # noqa: N803 - MATLAB's names
    return math.sqrt(6 / (numIn + numOut))


def is_uniform(values, bound):
    law = stats.uniform(-bound, 2 * bound)
    assert stats.kstest(values.detach().flatten().double().numpy(), law.cdf).pvalue > 1e-4


def test_the_examples_of_matlabs_page():
    """Initialize Learnable Parameters for Model Function, with its sizes."""
    conv = initialize(nn.Conv2d(3, 128, (5, 5)), matlab(), seed=0)
    is_uniform(conv.weight, glorot(5 * 5 * 3, 5 * 5 * 128))
    assert (conv.bias == 0).all()

    embedding = initialize(nn.Embedding(5000, 300), matlab(), seed=0).weight.detach()
    assert stats.kstest(embedding[:200].flatten().numpy(), stats.norm(0, 0.01).cdf).pvalue > 1e-4
    assert embedding.shape == (5000, 300)

    lstm = initialize(nn.LSTM(30, 100), matlab(), seed=0)
    recurrent = lstm.weight_hh_l0.detach()
    assert recurrent.shape == (400, 100)
    torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(100), atol=1e-5, rtol=0)
    is_uniform(lstm.weight_ih_l0, glorot(30, 4 * 100))
    bias = lstm.bias_ih_l0 + lstm.bias_hh_l0
    assert (bias[100:200] == 1).all()
    assert (bias[:100] == 0).all()
    assert (bias[200:] == 0).all()

    gru = initialize(nn.GRU(30, 100), matlab(), seed=0)
    is_uniform(gru.weight_ih_l0, glorot(30, 3 * 100))
    assert (gru.bias_ih_l0 == 0).all()

    attention = Uniform(0.1)((100, 100), Fans(100, 100), generator=torch.Generator().manual_seed(0))
    is_uniform(attention, 0.1)
    assert attention.abs().max() <= 0.1

    norm = initialize(nn.BatchNorm2d(128), matlab(), seed=0)
    assert (norm.weight == 1).all()
    assert (norm.bias == 0).all()


def test_matlabs_other_convolutions():
    grouped = initialize(nn.Conv2d(12, 24, 3, groups=4), matlab(), seed=0)
    is_uniform(grouped.weight, glorot(9 * 3, 9 * 6))
    transposed = initialize(nn.ConvTranspose2d(12, 7, 3), matlab(), seed=0)
    is_uniform(transposed.weight, glorot(9 * 12, 9 * 7))
    dense = initialize(nn.Linear(60, 30), matlab(), seed=0)
    is_uniform(dense.weight, glorot(60, 30))


def test_the_tutorials_sigmoid_net():
    """Xavier-uniform weights and biases of 0.01, as the textbook chapter initializes it."""
    from initstudy.initializers import XavierUniform

    net = nn.Sequential(nn.Linear(1, 2), nn.Sigmoid(), nn.Linear(2, 1))
    draws = [draw(net, as_policy(XavierUniform(), bias=0.01), seed) for seed in range(400)]
    for name in ("0.weight", "2.weight"):
        is_uniform(torch.cat([d[name] for d in draws]), math.sqrt(6 / 3))
    assert all((d[name] == 0.01).all() for d in draws for name in ("0.bias", "2.bias"))


def test_the_articles_snippet():
    """The tutorial's `_init_weights`, applied by hand, gives the same laws."""
    net = nn.Sequential(nn.Embedding(50, 40, padding_idx=1), nn.LayerNorm(40), nn.Linear(40, 30))
    values = draw(net, article(std=1.0), 0)
    for name in ("0.weight", "2.weight"):
        law = stats.norm(0, 1).cdf
        kept = values[name][2:].flatten().numpy()
        assert stats.kstest(kept, law).pvalue > 1e-4
    assert (values["0.weight"][1] == 0).all()
    assert (values["2.bias"] == 0).all()
    assert (values["1.weight"] == 1).all()


def test_flax_scales_by_inputs_alone_and_keras_by_its_own_kernels():
    conv = nn.Conv2d(12, 24, 3, groups=4)
    assert draw(conv, flax(), 0)["weight"].std() == pytest.approx(1 / math.sqrt(27), rel=0.1)
    is_uniform(draw(conv, keras(), 0)["weight"], glorot(9 * 3, 9 * 24))
    embedding = draw(nn.Embedding(200, 64), flax(), 0)["weight"]
    assert embedding.std() == pytest.approx(1 / 8, rel=0.03)
    is_uniform(draw(nn.Embedding(200, 64), keras(), 0)["weight"], 0.05)
    lstm = draw(nn.LSTM(8, 6), flax(), 0)["weight_hh_l0"]
    for gate in lstm.chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(6), atol=1e-5, rtol=0)


def test_bert_cuts_at_two_deviations():
    weight = draw(nn.Linear(300, 300), bert(), 0)["weight"]
    law = stats.truncnorm(-2, 2, scale=0.02)
    assert stats.kstest(weight.flatten().numpy(), law.cdf).pvalue > 1e-4
    assert weight.abs().max() <= 0.04


def test_forget_gates_are_one_whatever_the_number_of_layers():
    values = draw(nn.LSTM(3, 4, num_layers=2, bidirectional=True), unit_forget_gate(), 0)
    for suffix in ("l0", "l1", "l0_reverse", "l1_reverse"):
        bias = values[f"bias_ih_{suffix}"] + values[f"bias_hh_{suffix}"]
        assert bias.tolist() == [0] * 4 + [1] * 4 + [0] * 8


def test_mean_field_variances_are_those_of_the_theory():
    model = nn.Sequential(nn.Conv2d(20, 80, 3), nn.BatchNorm2d(80), nn.Linear(500, 400))
    initialize(model, mean_field(sigma_w2=1.7, sigma_b2=0.09), seed=0)
    for layer, fan_in in ((model[0], 180), (model[2], 500)):
        test = stats.kstest(
            layer.weight.detach().flatten().numpy(), stats.norm(0, math.sqrt(1.7 / fan_in)).cdf
        )
        assert test.pvalue > 0.001
    biases = torch.cat([model[0].bias, model[2].bias]).detach()
    assert stats.kstest(biases.numpy(), stats.norm(0, 0.3).cdf).pvalue > 0.001
    assert (model[1].weight == 1).all()
    assert (model[1].bias == 0).all()
    with pytest.raises(ValueError, match=r"init\.sigma_b2=-1: a variance"):
        mean_field(1.0, -1)


def test_an_irnn_remembers_its_first_input_as_it_was():
    """Without further input, rectified units that start as the identity keep their state."""
    layer = nn.RNN(3, 50, nonlinearity="relu", batch_first=True)
    initialize(layer, irnn(std=0.1), seed=0)
    x = torch.zeros(4, 200, 3)
    x[:, 0] = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    states, _ = layer(x)
    assert states[:, 0].abs().sum() > 0
    assert torch.equal(states[:, -1], states[:, 0])
    initialize(layer, irnn(std=0.1, scale=0.9), seed=0)
    states, _ = layer(x)
    torch.testing.assert_close(states[:, 20], 0.9**20 * states[:, 0])
