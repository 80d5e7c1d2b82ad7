"""The schema of conf/, what makes a configuration valid, and a run's identity."""

from initstudy.config.run import OF_THE_SWEEP, WITHOUT_EFFECT, Plain, Run, flatten, identity
from initstudy.config.schema import Config, geomspace, register
from initstudy.config.validation import ConfigError, accepted_arguments, make_run

__all__ = [
    "OF_THE_SWEEP", "WITHOUT_EFFECT", "Config", "ConfigError", "Plain", "Run",
    "accepted_arguments", "flatten", "geomspace", "identity", "make_run", "register",
]  # fmt: skip
