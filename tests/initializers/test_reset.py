"""What torch's modules do by themselves, against modules that are freshly built."""

from __future__ import annotations

import inspect
import math
import warnings

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn.utils import parametrizations

from initstudy.initializers import Normal, Rule, draw, initialize, torch_default

LAZY = {
    "LazyBatchNorm1d": (2, 6),
    "LazyBatchNorm2d": (2, 6, 3, 3),
    "LazyBatchNorm3d": (2, 6, 3, 3, 3),
    "LazyInstanceNorm1d": (2, 6, 3),
    "LazyInstanceNorm2d": (2, 6, 3, 3),
    "LazyInstanceNorm3d": (2, 6, 3, 3, 3),
    "LazyLinear": (2, 6),
    "LazyConv1d": (2, 6, 9),
    "LazyConv2d": (2, 6, 9, 9),
    "LazyConv3d": (2, 6, 9, 9, 9),
    "LazyConvTranspose1d": (2, 6, 9),
    "LazyConvTranspose2d": (2, 6, 9, 9),
    "LazyConvTranspose3d": (2, 6, 9, 9, 9),
}


def lazy(name):
    cls = getattr(nn, name)
    arguments = {"Conv": (8, 3), "Line": (8,)}.get(name[4:8], ())
    keywords = {"affine": True} if "Instance" in name else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = cls(*arguments, **keywords)
        module(torch.randn(LAZY[name]))
    return module


# Every class of torch.nn that has parameters, with arguments.
BUILD = {
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(16, 60, [10, 30]),
    "BatchNorm1d": lambda: nn.BatchNorm1d(20),
    "BatchNorm2d": lambda: nn.BatchNorm2d(20),
    "BatchNorm3d": lambda: nn.BatchNorm3d(20),
    "Bilinear": lambda: nn.Bilinear(12, 9, 20),
    "Conv1d": lambda: nn.Conv1d(8, 12, 5),
    "Conv2d": lambda: nn.Conv2d(8, 12, 3, groups=4),
    "Conv3d": lambda: nn.Conv3d(4, 6, 3),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(12, 8, 3),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(12, 8, 3, groups=2),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(6, 4, 3),
    "Embedding": lambda: nn.Embedding(80, 30, padding_idx=0),
    "EmbeddingBag": lambda: nn.EmbeddingBag(80, 30, padding_idx=3),
    "GRU": lambda: nn.GRU(9, 16, num_layers=2),
    "GRUCell": lambda: nn.GRUCell(9, 16),
    "GroupNorm": lambda: nn.GroupNorm(4, 20),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(20, affine=True),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(20, affine=True),
    "InstanceNorm3d": lambda: nn.InstanceNorm3d(20, affine=True),
    "LSTM": lambda: nn.LSTM(9, 16, bidirectional=True, proj_size=5),
    "LSTMCell": lambda: nn.LSTMCell(9, 16),
    "LayerNorm": lambda: nn.LayerNorm(20),
    "Linear": lambda: nn.Linear(60, 50),
    "LinearCrossEntropyLoss": lambda: nn.LinearCrossEntropyLoss(16, 30),
    "MultiheadAttention": lambda: nn.MultiheadAttention(16, 4, add_bias_kv=True),
    "PReLU": lambda: nn.PReLU(20, init=0.1),
    "RMSNorm": lambda: nn.RMSNorm(20),
    "RNN": lambda: nn.RNN(9, 16, num_layers=2),
    "RNNBase": lambda: nn.RNNBase("RNN_TANH", 9, 16),
    "RNNCell": lambda: nn.RNNCell(9, 16),
    "RNNCellBase": lambda: nn.RNNCellBase(9, 16, True, 2),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(20),
    "Transformer": lambda: nn.Transformer(16, 4, 1, 1, 24),
    "TransformerDecoder": lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 24), 1),
    "TransformerDecoderLayer": lambda: nn.TransformerDecoderLayer(16, 4, 24),
    "TransformerEncoder": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 4, 24), 1, enable_nested_tensor=False
    ),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(16, 4, 24),
    **{name: (lambda name=name: lazy(name)) for name in LAZY},
}


class Own(nn.Module):
    """A module as research code writes it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(40, 30))
        self.shift = nn.Parameter(torch.empty(30))
        self.inner = nn.Linear(30, 20)
        self.kept = nn.Parameter(torch.full((3,), 7.0))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.orthogonal_(self.weight, 2.0)
        nn.init.trunc_normal_(self.shift, std=0.5)
        nn.init.normal_(self.inner.weight, std=0.1)


class Lora(nn.Linear):
    """A low-rank update that is zero at first, by its constructor."""

    def __init__(self):
        super().__init__(60, 50)
        self.lora_a = nn.Parameter(torch.randn(4, 60))
        self.lora_b = nn.Parameter(torch.zeros(50, 4))


class Scaled(nn.Conv2d):
    """A gain per channel, as in timm's ScaledStdConv2d."""

    def __init__(self):
        super().__init__(8, 12, 3)
        self.gain = nn.Parameter(torch.full((12, 1, 1, 1), 0.7))


OTHERS = {
    "conv2d-depthwise": lambda: nn.Conv2d(12, 24, 3, groups=12),
    "attention-separate": lambda: nn.MultiheadAttention(16, 4, kdim=10, vdim=12),
    "in-a-model": lambda: nn.Sequential(
        nn.Linear(20, 16), nn.Transformer(16, 2, 1, 1, 20), nn.MultiheadAttention(16, 2)
    ),
    "own": Own,
    "bfloat16": lambda: nn.Linear(60, 50, dtype=torch.bfloat16),
    "complex": lambda: nn.Linear(60, 50, dtype=torch.cfloat),
}


def test_every_class_of_torch_that_has_parameters_is_here():
    missing = []
    for name, cls in vars(nn).items():
        if not (inspect.isclass(cls) and issubclass(cls, nn.Module)) or name in BUILD:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module = cls(*[1] * needed(cls))
        except Exception:
            # Without parameters by their names: losses, pads, pools and containers of modules.
            missing.append(name)
            continue
        assert not list(module.parameters()), name
    assert set(missing) <= {"CrossMapLRN2d", "DataParallel", "FractionalMaxPool2d", "Unflatten",
                            "FractionalMaxPool3d", "GaussianNLLLoss"}  # fmt: skip


def needed(cls):
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return sum(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        for p in parameters
    )


@pytest.mark.parametrize("build", [*BUILD.values(), *OTHERS.values()], ids=[*BUILD, *OTHERS])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_the_preset_is_what_fresh_modules_hold(build):
    """Kolmogorov–Smirnov of the pooled values of many modules against ours, and their bounds."""
    torch.manual_seed(0)
    fresh = [dict(build().named_parameters()) for _ in range(30)]
    module = build()
    ours = [draw(module, torch_default(), seed) for seed in range(30)]
    for name in fresh[0]:
        a, b = (
            torch.cat([real(m[name].detach()).flatten() for m in some]) for some in (fresh, ours)
        )
        if a.unique().numel() == 1:
            assert torch.equal(a, b), name
            continue
        assert stats.ks_2samp(a.numpy(), b.numpy()).pvalue > 1e-4, name
        assert torch.equal(a == 0, b == 0), name
        # The largest of many uniform numbers is the bound; of normal ones it varies more.
        largest, normal = a.abs().max().item(), stats.kurtosis(a.numpy()) > -0.5
        assert b.abs().max().item() == pytest.approx(largest, rel=0.3 if normal else 0.03), name


def real(tensor):
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor.float()


def test_ks_would_notice_another_scale():
    """The test above is not blind: a tenth more in the deviation is seen."""
    torch.manual_seed(0)
    fresh = torch.cat([nn.Linear(60, 50).weight.detach().flatten() for _ in range(30)])
    wider = 1.1 * torch.cat(
        [draw(nn.Linear(60, 50), torch_default(), seed)["weight"].flatten() for seed in range(30)]
    )
    assert stats.ks_2samp(fresh.numpy(), wider.numpy()).pvalue < 1e-4


@pytest.mark.parametrize(
    ("build", "kept"),
    [(Own, ["kept"]), (Lora, ["lora_a", "lora_b"]), (Scaled, ["gain"])],
)
def test_what_no_method_fills_stays_as_it_is(build, kept):
    model = build()
    before = {name: value.clone() for name, value in model.named_parameters()}
    initialize(model, "torch", seed=0)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]) == (name in kept), name


def test_the_preset_can_be_extended_for_what_it_does_not_fill():
    rules = [Rule(Normal(0.5), name="lora_a")]
    model = initialize(Lora(), rules + torch_default(), seed=0)
    assert model.lora_a.std().item() == pytest.approx(0.5, rel=0.2)
    assert not model.lora_b.any()
    assert model.weight.abs().max().item() <= 1 / math.sqrt(60)


def test_a_value_depends_on_the_seed_and_the_name_alone():
    alone = draw(nn.Sequential(nn.Linear(6, 5)), torch_default(), 3)
    state = torch.get_rng_state()
    among = draw(nn.Sequential(nn.Linear(6, 5), Own(), nn.LSTM(3, 4)), torch_default(), 3)
    assert torch.equal(alone["0.weight"], among["0.weight"])
    # What is sampled out of place, such as by orthogonal_, is seeded by the module's name.
    torch.manual_seed(99)
    again = draw(nn.Sequential(nn.Linear(6, 5), Own(), nn.LSTM(3, 4)), torch_default(), 3)
    assert torch.equal(among["1.weight"], again["1.weight"])
    assert not torch.equal(
        again["1.weight"],
        draw(nn.Sequential(nn.Linear(6, 5), Own()), torch_default(), 4)["1.weight"],
    )
    torch.set_rng_state(state)


def test_neither_the_model_nor_the_random_state_changes():
    model = nn.Sequential(Own(), nn.BatchNorm1d(20), parametrizations.weight_norm(nn.Linear(3, 4)))
    model[1].running_mean += 1
    before = {name: value.clone() for name, value in model.state_dict().items()}
    objects = [id(p) for p in model.parameters()]
    classes = [type(m) for m in model.modules()]
    state = torch.get_rng_state()
    draw(model, torch_default(), 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert [id(p) for p in model.parameters()] == objects
    assert [type(m) for m in model.modules()] == classes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_narrow_types_hold_the_same_numbers_rounded_once():
    wide, narrow = (
        draw(nn.Linear(9, 8, dtype=dtype), torch_default(), 0)["weight"]
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert torch.equal(wide.to(torch.bfloat16), narrow)


def test_methods_that_fail_or_fill_in_part_are_named():
    class Fails(nn.Linear):
        def reset_parameters(self):
            raise RuntimeError("no luck\nat all")

    class Partly(nn.Linear):
        def reset_parameters(self):
            with torch.no_grad():
                self.weight[0] = 0.0

    model = nn.Sequential(nn.Linear(2, 2))
    model[0].__class__ = Fails
    with pytest.raises(ValueError, match="of 0 failed: RuntimeError: no luck") as error:
        draw(model, torch_default(), 0)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="weight is filled only in part by its module"):
        draw(Partly(2, 2), torch_default(), 0)


def test_parameters_without_a_module_of_their_own_stay():
    raw = nn.ParameterDict({"a": torch.full((2,), 3.0)})
    values = draw(nn.ModuleList([raw, nn.Linear(2, 2)]), torch_default(), 0)
    assert values["0.a"].tolist() == [3, 3]
