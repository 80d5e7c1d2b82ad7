"""Every distribution against its exact law."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as hyp
from scipy import stats
from torch import nn

from initstudy.initializers import (
    Constant,
    Fans,
    KaimingNormal,
    KaimingUniform,
    LecunNormal,
    LecunUniform,
    Normal,
    Uniform,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
    gain,
)

FANS = Fans(40, 90)
CUT = stats.truncnorm(-2, 2)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(std):
    return stats.norm(0, std)


def uniform(bound):
    return stats.uniform(-bound, 2 * bound)


@pytest.mark.parametrize(
    ("initializer", "law"),
    [
        (Normal(0.3, mean=1.0), stats.norm(1.0, 0.3)),
        (Uniform(0.1), uniform(0.1)),
        (XavierNormal(), normal(math.sqrt(2 / 130))),
        (XavierUniform(gain=2.0), uniform(2 * math.sqrt(6 / 130))),
        (KaimingNormal(), normal(math.sqrt(2 / 40))),
        (KaimingNormal(mode="fan_out", nonlinearity="linear"), normal(math.sqrt(1 / 90))),
        (KaimingUniform(), uniform(math.sqrt(6 / 40))),
        (KaimingUniform("leaky_relu", 0.5), uniform(math.sqrt(6 / (1.25 * 40)))),
        (KaimingNormal(gain=3.0), normal(3 / math.sqrt(40))),
        (LecunNormal(), normal(math.sqrt(1 / 40))),
        (LecunUniform(), uniform(math.sqrt(3 / 40))),
        (
            VarianceScaling(2.0, "fan_in", "truncated_normal"),
            stats.truncnorm(-2, 2, scale=math.sqrt(2 / 40) / CUT.std()),
        ),
    ],
    ids=lambda value: repr(value)[:60] if hasattr(value, "__dataclass_fields__") else "",
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_follow_their_law(initializer, law, dtype):
    draw = initializer((150, 140), FANS, generator=generator(1), dtype=dtype)
    assert draw.dtype is dtype
    values = draw.flatten().double().numpy()
    assert stats.kstest(values, law.cdf).pvalue > 1e-4
    fourth = law.stats("k") + 3
    error = law.var() * math.sqrt((fourth - 1) / values.size)
    assert abs(values.var() - law.var()) < 4 * error


@settings(max_examples=40, deadline=None)
@given(
    hyp.lists(hyp.integers(1, 6), min_size=1, max_size=4),
    hyp.floats(1e-4, 10.0),
    hyp.integers(0, 2**62),
)
def test_draws_at_one_seed_differ_by_the_factor_alone(shape, std, seed):
    unit = Normal(1.0)(shape, FANS, generator=generator(seed))
    scaled = Normal(std)(shape, FANS, generator=generator(seed))
    assert torch.equal(scaled, std * unit)
    box = Uniform(std)(shape, FANS, generator=generator(seed))
    torch.testing.assert_close(box, std * Uniform(1.0)(shape, FANS, generator=generator(seed)))


def test_seeded_values_are_pinned():
    """A release that changes these changes every study."""
    draw = Normal(1.0)((3,), FANS, generator=generator(0))
    assert draw.tolist() == pytest.approx([1.5409960, -0.2934289, -2.1787894], rel=1e-6)
    draw = Uniform(1.0)((3,), FANS, generator=generator(0))
    assert draw.tolist() == pytest.approx([-0.0074866, 0.5364435, -0.8230450], rel=1e-4)


@pytest.mark.parametrize("name", ["linear", "sigmoid", "tanh", "relu", "selu"])
def test_gains_are_those_that_torch_documents(name):
    assert gain(name) == pytest.approx(nn.init.calculate_gain(name))
    assert gain("leaky_relu", 0.2) == pytest.approx(nn.init.calculate_gain("leaky_relu", 0.2))


def test_initializers_print_compare_and_hash():
    assert repr(Normal(0.1)) == "Normal(std=0.1, mean=0.0)"
    assert KaimingNormal() == KaimingNormal("relu")
    assert len({XavierNormal(), XavierNormal(1.0), XavierUniform()}) == 2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Normal(-1), r"init\.std=-1: a standard deviation must be"),
        (lambda: Normal(math.nan), r"init\.std=nan"),
        (lambda: Normal("wide"), r"init\.std=wide"),
        (lambda: Uniform(-0.1), r"init\.bound=-0\.1"),
        (lambda: Constant(math.inf), r"init\.value=inf"),
        (lambda: XavierNormal(-2), r"init\.gain=-2"),
        (lambda: KaimingNormal("rleu"), r"init\.nonlinearity=rleu: choose one of linear"),
        (lambda: KaimingUniform(mode="fan"), r"init\.mode=fan: choose one of fan_in"),
        (lambda: VarianceScaling(distribution="cauchy"), r"init\.distribution=cauchy"),
        (lambda: Fans(0, 3), "fans of at least 1"),
    ],
)
def test_bad_arguments_are_one_line(make, said):
    with pytest.raises(ValueError, match=said):
        make()
