"""Policies by name: every name of `conf/init`, with the same meaning and the same defaults."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from initstudy.initializers import distributions, presets, residual, schemes, structured
from initstudy.initializers.base import Initializer
from initstudy.initializers.calibrated import LSUV, Calibrated, WithinLayer
from initstudy.initializers.checks import finite
from initstudy.initializers.multipliers import layer_scale, rezero, skip_init
from initstudy.initializers.mup import MuP
from initstudy.initializers.policy import Fill, ModelPolicy, Policy, as_policy, require_action
from initstudy.initializers.recurrent import Chrono
from initstudy.initializers.selection import WeightSelection
from initstudy.initializers.sines import Siren
from initstudy.initializers.transformer import DeepNorm, Mitchell, TFixup, llama, vit

Made = TypeVar("Made")

# Initializers of weights: `bias` is the value of the biases, and `rest` fills other kinds of layer.
WEIGHTS: dict[str, Callable[..., Initializer]] = {
    "constant": partial(distributions.Constant, value=0.1),
    "zeros": partial(distributions.Constant, value=0.0),
    "ones": partial(distributions.Constant, value=1.0),
    "normal": partial(distributions.Normal, std=0.1),
    "uniform": partial(distributions.Uniform, bound=0.1),
    "truncated_normal": partial(distributions.TruncatedNormal, std=0.1),
    "truncated_normal_between": partial(distributions.TruncatedNormalBetween, std=0.1),
    "sparse": partial(distributions.Sparse, std=0.1),
    "xavier_normal": schemes.XavierNormal,
    "xavier_uniform": schemes.XavierUniform,
    "kaiming_normal": schemes.KaimingNormal,
    "kaiming_uniform": schemes.KaimingUniform,
    "lecun_normal": schemes.LecunNormal,
    "lecun_uniform": schemes.LecunUniform,
    "variance_scaling": partial(
        schemes.VarianceScaling, scale=2.0, distribution="truncated_normal"
    ),
    "heuristic_uniform": partial(
        schemes.VarianceScaling, scale=1 / 3, mode="fan_in", distribution="uniform"
    ),
    "orthogonal": structured.Orthogonal,
    "identity": structured.Identity,
    "dirac": structured.Dirac,
    "delta_orthogonal": structured.DeltaOrthogonal,
    "ZerO": structured.ZerO,
}
# What fills the layers that these are not for.
RESTS: dict[str, Callable[[Initializer], Fill]] = {
    "identity": lambda _: structured.Dirac(),
    "dirac": lambda _: schemes.KaimingNormal("linear"),
    "delta_orthogonal": lambda own: structured.Orthogonal(own.gain),  # type: ignore[attr-defined]
}
# Policies for whole models.
PRESETS: dict[str, Callable[..., Policy | ModelPolicy]] = {
    "own": presets.as_it_is,
    "torch": presets.torch_default,
    "torch_default": presets.torch_default,
    "keras": presets.keras,
    "matlab": presets.matlab,
    "flax": presets.flax,
    "article": presets.article,
    "bert": presets.bert,
    "gpt2": residual.GPT2,
    "fixup": residual.Fixup,
    "zero_residual": residual.ZeroResidual,
    "mup": MuP,
    "mean_field": presets.mean_field,
    "irnn": presets.irnn,
    "unit_forget_gate": presets.unit_forget_gate,
    "dcgan": presets.dcgan,
    "chrono": Chrono,
    "siren": Siren,
    "tfixup": TFixup,
    "deepnorm": DeepNorm,
    "mitchell": Mitchell,
    "llama": llama,
    "vit": vit,
    "rezero": rezero,
    "skip_init": skip_init,
    "layer_scale": layer_scale,
    "weight_selection": WeightSelection,
    "policy": Policy,
}
CALIBRATED: dict[str, Callable[..., Calibrated]] = {"lsuv": LSUV, "within_layer": WithinLayer}


def preset(name: str, **arguments: object) -> Policy | ModelPolicy | Calibrated:
    """A policy by its name, the same one as `init=NAME init.ARGUMENT=VALUE` on the command line.

    Args:
        name: A name of `conf/init`; docs/initializers.md lists them.
        **arguments: The arguments of the initializer or policy, and for an initializer of weights
            `bias`, the value of the biases, and `rest`, the initializer of layers of other kinds.

    Raises:
        ValueError: There is no policy of that name, or an argument is out of range.
        TypeError: There is no argument of that name.

    Example:
        >>> from initstudy.initializers import preset
        >>> preset("normal", std=0.05, bias=0.01).rules[0].initializer
        Normal(std=0.05, mean=0.0)
    """
    if name in WEIGHTS:
        bias, rest = arguments.pop("bias", 0.0), arguments.pop("rest", None)
        initializer = _made(WEIGHTS, name, arguments)
        if rest is None and name in RESTS:
            rest = RESTS[name](initializer)
        return as_policy(initializer, finite("bias", bias, low=-math.inf), _rest(rest))
    if name in PRESETS:
        return _made(PRESETS, name, arguments)
    if name in CALIBRATED:
        return _made(CALIBRATED, name, arguments)
    known = ", ".join((*WEIGHTS, *PRESETS, *CALIBRATED))
    raise ValueError(f"init: there is no preset {name!r}; choose one of {known}")


def _made(
    table: Mapping[str, Callable[..., Made]], name: str, arguments: dict[str, object]
) -> Made:
    try:
        return table[name](**arguments)
    except TypeError as error:
        takes = ", ".join(inspect.signature(table[name]).parameters)
        raise TypeError(f"init={name}: {error}; it takes {takes or 'no arguments'}") from error


def _rest(rest: object) -> Fill | None:
    if rest is not None:
        require_action(rest, keep=False)
    return rest  # type: ignore[return-value]
