"""What a parameter starts as. Knows torch, nothing of studies."""

from initstudy.initializers.fans import Fans, compute_fans
from initstudy.initializers.gains import gain
from initstudy.initializers.policy import (
    Policy,
    Rule,
    UnfilledParameterError,
    as_policy,
    draw,
    initialize,
)
from initstudy.initializers.presets import article, torch_default
from initstudy.initializers.schemes import (
    Constant,
    Initializer,
    KaimingNormal,
    KaimingUniform,
    LecunNormal,
    LecunUniform,
    Normal,
    Uniform,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
)

__all__ = [
    "Constant",
    "Fans",
    "Initializer",
    "KaimingNormal",
    "KaimingUniform",
    "LecunNormal",
    "LecunUniform",
    "Normal",
    "Policy",
    "Rule",
    "UnfilledParameterError",
    "Uniform",
    "VarianceScaling",
    "XavierNormal",
    "XavierUniform",
    "article",
    "as_policy",
    "compute_fans",
    "draw",
    "gain",
    "initialize",
    "torch_default",
]
