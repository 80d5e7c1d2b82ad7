"""Any model and any call, and a reason where an audit is not possible."""

from __future__ import annotations

import math
import warnings
from collections import namedtuple
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import initstudy
from initstudy.audit.parameters import parameter_rows
from initstudy.initializers import KaimingNormal, Normal, Policy, Rule, UnfilledParameterError
from tests.audit.networks import Functional, mlp

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(16, 32, generator=GENERATOR)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.h = nn.Linear(8, 16), nn.Linear(6, 16), nn.Linear(16, 4)

    def forward(self, x, other=None, mask=None):
        x = self.a(x)
        return {"logits": self.h(torch.relu(x if other is None else x + self.b(other)))}


class TakesList(nn.Module):
    """As torchvision's detectors: a list of images in, a dict of losses out."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(8, 4)

    def forward(self, images):
        scores = self.body(torch.stack(images))
        return {"box": scores.square().mean(), "class": scores.abs().mean()}


class LanguageModel(nn.Module):
    def __init__(self, std=0.02, tied=True, vocabulary=1000, width=32):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.body = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.tokens.weight, std=std)

    def forward(self, input_ids):
        x = self.tokens(input_ids)
        return F.linear(self.norm(x + self.body(x)), self.tokens.weight)


TOKENS = torch.randint(1000, (4, 12), generator=GENERATOR)
Pair = namedtuple("Pair", ["logits", "aux"])


class Shape(NamedTuple):
    """Some output of a library's own."""

    values: torch.Tensor


def names(audit):
    return [layer.name for layer in audit.signal.layers]


def test_inputs_may_be_keywords_dicts_lists_and_arrays():
    model = TwoInputs()
    x, other = torch.randn(16, 8), torch.randn(16, 6)
    for found in (
        initstudy.audit_model(model, x, other),
        initstudy.audit_model(model, (x, other)),
        initstudy.audit_model(model, x, other=other),
        initstudy.audit_model(model, {"x": x, "other": other}),
        initstudy.audit_model(model, x.double().numpy(), other.numpy()),
        initstudy.audit_model(model, x, other, None),
    ):
        assert names(found) == ["a", "b", "h"]
        assert found.signal.guessing_loss == pytest.approx(math.log(4))
    alone = initstudy.audit_model(model, x, None)
    assert next(w for w in alone.warnings if w.code == "unused").where == ("b",)
    listed = initstudy.audit_model(TakesList(), list(torch.randn(5, 8)))
    assert names(listed) == ["body"]
    assert listed.signal.loss > 0


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: y,
        lambda y: (y, None),
        lambda y: {"out": y, "hidden": [y]},
        lambda y: Pair(y, y * 2),
        lambda y: Shape(y),
        lambda y: [y],
    ],
    ids=["tensor", "tuple", "dict", "auxiliary", "named", "list"],
)
def test_outputs_may_have_any_structure(wrap):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(3)

        def forward(self, x):
            return wrap(self.net(x))

    model = Wrapped()
    found = initstudy.audit_model(model, X)
    plain = initstudy.audit_model(model.net, X)
    assert found.signal.loss == pytest.approx(plain.signal.loss, rel=1e-6)
    assert not found.warnings


def test_a_language_model_is_compared_with_the_logarithm_of_its_vocabulary():
    good = initstudy.audit_model(LanguageModel(0.02), TOKENS)
    assert good.signal.guessing_loss == pytest.approx(math.log(1000))
    assert good.signal.loss == pytest.approx(math.log(1000), rel=0.02)
    assert good.warnings == ()
    bad = initstudy.audit_model(LanguageModel(1.0), input_ids=TOKENS, targets=TOKENS.flip(1))
    assert {"loss", "embedding"} <= {w.code for w in bad.warnings}
    # The head, which multiplies by the embedding again, is a layer of its own.
    assert names(bad) == ["tokens", "body", "linear(tokens.weight)"]
    with torch.no_grad():
        model = LanguageModel(1.0)
        expected = F.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.flatten())
        found = initstudy.audit_model(model, TOKENS, targets=TOKENS)
    assert found.signal.loss == pytest.approx(expected.item(), rel=1e-5)


def test_targets_choose_the_loss():
    one = nn.Linear(32, 1)
    labels = torch.arange(16) % 2
    found = initstudy.audit_model(one, X, targets=labels).signal
    wanted = F.binary_cross_entropy_with_logits(one(X)[:, 0], labels.float())
    assert found.loss == pytest.approx(wanted.item(), rel=1e-6)
    assert found.guessing_loss == pytest.approx(math.log(2))
    real = torch.randn(16)
    found = initstudy.audit_model(one, X, targets=real.numpy()).signal
    assert found.loss == pytest.approx(F.mse_loss(one(X)[:, 0], real).item(), rel=1e-5)
    assert found.guessing_loss == pytest.approx(real.var(correction=0).item(), rel=1e-5)
    pixels = nn.Conv2d(3, 5, 1)
    image, masks = torch.randn(2, 3, 4, 4), torch.randint(5, (2, 4, 4))
    found = initstudy.audit_model(pixels, image, targets=masks).signal
    assert found.loss == pytest.approx(F.cross_entropy(pixels(image), masks).item(), rel=1e-5)
    both = initstudy.audit_model(one, X, targets=real, loss=lambda y, t: (y[:, 0] - t).abs().mean())
    assert both.signal.loss == pytest.approx((one(X)[:, 0] - real).abs().mean().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("make", "batch"),
    [
        (lambda: nn.Transformer(16, 2, 1, 1, 24), (torch.randn(5, 3, 16), torch.randn(4, 3, 16))),
        (lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), torch.randn(8)),
    ],
    ids=["time first", "no batch"],
)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
def test_models_need_no_batch_axis_in_front(make, batch):
    model = make()
    found = initstudy.audit_model(model, batch)
    count = sum(isinstance(m, nn.Linear | nn.MultiheadAttention) for m in model.modules())
    inner = sum(isinstance(m, nn.MultiheadAttention) for m in model.modules())
    assert len(found.signal.layers) == count - inner
    assert all(layer.gradient_rms > 0 for layer in found.signal.layers)


def test_functional_activations_are_read_as_modules_are():
    function = Functional(torch.tanh, depth=3)
    layers = [m for a in function.layers for m in (a, nn.Tanh())]
    modules = nn.Sequential(*layers, function.head)
    one, other = (initstudy.audit_model(m, X).signal.layers for m in (function, modules))
    for a, b in zip(one, other, strict=True):
        assert (a.activation, a.activation_rms, a.saturated, a.gradient_rms) == (
            b.activation,
            b.activation_rms,
            b.saturated,
            b.gradient_rms,
        )
    assert one[0].output == "tanh()"
    assert one[0].before_rms == pytest.approx(function.layers[0](X).square().mean().sqrt().item())


def test_products_with_bare_parameters_are_layers():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(32, 8) / 32**0.5)
            self.head = nn.Linear(8, 4)

        def forward(self, x):
            return self.head(torch.relu(x @ self.w))

    net = Bare()
    first = initstudy.audit_model(net, X).signal.layers[0]
    assert (first.name, first.activation) == ("w", "relu")
    assert first.output_rms == pytest.approx((X @ net.w).square().mean().sqrt().item(), rel=1e-5)


def test_on_the_meta_device_the_parameters_alone_are_read():
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(10**6, 10**5), nn.ReLU(), nn.Linear(10**5, 10))
    found = initstudy.audit_model(net, torch.randn(2, 10**6, device="meta"))
    assert [row.fan_in for row in found.parameters] == [10**6, 10**6, 10**5, 10**5]
    assert found.signal.layers == ()
    assert found.parameters[0].distribution == "on the meta device"


def test_parametrized_layers_have_their_rows():
    wn = torch.nn.utils.parametrizations.weight_norm
    sn = torch.nn.utils.parametrizations.spectral_norm
    net = nn.Sequential(wn(nn.Linear(32, 64)), nn.ReLU(), sn(nn.Linear(64, 64)), nn.ReLU())
    net.append(torch.nn.utils.parametrizations.orthogonal(nn.Linear(64, 64)))
    net.append(nn.Linear(64, 4))
    initstudy.initialize(net[0], KaimingNormal(), seed=0)
    found = initstudy.audit_model(net, X)
    rows = {row.name: row for row in found.parameters}
    assert rows["0.weight"].distribution == "He normal"
    assert rows["0.weight"].fan_in == 32
    assert rows["4.weight"].distribution == "orthogonal"
    assert names(found) == ["0", "2", "4", "5"]
    assert all(layer.weight_gradient_rms > 0 for layer in found.signal.layers)


def test_wrapped_models_are_the_models_themselves():
    net = mlp(3)
    plain = initstudy.audit_model(net, X)
    assert initstudy.audit_model(nn.DataParallel(net), X) == plain
    assert initstudy.audit_model(torch.compile(net), X) == plain


def test_modes_gradients_and_buffers_are_left_as_they_were():
    net = nn.Sequential(nn.Linear(32, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    net[1].eval()
    net[0].requires_grad_(False)
    before = {n: b.clone() for n, b in net.named_buffers()}
    initstudy.audit_model(net, X)
    assert (net.training, net[1].training, net[0].weight.requires_grad) == (True, False, False)
    assert all(torch.equal(b, before[n]) for n, b in net.named_buffers())


def test_a_policy_is_what_initialize_takes():
    net = initstudy.initialize(mlp(3), "keras", seed=0)
    assert not [w for w in initstudy.audit_model(net, X, policy="keras").warnings]
    codes = {w.code for w in initstudy.audit_model(net, X, policy=KaimingNormal()).warnings}
    assert "not-initialized" in codes
    bag = nn.Sequential(nn.EmbeddingBag(256, 20, padding_idx=0), nn.Linear(20, 4))
    initstudy.initialize(bag, Normal(0.1), seed=0)
    tokens = torch.randint(256, (16, 5))
    assert initstudy.audit_model(bag, tokens, policy=Normal(0.1)).warnings == ()


def scripted(module: nn.Module) -> nn.Module:
    """A module of TorchScript, of which torch says that it should not be used any more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torch.jit.script(module)


class Raises(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.layer, self.error = nn.Linear(32, 4), error

    def forward(self, x):
        raise self.error


def no_match():
    return Policy([Rule(Normal(0.1), name="haed.*")])


BAD = {
    "no module": (lambda: initstudy.audit_model(3, X), "a int is no torch.nn.Module"),
    "a class": (lambda: initstudy.audit_model(nn.Linear, X), "type is no torch.nn.Module"),
    "no parameters": (lambda: initstudy.audit_model(nn.ReLU(), X), "ReLU has no parameters"),
    "wrong shape": (
        lambda: initstudy.audit_model(nn.Linear(3, 2), X),
        r"Linear cannot run on inputs of shape \(16, 32\): ",
    ),
    "two inputs for one": (
        lambda: initstudy.audit_model(nn.Linear(32, 2), X, X),
        "takes 2 positional arguments but 3 were given",
    ),
    "unknown keyword": (
        lambda: initstudy.audit_model(nn.Linear(32, 2), X, mask=X),
        "unexpected keyword argument 'mask'",
    ),
    "a list for a tensor": (
        lambda: initstudy.audit_model(nn.Linear(32, 2), [X]),
        "must be Tensor, not list",
    ),
    "text": (lambda: initstudy.audit_model(nn.Linear(32, 2), "x"), "inputs without a tensor"),
    "NaN": (lambda: initstudy.audit_model(nn.Linear(32, 2), X * math.nan), "holds NaN"),
    "infinity in an array": (
        lambda: initstudy.audit_model(nn.Linear(32, 2), np.full((2, 32), np.inf)),
        "holds NaN or infinities",
    ),
    "wrong type": (
        lambda: initstudy.audit_model(nn.Linear(32, 2), X.double()),
        "cannot run on inputs",
    ),
    "script": (
        lambda: initstudy.audit_model(scripted(nn.Linear(32, 2)), X),
        "compiled by TorchScript",
    ),
    "lazy": (lambda: initstudy.audit_model(nn.LazyLinear(3), X), "weight .* has no shape yet"),
    "a KeyError within": (
        lambda: initstudy.audit_model(Raises(KeyError("pixels")), X),
        "Raises cannot run .*: KeyError 'pixels'",
    ),
    "an AttributeError within": (
        lambda: initstudy.audit_model(Raises(AttributeError("no size")), X),
        "Raises cannot run .*: no size",
    ),
    "an assertion within": (
        lambda: initstudy.audit_model(Raises(AssertionError()), X),
        "Raises cannot run .*: AssertionError",
    ),
    "a ValueError within": (
        lambda: initstudy.audit_model(Raises(ValueError("too small")), X),
        "Raises cannot run .*: too small",
    ),
    "not implemented within": (
        lambda: initstudy.audit_model(Raises(NotImplementedError("later")), X),
        "Raises cannot run .*: later",
    ),
    "labels too large": (
        lambda: initstudy.audit_model(mlp(1), X, targets=torch.arange(16)),
        "between 0 and 15, but the model has 4 outputs",
    ),
    "too few labels": (
        lambda: initstudy.audit_model(mlp(1), X, targets=torch.zeros(5).long()),
        r"targets=\(5,\): the model returns \(16, 4\)",
    ),
    "labels of one logit": (
        lambda: initstudy.audit_model(nn.Linear(32, 1), X, targets=torch.arange(16)),
        "one logit per example needs labels 0 and 1",
    ),
    "real targets of another shape": (
        lambda: initstudy.audit_model(mlp(1), X, targets=torch.randn(16, 3)),
        r"targets=\(16, 3\): .* give real targets of that shape",
    ),
    "NaN targets": (
        lambda: initstudy.audit_model(nn.Linear(32, 1), X, targets=torch.full((16, 1), math.nan)),
        "targets: hold NaN",
    ),
    "a loss of each example": (
        lambda: initstudy.audit_model(mlp(1), X, loss=lambda y: y.mean(1)),
        r"loss: returns \(16,\); it must return a scalar tensor",
    ),
    "a loss that is a number": (
        lambda: initstudy.audit_model(mlp(1), X, loss=lambda y: 1.0),
        "loss: returns float",
    ),
    "a loss that raises": (
        lambda: initstudy.audit_model(mlp(1), X, loss=lambda y: y[99]),
        "loss: fails on the model's output: IndexError",
    ),
    "no real output": (
        lambda: initstudy.audit_model(ReturnsIndices(), X),
        "returns no tensor of real numbers but a Tensor",
    ),
    "unknown policy": (
        lambda: initstudy.audit_model(mlp(1), X, policy="kaiming"),
        "there is no preset 'kaiming'",
    ),
    "a policy that matches nothing": (
        lambda: initstudy.audit_model(mlp(1), X, policy=no_match()),
        "policy: matches none of the 4 parameters",
    ),
    "an empty layer": (
        lambda: initstudy.audit_model(nn.Linear(0, 4), torch.randn(2, 0)),
        "fans of at least 1",
    ),
    "no picture without inputs": (
        lambda: initstudy.audit_model(mlp(1)).chart(),
        "give it inputs to draw",
    ),
    "unknown code": (
        lambda: initstudy.testing.assert_initialized(mlp(1), X, ignore=["fan"]),
        "ignore=fan: choose among",
    ),
    "too shallow to be critical": (
        lambda: initstudy.critical_scale(mlp(1), X),
        "2 hidden layers with a gradient; it needs at least 4",
    ),
    "critical without inputs": (
        lambda: initstudy.critical_scale(mlp(8)),
        "needs a model with weights and a batch",
    ),
    "too few passes": (
        lambda: initstudy.critical_scale(mlp(8), X, passes=3),
        "passes=3: a bisection needs at least 8",
    ),
    "critical on a wrong shape": (
        lambda: initstudy.critical_scale(mlp(8), X[:, :5]),
        "Sequential cannot run on inputs",
    ),
    "normalized": (lambda: initstudy.critical_scale(normalized(), X), "normalizations undo every"),
    "one size": (
        lambda: initstudy.coordinate_check(lambda w, d: mlp(d), [8], [2], None, batch=X),
        "needs at least two widths or depths",
    ),
    "a size that fails": (
        lambda: initstudy.coordinate_check(
            lambda w, d: nn.Linear(w, 2), [8, 16], [1], sgd, batch=X
        ),
        "coordinate_check: width 8, depth 1: ",
    ),
}


def narrow(width, depth):
    return nn.Linear(width, depth)


def sgd(model):
    return torch.optim.SGD(model.parameters(), 0.1)


def normalized():
    kinds = (lambda: nn.Linear(32, 32), lambda: nn.BatchNorm1d(32), nn.ReLU)
    return nn.Sequential(*(make() for _ in range(8) for make in kinds))


class ReturnsIndices(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(32, 4)

    def forward(self, x):
        return self.layer(x).argmax(1)


@pytest.mark.filterwarnings("ignore:.torch.jit.trace")
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_value_error_with_a_reason_in_one_line(name):
    make, said = BAD[name]
    with pytest.raises(ValueError, match=said) as caught:
        make()
    assert len(str(caught.value).splitlines()) == 1
    assert not isinstance(caught.value, UnfilledParameterError)


def test_numbers_of_other_types_are_described_and_not_judged():
    class Quantized(nn.Module):
        def __init__(self):
            super().__init__()
            self.codes = nn.Parameter(torch.arange(8), requires_grad=False)
            self.phase = nn.Parameter(torch.randn(4, 4, dtype=torch.cfloat))

    rows = {row.name: row for row in parameter_rows(Quantized())}
    assert rows["codes"].distribution == "int64 numbers"
    assert rows["phase"].distribution == "complex64 numbers"
