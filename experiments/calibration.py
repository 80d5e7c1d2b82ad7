"""How often claims err, and what they find: simulated for every class, for docs/claims.md.

python experiments/calibration.py             # minutes; writes the tables of docs/claims.md
python experiments/calibration.py --studies 500 --dry    # seconds; prints them

Each case draws thousands of studies whose truth lies on the border of a claim, where errors are
most frequent, and decides them by the functions that decide claims (`initstudy.claims.statistics`
and the functions of the classes). PASS and REFUTED are each promised to be wrong in at most 2.5% of
studies.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from initstudy.claims import best_across, ranking, trend
from initstudy.claims.looks import LOOKS
from initstudy.claims.statistics import (
    LEVEL,
    best_difference,
    best_few_difference,
    clopper_pearson,
    log_rank,
    mcnemar,
    slope,
    student,
)
from initstudy.runtime import markdown
from initstudy.store.cells import chooses

SEEDS = (3, 5, 8, 12, 20)
STUDIES = 10_000
# What the seeds of a study scatter like.
SCATTERS = ("normal", "heavy tails", "stuck or trained")
# The share of runs that train, and how much those that do scatter, by their distance from the rest.
TRAINS, JITTER = 0.7, 0.02
EFFECTS = (0.8, 1.2, 2.0)
PROMISED = LEVEL / 2
PAGE = Path("docs/claims.md")
BEGIN, END = "<!-- calibration -->", "<!-- end of calibration -->"

Random = np.random.Generator
Verdicts = tuple[np.ndarray, np.ndarray]
Simulation = Callable[[Random, int, int, str, float], Verdicts]


@dataclass(frozen=True)
class Case:
    """A class of claims in one situation.

    Attributes:
        name: The classes that it stands for, and the situation.
        simulate: Draws studies `(rng, studies, seeds, scatter, effect)`; says which of them give
            PASS and which REFUTED. At an effect of zero the truth lies on the claim's border; other
            effects are in standard deviations of what the claim measures in one seed.
        scatters: The distributions that it can have.
        promised: How often each verdict may be wrong.
        powered: Whether effects are defined for it.
    """

    name: str
    simulate: Simulation
    scatters: Sequence[str] = SCATTERS
    promised: float = PROMISED
    powered: bool = True


def noise(rng: Random, shape: tuple[int, ...], scatter: str) -> np.ndarray:
    """What runs reach, with a mean of 0 and a standard deviation of 1."""
    if scatter == "normal":
        return rng.standard_normal(shape)
    if scatter == "heavy tails":
        return rng.standard_t(3, shape) / math.sqrt(3)
    trained = rng.random(shape) < TRAINS
    values = trained - TRAINS + JITTER * rng.standard_normal(shape)
    return values / math.sqrt(TRAINS * (1 - TRAINS) + JITTER**2)


def verdicts(
    low: np.ndarray, high: np.ndarray, region: tuple[float, float] | None = None
) -> Verdicts:
    """Which intervals lie within a region and which outside of it; above zero by default."""
    if region is None:
        return low > 0, high <= 0
    return (low >= region[0]) & (high <= region[1]), (high < region[0]) | (low > region[1])


def better(rng: Random, studies: int, seeds: int, scatter: str, effect: float) -> Verdicts:
    """Two arms paired by seed."""
    a, b = noise(rng, (2, studies, seeds), scatter)
    return verdicts(*student(a - b + effect * math.sqrt(2), LEVEL))


def better_than_three(
    rng: Random, studies: int, seeds: int, scatter: str, effect: float
) -> Verdicts:
    """One arm against each of three: the smallest advantage decides."""
    a = noise(rng, (studies, 1, seeds), scatter)
    b = noise(rng, (studies, 3, seeds), scatter)
    gains = a - b + effect * math.sqrt(2)
    low, _ = student(gains, LEVEL)
    _, high = student(gains, LEVEL / 3)
    return verdicts(low.min(-1), high.min(-1))


def best_of(ours: Sequence[float], theirs: Sequence[float]) -> Simulation:
    """The best of some arms against the best of others, whose true means are given."""

    def simulate(rng: Random, studies: int, seeds: int, scatter: str, effect: float) -> Verdicts:
        first = noise(rng, (studies, len(ours), seeds), scatter) + np.array(ours)[:, None]
        second = noise(rng, (studies, len(theirs), seeds), scatter) + np.array(theirs)[:, None]
        choosing = np.array(chooses(range(seeds)))
        low, high, *_ = best_difference(first + effect * math.sqrt(2), second, choosing, LEVEL)
        return verdicts(low, high)

    return simulate


def worse_than_best(others: Sequence[float], rates: int = 1) -> Simulation:
    """The best three of some values, at the best of some rates each, against three at an end."""

    def simulate(rng: Random, studies: int, seeds: int, scatter: str, effect: float) -> Verdicts:
        first = noise(rng, (studies, len(others), rates, seeds), scatter)
        end = noise(rng, (studies, 3, rates, seeds), scatter)
        second = np.stack(
            [end[:, range(3), list(keys)].mean(1) for keys in product(range(rates), repeat=3)], 1
        )
        shifted = first + np.array(others)[:, None, None] + effect * math.sqrt(2 / 3)
        choosing = np.array(chooses(range(seeds)))
        low, high, *_ = best_few_difference(shifted, second, choosing, LEVEL, 3)
        return verdicts(low, high)

    return simulate


def most_seeds(rng: Random, studies: int, seeds: int, scatter: str, effect: float) -> Verdicts:
    """Whether more than half of the seeds reach a limit that lies at the median."""
    if scatter == "stuck or trained":
        share = 0.5 + effect / 5
        count = rng.binomial(seeds, min(share, 1.0), studies)
    else:
        count = (noise(rng, (studies, seeds), scatter) + effect > 0).sum(-1)
    low, high = clopper_pearson(count, seeds, LEVEL)
    return verdicts(low - 0.5, high - 0.5)


def trains_more_often(
    rng: Random, studies: int, seeds: int, scatter: str, effect: float
) -> Verdicts:
    """Two arms of which each run trains with some probability."""
    shares = min(TRAINS + 0.12 * effect, 1.0), max(TRAINS - 0.12 * effect, 0.0)
    first, second = (rng.random((studies, seeds)) < share for share in shares)
    return verdicts(*mcnemar(first, second, LEVEL))


def sooner(rng: Random, studies: int, seeds: int, scatter: str, effect: float) -> Verdicts:
    """The learning times of two arms; runs that are stuck never learn."""
    times = []
    for shift in (-effect * math.sqrt(2), 0.0):
        kind = "heavy tails" if scatter == "heavy tails" else "normal"
        times.append(np.exp(noise(rng, (studies, seeds), kind) + shift))
        if scatter == "stuck or trained":
            times[-1][rng.random((studies, seeds)) > TRAINS] = np.inf
    horizon = math.exp(1.5)
    learned, also = (t < horizon for t in times)
    early, late = (
        np.concatenate(parts)
        for parts in zip(
            *(
                log_rank(*(part[rows] for part in (*np.minimum(times, horizon), learned, also)))
                for rows in np.array_split(np.arange(studies), max(1, studies // 500))
            ),
            strict=True,
        )
    )
    return early <= LEVEL / 2, late <= LEVEL / 2


def exponents(rng: Random, studies: int, seeds: int, scatter: str, effect: float) -> Verdicts:
    """The growth of learning times over five depths, claimed to be above 0.2."""
    x = np.log([4.0, 8.0, 16.0, 32.0, 64.0])
    kind = "heavy tails" if scatter == "heavy tails" else "normal"
    of_one = 0.3 / math.sqrt(np.square(x - x.mean()).sum())
    logs = 3 + (0.2 + effect * of_one) * x + 0.3 * noise(rng, (studies, seeds, 5), kind)
    times = np.exp(logs)
    horizon = np.inf
    if scatter == "stuck or trained":
        horizon = 1000.0
        times[rng.random(times.shape) > 0.9] = horizon
    low, high = trend._ends(*trend.slopes(x, np.minimum(times, horizon), horizon), LEVEL)
    return verdicts(low, high, (0.2, np.inf))


def equivalent(rng: Random, studies: int, seeds: int, scatter: str, effect: float) -> Verdicts:
    """A number claimed to lie within 1 standard deviation of zero; it lies on that border."""
    gains = noise(rng, (2, studies, seeds), scatter)
    values = (gains[0] - gains[1]) / math.sqrt(2) + 1 - min(effect, 1.0)
    return verdicts(*student(values, LEVEL), (-1.0, 1.0))


def optima(rng: Random, studies: int, seeds: int, scatter: str, effect: float) -> Verdicts:
    """How the best of nine rates moves over four widths, claimed to fall."""
    x = np.log(2.0) * np.arange(-4, 5)
    widths = np.log(2.0) * np.arange(4)
    moved = []
    for width in widths:
        best = -effect * 0.2 * (width - widths.mean())
        merits = -np.square(x - best)[:, None] / 4 + noise(rng, (studies, 9, seeds), scatter) / 2
        moved.append(best_across.vertices(x, merits))
    slopes = slope(widths, np.stack(moved, -1))
    return verdicts(*student(-slopes, LEVEL))


def narrowing(rng: Random, studies: int, seeds: int, scatter: str, effect: float) -> Verdicts:
    """The decades that train at five depths, each value with some probability."""
    values = np.arange(10) / 3
    depths = np.log([2.0, 4.0, 8.0, 16.0, 32.0])
    ranges = []
    for depth in depths:
        width = 1.4 - 0.05 * effect * (depth - depths.mean())
        good = rng.random((studies, seeds, 10)) < 1 / (1 + np.exp(6 * (abs(values - 1.5) - width)))
        if scatter == "stuck or trained":
            good &= rng.random(good.shape) < TRAINS
        low = np.where(good, values, np.inf).min(-1)
        high = np.where(good, values, -np.inf).max(-1)
        ranges.append(np.where(good.any(-1), high - low, 0.0))
    return verdicts(*student(-slope(depths, np.stack(ranges, -1)), LEVEL))


def every_layer(rng: Random, studies: int, seeds: int, scatter: str, effect: float) -> Verdicts:
    """Three layers that have to lie within a tolerance, of which one lies on its border."""
    gains = noise(rng, (2, studies, 3, seeds), scatter)
    values = (gains[0] - gains[1]) / math.sqrt(2)
    values[:, 0] += 1 - min(effect, 1.0)
    inside = np.all(verdicts(*student(values, LEVEL), (-1.0, 1.0))[0], axis=-1)
    worst = abs(values.mean(-1)).argmax(-1)
    furthest = np.take_along_axis(values, worst[:, None, None], 1)[:, 0]
    _, outside = verdicts(*student(furthest, LEVEL / 3), (-1.0, 1.0))
    return inside, outside


def both_signs(rng: Random, studies: int, seeds: int, scatter: str, effect: float) -> Verdicts:
    """Two numbers that have to be above zero, of which both are zero."""
    gains = noise(rng, (2, studies, 2, seeds), scatter)
    values = gains[0] - gains[1] + effect * math.sqrt(2)
    low, _ = student(values, LEVEL)
    _, high = student(values, LEVEL / 2)
    return verdicts(low.min(-1), high.min(-1))


def areas(rng: Random, studies: int, seeds: int, scatter: str, effect: float) -> Verdicts:
    """Two scores of 36 cells, of which training depends on both alike, or on the first the more."""
    first, second = (side.ravel().astype(float) for side in np.meshgrid(range(6), range(6)))
    latent = (1 + effect / 5) * first + (1 - effect / 5) * second - 5
    chance = 1 / (1 + np.exp(latent))
    if scatter == "stuck or trained":
        chance = TRAINS * chance
    trains = rng.random((studies, seeds, 36)) < chance
    found = []
    for score in (first, second):
        wins = (score[:, None] < score) + 0.5 * (score[:, None] == score)
        pairs = trains.sum(-1) * (~trains).sum(-1)
        found.append(((trains @ wins) * ~trains).sum(-1) / np.maximum(pairs, 1))
    return verdicts(*student(found[0] - found[1], LEVEL))


def ranks(rng: Random, studies: int, seeds: int, scatter: str, effect: float) -> Verdicts:
    """Ten choices that are all alike: whether any is said to be better than another."""
    wrong = np.array(
        [
            ranking.holm_pairs(noise(rng, (10, seeds), scatter), LEVEL).any()
            for _ in range(max(200, studies // 5))
        ]
    )
    return wrong, np.zeros_like(wrong)


def report_of_four(rng: Random, studies: int, seeds: int, scatter: str, effect: float) -> Verdicts:
    """Four claims of no effect in one report: whether any verdict is wrong."""
    gains = noise(rng, (2, studies, 4, seeds), scatter)
    low, high = student(gains[0] - gains[1], LEVEL / 4)
    return np.any((low > 0) | (high < 0), axis=-1), np.zeros(studies, dtype=bool)


SAME, PEAK = [0.0] * 9, [-6.0, -6.0, -6.0, -1.5, 0.0, -1.5, -6.0, -6.0, -6.0]
TWO = ("normal", "stuck or trained")
CASES = (
    Case("Better", better),
    Case("Better than each of three", better_than_three),
    Case("WorseThanBest, eleven others all alike", worse_than_best([0.0] * 11)),
    Case("WorseThanBest, three of them the best", worse_than_best([*[-3.0] * 8, *[0.0] * 3])),
    Case("StillWorse, three rates all alike", worse_than_best([0.0] * 5, rates=3)),
    Case("BetterAtBest, nine rates all alike", best_of(SAME, SAME)),
    Case("BetterAtBest, all alike against a peak", best_of(SAME, PEAK)),
    Case("BetterAtBest, a peak against all alike", best_of(PEAK, SAME)),
    Case("AtLeast, AtMost, Within, UntrainedBeyond", most_seeds),
    Case("TrainsMoreOften", trains_more_often, ("stuck or trained",)),
    Case("BetterAt, Better: learning times", sooner),
    Case("Trend", exponents),
    Case("Trend, LengthFactor, EndsAfter: within limits", equivalent),
    Case("BestAcross", optima),
    Case("Narrows", narrowing, TWO),
    Case("CoordinateCheck, three layers", every_layer),
    Case("Flatter, TopSaturatesFirst", better),
    Case("SignalGrowth", both_signs),
    Case("Separates, against depth alone", areas, TWO),
    Case("Four claims of one report, any wrong", report_of_four, promised=LEVEL, powered=False),
    Case("Ranks of ten choices, any wrong", ranks, promised=LEVEL, powered=False),
)


@dataclass(frozen=True)
class Rate:
    """How often a case gave a verdict.

    Attributes:
        case: The case.
        scatter: What the seeds scattered like.
        effect: The effect, of which zero is the border of the claim.
        shares: The share of studies by number of seeds: of the verdict that is wrong more often if
            the effect is zero, else of PASS.
        studies: How many studies there were of each number.
    """

    case: Case
    scatter: str
    effect: float
    shares: tuple[float, ...]
    studies: int

    @property
    def allowed(self) -> float:
        """The promised rate with three standard errors of the simulation."""
        promised = self.case.promised
        return promised + 3 * math.sqrt(promised * (1 - promised) / self.studies)


def rates(case: Case, studies: int, effects: Sequence[float] = (0.0,)) -> Iterator[Rate]:
    """What a case gives at some effects, for each scatter."""
    for scatter, effect in product(case.scatters, effects):
        shares = []
        count = studies
        for seeds in SEEDS:
            name = f"{case.name} {scatter} {effect} {seeds}"
            rng = np.random.default_rng([*name.encode()])
            with np.errstate(all="ignore"):
                passed, refuted = case.simulate(rng, studies, seeds, scatter, effect)
            count = len(passed)
            wrong = max(passed.mean(), refuted.mean())
            shares.append(float(passed.mean() if effect else wrong))
        yield Rate(case, scatter, effect, tuple(shares), count)


@dataclass(frozen=True)
class Looked:
    """What adding seeds until a claim is decided comes to.

    Attributes:
        scatter: What the seeds scattered like.
        effect: The effect in standard deviations of the paired difference.
        wrong: How often PASS if the effect is zero; otherwise how often REFUTED.
        power: How often PASS.
        seeds: How many seeds it took in the mean.
    """

    scatter: str
    effect: float
    wrong: float
    power: float
    seeds: float


def look(studies: int, scatter: str, effect: float) -> Looked:
    """A claim of `Better` at fixed looks with spent error."""
    rng = np.random.default_rng([*f"looks {scatter} {effect}".encode()])
    a, b = noise(rng, (2, studies, LOOKS[-1][0]), scatter)
    values = a - b + effect * math.sqrt(2)
    found = np.zeros(studies)
    taken = np.full(studies, LOOKS[-1][0])
    for seeds, level in LOOKS:
        passed, refuted = verdicts(*student(values[:, :seeds], level))
        new = (found == 0) & (passed | refuted)
        found[new] = np.where(passed, 1, -1)[new]
        taken[new] = seeds
    wrong = found == (-1 if effect else 1)
    return Looked(
        scatter, effect, float(wrong.mean()), float((found == 1).mean()), float(taken.mean())
    )


def page(studies: int) -> tuple[str, list[str]]:
    """The tables as Markdown, and the cases that err more often than promised."""
    errors = [rate for case in CASES for rate in rates(case, studies)]
    powers = [rate for case in CASES if case.powered for rate in rates(case, studies // 5, EFFECTS)]
    looked = [look(studies, s, e) for s in SCATTERS for e in (0.0, *EFFECTS)]
    too_often = [
        f"{rate.case.name}, {rate.scatter}, {seeds} seeds: {share:.1%}"
        for rate in errors
        for seeds, share in zip(SEEDS, rate.shares, strict=True)
        if share > rate.allowed
    ]
    too_often += [
        f"until decided, {one.scatter}: {one.wrong:.1%}"
        for one in looked
        if one.wrong > PROMISED + 3 * math.sqrt(PROMISED * (1 - PROMISED) / studies)
    ]
    heads = [f"{seeds} seeds" for seeds in SEEDS]
    found: dict[tuple[str, str], list[Rate]] = {}
    for rate in powers:
        found.setdefault((rate.case.name, rate.scatter), []).append(rate)
    sizes = ", ".join(f"{effect:g}" for effect in EFFECTS)
    lines = [
        f"`python experiments/calibration.py` writes these tables: {studies:,} studies per number",
        "whose truth lies on the border of the claim. PASS and REFUTED may each be wrong in 2.5%",
        "of them (5% where the table says any); the larger share is shown.",
        "",
        *markdown.table(
            ["wrong verdicts", "seeds scatter like", *heads],
            [[r.case.name, r.scatter, *(f"{s:.1%}" for s in r.shares)] for r in errors],
        ),
        "",
        f"How often PASS is found if it is the truth, in percent, for effects of {sizes}",
        "standard deviations between seeds of what the claim measures (for shares of seeds: of 20",
        "points per deviation from one half, and for McNemar's test of 12 on either side of 70):",
        "",
        *markdown.table(
            ["PASS", "seeds scatter like", *heads],
            [[*key, *(_three(some, n) for n in range(len(SEEDS)))] for key, some in found.items()],
        ),
        "",
        "With `seeds=until_decided`, for `Better`:",
        "",
        *markdown.table(
            ["seeds scatter like", "effect", "wrong", "PASS", "seeds in the mean"],
            [
                [
                    f.scatter,
                    f"{f.effect:g} sd",
                    f"{f.wrong:.1%}",
                    f"{f.power:.1%}",
                    f"{f.seeds:.1f}",
                ]
                for f in looked
            ],
        ),
    ]
    return "\n".join(lines), too_often


def _three(some: Sequence[Rate], number: int) -> str:
    return " ".join(f"{100 * rate.shares[number]:.0f}" for rate in some)


def write(text: str) -> None:
    """Puts the tables into their place in docs/claims.md."""
    whole = PAGE.read_text(encoding="utf-8")
    before, _, rest = whole.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def main() -> int:
    """Prints or writes the tables; returns 1 if anything errs more often than promised."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=STUDIES, help="studies per number")
    parser.add_argument("--dry", action="store_true", help="print the tables, write nothing")
    given = parser.parse_args()
    text, too_often = page(given.studies)
    if given.dry:
        print(text)
    else:
        write(text)
        print(f"wrote {PAGE}")
    for line in too_often:
        print(f"errs more often than promised: {line}")
    return 1 if too_often else 0


if __name__ == "__main__":
    sys.exit(main())
