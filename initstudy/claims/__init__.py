"""The claims that a study can check, and how its results decide them.

A claim is a dataclass with a `statement` in words and a method `check(study, facet)` that returns a
`Finding`. Configurations name them as `_target_`s, and so may any class of a user's own:

    claims:
      large_is_worse:
        _target_: initstudy.claims.WorseThanBest
        statement: A large standard deviation leads to worse test accuracy.

Example:
    >>> Better("He's variance suits ReLU.", better="kaiming_normal", than="xavier_normal").better
    'kaiming_normal'
"""

from initstudy.claims.at_best import BetterAtBest
from initstudy.claims.at_value import BetterAt
from initstudy.claims.band import InBand
from initstudy.claims.best_across import BestAcross
from initstudy.claims.boundary import EndsAfter, Separates, UntrainedBeyond
from initstudy.claims.choices import Better, TrainsMoreOften
from initstudy.claims.coordinate_check import CoordinateCheck
from initstudy.claims.evaluation import Claim, Result, check, evaluate, evaluate_study
from initstudy.claims.finding import PASS, REFUTED, UNDECIDED, VERDICTS, Finding, Region
from initstudy.claims.flatness import Flatter
from initstudy.claims.lengths import LengthFactor, LengthSpread
from initstudy.claims.limits import AtLeast, AtMost, Within
from initstudy.claims.narrowing import Narrows
from initstudy.claims.saturation import TopSaturatesFirst
from initstudy.claims.signal_growth import SignalGrowth
from initstudy.claims.statistics import Interval
from initstudy.claims.synthetic import synthetic_study
from initstudy.claims.trend import Trend
from initstudy.claims.worse_than_best import StillWorse, WorseThanBest

__all__ = [
    "PASS",
    "REFUTED",
    "UNDECIDED",
    "VERDICTS",
    "AtLeast",
    "AtMost",
    "BestAcross",
    "Better",
    "BetterAt",
    "BetterAtBest",
    "Claim",
    "CoordinateCheck",
    "EndsAfter",
    "Finding",
    "Flatter",
    "InBand",
    "Interval",
    "LengthFactor",
    "LengthSpread",
    "Narrows",
    "Region",
    "Result",
    "Separates",
    "SignalGrowth",
    "StillWorse",
    "TopSaturatesFirst",
    "TrainsMoreOften",
    "Trend",
    "UntrainedBeyond",
    "Within",
    "WorseThanBest",
    "check",
    "evaluate",
    "evaluate_study",
    "synthetic_study",
]
