"""How every command says in one line what a user got wrong, whoever found it."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator, Sequence

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    ConfigTypeError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from initstudy.config.errors import ConfigError, unknown_key
from initstudy.config.launchers import instead_of
from initstudy.config.run import Plain, flatten
from initstudy.config.validation import fault_of

USAGE_ERROR = 2
LAUNCHER = "hydra/launcher"
# Launchers that Hydra's plugins bring, if they are installed: https://hydra.cc/docs/intro
PLUGINS = ("joblib", "submitit_local", "submitit_slurm", "ray", "ray_aws", "rq")
# What OmegaConf adds to a message below its first line.
RAISED_IN_RESOLVER = re.compile(r"^ConfigError raised while resolving interpolation: ")
DETAILS = ("full_key:", "object_type=", "reference_type=")


def refuse(error: BaseException, command: str = "initstudy") -> int:
    """Says in one line what a user got wrong; returns the exit code for it."""
    sys.stderr.write(f"{command}: {one_line(error)}\n")
    return USAGE_ERROR


def one_line(error: BaseException) -> str:
    """An error as one line that names the key and the value.

    Hydra wraps what it finds, and what a resolver raises, in errors of its own; the first one in
    the chain of causes that says more than its text is told in initstudy's words.
    """
    for cause in _chain(error):
        if line := _in_our_words(cause):
            return line
    keyed = (c for c in _chain(error) if isinstance(c, OmegaConfBaseException) and c.full_key)
    return _in_its_own_words(next(keyed, error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _in_our_words(error: BaseException) -> str | None:
    match error:
        case ConfigError():
            return str(error)
        case MissingConfigException(missing_cfg_file=str(file)):
            return _no_such_choice(file, error.options or ())
        case OverrideParseException():
            return _unreadable(error)
        case ConfigCompositionException():
            return _cannot_compose(str(error))
        case ConfigAttributeError() | ConfigKeyError() if error.full_key:
            return str(unknown_key(error.full_key, _keys_around(error)))
        case ValidationError() if error.full_key:
            fault = fault_of(error.full_key, error.value)
            return f"{error.full_key}={_as_given(error.value)}: {fault}" if fault else None
        case ConfigTypeError() if error.full_key:
            fault = fault_of(error.full_key, error.value)
            return f"{error.full_key}: {fault}" if fault else None
        case MissingMandatoryValue() if error.full_key:
            return f"{error.full_key}: missing; give it a value"
        case OSError(filename=str(file), strerror=str(reason)):
            return f"{file}: {reason}"
    return None


def _in_its_own_words(error: BaseException) -> str:
    text = RAISED_IN_RESOLVER.sub("", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if text != str(error):
        return lines[0]
    key = getattr(error, "full_key", None) or ""
    message = " ".join(line for line in lines if not line.startswith(DETAILS))
    return f"{key}: {message}" if key and not message.startswith(key) else message


def _no_such_choice(file: str, options: Sequence[str]) -> str:
    group, _, choice = file.rpartition("/")
    if not group:
        return f"--config-name {file}: there is no such configuration"
    if group == LAUNCHER and choice in PLUGINS:
        return instead_of(choice)
    close = difflib.get_close_matches(choice, options, n=1)
    advice = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(options)}"
    return f"{group}={choice}: there is no such choice; {advice}"


def _unreadable(error: OverrideParseException) -> str:
    if "=" not in error.override:
        return f"{error.override}: is neither an option nor KEY=VALUE; see --help"
    # The first line may repeat the override, the last one links to Hydra's grammar.
    reason, link = error.message.splitlines()[-2:]
    return f"{error.override}: cannot be read: {reason}. {link}"


def _cannot_compose(text: str) -> str | None:
    """What Hydra says of overrides that do not fit together; None for a text not known here."""
    if "--multirun" in text:
        override = text.split("'", 1)[1].partition("'\n")[0].partition("' requires")[0]
        key, _, values = override.partition("=")
        listed = f"; to give one list, write {key}=[{values}]" if "," in values else ""
        return f"{override}: several values are a grid, which needs -m (--multirun){listed}"
    if text.startswith("Could not append"):
        override = text.split("remove + prefix: '", 1)[1].partition("'\n")[0]
        return f"+{override}: there is such a key already; leave out the +"
    if "No match in the defaults list" in text:
        choice = text.rpartition("use +")[2].strip()
        return f"{choice}: nothing is chosen there that it could replace; write +{choice}"
    if text.endswith("appears more than once in the final defaults list"):
        group = text.split(" ", 1)[0]
        return f"+{group}: a choice of it is made already; leave out the +"
    if text.startswith("Could not delete from config. '"):
        return f"~{text.split(chr(39))[1]}: there is no such key"
    return None


def _keys_around(error: OmegaConfBaseException) -> list[str]:
    """Every key of the configuration in which one was not found."""
    node = error.parent_node
    while (parent := node._get_parent()) is not None:
        node = parent
    everything: Plain = OmegaConf.to_container(node, resolve=False)  # type: ignore[assignment]
    if not str(error.full_key).startswith("hydra."):
        everything.pop("hydra", None)
    return [*everything, *flatten(everything)]


def _as_given(value: object) -> object:
    return "null" if value is None else value
