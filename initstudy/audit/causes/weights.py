"""The values of single parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from initstudy.audit.evidence import Evidence, few
from initstudy.audit.result import ParameterRow, Warned
from initstudy.audit.tensors import is_real, moments

WIDE_EMBEDDING = 0.5
HALF_OPEN = 0.5
REFUTED = 1e-6
# A few numbers may fit a count of fans by chance.
FEWEST = 256
CAUSES = {
    "attention": "packed QKV is scaled as one map of three times the outputs: fill the three "
    "projections one by one",
    "conv_transpose": "a transposed convolution's fans are swapped: torch.nn.init reads its "
    "weight as (out, in)",
    "conv": "a grouped convolution's fan_out counts every group: torch.nn.init does not divide "
    "by them",
    "embedding": "an embedding looks up one row: its number of rows is no fan",
}


def not_finite(evidence: Evidence) -> Iterator[Warned]:
    """Parameters, activations or gradients that are NaN or infinite."""
    rows = [row.name for row in evidence.parameters if row.distribution == "NaN or infinities"]
    if rows:
        text = f"{few(rows)} holds NaN or infinities: fill it"
        yield Warned("not-finite", text, tuple(rows))
        return
    bad = [layer.name for layer in evidence.signal.layers if not layer.finite]
    if bad:
        yield Warned(
            "not-finite", f"NaN or infinity from {bad[0]} on: nothing can be trained", tuple(bad)
        )


def outliers(evidence: Evidence) -> Iterator[Warned]:
    """Single weights far outside of the distribution of the others."""
    rows = [row for row in evidence.parameters if row.outliers]
    if rows:
        worst = max(rows, key=lambda row: row.outlier)
        names = (worst.name, *(row.name for row in rows if row is not worst))
        count = math.prod(worst.shape)
        yield Warned(
            "outliers",
            f"{worst.outliers} of the {count:,} entries of {few(names)} lie up to "
            f"{worst.outlier:.0f} standard deviations from the others: sample them again, or "
            "truncate at a few standard deviations",
            names,
        )


def not_filled(evidence: Evidence) -> Iterator[Warned]:
    """Parameters that do not hold what the policy intends."""
    if not evidence.intended:
        return
    never = tuple(
        row.name for row in evidence.parameters if row.pvalue is not None and row.pvalue < REFUTED
    )
    if never:
        yield Warned(
            "not-initialized",
            f"{few(never)} does not hold what the policy draws: it was never initialized by it, "
            "or changed since",
            never,
        )


def wrong_fans(evidence: Evidence) -> Iterator[Warned]:
    """Weights that are scaled by a count of fans which is not the layer's."""
    for kind, cause in CAUSES.items():
        rows = [
            row
            for row in evidence.parameters
            if row.kind == kind and row.convention == "torch" and math.prod(row.shape) >= FEWEST
        ]
        names = tuple(row.name for row in rows if not _torch_is_nearer(row))
        if names:
            # A normalization that follows makes up for it.
            scaled = {s.name for s in evidence.signal.layers if s.normalized}
            note = all(name.rpartition(".")[0] in scaled for name in names)
            yield Warned("wrong-fan", f"{cause} ({few(names)})", names, note=note)


def _torch_is_nearer(row: ParameterRow) -> bool:
    """Whether a strided transposed convolution sums about what torch counts."""
    if row.measured_fan_in is None or row.fan_in is None or row.fan_out is None:
        return False
    wrong, customary = (
        abs(math.log(count / row.measured_fan_in)) for count in (row.fan_out, row.fan_in)
    )
    return wrong <= customary or wrong < math.log(1.5)


def embeddings(evidence: Evidence) -> Iterator[Warned]:
    """Embeddings of a standard deviation near one."""
    # What is frozen was computed, as sinusoidal positions are.
    rows = [
        row
        for row in evidence.parameters
        if row.kind == "embedding"
        and row.std > WIDE_EMBEDDING
        and row.name not in evidence.signal.frozen
    ]
    wide = tuple(row.name for row in rows)
    if wide:
        yield Warned(
            "embedding",
            f"{few(wide)} has standard deviation {rows[0].std:.2g} (torch's default is 1): large "
            "beside what attention and linear layers add, and logits explode where it is tied to "
            "the head; GPT-2 and BERT use 0.02",
            wide,
        )


def forget_gates(evidence: Evidence) -> Iterator[Warned]:
    """LSTMs that forget half of their cell at every step."""
    closed = []
    for name, module in evidence.model.named_modules():
        if isinstance(module, nn.LSTM | nn.LSTMCell) and getattr(module, "bias", False):
            pairs = [k for k, _ in module.named_parameters(recurse=False) if "bias_ih" in k]
            for key in pairs:
                both = getattr(module, key) + getattr(module, key.replace("_ih", "_hh"))
                if not both.is_meta and float(both.detach().chunk(4)[1].mean()) < HALF_OPEN:
                    closed.append(f"{name}.{key}".removeprefix("."))
    if closed:
        yield Warned(
            "forget-gate",
            f"the forget gates of {few(closed)} start half closed: half of the cell is lost at "
            "every step; set their bias to 1 (init=unit_forget_gate)",
            tuple(closed),
        )


@torch.no_grad()
def resolution(evidence: Evidence) -> Iterator[Warned]:
    """Deviations that a parameter's float type cannot hold."""
    below = []
    for name, parameter in evidence.model.named_parameters():
        if not is_real(parameter) or parameter.is_meta or parameter.numel() < 2:
            continue
        limits = torch.finfo(parameter.dtype)
        known = moments(parameter)
        if 0 < known.std < limits.tiny or 0 < known.std < limits.eps * abs(known.mean):
            below.append(name)
    if below:
        yield Warned(
            "resolution",
            f"the standard deviation of {few(below)} is below what its float type resolves: its "
            "values are rounded to a few numbers, or to zero",
            tuple(below),
        )
