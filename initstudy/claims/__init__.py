"""Published statements, and how the results of a study decide them."""

from initstudy.claims.across import (
    BestAcross,
    BetterAt,
    BetterAtBest,
    Narrows,
    StillWorse,
    Trend,
    Within,
)
from initstudy.claims.boundary import Separates, UntrainedBeyond
from initstudy.claims.choices import AtLeast, AtMost, Better
from initstudy.claims.claim import (
    FAIL,
    PASS,
    UNDECIDED,
    Claim,
    Result,
    SignalGrowth,
    WorseThanBest,
    check,
    evaluate,
)
from initstudy.claims.depth import Flatter, TopSaturatesFirst
from initstudy.claims.lengths import LengthFactor, LengthSpread
from initstudy.claims.widths import CoordinateCheck

__all__ = [
    "FAIL",
    "PASS",
    "UNDECIDED",
    "AtLeast",
    "AtMost",
    "BestAcross",
    "Better",
    "BetterAt",
    "BetterAtBest",
    "Claim",
    "CoordinateCheck",
    "Flatter",
    "LengthFactor",
    "LengthSpread",
    "Narrows",
    "Result",
    "Separates",
    "SignalGrowth",
    "StillWorse",
    "TopSaturatesFirst",
    "Trend",
    "UntrainedBeyond",
    "Within",
    "WorseThanBest",
    "check",
    "evaluate",
]
