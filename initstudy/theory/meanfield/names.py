"""Activation functions by name, by module, and as any callable."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from initstudy.quadrature import Array
from initstudy.theory.meanfield.activation import Activation, PiecewiseLinear
from initstudy.theory.meanfield.checks import require_choice, require_number
from initstudy.theory.meanfield.mixtures import Gated, Probit, Softplus, kolmogorov_rule

if TYPE_CHECKING:
    from torch import Tensor

ActivationLike: TypeAlias = "str | Activation | Callable[[Tensor], Tensor]"

ONE = np.ones(1)
SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946)

# SciPy takes a second to import, and the activation functions of most networks do not need it.


def leaky_relu(negative_slope: float = 0.01) -> Activation:
    """X above zero and negative_slope·x below (Maas, Hannun & Ng 2013).

    Args:
        negative_slope: The slope below zero; the default is that of `torch.nn.LeakyReLU`.

    Raises:
        ValueError: The slope is not a finite number.

    Example:
        >>> from initstudy.theory import meanfield
        >>> meanfield.critical_sigma_w2(meanfield.leaky_relu(0.5))
        1.6
    """
    require_number("negative_slope", negative_slope, "a slope", -math.inf)
    return PiecewiseLinear("leaky_relu", float(negative_slope))


def elu(alpha: float = 1.0) -> Activation:
    """X above zero and alpha·(exp(x) - 1) below (Clevert, Unterthiner & Hochreiter 2016).

    Args:
        alpha: Minus the limit for x → -∞.

    Raises:
        ValueError: alpha is not a finite number.

    Example:
        >>> from initstudy.theory import meanfield
        >>> round(meanfield.elu().second_moment(1.0), 6)
        0.644945
    """
    from initstudy.theory.meanfield.smoothed import ExponentialLinear

    require_number("alpha", alpha, "a limit", -math.inf)
    return ExponentialLinear("elu", float(alpha))


def softplus(beta: float = 1.0) -> Activation:
    """log(1 + exp(beta·x))/beta (Dugas et al. 2001).

    Args:
        beta: The sharpness of the bend, above zero.

    Raises:
        ValueError: beta is not a finite number above zero.

    Example:
        >>> import math
        >>> from initstudy.theory import meanfield
        >>> math.isclose(meanfield.softplus().second_moment(0.0), math.log(2) ** 2)
        True
    """
    require_number("beta", beta)
    if beta == 0:
        raise ValueError("meanfield.beta=0: must be above zero")
    return Softplus("softplus", float(beta))


def _tanh() -> Activation:
    # tanh(x) = 2/(1 + exp(-2x)) - 1 = E[2Φ(x/K) - 1].
    k, weights = kolmogorov_rule()
    return Probit("tanh", np.tanh, 1 / k, weights)


def _sigmoid() -> Activation:
    from scipy.special import expit

    k, weights = kolmogorov_rule()
    return Probit("sigmoid", expit, 1 / (2 * k), weights, offset=0.5, height=0.5)


def _swish(name: str) -> Activation:
    from scipy.special import expit

    k, weights = kolmogorov_rule()
    return Gated(name, lambda x: x * expit(x), 1 / (2 * k), weights)


def _erf() -> Activation:
    from scipy.special import erf

    return Probit("erf", erf, math.sqrt(2) * ONE, ONE)


def _gelu() -> Activation:
    from scipy.special import ndtr

    return Gated("gelu", lambda x: x * ndtr(x), ONE, ONE)


def _hard_tanh() -> Activation:
    from initstudy.theory.meanfield.smoothed import HardTanh

    return HardTanh()


def _selu() -> Activation:
    from initstudy.theory.meanfield.smoothed import ExponentialLinear

    return ExponentialLinear("selu", *SELU)


def _mish() -> Activation:
    from initstudy.theory.meanfield.numerical import Numerical

    def slope(x: Array) -> Array:
        gate = np.tanh(np.logaddexp(0, x))
        return gate + x * (1 - gate * gate) * np.exp(-np.logaddexp(0, -x))

    return Numerical("mish", lambda x: x * np.tanh(np.logaddexp(0, x)), slope)


BUILDERS: dict[str, Callable[[], Activation]] = {
    "relu": lambda: PiecewiseLinear("relu", 0.0),
    "tanh": _tanh,
    "erf": _erf,
    "sigmoid": _sigmoid,
    "hard_tanh": _hard_tanh,
    "gelu": _gelu,
    "selu": _selu,
    "swish": lambda: _swish("swish"),
    "silu": lambda: _swish("silu"),
    "elu": elu,
    "mish": _mish,
    "softplus": softplus,
    "linear": lambda: PiecewiseLinear("linear", 1.0),
    "leaky_relu": leaky_relu,
}
KNOWN = tuple(BUILDERS)


def resolve(activation: ActivationLike) -> Activation:
    """The activation function, with its Gaussian expectations.

    A function or module of torch that has a closed form here gets it (such as
    `torch.nn.functional.silu`, or `torch.nn.LeakyReLU(0.2)` with its slope); the expectations of
    any other callable are taken by quadrature.

    Args:
        activation: One of these:

            - a name in `KNOWN`; "gelu" is the exact x·Φ(x), and "leaky_relu" has slope 0.01;
            - an `Activation`, which is returned as it is;
            - a function or module that maps a double tensor elementwise, differentiable by
              autograd.

    Raises:
        ValueError: The name is not known, or the callable is no piecewise smooth elementwise
            function.

    Example:
        >>> import torch
        >>> from initstudy.theory import meanfield
        >>> meanfield.resolve("tanh")
        Probit('tanh')
        >>> relu6 = meanfield.resolve(torch.nn.functional.relu6)
        >>> relu6.marks
        (0.0, 6.0)
    """
    if isinstance(activation, Activation):
        return activation
    if callable(activation):
        # Modules of torch are what they print, so that equal ones share their quadrature.
        own = type(activation).__module__ == "torch.nn.modules.activation"
        return _of_module(repr(activation), activation) if own else _of_function(activation)
    require_choice("activation", activation, KNOWN)
    return _by_name(activation)


@cache
def _by_name(name: str) -> Activation:
    return BUILDERS[name]()


@lru_cache(maxsize=64)
def _of_function(function: Callable[[Tensor], Tensor]) -> Activation:
    name = "linear" if type(function).__name__ == "Identity" else _functions().get(function)
    return _numerical(function) if name is None else _by_name(name)


_modules: dict[str, Activation] = {}


def _of_module(shown: str, module: Callable[[Tensor], Tensor]) -> Activation:
    if shown not in _modules:
        _modules[shown] = _closed_form(module) or _numerical(module)
    return _modules[shown]


def _functions() -> dict[object, str]:
    """The functions of torch that a name stands for, with their default arguments."""
    import torch
    from torch.nn import functional

    tables: dict[str, tuple[object, ...]] = {
        "relu": (torch.relu, functional.relu),
        "tanh": (torch.tanh, functional.tanh),
        "sigmoid": (torch.sigmoid, functional.sigmoid),
        "erf": (torch.erf, torch.special.erf),
        "hard_tanh": (functional.hardtanh,),
        "gelu": (functional.gelu,),
        "selu": (torch.selu, functional.selu),
        "silu": (functional.silu,),
        "elu": (functional.elu,),
        "mish": (functional.mish,),
        "softplus": (functional.softplus,),
        "leaky_relu": (functional.leaky_relu,),
    }
    return {function: name for name, functions in tables.items() for function in functions}


def _closed_form(module: Callable[[Tensor], Tensor]) -> Activation | None:
    """The closed form of a module's function, with the module's own constants."""
    from torch import nn

    match module:
        case nn.LeakyReLU():
            return leaky_relu(module.negative_slope)
        case nn.ELU():
            return elu(module.alpha)
        case nn.Softplus():
            return softplus(module.beta)
        case nn.GELU() if module.approximate != "none":
            return None
        case nn.Hardtanh() if (module.min_val, module.max_val) != (-1, 1):
            return None
    name = MODULES.get(type(module).__name__)
    return None if name is None else _by_name(name)


MODULES = {
    "ReLU": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Hardtanh": "hard_tanh",
    "GELU": "gelu",
    "SELU": "selu",
    "SiLU": "silu",
    "Mish": "mish",
}


def _numerical(function: Callable[[Tensor], Tensor]) -> Activation:
    import torch

    from initstudy.theory.meanfield.numerical import Numerical

    named = getattr(function, "__name__", type(function).__name__)

    def value(x: Array) -> Array:
        with torch.no_grad():
            return _called(function, named, torch.from_numpy(np.ascontiguousarray(x)))

    def slope(x: Array) -> Array:
        leaf = torch.from_numpy(np.ascontiguousarray(x)).requires_grad_()
        with torch.enable_grad():
            total = function(leaf).sum()
        if not total.requires_grad:
            return np.zeros_like(x)
        return torch.autograd.grad(total, leaf)[0].numpy()

    numerical = Numerical(named, value, slope)
    return _homogeneous(numerical) or numerical


def _called(function: Callable[[Tensor], Tensor], name: str, x: Tensor) -> Array:
    import torch

    try:
        y = function(x)
    except Exception as error:
        # A user's function may raise anything.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(
            f"meanfield.activation={name}: does not map a tensor elementwise ({reason})"
        ) from error
    if not isinstance(y, torch.Tensor) or y.shape != x.shape or y.dtype != x.dtype:
        got = (
            f"{y.dtype} of shape {tuple(y.shape)}"
            if isinstance(y, torch.Tensor)
            else type(y).__name__
        )
        raise ValueError(
            f"meanfield.activation={name}: must map a double tensor elementwise to one of the same "
            f"shape; it gives {got} for {tuple(x.shape)}"
        )
    return y.detach().numpy()


def _homogeneous(numerical: Activation) -> Activation | None:
    """The closed form of a function that is a straight line on either side of zero."""
    x = np.array([1e-3, 0.7, 1.0, 30.0, 1e6])
    above, below = numerical.function(x), numerical.function(-x)
    if above[2] == 1 and np.allclose(above, x, rtol=1e-13) and np.allclose(below, x * below[2]):
        return PiecewiseLinear(numerical.name, float(-below[2]))
    return None
