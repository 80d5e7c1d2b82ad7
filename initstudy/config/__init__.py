"""The schema of conf/, what makes a configuration valid, and a run's identity."""

from initstudy.config.errors import ConfigError
from initstudy.config.grid import check_grid, check_sweep
from initstudy.config.run import WITHOUT_EFFECT, Plain, Run, as_columns, flatten, identity, without
from initstudy.config.schema import UNTIL_DECIDED, Config, geomspace, register
from initstudy.config.sources import code_fingerprints
from initstudy.config.swept import Swept
from initstudy.config.validation import accepted_arguments, as_run, make_run, named_arguments

__all__ = [
    "UNTIL_DECIDED",
    "WITHOUT_EFFECT",
    "Config",
    "ConfigError",
    "Plain",
    "Run",
    "Swept",
    "accepted_arguments",
    "as_columns",
    "as_run",
    "check_grid",
    "check_sweep",
    "code_fingerprints",
    "flatten",
    "geomspace",
    "identity",
    "make_run",
    "named_arguments",
    "register",
    "without",
]
