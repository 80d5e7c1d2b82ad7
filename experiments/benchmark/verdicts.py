"""Ratios of medians, and targets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from benchmark.measure import BASIC, BOTH, JAX, MACHINE, OURS, PLAIN, WANDB, Result, median

Found = dict[str, list[Result]]
OVER_PLAIN = {
    "mlp_digits": 9.0,
    "mlp_mnist": 5.0,
    "mlp_mnist_wide": 2.0,
    "cnn_digits": 2.5,
    "cnn_mnist": 1.5,
}
OVER_JAX = {"mlp_digits": 1.3, "mlp_mnist": 1.3, "mlp_mnist_wide": 1.3}
OF_PEAK = {"mlp_mnist_wide": 0.6}
OVERHEADS = {BASIC: 0.08, WANDB: 0.08, BOTH: 0.12}
WHOLE_COMMAND = 4.0
PER_RUN = 1.1
COMPARED = ("42", "4200")


@dataclass(frozen=True)
class Verdict:
    """A target and what was reached, as numbers and in words."""

    what: str
    target: str
    reached: str
    passed: bool

    @property
    def word(self) -> str:
        """PASS or FAIL."""
        return "PASS" if self.passed else "FAIL"


def ratio(found: Found, name: str, to: str) -> float:
    """The ratio of the medians of two contenders' rates."""
    return median(found[name]) / median(found[to])


def overhead(found: Found, name: str) -> float:
    """The extra time of a contender over bare initstudy, as a fraction of the latter's."""
    return ratio(found, OURS, name) - 1


def fraction_of_peak(found: Found, name: str, member_steps: int, runs: int) -> float:
    """FLOP/s of a contender, evaluations included, as a fraction of those of matrix products."""
    machine = found[MACHINE][0]
    work = machine["flops_of_a_run"] * runs / member_steps
    return median(found[name]) * work / median(found[MACHINE], "peak")


def of_row(task: str, title: str, found: Found, of_peak: float) -> Iterator[Verdict]:
    """The verdicts on one row."""
    for to, targets in ((PLAIN, OVER_PLAIN), (JAX, OVER_JAX)):
        if task in targets:
            yield at_least(f"{title}: over {to}", targets[task], ratio(found, OURS, to))
    if task in OF_PEAK:
        wanted = OF_PEAK[task]
        yield Verdict(
            f"{title}: of the GEMM peak",
            f"at least {wanted:.0%}",
            percent(of_peak),
            of_peak >= wanted,
        )
    for name, most in OVERHEADS.items():
        cost = overhead(found, name)
        what = f"{title}: overhead of {name.removeprefix('initstudy, ')}"
        yield Verdict(what, f"at most {most:.0%}", percent(cost), cost <= most)


def of_whole(found: Found) -> Verdict:
    """The verdict on the whole command."""
    times = median(found[PLAIN], "seconds") / median(found[OURS], "seconds")
    return at_least("The whole command, start-up and report included", WHOLE_COMMAND, times)


def of_scaling(found: Found) -> Verdict:
    """The verdict on the cost of a run among many."""
    few, many = (median(found[count], "per_run") for count in COMPARED)
    return Verdict(
        "A run among 4,200 against one among 42",
        f"at most {PER_RUN:g}×",
        times(many / few),
        many / few <= PER_RUN,
    )


def at_least(what: str, target: float, reached: float) -> Verdict:
    """A verdict on a ratio."""
    return Verdict(what, f"at least {target:g}×", times(reached), reached >= target)


def times(value: float) -> str:
    """A ratio in words; a dash if something was not measured."""
    return f"{value:.2f}×" if math.isfinite(value) else "–"


def percent(value: float) -> str:
    """A fraction in words; a dash if something was not measured."""
    return f"{value:.1%}" if math.isfinite(value) else "–"
