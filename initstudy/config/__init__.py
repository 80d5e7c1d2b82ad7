"""The schema of conf/, what makes a configuration valid, and a run's identity."""

from initstudy.config.run import WITHOUT_EFFECT, Plain, Run, as_columns, flatten, identity
from initstudy.config.schema import Config, geomspace, register
from initstudy.config.validation import ConfigError, accepted_arguments, make_run

__all__ = [
    "WITHOUT_EFFECT", "Config", "ConfigError", "Plain", "Run", "accepted_arguments", "as_columns",
    "flatten", "geomspace", "identity", "make_run", "register",
]  # fmt: skip
