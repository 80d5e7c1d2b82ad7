"""The study harness for neural-network weight initialization.

Importing this package loads nothing else; what a name stands for is imported when it is first used.
Initializers, the audit and the theory need torch, numpy and scipy alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from initstudy import audit as audit
    from initstudy import claims as claims
    from initstudy import initializers as initializers
    from initstudy import models as models
    from initstudy import store as store
    from initstudy import testing as testing
    from initstudy.api.grid import grid as grid
    from initstudy.api.results import results as results
    from initstudy.api.study import study as study
    from initstudy.audit import audit_model as audit_model
    from initstudy.audit.coordinates import coordinate_check as coordinate_check
    from initstudy.audit.critical import critical_scale as critical_scale
    from initstudy.initializers import Fans as Fans
    from initstudy.initializers import compute_fans as compute_fans
    from initstudy.initializers import initialize as initialize
    from initstudy.store.weights import load_weights as load_weights
    from initstudy.tasks import Data as Data
    from initstudy.theory import meanfield as meanfield

__version__ = "0.1.0"

# The module that holds each public name; of a public module, the module itself.
_MODULES = {
    "audit": "initstudy.audit",
    "claims": "initstudy.claims",
    "initializers": "initstudy.initializers",
    "meanfield": "initstudy.theory.meanfield",
    "models": "initstudy.models",
    "store": "initstudy.store",
    "testing": "initstudy.testing",
}
_OBJECTS = {
    "Data": "initstudy.tasks",
    "Fans": "initstudy.initializers",
    "audit_model": "initstudy.audit",
    "coordinate_check": "initstudy.audit.coordinates",
    "critical_scale": "initstudy.audit.critical",
    "compute_fans": "initstudy.initializers",
    "initialize": "initstudy.initializers",
    "grid": "initstudy.api.grid",
    "load_weights": "initstudy.store.weights",
    "results": "initstudy.api.results",
    "study": "initstudy.api.study",
}

__all__ = [
    "Data",
    "Fans",
    "audit",
    "audit_model",
    "claims",
    "compute_fans",
    "coordinate_check",
    "critical_scale",
    "grid",
    "initialize",
    "initializers",
    "load_weights",
    "meanfield",
    "models",
    "results",
    "store",
    "study",
    "testing",
]


# A type checker that saw this function would take every name for a public one, even a misspelt one.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return import_module(_MODULES[name])
        if name in _OBJECTS:
            return getattr(import_module(_OBJECTS[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
