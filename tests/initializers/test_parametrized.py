"""Computed weights: weight norm, spectral norm, orthogonal parametrizations, of both kinds."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm

from initstudy.initializers import (
    Fans,
    KaimingNormal,
    Normal,
    Orthogonal,
    Policy,
    Rule,
    UnknownFansError,
    XavierUniform,
    as_policy,
    compute_fans,
    draw,
    initialize,
    preset,
)


def weight_normed(layer, name="weight"):
    return parametrizations.weight_norm(layer, name)


def old_weight_normed(layer, name="weight"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return old_weight_norm(layer, name)


WEIGHT_NORMS = [weight_normed, old_weight_normed]
PRESETS = {
    "torch": 1 / math.sqrt(3 * 400),
    "keras": math.sqrt(2 / 800),
    "matlab": math.sqrt(2 / 800),
    "flax": 1 / math.sqrt(400),
    "mean_field": math.sqrt(2 / 400),
    "mup": math.sqrt(128) / 400,
    "kaiming_normal": math.sqrt(2 / 400),
    "xavier_uniform": math.sqrt(2 / 800),
}


@pytest.mark.parametrize("norm", WEIGHT_NORMS)
@pytest.mark.parametrize("name", PRESETS)
def test_a_weight_normed_layer_starts_as_it_would_without(norm, name):
    layer, plain = norm(nn.Linear(400, 400)), nn.Linear(400, 400)
    x = torch.randn(3, 400, generator=torch.Generator().manual_seed(0))
    for one in (layer, plain):
        initialize(one, name, seed=0)
    assert plain.weight.std().item() == pytest.approx(PRESETS[name], rel=0.15)
    torch.testing.assert_close(layer.weight, plain.weight, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(layer(x), plain(x))


@pytest.mark.parametrize("norm", WEIGHT_NORMS)
def test_fans_are_those_of_the_weight_that_is_computed(norm):
    for make in (
        lambda: nn.Linear(30, 20),
        lambda: nn.Conv2d(8, 12, 3, groups=4),
        lambda: nn.ConvTranspose2d(6, 4, 3),
    ):
        for convention in ("layer", "torch", "keras"):
            fans = compute_fans(make(), "weight", convention)
            assert fans.fan_in > 1
            assert compute_fans(norm(make()), "weight", convention) == fans
    conv = initialize(norm(nn.Conv2d(8, 16, 3)), KaimingNormal(), seed=0)
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / 72), rel=0.05)


@pytest.mark.parametrize("norm", WEIGHT_NORMS)
def test_gates_of_a_weight_normed_recurrence_are_orthogonal_each(norm):
    if norm is old_weight_normed:
        pytest.skip("the older function does not know of the flat weights of recurrent layers")
    layer = initialize(norm(nn.GRU(6, 8), "weight_hh_l0"), Orthogonal(), seed=0)
    for gate in layer.weight_hh_l0.chunk(3):
        torch.testing.assert_close(gate @ gate.T, torch.eye(8), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dim", [0, 1, None])
def test_every_axis_of_a_weight_norm(dim):
    layer = parametrizations.weight_norm(nn.Linear(30, 20), dim=dim)
    plain = initialize(nn.Linear(30, 20), Normal(0.2), seed=0)
    initialize(layer, Normal(0.2), seed=0)
    torch.testing.assert_close(layer.weight, plain.weight)


SPECTRAL_NORMS = [parametrizations.spectral_norm, old_spectral_norm]


@pytest.mark.parametrize("norm", SPECTRAL_NORMS)
@pytest.mark.parametrize(
    ("make", "dim", "x"),
    [
        (lambda: nn.Linear(40, 30), 0, torch.ones(2, 40)),
        (lambda: nn.Conv2d(4, 6, 3), 0, torch.ones(2, 4, 8, 8)),
        (lambda: nn.ConvTranspose2d(6, 4, 3), 1, torch.ones(2, 6, 8, 8)),
    ],
)
def test_a_spectrally_normed_weight_is_the_schemes_over_its_largest_singular_value(
    norm, make, dim, x
):
    plain = initialize(make(), XavierUniform(), seed=0).weight.detach()
    layer = initialize(norm(make()), XavierUniform(), seed=0).eval()
    # The older function computes the weight in the forward pass.
    layer(x)
    largest = torch.linalg.matrix_norm(plain.movedim(dim, 0).flatten(1), 2)
    torch.testing.assert_close(layer.weight, plain / largest, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", SPECTRAL_NORMS)
def test_the_singular_vectors_do_not_depend_on_the_random_state(norm):
    outputs = []
    for state in (1, 2):
        torch.manual_seed(state)
        layer = initialize(norm(nn.Linear(9, 7)), Normal(0.1), seed=0)
        outputs.append(layer(torch.ones(1, 9)))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("orthogonal_map", ["matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("shape", [(8, 8), (12, 5), (5, 12)])
def test_an_orthogonal_parametrization_takes_orthogonal_weights(orthogonal_map, shape):
    plain = initialize(nn.Linear(*shape), Orthogonal(), seed=0)
    layer = parametrizations.orthogonal(nn.Linear(*shape), orthogonal_map=orthogonal_map)
    initialize(layer, Orthogonal(), seed=0)
    torch.testing.assert_close(layer.weight, plain.weight, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="cannot fill weight, which is parametrized by Orthogonal"):
        initialize(layer, Normal(0.1), seed=0)


def test_maps_that_cannot_be_inverted_are_refused_in_a_line():
    layer = parametrizations.orthogonal(
        nn.Linear(4, 4), orthogonal_map="cayley", use_trivialization=False
    )
    with pytest.raises(ValueError, match="not possible to assign") as error:
        initialize(layer, Orthogonal(), seed=0)
    assert "\n" not in str(error.value)


def test_a_training_step_is_that_of_the_plain_layer_reparametrized():
    """The gradients by norm and direction are those of the weight, by the chain rule."""
    layer = initialize(weight_normed(nn.Linear(5, 4)), KaimingNormal(), seed=0)
    plain = initialize(nn.Linear(5, 4), KaimingNormal(), seed=0)
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    for one in (layer, plain):
        one(x).square().mean().backward()
    v = plain.weight.detach()
    expected = (plain.weight.grad * v).sum(1, keepdim=True) / v.norm(dim=1, keepdim=True)
    torch.testing.assert_close(layer.parametrizations.weight.original0.grad, expected)


def test_fans_that_are_not_known_are_an_error_and_never_one():
    class Raw(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.zeros(30, 20))

    named = Policy((Rule(KaimingNormal(), name="table"),))
    with pytest.raises(ValueError, match="cannot fill table: Raw: the fans of this kind of layer"):
        draw(Raw(), named, 0)
    with pytest.raises(UnknownFansError, match="no fans by itself"):
        Fans.of_shape((3,))
    with pytest.raises(UnknownFansError, match=r"KaimingNormal needs fans: .* Fans.of_shape"):
        KaimingNormal()((30, 20))
    # What needs no fans does not mind.
    assert draw(Raw(), Policy((Rule(Normal(0.5), name="table"),)), 0)["table"].any()
    assert KaimingNormal()((30, 20), Fans.of_shape((30, 20))).shape == (30, 20)


def test_a_parametrization_of_ones_own_with_an_inverse_is_filled():
    class Symmetric(nn.Module):
        def forward(self, x):
            return x.triu() + x.triu(1).mT

        def right_inverse(self, x):
            return x.triu()

    layer = parametrize.register_parametrization(nn.Linear(6, 6), "weight", Symmetric())

    def symmetric(shape, fans, *, generator, dtype):
        half = torch.randn(shape, generator=generator, dtype=dtype).triu()
        return half + half.triu(1).mT

    initialize(layer, as_policy(symmetric), seed=0)
    assert torch.equal(layer.weight, layer.weight.mT)
    assert layer.weight.any()
    with pytest.raises(ValueError, match="parametrized by Symmetric: it does not give back"):
        initialize(layer, Normal(0.1), seed=0)


@pytest.mark.parametrize("name", ["torch", "kaiming_normal"])
def test_models_with_computed_weights_are_filled_from_the_meta_device(name):
    def build():
        return nn.Sequential(
            weight_normed(nn.Linear(6, 5)),
            parametrizations.spectral_norm(nn.Linear(5, 4)),
            old_spectral_norm(nn.Linear(4, 3)),
        )

    with torch.device("meta"):
        meta = build()
    real = build()
    for model in (meta, real):
        initialize(model, preset(name), seed=0)
    x = torch.ones(2, 6)
    torch.testing.assert_close(meta(x), real(x))
