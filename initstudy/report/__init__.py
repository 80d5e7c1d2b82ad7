"""From a store to what a person reads: charts and findings. Needs no training and no network."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from initstudy.report.document import FORMATS as FORMATS
    from initstudy.report.document import Report as Report
    from initstudy.report.document import compare_studies as compare_studies
    from initstudy.report.document import write as write

# Drawing takes a third of a second to import, and the command reads the claims before it trains.
LAZY = ("FORMATS", "Report", "compare_studies", "write")


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(import_module("initstudy.report.document"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
