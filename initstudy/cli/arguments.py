"""The arguments of a command that Hydra reads."""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from contextlib import redirect_stderr

from hydra import initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from initstudy.cli.hydra_app import CONFIG
from initstudy.config import ConfigError, Plain, flatten
from initstudy.config.command_line import with_folder
from initstudy.config.errors import unknown_key
from initstudy.config.paths import CONF


def options_first(arguments: Sequence[str]) -> list[str]:
    """The arguments in an order that Hydra's parser takes: options, then all overrides.

    argparse reads overrides in one piece, so that it would not understand
    `seed=0,1 -m init=torch`.
    """
    return sorted(arguments, key=_is_override)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments as Hydra reads them.

    Raises:
        ConfigError: There is no such option.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return get_args_parser().parse_args(arguments)
    except SystemExit as stop:
        reason = said.getvalue().rpartition("error: ")[2].strip()
        raise ConfigError(f"{reason}; see --help") from stop


def is_no_choice(arguments: Sequence[str]) -> ConfigError | None:
    """The error of an argument such as `init=null`, of which Hydra does not say the key."""
    parser = OverridesParser.create()
    for override in parser.parse_overrides(parse(arguments).overrides):
        is_group = (CONF / override.key_or_group).is_dir()
        if is_group and not isinstance(override.value(), str | list):
            return ConfigError(f"{override.input_line}: must be the name of a choice")
    return None


def error_beside_a_grid(arguments: Sequence[str]) -> Exception | None:
    """What else is wrong with arguments of which Hydra says that a list of values needs -m.

    A file of conf/sweep sets the mode of the command. If the configuration cannot be composed,
    say because of a misspelt key, then Hydra knows no mode, and says that the lists need -m.
    """
    args = parse(arguments)
    overrides = with_folder(args.overrides, args.config_dir)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        try:
            cfg = loader.load_configuration(
                args.config_name or CONFIG,
                overrides,
                run_mode=RunMode.MULTIRUN,
                validate_sweep_overrides=False,
            )
        except (HydraException, OmegaConfBaseException) as error:
            return error
        everything: Plain = OmegaConf.to_container(cfg, resolve=False)  # type: ignore[assignment]
        known = [*everything, *flatten(everything)]
        for override in OverridesParser.create(loader).parse_overrides(args.overrides):
            key = override.key_or_group
            is_key = key in known or loader.get_group_options(key) or override.is_add()
            if override.is_sweep_override() and not is_key:
                return unknown_key(key, [k for k in known if not k.startswith("hydra.")])
    return None


def _is_override(word: str) -> bool:
    return word[:1] in ("+", "~") or ("=" in word and not word.startswith("-"))
