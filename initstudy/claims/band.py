"""At initialization the layers lie where theory expects those of networks of finite width."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import polars as pl

from initstudy.claims.finding import Finding
from initstudy.claims.limits import HALF, most_seeds
from initstudy.columns import ACTIVATION_RMS, ACTIVATION_SPREAD, ACTIVATION_THEORY
from initstudy.store.frames import Study

# Half of the band's width in standard deviations of the logarithm; 2 hold 95% of networks.
DEVIATIONS = 2.0


@dataclass(frozen=True)
class InBand:
    """At initialization nearly all layers lie in the band that theory gives nets of their width.

    For each seed: the fraction of its runs' layers whose mean square lies in the 95% band of
    `meanfield.forward_band`, which is calculated and not fitted. Then the share of seeds in which
    that fraction is large enough.

    Args:
        statement: What is claimed, in words.
        inside: The fraction of a seed's layers that has to lie in the band.
        share: The share of seeds that more than have to reach that.

    Example:
        >>> from initstudy.claims import InBand, synthetic_study
        >>> def results(std, seed):
        ...     layers = {"fc1": 1.0, "fc2": 1.1, "head": 0.9 + seed / 100}
        ...     return {
        ...         f"activation/{name}/{kind}": value
        ...         for name, rms in layers.items()
        ...         for kind, value in (("rms", rms), ("theory", 1.0), ("theory_spread", 0.05))
        ...     }
        >>> study = synthetic_study({"init.std": [0.1, 0.2]}, results)
        >>> finding = InBand("It lies in the band.").check(study, "MLP")
        >>> finding.verdict, finding.detail.partition(";")[0]
        ('PASS', '100% of 48 layers lie in their 95% band')
    """

    statement: str
    inside: float = 0.9
    share: float = HALF

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        unit = "share of seeds"
        layers = in_band(study, facet)
        if layers.is_empty():
            why = "needs layers that were probed at initialization, and whose spread theory covers"
            return Finding.undecided(unit, why)
        seeds = layers.group_by("seed").agg(pl.col("inside").mean()).sort("seed")
        fractions = dict(seeds.iter_rows())
        # Runs of one seed are draws of one net, scaled: one value of the key shows as much as all.
        arms = frozenset({layers["by"].drop_nulls().min()})
        limits = (self.inside, math.inf)
        what = "the fraction of layers in their band"
        finding = most_seeds(fractions, limits, self.share, what, arms=arms)
        mean = float(layers["inside"].mean())  # type: ignore[arg-type]
        detail = f"{mean:.0%} of {len(layers)} layers lie in their 95% band; {finding.detail}"
        return replace(finding, detail=detail)


def in_band(study: Study, facet: str) -> pl.DataFrame:
    """Every probed layer of every run at initialization, and whether it lies in its band.

    Returns:
        Columns `by`, `seed`, `layer` and `inside`; empty if nothing was probed or theory has no
        spread.
    """
    rows = study.history_of(facet).filter(pl.col("step") == 0)
    frames = []
    for layer in study.layers(facet):
        measured, theory, spread = (
            column.of(layer) for column in (ACTIVATION_RMS, ACTIVATION_THEORY, ACTIVATION_SPREAD)
        )
        if {measured, theory, spread} <= set(rows.columns):
            variance = (pl.col(spread) + 1).log()
            # The mean square is log-normal with the mean that theory gives.
            distance = 2 * (pl.col(measured) / pl.col(theory)).log() + variance / 2
            inside = distance.abs() <= DEVIATIONS * variance.sqrt()
            frames.append(
                rows.drop_nulls([measured, theory, spread]).select(
                    "by", "seed", pl.lit(layer).alias("layer"), inside.alias("inside")
                )
            )
    if not frames:
        return pl.DataFrame(schema={"by": pl.Float64, "seed": pl.Int64, "inside": pl.Boolean})
    return pl.concat(frames)
