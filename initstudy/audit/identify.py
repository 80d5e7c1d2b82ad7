"""Which initialization a parameter has, read off its values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from initstudy.audit.tensors import Moments, is_real, moments, sampled
from initstudy.initializers import (
    Dirac,
    Fans,
    Identity,
    Initializer,
    KaimingNormal,
    KaimingUniform,
    Law,
    LecunNormal,
    LecunUniform,
    Normal,
    TruncatedNormal,
    Uniform,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
    fans_or_one,
    role,
)
from initstudy.initializers.matrices import as_matrices

# Below, a sample is not what the law would give: one good fit in a thousand is missed.
SIGNIFICANT = 1e-3
# Deviations must also agree: a test of shape says little of a few numbers.
STANDARD_ERRORS = 4.0
FEWEST = 8
# The distance between the quartiles of N(0, 1).
INTERQUARTILE = 1.349
# An outlier lies this many standard deviations from the median; outliers are rarer than `FEW`.
FAR = 15.0
# A tensor that no entry leaves by so many of its own deviations has no outlier.
NEAR = 5.5
FEW = 1e-4
BY_TORCH = " by torch's fans"

TORCH = VarianceScaling(1 / 3, "fan_in", "uniform")
GATED = VarianceScaling(1 / 3, "fan_out", "uniform")
SCALED: dict[str, Initializer] = {
    "U(±1/√fan_in), torch's default": TORCH,
    "Xavier uniform": XavierUniform(),
    "Xavier normal": XavierNormal(),
    "He normal": KaimingNormal(),
    "He uniform": KaimingUniform(),
    "He normal, fan_out": KaimingNormal(mode="fan_out"),
    "He uniform, fan_out": KaimingUniform(mode="fan_out"),
    "LeCun normal": LecunNormal(),
    "LeCun uniform": LecunUniform(),
    "He truncated normal": VarianceScaling(2.0, "fan_in", "truncated_normal"),
    "LeCun truncated normal": VarianceScaling(1.0, "fan_in", "truncated_normal"),
    "Xavier truncated normal": VarianceScaling(1.0, "fan_avg", "truncated_normal"),
}
FIXED: dict[str, Initializer] = {
    "N(0, 1)": Normal(1.0),
    "N(0, 0.02²)": Normal(0.02),
    "N(0, 0.01²)": Normal(0.01),
    "N(0, 0.02²) cut at 2 std": TruncatedNormal(0.02, restore=False),
    "U(±0.05)": Uniform(0.05),
    "N(0, (10⁻⁶)²)": Normal(1e-6),
}


def known_initializer(name: str) -> Initializer | None:
    """The initializer of a name that `identify` gives, or None.

    Args:
        name: The name, without a convention.

    Example:
        >>> from initstudy.audit.identify import known_initializer
        >>> known_initializer("N(0, 0.02²)")
        Normal(std=0.02, mean=0.0)
    """
    return SCALED.get(name) or FIXED.get(name)


@dataclass(frozen=True)
class Identified:
    """What a parameter's values look like.

    Attributes:
        name: A known initialization, or the family and measured deviation where none fits.
        std: The standard deviation that this initialization means, or None where none is known.
        pvalue: That of the Kolmogorov–Smirnov test against it; None where there is nothing to test.
        convention: By whose count of fans it fits: "layer" or "torch".
    """

    name: str
    std: float | None
    pvalue: float | None
    convention: str = "layer"


@dataclass(frozen=True)
class Outliers:
    """The few entries of a tensor that its distribution does not explain.

    Attributes:
        count: How many there are.
        largest: The largest distance from the median, in standard deviations of the others.
    """

    count: int
    largest: float


@torch.no_grad()
def find_outliers(values: Tensor, known: Moments) -> Outliers | None:
    """Entries that lie further out than 15 standard deviations, if they are few.

    The standard deviation is that of a normal distribution with the sample's quartiles, which
    outliers do not change. A tensor that is mostly zero, or has many such entries, has none.

    Args:
        values: The tensor.
        known: Its moments.
    """
    furthest = max(known.high - known.mean, known.mean - known.low)
    if values.numel() < FEWEST or not known.finite or furthest < NEAR * known.std:
        return None
    quartiles = torch.quantile(sampled(values), torch.tensor([0.25, 0.5, 0.75]).double())
    low, median, high = (float(q) for q in quartiles)
    scale = (high - low) / INTERQUARTILE
    if scale <= 0 or max(known.high - median, median - known.low) <= FAR * scale:
        return None
    count = int(((values.detach() - median).abs() > FAR * scale).sum())
    if count > max(1, FEW * values.numel()):
        return None
    return Outliers(count, max(known.high - median, median - known.low) / scale)


@torch.no_grad()
def identify(module: nn.Module, key: str, values: Tensor) -> list[Identified]:
    """The known initializations that a parameter's values fit, the most common ones first.

    One fits when its exact distribution passes the test and the standard deviations agree within
    four standard errors. Several may: Xavier and LeCun are the same for a square layer. Where none
    does, the only entry says what the values resemble. A few outliers are left out and named.

    Args:
        module: The layer.
        key: The parameter's name in it.
        values: The parameter's values.
    """
    if values.is_meta:
        return [Identified("on the meta device", None, None)]
    if not is_real(values):
        return [Identified(f"{str(values.dtype).removeprefix('torch.')} numbers", None, None)]
    values = values.detach()
    if values.numel() == 0:
        return [Identified("empty", None, None)]
    known = moments(values)
    if not known.finite:
        return [Identified("NaN or infinities", None, None)]
    if known.low == known.high:
        names = {0.0: "zeros", 1.0: "ones"}
        return [Identified(names.get(known.low, f"constant {known.low:.4g}"), 0.0, 1.0)]
    values = _without_padding(module, values)
    outliers = find_outliers(values, known)
    if outliers is not None:
        found = _likely(module, key, values, _without_outliers(values))
        text = f", but for {outliers.count} at {outliers.largest:.0f} standard deviations"
        return [replace(each, name=each.name + text) for each in found]
    return _likely(module, key, values, None)


def _without_outliers(values: Tensor) -> Tensor:
    quartiles = torch.quantile(sampled(values), torch.tensor([0.25, 0.5, 0.75]).double())
    low, median, high = (float(q) for q in quartiles)
    flat = values.reshape(-1)
    return flat[(flat - median).abs() <= FAR * (high - low) / INTERQUARTILE]


def _likely(module: nn.Module, key: str, values: Tensor, usual: Tensor | None) -> list[Identified]:
    """What values may be; `usual` are those that count, where some are outliers."""
    if usual is None:
        structure = _structured(values, fans_or_one(module, key, "layer"))
        if structure is not None:
            return [structure]
    shape, usual = tuple(values.shape), values if usual is None else usual
    sample = _Sample(shape, sampled(usual), moments(usual), usual.numel())
    return list(_fitting(module, key, sample)) or [_family(sample)]


@dataclass(frozen=True)
class _Sample:
    """What is tested of a tensor: its shape, some of its entries, and the moments of all."""

    shape: tuple[int, ...]
    values: Tensor
    moments: Moments
    count: int


def _without_padding(module: nn.Module, values: Tensor) -> Tensor:
    """An embedding's rows less its padding, which is zero by intention."""
    padding = getattr(module, "padding_idx", None)
    if not isinstance(padding, int) or values.dim() != 2:
        return values
    padding %= len(values)
    return torch.cat([values[:padding], values[padding + 1 :]])


def _structured(values: Tensor, fans: Fans) -> Identified | None:
    if values.dim() < 2:
        return None
    # No more entries than the longest axis has are not zero in a map that keeps its inputs.
    if int(torch.count_nonzero(values)) <= max(values.shape):
        for name, kind in (("identity", Identity), ("Dirac", Dirac)):
            try:
                unit = kind()(values.shape, fans, generator=torch.Generator(), dtype=values.dtype)
            except ValueError:
                continue
            gain = float(values.abs().max())
            if torch.allclose(values.cpu(), gain * unit):
                std = gain * moments(unit).std
                return Identified(_with_gain(name, gain), std, None)
    for maps, suffix in ((fans, ""), (Fans(1, 1), " over all maps")):
        found = _orthogonal_gain(values, maps)
        if found is not None:
            longer = max(as_matrices(values, maps).shape[1:])
            name = _with_gain("orthogonal", found) + (suffix if fans.blocks > 1 else "")
            return Identified(name, found / math.sqrt(longer), None)
    return None


def _orthogonal_gain(values: Tensor, fans: Fans) -> float | None:
    matrices = as_matrices(values, fans)
    rows, columns = matrices.shape[1:]
    shorter = min(rows, columns)
    if shorter < 2:
        return None
    matrices = matrices if rows <= columns else matrices.mT
    # Two rows tell almost every other matrix apart; the whole product of a large one is slow.
    if not _are_orthogonal(matrices[:1, :8].double().cpu()):
        return None
    few = matrices[:, :256].double().cpu()
    gram = few @ few.mT
    square = float(torch.diagonal(gram, dim1=1, dim2=2).mean())
    if torch.allclose(gram, square * torch.eye(few.shape[1]).double(), atol=1e-3 * square):
        return math.sqrt(square)
    return None


def _are_orthogonal(rows: Tensor) -> bool:
    """Whether a few rows are; those of nearly every other matrix are not."""
    gram = rows[0] @ rows[0].T
    scale = float(gram.diagonal().mean())
    return bool(((gram - scale * torch.eye(len(gram)).double()).abs() <= 1e-3 * scale).all())


def _with_gain(name: str, gain: float) -> str:
    return name if math.isclose(gain, 1.0, rel_tol=1e-3) else f"{name}, gain {gain:.4g}"


def _fitting(module: nn.Module, key: str, sample: _Sample) -> Iterator[Identified]:
    seen: set[str] = set()
    for name, law, convention in _candidates(module, key, sample.shape):
        if name in seen or not _deviation_agrees(law, sample):
            continue
        pvalue = law.pvalue(sample.values)
        if pvalue is not None and pvalue > SIGNIFICANT:
            seen.add(name)
            yield Identified(name, law.std, pvalue, convention)


def _candidates(
    module: nn.Module, key: str, shape: tuple[int, ...]
) -> Iterator[tuple[str, Law, str]]:
    """Name, law and convention of what a parameter may be, the likelier of equal laws first."""
    layer, torchs = (fans_or_one(module, key, by) for by in ("layer", "torch"))
    fixed = [(name, initializer.law(shape, layer), "layer") for name, initializer in FIXED.items()]
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        yield "U(±1/√hidden), torch's default", GATED.law(shape, layer), "layer"
    if isinstance(module, nn.Bilinear):
        bound = Uniform(1 / math.sqrt(module.in1_features))
        yield "U(±1/√in1), torch's default", bound.law(shape, layer), "layer"
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        yield from fixed
    if role(module, key) == "bias":
        # A bias that is drawn is drawn as torch draws it.
        yield "U(±1/√fan_in), torch's default", TORCH.law(shape, torchs), "layer"
    elif layer != Fans(1, 1):
        for name, initializer in SCALED.items():
            # Swapped fans are far likelier in a transposed convolution than a choice of fan_out.
            if not (layer.transposed and "fan_out" in name):
                yield name, initializer.law(shape, layer), "layer"
        yield from _by_torch(shape, layer, torchs)
    yield from fixed


def _by_torch(shape: tuple[int, ...], layer: Fans, torchs: Fans) -> Iterator[tuple[str, Law, str]]:
    if (torchs.fan_in, torchs.fan_out) == (layer.fan_in, layer.fan_out):
        return
    for name, initializer in SCALED.items():
        law = initializer.law(shape, torchs)
        by = "layer" if scaled_alike(law, initializer.law(shape, layer)) else "torch"
        suffix = "" if "torch" in name or by == "layer" else BY_TORCH
        yield name + suffix, law, by


def _deviation_agrees(law: Law, sample: _Sample) -> bool:
    kurtosis = 1.8 if law.name == "uniform" else 3.0
    error = law.std * math.sqrt((kurtosis - 1) / (4 * sample.count))
    measured = math.hypot(sample.moments.std, sample.moments.mean - law.mean)
    return abs(measured - law.std) < STANDARD_ERRORS * error


def scaled_alike(law: Law, own: Law) -> bool:
    """Whether a count of fans that is not the layer's makes no difference that matters."""
    return math.isclose(law.std, own.std, rel_tol=0.2)


def _family(sample: _Sample) -> Identified:
    """What the values resemble where no known initialization fits."""
    mean, std = sample.moments.mean, sample.moments.std
    zeros = float((sample.values == 0).double().mean())
    if zeros > 0.05:
        return Identified(f"{zeros:.0%} zeros", None, None)
    largest = max(sample.moments.high - mean, mean - sample.moments.low)
    # A uniform sample reaches √3 deviations and no further; a normal one goes on.
    uniform = sample.count >= FEWEST and largest < 1.75 * std
    name = "uniform" if uniform else "normal"
    law = (
        Uniform(std * math.sqrt(3)).law(sample.shape, Fans(1, 1))
        if uniform
        else Normal(std, mean).law(sample.shape, Fans(1, 1))
    )
    pvalue = law.pvalue(sample.values)
    known = pvalue is not None and pvalue > SIGNIFICANT
    return Identified(f"{name}, no known scale" if known else "no known distribution", None, None)
