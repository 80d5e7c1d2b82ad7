"""Schemes of single papers, against the numbers of the papers and of the authors' code."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import nn

from initstudy.initializers import (
    Chrono,
    ChronoBias,
    Constant,
    DeepNorm,
    Keep,
    Mitchell,
    Policy,
    Rule,
    Siren,
    TFixup,
    WeightSelection,
    dcgan,
    draw,
    initialize,
    layer_scale,
    llama,
    rezero,
    skip_init,
    vit,
)
from initstudy.models import GPT, ResidualMLP, ResNet
from initstudy.models import Siren as SirenNet


def is_uniform(values, bound):
    law = stats.uniform(-bound, 2 * bound).cdf
    assert stats.kstest(values.detach().flatten().double().numpy(), law).pvalue > 1e-4


def is_normal(values, std, mean=0.0):
    law = stats.norm(mean, std).cdf
    assert stats.kstest(values.detach().flatten().double().numpy(), law).pvalue > 1e-4


def xavier(outputs, inputs):
    return math.sqrt(6 / (outputs + inputs))


def test_chrono_is_the_papers_equation():
    """Tallec & Ollivier 2018, eq. 16: b_f ~ log U([1, T_max - 1]), b_i = -b_f."""
    values = draw(nn.LSTM(3, 200, num_layers=2, bidirectional=True), Chrono(100.0), 0)
    for suffix in ("l0", "l1", "l0_reverse", "l1_reverse"):
        i, f, g, o = (values[f"bias_ih_{suffix}"] + values[f"bias_hh_{suffix}"]).chunk(4)
        assert torch.equal(i, -f)
        assert not g.any()
        assert not o.any()
        law = stats.uniform(1, 98).cdf
        assert stats.kstest(f.exp().numpy(), law).pvalue > 1e-4
    # The rest is what torch makes it.
    is_uniform(values["weight_hh_l0"], 1 / math.sqrt(200))
    with pytest.raises(ValueError, match="Chrono found no LSTM in the Linear"):
        draw(nn.Linear(2, 2), Chrono(), 0)
    for t_max in (2, -1, math.inf):
        with pytest.raises(ValueError, match=r"init\.t_max="):
            ChronoBias(t_max)


@pytest.mark.parametrize("w0", [30.0, 7.0])
def test_siren_is_the_authors_code(w0):
    """siren/modules.py: U(±1/n) first, U(±√(6/n)/w0) then, the last layer among them."""
    net = initialize(SirenNet((2,), 3, depth=3, width=128, w0=w0), Siren(w0), seed=0)
    is_uniform(net.fc1.weight, 1 / 2)
    for layer in (net.fc2, net.fc3, net.head):
        is_uniform(layer.weight, math.sqrt(6 / 128) / w0)
        is_uniform(layer.bias, 1 / math.sqrt(128))


def test_sirens_pre_activations_are_standard_normal():
    """Supplement 1.3, without biases: the arguments of the sines are N(0, 1) in hidden layers."""
    net = initialize(SirenNet((2,), 1, depth=4, width=512), Siren(), seed=0)
    initialize(net, Policy([Rule(Constant(0.0), role="bias"), Rule(Keep())]), seed=0)
    x = torch.rand(1024, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for layer in (net.fc1, net.fc2, net.fc3):
        x = torch.sin(30 * layer(x))
    assert (30 * net.fc4(x)).std().item() == pytest.approx(1, abs=0.1)


class Translator(nn.Module):
    def __init__(self, encoders, decoders):
        super().__init__()
        self.source, self.target = nn.Embedding(50, 32), nn.Embedding(60, 32)
        self.transformer = nn.Transformer(32, 4, encoders, decoders, 64, batch_first=True)
        self.head = nn.Linear(32, 60)

    def forward(self, x, y):
        return self.head(self.transformer(self.source(x), self.target(y)))


def test_tfixup_is_section_3_3():
    n, m = 3, 5
    values = draw(Translator(n, m), TFixup(), 1)
    for side, count, scale in (
        ("encoder", n, 0.67 * n**-0.25),
        ("decoder", m, (9 * m) ** -0.25),
    ):
        for layer in range(count):
            at = f"transformer.{side}.layers.{layer}."
            is_uniform(values[at + "linear1.weight"], scale * xavier(64, 32))
            is_uniform(values[at + "linear2.weight"], scale * xavier(64, 32))
            for attention in ("self_attn", "multihead_attn")[: 1 if side == "encoder" else 2]:
                q, k, v = values[f"{at}{attention}.in_proj_weight"].chunk(3)
                for plain in (q, k):
                    is_uniform(plain, xavier(32, 32))
                for scaled in (v, values[f"{at}{attention}.out_proj.weight"]):
                    is_uniform(scaled, scale * xavier(32, 32))
    for name in ("source", "target"):
        is_normal(values[f"{name}.weight"], 32**-0.5 * (9 * m) ** -0.25)
    is_uniform(values["head.weight"], xavier(60, 32))
    with pytest.raises(ValueError, match=r"TFixup found no nn\.Transformer"):
        draw(nn.Linear(2, 2), TFixup(), 0)


@pytest.mark.parametrize("layers", [1, 6])
def test_deepnorm_is_the_papers_figure_2(layers):
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), layers, None, False
    )
    beta = (8 * layers) ** -0.25
    values = draw(encoder, DeepNorm(), 0)
    for layer in range(layers):
        at = f"layers.{layer}."
        q, k, v = values[at + "self_attn.in_proj_weight"].chunk(3)
        for plain in (q, k):
            is_normal(plain, math.sqrt(2 / 128))
        for scaled in (v, values[at + "self_attn.out_proj.weight"]):
            is_normal(scaled, beta * math.sqrt(2 / 128))
        is_normal(values[at + "linear1.weight"], beta * math.sqrt(2 / 192))
        is_normal(values[at + "linear2.weight"], beta * math.sqrt(2 / 192))
    assert DeepNorm.alpha(layers) == pytest.approx((2 * layers) ** 0.25)


def test_deepnorm_of_encoder_and_decoder_and_of_other_models():
    n, m = 2, 3
    values = draw(Translator(n, m), DeepNorm(), 0)
    encoder, decoder = 0.87 * (n**4 * m) ** (-1 / 16), (12 * m) ** -0.25
    is_normal(values["transformer.encoder.layers.0.linear1.weight"], encoder * math.sqrt(2 / 96))
    is_normal(values["transformer.decoder.layers.2.linear1.weight"], decoder * math.sqrt(2 / 96))
    v = values["transformer.decoder.layers.1.multihead_attn.in_proj_weight"].chunk(3)[2]
    is_normal(v, decoder * math.sqrt(2 / 64))
    model = GPT((6,), 40, width=64, depth=3)
    values = draw(model, DeepNorm(), 0, batch=torch.zeros(1, 6, dtype=torch.long))
    outputs, inputs = values["block3.mlp1.weight"].shape
    is_normal(values["block3.mlp1.weight"], 24**-0.25 * math.sqrt(2 / (outputs + inputs)))
    with pytest.raises(ValueError, match="residual branches are attention and a perceptron in tu"):
        draw(ResNet((1, 8, 8), 10), DeepNorm(), 0)


def test_mitchell_is_olmos_code():
    """Ends of branches: 1/√(2·inputs·(layer + 1)); cut at three deviations, not widened."""
    model = GPT((6,), 40, width=64, depth=3)
    values = draw(model, Mitchell(), 0, batch=torch.zeros(1, 6, dtype=torch.long))

    def is_cut(name, std):
        law = stats.truncnorm(-3, 3, scale=std).cdf
        assert stats.kstest(values[name].flatten().numpy(), law).pvalue > 1e-4, name
        assert values[name].abs().max() <= 3 * std

    for layer in (1, 2, 3):
        at = f"block{layer}."
        inputs = values[at + "mlp2.weight"].shape[1]
        is_cut(at + "attention.in_proj_weight", 1 / math.sqrt(64))
        is_cut(at + "mlp1.weight", 1 / math.sqrt(64))
        is_cut(at + "attention.out_proj.weight", 1 / math.sqrt(2 * 64 * layer))
        is_cut(at + "mlp2.weight", 1 / math.sqrt(2 * inputs * layer))
    is_cut("tokens.weight", 1 / math.sqrt(64))


class Multiplied(nn.Module):
    def __init__(self, blocks, size):
        super().__init__()
        self.stem, self.head = nn.Linear(8, 8), nn.Linear(8, 4)
        self.bodies = nn.ModuleList(nn.Linear(8, 8) for _ in range(2 * blocks))
        self.alphas = nn.ParameterList(torch.full(size, 3.0) for _ in range(2 * blocks))

    def forward(self, x):
        x = self.stem(x)
        for body, alpha in zip(self.bodies, self.alphas, strict=True):
            x = x + alpha * torch.relu(body(x))
        return self.head(x)


def test_rezero_and_skip_init_set_the_scalars_of_branches():
    values = draw(Multiplied(2, ()), rezero(), 0)
    assert all(not values[f"alphas.{i}"].any() for i in range(4))
    is_uniform(values["bodies.0.weight"], 1 / math.sqrt(8))
    values = draw(Multiplied(2, (1,)), skip_init(0.5), 0)
    assert all(values[f"alphas.{i}"].item() == 0.5 for i in range(4))
    is_normal(torch.stack([values[f"bodies.{i}.weight"] for i in range(4)]), math.sqrt(2 / 8))
    assert not values["bodies.0.bias"].any()


def test_a_network_of_rezero_is_the_identity_between_stem_and_head():
    net = ResidualMLP((8,), 4, depth=3, width=16, multiplier="scalar")
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    initialize(net, rezero(), seed=0)
    assert torch.equal(net(x), net.head(net.stem(x)))
    initialize(net, Policy([Rule(Constant(0.5), name="*alpha"), Rule(Keep())]), seed=0)
    assert not torch.equal(net(x), net.head(net.stem(x)))


@pytest.mark.parametrize(
    ("blocks", "value"), [(2, 0.1), (18, 0.1), (19, 1e-5), (24, 1e-5), (25, 1e-6)]
)
def test_layer_scale_is_small_where_the_paper_has_it_so(blocks, value):
    """Touvron et al. 2021: 0.1 until depth 18, 1e-5 until 24, 1e-6 for deeper networks."""
    values = draw(Multiplied(blocks, (8,)), layer_scale(), 0)
    assert (values["alphas.0"] == value).all()
    weights = torch.stack([v for n, v in values.items() if "bodies" in n and "weight" in n])
    is_normal(weights, 0.02)


@pytest.mark.parametrize(
    ("model", "policy", "said"),
    [
        (Multiplied(1, (8,)), rezero(), "is not multiplied by a scalar"),
        (Multiplied(1, ()), layer_scale(), "is not multiplied by a vector"),
        (ResNet((1, 8, 8), 10), rezero(), "is not multiplied by a scalar"),
        (nn.Linear(2, 2), rezero(), "found no residual branch"),
    ],
)
def test_branches_without_such_a_parameter_are_refused(model, policy, said):
    with pytest.raises(ValueError, match=said) as error:
        draw(model, policy, 0)
    assert "\n" not in str(error.value)


def evenly(tensor, shape):
    """Uniform element selection for sizes that divide, from the paper's section 3."""
    for axis, size in enumerate(shape):
        tensor = tensor.index_select(axis, torch.arange(size) * (tensor.shape[axis] // size))
    return tensor


def test_weight_selection_takes_evenly_spaced_weights_of_the_first_layers(tmp_path):
    def net(width, depth):
        layers = [nn.Conv1d(3, width, 3), *(nn.Conv1d(width, width, 3) for _ in range(depth))]
        return nn.Sequential(nn.Sequential(*layers), nn.ModuleDict({"head": nn.Linear(width, 5)}))

    large, small = net(12, 4), net(4, 2)
    initialize(small, WeightSelection(large), seed=0)
    for name, value in small.named_parameters():
        if "head" in name:
            is_uniform(value, 1 / 2)
        else:
            assert torch.equal(value, evenly(large.state_dict()[name], value.shape)), name
    uneven = initialize(net(5, 1), WeightSelection(large), seed=0)
    assert torch.equal(uneven[0][1].bias, large[0][1].bias[[0, 2, 4, 7, 9]])
    torch.save(large.state_dict(), tmp_path / "large.pt")
    again = initialize(net(4, 2), WeightSelection(tmp_path / "large.pt"), seed=0)
    assert torch.equal(again[0][0].weight, small[0][0].weight)
    for source, said in (
        (net(2, 4), "weight selection cannot take"),
        (net(12, 1), r"the larger model has no 0\.2\.weight; name it in skip"),
    ):
        with pytest.raises(ValueError, match=said):
            initialize(net(4, 2), WeightSelection(source), seed=0)
    with pytest.raises(ValueError, match=r"init\.source=.*none\.pt: cannot be read"):
        WeightSelection(tmp_path / "none.pt")


def test_dcgan_is_the_tutorials_weights_init():
    net = nn.Sequential(
        nn.ConvTranspose2d(30, 40, 4, bias=False),
        nn.BatchNorm2d(400),
        nn.Conv2d(400, 8, 3),
        nn.Linear(200, 30),
        nn.LayerNorm(30),
    )
    values = draw(net, dcgan(), 0)
    is_normal(values["0.weight"], 0.02)
    is_normal(values["2.weight"], 0.02)
    is_normal(values["1.weight"], 0.02, 1.0)
    assert not values["1.bias"].any()
    is_uniform(values["2.bias"], 1 / math.sqrt(3600))
    is_uniform(values["3.weight"], 1 / math.sqrt(200))
    assert (values["4.weight"] == 1).all()


def test_llama_is_transformers_own():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=120,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    theirs = transformers.LlamaForCausalLM(config)
    ours = initialize(transformers.LlamaForCausalLM(config), llama(), seed=0)
    assert_alike(theirs, ours)


@pytest.mark.parametrize("mode", ["timm", "jax", "jax_nlhb", "moco"])
def test_vit_is_timms_own(mode):
    models = pytest.importorskip("timm.models.vision_transformer")
    build = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 48,
        "depth": 2,
        "num_heads": 3,
        "num_classes": 10,
        "weight_init": "" if mode == "timm" else mode,
    }
    torch.manual_seed(0)
    theirs, ours = (models.VisionTransformer(**build) for _ in range(2))
    initialize(ours, vit(mode), seed=0)
    assert_alike(theirs, ours)


def assert_alike(theirs, ours):
    """Every parameter has the same distribution: constants exactly, others by their samples."""
    for (name, a), (_, b) in zip(theirs.named_parameters(), ours.named_parameters(), strict=True):
        a, b = a.detach().flatten(), b.detach().flatten()
        if a.unique().numel() == 1:
            assert torch.allclose(a, b, rtol=1e-6, atol=0), name
        else:
            assert stats.ks_2samp(a.numpy(), b.numpy()).pvalue > 1e-4, name
            assert torch.equal(a == 0, b == 0), name
            if a.numel() > 200:
                assert b.std().item() == pytest.approx(a.std().item(), rel=0.15), name
