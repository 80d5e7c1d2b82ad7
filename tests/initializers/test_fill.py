"""`initialize` and its arguments: what is filled, what stays, and what is refused in a line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from initstudy.initializers import (
    LSUV,
    Constant,
    DeltaOrthogonal,
    Fans,
    Identity,
    Keep,
    KeptParameterWarning,
    Normal,
    Orthogonal,
    Policy,
    Rule,
    TruncatedNormal,
    UnfilledParameterError,
    Uniform,
    UnusedRuleWarning,
    XavierNormal,
    assign,
    draw,
    initialize,
    keras,
    named_parameters,
    torch_default,
)


class Token(nn.Module):
    """A raw parameter, as a vision transformer's class token is one."""

    def __init__(self):
        super().__init__()
        self.class_token = nn.Parameter(torch.full((1, 4), 7.0))
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 2)


def values(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def changed(model, before):
    return {
        name for name, value in model.named_parameters() if not torch.equal(value, before[name])
    }


def test_what_no_rule_matches_is_an_error_kept_or_warned_of():
    with pytest.raises(UnfilledParameterError, match=r'class_token .* unknown="keep"'):
        initialize(Token(), "keras", seed=0)
    model = initialize(Token(), "keras", seed=0, unknown="keep")
    assert (model.class_token == 7).all()
    with pytest.warns(KeptParameterWarning, match="which are kept: class_token"):
        initialize(model, "keras", seed=0, unknown="warn")
    assert assign(model, keras(), unknown="keep").kept == {"class_token": "no rule"}
    with pytest.raises(ValueError, match="unknown=ignore: choose one of error, keep, warn"):
        initialize(model, "keras", seed=0, unknown="ignore")


def test_an_error_leaves_the_model_as_it_was():
    model = Token()
    before = values(model)
    with pytest.raises(UnfilledParameterError):
        initialize(model, "keras", seed=0)
    assert not changed(model, before)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"only": "head.*"}, {"head.weight", "head.bias"}),
        ({"only": ["head.weight", "body.weight"]}, {"head.weight", "body.weight"}),
        ({"skip": ["head.*", "class_token"]}, {"body.weight", "body.bias"}),
        ({"only": lambda slot: slot.tensor.ndim == 2, "skip": "class*"},
         {"head.weight", "body.weight"}),
    ],
)  # fmt: skip
def test_a_part_of_a_model_can_be_filled(selection, expected):
    model = Token()
    before = values(model)
    initialize(model, Policy([Rule(Normal(0.1))]), seed=0, **selection)
    assert changed(model, before) == expected
    whole = draw(Token(), Policy([Rule(Normal(0.1))]), 0)
    assert all(torch.equal(model.get_parameter(name), whole[name]) for name in expected)


def test_frozen_parameters_stay_unless_they_are_to_be_filled():
    model = Token()
    model.body.requires_grad_(False)
    before = values(model)
    initialize(model, Policy([Rule(Normal(0.1))]), seed=0)
    assert changed(model, before) == {"class_token", "head.weight", "head.bias"}
    initialize(model, Policy([Rule(Normal(0.1))]), seed=0, frozen="fill")
    assert "body.weight" in changed(model, before)
    assert not model.body.weight.requires_grad
    with pytest.raises(ValueError, match="every parameter of the Linear is frozen; give frozen"):
        initialize(nn.Linear(2, 2).requires_grad_(False), Normal(0.1), seed=0)
    with pytest.raises(ValueError, match="frozen=thaw: choose one of keep, fill"):
        initialize(model, Normal(0.1), seed=0, frozen="thaw")


def test_rules_by_class_by_its_name_and_by_a_predicate():
    class Head(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(3, 3), Head(3, 2), nn.LayerNorm(2))
    rules = Policy(
        [
            Rule(Constant(1.0), module=Head),
            Rule(Constant(2.0), module="torch.nn.modules.linear.Linear", role="weight"),
            Rule(Constant(3.0), module=["LayerNorm", nn.Conv2d]),
            Rule(Constant(4.0), where=lambda slot: slot.name.endswith("bias")),
        ]
    )
    found = {name: value.unique().item() for name, value in draw(model, rules, 0).items()}
    assert found == {
        "0.weight": 2,
        "0.bias": 4,
        "1.weight": 1,
        "1.bias": 1,
        "2.weight": 3,
        "2.bias": 3,
    }


def test_a_rule_may_leave_a_parameter_as_it_is():
    policy = keras() + Rule(Keep(), name="class_token")
    model = initialize(Token(), policy, seed=0)
    assert (model.class_token == 7).all()
    assert assign(model, policy).kept == {"class_token": "as it is"}


def test_policies_are_extended_before_and_after():
    first = [Rule(Constant(0.5), name="head.bias")] + keras()  # noqa: RUF005 - a Policy is no list
    after = first + [Rule(Constant(9.0), name="class_token")]  # noqa: RUF005
    model = initialize(Token(), after, seed=0)
    assert (model.head.bias == 0.5).all()
    assert (model.class_token == 9).all()
    torchs = torch_default() + Rule(Constant(1.0), name="class_token")
    assert (initialize(Token(), torchs, seed=0).class_token == 1).all()
    torchs = Rule(Constant(1.0), name="head.bias") + torch_default()
    assert (initialize(Token(), torchs, seed=0).head.bias == 1).all()


def test_a_rule_that_never_matches_is_reported():
    policy = Policy([Rule(Normal(0.1), name="haed.*"), Rule(Normal(0.1))])
    with pytest.warns(UnusedRuleWarning, match=r"the rule for name=haed\.\* matches no parameter"):
        initialize(Token(), policy, seed=0)
    with pytest.warns(UnusedRuleWarning, match="the rule for module=Conv9d"):
        initialize(Token(), Policy([Rule(Normal(0.1), module="Conv9d"), Rule(Keep())]), seed=0)
    # A rule by kind is for models in general.
    initialize(nn.Linear(2, 2), keras(), seed=0)
    assert (
        Rule(Normal(0.1), kind="conv")
        in assign(Token(), Policy([Rule(Normal(0.1), kind="conv"), Rule(Normal(0.1))])).unused
    )


@pytest.mark.parametrize(
    ("model", "policy", "options", "said"),
    [
        (nn.ReLU(), Normal(0.1), {}, "the ReLU has no parameters to fill"),
        (nn.Linear(2, 2), Policy([Rule(Normal(0.1), kind="conv")]), {"unknown": "keep"},
         "the policy matches none of the 2 parameters"),
        (nn.Linear(2, 2), Normal(0.1), {"only": "wieght"}, "only=wieght .* leave no parameter"),
        (nn.Linear(2, 2), Normal(0.1), {"skip": "*"}, r"skip=\* leave no parameter to fill"),
        (nn.Linear(2, 2), Normal(0.1), {"seed": 1.0}, "seed=1.0: must be a whole number"),
        (nn.Linear(2, 2), Normal(0.1), {"seed": None}, "seed=None: must be a whole number"),
        (nn.Linear(2, 2), Normal(0.1), {"seed": True}, "seed=True: must be a whole number"),
        (nn.Linear(2, 2), LSUV(), {}, "LSUV looks at data; give it a batch"),
        (nn.LazyLinear(3), Normal(0.1), {}, "weight of a LazyLinear has no shape yet"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_meant_is_refused_in_a_line(model, policy, options, said):
    with pytest.raises(ValueError, match=said) as error:
        initialize(model, policy, **{"seed": 0, **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("initializer", "said"),
    [
        (Normal, r"Normal is a class; give an instance, such as Normal\(\)"),
        (nn.init.xavier_uniform_, r"xavier_uniform_ must take \(shape, fans, \*, generator, dtype"),
        (lambda shape: torch.zeros(shape), "must take"),
        (0.1, "0.1 is neither a Policy nor callable"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_initializer_is_refused_in_a_line(initializer, said):
    with pytest.raises(TypeError, match=said) as error:
        initialize(nn.Linear(2, 2), initializer, seed=0)
    assert "\n" not in str(error.value)
    if initializer != 0.1:
        with pytest.raises(TypeError, match=said):
            Rule(initializer)


def test_functions_that_give_no_numbers_are_refused():
    def nothing(shape, fans, *, generator, dtype):
        return torch.full(shape, torch.nan)

    with pytest.raises(ValueError, match="fills weight with numbers that are not finite"):
        initialize(nn.Linear(2, 2), nothing, seed=0)


@pytest.mark.usefixtures("unchecked")
def test_numbers_of_numpy_and_torch_are_numbers():
    assert Normal(np.float32(0.5)) == Normal(0.5)
    assert repr(Normal(np.float64(0.5))) == "Normal(std=0.5, mean=0.0)"
    assert Normal(torch.tensor(0.25)) == Normal(0.25)
    assert hash(Normal(np.float64(0.5))) == hash(Normal(0.5))
    for wrong in ("0.1", True, None, [0.1], torch.ones(2), np.float32("nan")):
        with pytest.raises(ValueError, match="a standard deviation must be a finite number"):
            Normal(wrong)
    layer = nn.Linear(3, 4)
    one, other = (draw(layer, Policy([Rule(Normal())]), seed) for seed in (np.int64(3), 3))
    assert torch.equal(one["weight"], other["weight"])


def test_a_single_tensor():
    one = Normal(0.1)((3, 4))
    assert one.shape == (3, 4)
    assert torch.equal(one, Normal(0.1)((3, 4)))
    assert not torch.equal(one, Normal(0.1)((3, 4), seed=1))
    assert Orthogonal()((3, 4)).shape == (3, 4)
    generator = torch.Generator().manual_seed(5)
    assert torch.equal(
        XavierNormal()((3, 4), Fans.of_shape((3, 4)), generator=generator, dtype=torch.float64),
        XavierNormal()((3, 4), Fans.of_shape((3, 4)), seed=5, dtype=torch.float64),
    )


def test_complex_tensors_have_the_deviation_in_the_modulus():
    """As torch's own complex normal numbers: both parts have half of the variance."""
    for initializer in (Normal(0.3), XavierNormal()):
        fans = Fans(200, 100)
        z = initializer((100, 200), fans, dtype=torch.complex64)
        std = initializer.law((100, 200), fans).std
        assert z.abs().square().mean().sqrt().item() == pytest.approx(std, rel=0.02)
        assert z.imag.std().item() == pytest.approx(std / 2**0.5, rel=0.03)
        assert abs((z.real * z.imag).mean().item()) < 5 * std**2 / 2 / 20_000**0.5
    unitary = Orthogonal(2.0)((6, 9), dtype=torch.complex128)
    torch.testing.assert_close(unitary @ unitary.mH, 4 * torch.eye(6, dtype=torch.complex128))
    delta = DeltaOrthogonal()((4, 3, 3), dtype=torch.complex64)[:, :, 1]
    torch.testing.assert_close(delta.mH @ delta, torch.eye(3, dtype=torch.complex64))
    assert Identity()((2, 2), dtype=torch.complex64).tolist() == [[1, 0], [0, 1]]
    layer = initialize(nn.Linear(300, 200, dtype=torch.cfloat), "kaiming_normal", seed=0)
    power = layer.weight.abs().square().mean().item()
    assert power == pytest.approx(2 / 300, rel=0.03)
    for other in (Uniform(0.1), TruncatedNormal(0.1)):
        with pytest.raises(ValueError, match="a complex tensor has no"):
            other((3, 4), dtype=torch.complex64)


def test_whole_numbers_are_not_filled():
    with pytest.raises(ValueError, match=r"dtype=torch\.int8: Normal fills floating point numbers"):
        Normal(0.1)((3, 4), dtype=torch.int8)
    model = nn.Module()
    model.table = nn.Parameter(torch.arange(3), requires_grad=False)
    model.body = nn.Linear(2, 2)
    initialize(model, Policy([Rule(Normal(0.1))]), seed=0)
    assert model.table.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"cannot fill table: dtype=torch\.int64"):
        initialize(model, Policy([Rule(Normal(0.1))]), seed=0, frozen="fill")


@pytest.mark.parametrize("head_first", [True, False])
def test_a_tied_weight_is_an_embeddings_in_whatever_order(head_first):
    modules = {"head": nn.Linear(4, 9, bias=False), "tokens": nn.Embedding(9, 4, padding_idx=0)}
    order = ("head", "tokens") if head_first else ("tokens", "head")
    model = nn.ModuleDict({name: modules[name] for name in order})
    model["head"].weight = model["tokens"].weight
    initialize(model, "keras", seed=0)
    weight = model["tokens"].weight
    assert model["head"].weight is weight
    assert not weight[0].any()
    assert 0.03 < weight.abs().max().item() <= 0.05
    assert [slot.name for slot in named_parameters(model)] == [f"{order[0]}.weight"]
    for name in ("head.weight", "tokens.weight"):
        filled = initialize(model, Policy([Rule(Constant(3.0), name=name)]), seed=0)
        assert (filled["head"].weight[1:] == 3).all()
    assert set(draw(model, torch_default(), 0)) == {name for name, _ in model.named_parameters()}


def test_a_wrapped_model_has_the_same_values():
    plain = nn.Sequential(nn.Linear(3, 4))

    class Wrapper(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self._orig_mod = inner

    wrapped = Wrapper(nn.Sequential(nn.Linear(3, 4)))
    for policy in (Normal(0.1), "torch"):
        initialize(plain, policy, seed=0)
        initialize(wrapped, policy, seed=0)
        assert torch.equal(wrapped._orig_mod[0].weight, plain[0].weight)


def test_lsuv_with_dropout_does_not_depend_on_the_random_state():
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
    found = []
    for state in (1, 2):
        torch.manual_seed(state)
        model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 4))
        found.append(initialize(model, LSUV(tolerance=0.3), seed=0, batch=x)[2].weight)
    assert torch.equal(*found)


def test_meta_models_need_a_value_for_what_stays():
    with torch.device("meta"):
        model = Token()
        frozen = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    with pytest.raises(ValueError, match="class_token is on the meta device, where it has no val"):
        initialize(model, "keras", seed=0, unknown="keep")
    with pytest.raises(ValueError, match=r"1\.weight is on the meta device"):
        initialize(frozen, "keras", seed=0)
    initialize(frozen, "keras", seed=0, frozen="fill", device="cpu")
    assert not frozen[1].weight.requires_grad
    real = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert torch.equal(frozen[1].weight, draw(real, keras(), 0)["1.weight"])
