"""What a parameter starts as. Knows torch, nothing of studies."""

from initstudy.initializers.base import Initializer
from initstudy.initializers.calibrated import LSUV, Calibrated, Cost, WithinLayer, calibrate
from initstudy.initializers.distributions import (
    Constant,
    Normal,
    Sparse,
    TruncatedNormal,
    TruncatedNormalBetween,
    Uniform,
)
from initstudy.initializers.fans import CONVENTIONS, Fans, compute_fans
from initstudy.initializers.fill import PRESETS, initialize
from initstudy.initializers.gains import gain
from initstudy.initializers.kinds import KINDS, ROLES, WEIGHTED, kind, role
from initstudy.initializers.laws import Law
from initstudy.initializers.mup import MuP, MuPOutput, mup_learning_rates
from initstudy.initializers.policy import (
    ModelPolicy,
    Policy,
    Rule,
    UnfilledParameterError,
    as_policy,
    draw,
    fans_or_one,
    named_parameters,
)
from initstudy.initializers.presets import (
    TorchDefault,
    article,
    bert,
    flax,
    irnn,
    keras,
    matlab,
    mean_field,
    torch_default,
    unit_forget_gate,
)
from initstudy.initializers.residual import GPT2, Fixup, ZeroResidual
from initstudy.initializers.schemes import (
    KaimingNormal,
    KaimingUniform,
    LecunNormal,
    LecunUniform,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
)
from initstudy.initializers.structured import (
    DeltaOrthogonal,
    Dirac,
    Identity,
    Orthogonal,
    UnitForgetGate,
    ZerO,
)

__all__ = [
    "CONVENTIONS",
    "GPT2",
    "KINDS",
    "LSUV",
    "PRESETS",
    "ROLES",
    "WEIGHTED",
    "Calibrated",
    "Constant",
    "Cost",
    "DeltaOrthogonal",
    "Dirac",
    "Fans",
    "Fixup",
    "Identity",
    "Initializer",
    "KaimingNormal",
    "KaimingUniform",
    "Law",
    "LecunNormal",
    "LecunUniform",
    "ModelPolicy",
    "MuP",
    "MuPOutput",
    "Normal",
    "Orthogonal",
    "Policy",
    "Rule",
    "Sparse",
    "TorchDefault",
    "TruncatedNormal",
    "TruncatedNormalBetween",
    "UnfilledParameterError",
    "Uniform",
    "UnitForgetGate",
    "VarianceScaling",
    "WithinLayer",
    "XavierNormal",
    "XavierUniform",
    "ZerO",
    "ZeroResidual",
    "article",
    "as_policy",
    "bert",
    "calibrate",
    "compute_fans",
    "draw",
    "fans_or_one",
    "flax",
    "gain",
    "initialize",
    "irnn",
    "keras",
    "kind",
    "matlab",
    "mean_field",
    "mup_learning_rates",
    "named_parameters",
    "role",
    "torch_default",
    "unit_forget_gate",
]
