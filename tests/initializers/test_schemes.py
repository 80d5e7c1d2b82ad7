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
    DeltaOrthogonal,
    Dirac,
    Fans,
    Identity,
    KaimingNormal,
    KaimingUniform,
    LecunNormal,
    LecunUniform,
    MuPOutput,
    Normal,
    Orthogonal,
    Sparse,
    TruncatedNormal,
    TruncatedNormalBetween,
    Uniform,
    UnitForgetGate,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
    ZerO,
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


LAWS = [
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
    (MuPOutput(base_fan_in=10), normal(math.sqrt(10) / 40)),
    (
        VarianceScaling(2.0, "fan_in", "truncated_normal"),
        stats.truncnorm(-2, 2, scale=math.sqrt(2 / 40) / CUT.std()),
    ),
    (TruncatedNormal(0.5, 1.0), stats.truncnorm(-2, 2, 1.0, 0.5 / CUT.std())),
    (TruncatedNormal(0.5, cutoff=1.0, restore=False), stats.truncnorm(-1, 1, scale=0.5)),
    (TruncatedNormalBetween(0.5, 0.1, -0.4, 2.0), stats.truncnorm(-1, 3.8, 0.1, 0.5)),
    (TruncatedNormalBetween(1.0, 0.0, 5.0, 6.0), stats.truncnorm(5, 6)),
]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    hyp.sampled_from(LAWS),
    hyp.sampled_from([(2**14,), (150, 140), (30, 20, 5, 5), (7, 3001)]),
    hyp.sampled_from([torch.float32, torch.float64]),
    hyp.integers(0, 2**62),
)
def test_draws_follow_their_law(pair, shape, dtype, seed):
    """Kolmogorov–Smirnov against the exact law, and the variance within four standard errors."""
    initializer, law = pair
    draw = initializer(shape, FANS, generator=generator(seed), dtype=dtype)
    assert draw.dtype is dtype
    assert draw.shape == shape
    values = draw.flatten().double().numpy()
    # A hundred and fifty tests: one in a thousand of such suites fails by chance at 1e-5.
    assert stats.kstest(values, law.cdf).pvalue > 1e-5
    fourth = law.stats("k") + 3
    error = law.var() * math.sqrt((fourth - 1) / values.size)
    assert abs(values.var() - law.var()) < 4 * error


@pytest.mark.parametrize(("initializer", "law"), LAWS, ids=lambda value: repr(value)[:40])
def test_an_initializer_says_its_own_law(initializer, law):
    stated = initializer.law((150, 140), FANS)
    assert stated.std == pytest.approx(law.std(), rel=1e-9)
    assert stated.mean == pytest.approx(law.mean(), rel=1e-9, abs=1e-12)
    draw = initializer((150, 140), FANS, generator=generator(3))
    assert stated.pvalue(draw) > 1e-3
    assert stated.pvalue(1.1 * draw) < 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_types_hold_the_same_numbers_rounded(dtype):
    for initializer, _ in LAWS[:6]:
        wide = initializer((50, 50), FANS, generator=generator(1))
        narrow = initializer((50, 50), FANS, generator=generator(1), dtype=dtype)
        assert narrow.dtype is dtype
        assert torch.equal(narrow, wide.to(dtype))


@pytest.mark.parametrize(("per", "axis"), [("unit", 1), ("input", 0)])
def test_sparse_weights_have_the_same_number_of_zeros_everywhere(per, axis):
    draw = Sparse(0.73, std=0.5, per=per)((80, 60), FANS, generator=generator(2))
    zeros = (draw == 0).sum(axis)
    assert zeros.unique().tolist() == [math.ceil(0.73 * draw.shape[axis])]
    assert stats.kstest(draw[draw != 0].numpy(), normal(0.5).cdf).pvalue > 1e-4
    if per == "input":
        torchs = nn.init.sparse_(torch.empty(80, 60), 0.73)
        assert torch.equal((torchs == 0).sum(0), zeros)
    # Which entries are zero is drawn anew: across the other axis their number is binomial.
    kept = (draw != 0).sum(1 - axis).double()
    count, share = draw.shape[1 - axis], float((draw != 0).double().mean())
    assert kept.var() == pytest.approx(count * share * (1 - share), rel=0.5)


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


PINNED = {
    Constant(0.1): [0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
    Normal(): [1.540996, -0.2934289, -2.178789, 0.5684313, -1.084522, -1.398595],
    Uniform(): [-0.00748682, 0.5364436, -0.8230451, -0.735939, -0.3851544, 0.2681574],
    TruncatedNormal(): [1.855391, 0.5908207, -0.1106526, 1.467377, 0.402732, 0.869827],
    TruncatedNormalBetween(): [1.632049, 0.519701, -0.09733286, 1.290743, 0.3542534, 0.7651221],
    Sparse(0.5, 1.0): [0, 0, -2.178789, 0, 0, -1.398595],
    VarianceScaling(): [0.8896945, -0.1694113, -1.257925, 0.3281839, -0.6261493, -0.8074794],
    XavierNormal(): [0.823697, -0.1568443, -1.164612, 0.3038393, -0.5797016, -0.7475807],
    XavierUniform(): [-0.006931448, 0.4966502, -0.7619917, -0.6813471, -0.3565837, 0.2482655],
    KaimingNormal(): [1.258218, -0.2395837, -1.778974, 0.4641222, -0.8855088, -1.141948],
    KaimingUniform(): [-0.01058796, 0.7586458, -1.163962, -1.040775, -0.5446905, 0.3792318],
    LecunNormal(): [0.8896945, -0.1694113, -1.257925, 0.3281839, -0.6261493, -0.8074794],
    LecunUniform(): [-0.00748682, 0.5364436, -0.8230451, -0.735939, -0.3851544, 0.2681574],
    MuPOutput(): [5.81146, -1.10659, -8.216729, 2.143688, -4.08999, -5.274434],
    Orthogonal(): [0.8862804, -0.0291699, 0.2586619, 0.3269246, -0.6629022, -0.4412557],
    DeltaOrthogonal(): [0, 0.8862804, 0, 0, -0.0291699, 0],
    Identity(): [1, 0, 0, 0, 1, 0],
    Dirac(): [0, 1, 0, 0, 0, 0],
    ZerO(): [0.5, 0.5, 0.5, 0.5, -0.5, 0.5],
    UnitForgetGate(): [0, 1, 0, 0],
}


@pytest.mark.parametrize(("initializer", "values"), PINNED.items(), ids=repr)
def test_seeded_values_are_pinned(initializer, values):
    """A release that changes these changes every study. They are drawn on the CPU everywhere."""
    fans = Fans(3, 4, blocks=4) if "Forget" in repr(initializer) else Fans(3, 4)
    shape = (4,) if "Forget" in repr(initializer) else (4, 3)
    shape = (4, 3, 3) if isinstance(initializer, Dirac | DeltaOrthogonal) else shape
    draw = initializer(shape, fans, generator=generator(0))
    assert draw.flatten()[:6].tolist() == pytest.approx(values, rel=1e-5, abs=1e-7)


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
        (lambda: Sparse(1.0), r"init\.sparsity=1\.0: must be below 1"),
        (lambda: Sparse(-0.1), r"init\.sparsity=-0\.1"),
        (lambda: TruncatedNormal(cutoff=0), r"init\.cutoff=0: leaves nothing"),
        (lambda: TruncatedNormalBetween(low=1, high=1), r"init\.high=1: nothing lies between"),
        (lambda: TruncatedNormalBetween(0.1, low=1, high=2), "more than 8 init.std"),
        (lambda: KaimingNormal("rleu"), r"init\.nonlinearity=rleu: choose one of linear"),
        (lambda: KaimingUniform(mode="fan"), r"init\.mode=fan: choose one of fan_in"),
        (lambda: VarianceScaling(distribution="cauchy"), r"init\.distribution=cauchy"),
        (lambda: Fans(0, 3), "fans of at least 1"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_arguments_are_one_line(make, said):
    with pytest.raises(ValueError, match=said):
        make()
