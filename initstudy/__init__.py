"""The study harness for neural-network weight initialization."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from initstudy.audit import audit as audit
    from initstudy.initializers import Fans as Fans
    from initstudy.initializers import compute_fans as compute_fans
    from initstudy.initializers import initialize as initialize
    from initstudy.store.weights import load_weights as load_weights
    from initstudy.theory import meanfield as meanfield

__version__ = "0.1.0"

# torch takes seconds to import; who only wants the version or the store need not wait for it.
MODULES = {"audit": "audit", "meanfield": "theory.meanfield"}
FUNCTIONS = {
    "Fans": "initializers",
    "compute_fans": "initializers",
    "initialize": "initializers",
    "load_weights": "store.weights",
}


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return import_module(f"initstudy.{MODULES[name]}")
    if name in FUNCTIONS:
        return getattr(import_module(f"initstudy.{FUNCTIONS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
