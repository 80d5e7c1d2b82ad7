"""The schema of conf/, what makes a configuration valid, and a run's identity."""

from initstudy.config.run import WITHOUT_EFFECT, Plain, Run, as_columns, flatten, identity, without
from initstudy.config.schema import Config, geomspace, register
from initstudy.config.validation import ConfigError, accepted_arguments, as_run, make_run

__all__ = [
    "WITHOUT_EFFECT",
    "Config",
    "ConfigError",
    "Plain",
    "Run",
    "accepted_arguments",
    "as_columns",
    "as_run",
    "flatten",
    "geomspace",
    "identity",
    "make_run",
    "register",
    "without",
]
