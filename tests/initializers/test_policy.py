from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from initstudy.initializers import (
    Constant,
    Dirac,
    Identity,
    Normal,
    Orthogonal,
    Policy,
    Rule,
    UnfilledParameterError,
    as_policy,
    draw,
    initialize,
    keras,
)


def model():
    return nn.Sequential(
        nn.Embedding(9, 6, padding_idx=2),
        nn.LayerNorm(6),
        nn.Linear(6, 6),
        nn.Conv1d(6, 4, 3),
        nn.BatchNorm1d(4),
        nn.ConvTranspose1d(4, 4, 3),
    )


def test_the_articles_rules():
    """N(0, std²) weights, zero biases, padding row zero, normalizations one and zero."""
    values = draw(model(), as_policy(Normal(0.5)), seed=0)
    assert (values["0.weight"][2] == 0).all()
    assert (values["0.weight"][[0, 1, 3]] != 0).all()
    for norm in ("1", "4"):
        assert (values[f"{norm}.weight"] == 1).all()
        assert (values[f"{norm}.bias"] == 0).all()
    for layer in ("2", "3", "5"):
        assert (values[f"{layer}.weight"] != 0).all()
        assert (values[f"{layer}.bias"] == 0).all()
    assert (draw(model(), as_policy(Normal(0.5), bias=0.01), 0)["2.bias"] == 0.01).all()


def test_draws_are_paired_across_stds_and_do_not_mind_the_rest_of_the_model():
    small, large = (draw(model(), as_policy(Normal(std)), 3) for std in (0.5, 2.0))
    assert torch.equal(large["2.weight"], 4 * small["2.weight"])
    other = nn.Sequential(nn.Identity(), nn.Identity(), nn.Linear(6, 6))
    assert torch.equal(draw(other, as_policy(Normal(0.5)), 3)["2.weight"], small["2.weight"])
    assert not torch.equal(draw(other, as_policy(Normal(0.5)), 4)["2.weight"], small["2.weight"])


def test_the_first_rule_that_matches_fills():
    policy = Policy(
        (
            Rule(Constant(3.0), name="2.*"),
            Rule(Constant(2.0), kind="linear"),
            Rule(Constant(1.0), role="weight"),
            Rule(Constant(0.0)),
        )
    )
    values = draw(nn.Sequential(nn.Linear(2, 2), nn.Conv1d(2, 2, 1), nn.Linear(2, 2)), policy, 0)
    found = {name: value.unique().tolist() for name, value in values.items()}
    assert found == {
        "0.weight": [2],
        "0.bias": [2],
        "1.weight": [1],
        "1.bias": [0],
        "2.weight": [3],
        "2.bias": [3],
    }


def test_kinds_roles_and_names_may_be_several():
    policy = Policy(
        [
            Rule(Constant(5.0), name=["*ih*", "1.bias"]),
            Rule(Constant(4.0), role="recurrent"),
            Rule(Constant(3.0), kind=["lstm", "norm"], role=["weight", "bias"]),
            Rule(Constant(2.0)),
        ]
    )
    values = draw(nn.Sequential(nn.LSTM(2, 2), nn.LayerNorm(2), nn.Linear(2, 2)), policy, 0)
    found = {name: value.unique().item() for name, value in values.items()}
    assert found == {
        "0.weight_ih_l0": 5,
        "0.weight_hh_l0": 4,
        "0.bias_ih_l0": 5,
        "0.bias_hh_l0": 3,
        "1.weight": 3,
        "1.bias": 5,
        "2.weight": 2,
        "2.bias": 2,
    }


def test_a_parameter_that_a_subclass_adds_is_filled_by_name():
    class Scaled(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.scale = nn.Parameter(torch.ones(2))

    with pytest.raises(UnfilledParameterError, match="leaves scale"):
        draw(Scaled(), as_policy(Normal(1.0)), 0)
    rules = Policy([Rule(Constant(4.0), name="scale"), Rule(Constant(1.0))])
    assert draw(Scaled(), rules, 0)["scale"].tolist() == [4.0, 4.0]


def test_what_an_initializer_is_not_for_comes_from_the_rest():
    net = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Linear(2, 2))
    values = draw(net, as_policy(Dirac(), bias=0.1, rest=Constant(7.0)), 0)
    assert (values["1.weight"] == 7).all()
    assert values["0.weight"].sum() == 2
    assert (values["0.bias"] == 0.1).all()


def test_what_no_rule_fills_is_named():
    only_linear = Policy((Rule(Normal(1.0), kind="linear"),))
    with pytest.raises(
        UnfilledParameterError, match=r"init leaves 1\.weight \(weight of a Conv1d\)"
    ):
        draw(nn.Sequential(nn.Linear(2, 2), nn.Conv1d(2, 2, 1)), only_linear, 0)
    with pytest.raises(UnfilledParameterError, match=r"leaves 1\.weight \(weight of a Conv1d\)"):
        draw(nn.Sequential(nn.Linear(2, 2), nn.Conv1d(2, 2, 1)), as_policy(Identity()), 0)

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.slope = nn.Parameter(torch.ones(3))

    with pytest.raises(UnfilledParameterError, match="leaves slope \\(a parameter of a Own"):
        draw(Own(), as_policy(Normal(1.0)), 0)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.usefixtures("unchecked")
def test_a_wrong_shape_a_wrong_kind_and_a_non_initializer_are_refused():
    class Square:
        def __call__(self, shape, fans, *, generator, dtype):
            return torch.ones(2, 2)

    with pytest.raises(ValueError, match=r"weight with \(2, 2\); it needs .* \(3, 5\)"):
        draw(nn.Linear(5, 3), as_policy(Square()), 0)
    with pytest.raises(ValueError, match="kind=lineer: choose one of linear"):
        Rule(Normal(1.0), kind="lineer")
    with pytest.raises(ValueError, match="role=wieght: choose one of weight, recurrent, bias"):
        Rule(Normal(1.0), role="wieght")
    with pytest.raises(ValueError, match="convention=keros: choose one of layer"):
        Rule(Normal(1.0), convention="keros")
    with pytest.raises(ValueError, match=r"init cannot fill bias: .* two dimensions or more"):
        draw(nn.Linear(5, 3), Policy([Rule(Orthogonal())]), 0)
    with pytest.raises(ValueError, match=r"init cannot fill weight: .* fans of at least 1"):
        draw(nn.Linear(0, 3), as_policy(Normal(1.0)), 0)
    with pytest.raises(TypeError, match=r"init\.rules=3: must be a list"):
        Policy(3)
    with pytest.raises(TypeError, match="is not a Rule"):
        Policy([Normal(1.0)])
    with pytest.raises(TypeError, match="neither a Policy nor callable"):
        as_policy(3)


def test_filling_in_place_keeps_types_ties_buffers_and_the_global_random_state():
    net = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 6)).to(torch.bfloat16)
    net[2].weight = net[0].weight
    state, running = torch.get_rng_state(), net[1].running_mean.clone()
    initialize(net, as_policy(Normal(0.5)), seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(net[1].running_mean, running)
    assert net[0].weight.dtype is torch.bfloat16
    assert net[2].weight is net[0].weight
    wide = draw(nn.Sequential(nn.Linear(6, 6)), as_policy(Normal(0.5)), 1)["0.weight"]
    assert torch.equal(net[0].weight, wide.to(torch.bfloat16))


def test_a_preset_goes_by_its_name():
    one, other = (nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7)) for _ in range(2))
    initialize(one, "keras", seed=3)
    initialize(other, keras(), seed=3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    with pytest.raises(ValueError, match="no preset 'kears'; choose one of constant, "):
        initialize(one, "kears", seed=3)


def test_parametrized_weights_are_filled_as_wholes():
    """A weight norm of a weight is that weight: the same draw as without it."""
    plain = nn.Linear(6, 4)
    normed = parametrizations.weight_norm(nn.Linear(6, 4))
    initialize(plain, Normal(0.3), seed=1)
    initialize(normed, Normal(0.3), seed=1)
    torch.testing.assert_close(normed.weight, plain.weight)
    assert set(dict(normed.named_parameters())) == {
        "bias",
        "parametrizations.weight.original0",
        "parametrizations.weight.original1",
    }
    nested = nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))
    initialize(nested, Normal(0.3), seed=1)
    expected = draw(nn.Sequential(nn.Conv2d(3, 4, 3)), as_policy(Normal(0.3)), 1)["0.weight"]
    torch.testing.assert_close(nested[0].weight, expected)


def test_parametrizations_without_an_inverse_are_refused():
    class Doubled(nn.Module):
        def forward(self, x):
            return 2 * x

    layer = parametrize.register_parametrization(nn.Linear(3, 3), "weight", Doubled())
    with pytest.raises(ValueError, match="cannot fill weight, which is parametrized by Doubled"):
        initialize(layer, Normal(0.1), seed=0)
    with pytest.raises(
        ValueError, match="parametrized by Orthogonal: it does not give back the va"
    ):
        initialize(parametrizations.orthogonal(nn.Linear(3, 3)), Normal(1.0), seed=0)


def test_a_model_on_the_meta_device_is_made_and_filled():
    def build():
        shared = nn.Linear(6, 6)
        return nn.Sequential(
            shared, nn.BatchNorm1d(6), shared, nn.Linear(6, 2, dtype=torch.float64)
        )

    with torch.device("meta"):
        meta = build()
    real = build()
    initialize(meta, Normal(0.3), seed=2)
    initialize(real, Normal(0.3), seed=2)
    assert meta[0] is meta[2]
    state = meta.state_dict()
    for name, value in real.state_dict().items():
        assert state[name].device.type == "cpu"
        assert state[name].dtype == value.dtype
        assert torch.equal(state[name], value)
    tied = nn.Linear(4, 4, device="meta")
    both = nn.ModuleList([tied, nn.Linear(4, 4, device="meta")])
    both[1].weight = tied.weight
    initialize(both, Normal(0.3), seed=2)
    assert both[0].weight is both[1].weight
    lost = nn.Linear(2, 2, device="meta")
    lost.register_buffer("mask", torch.ones(2, device="meta"))
    with pytest.raises(ValueError, match="buffer mask is on the meta device"):
        initialize(lost, Normal(0.3), seed=2)
