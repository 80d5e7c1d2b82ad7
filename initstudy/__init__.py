"""The study harness for neural-network weight initialization."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from initstudy.audit import audit as audit

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; who only wants the version or the store need not wait for it.
    if name == "audit":
        import importlib

        return importlib.import_module("initstudy.audit")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
