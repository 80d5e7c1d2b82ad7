"""The parser of the commands that Hydra does not parse."""

from __future__ import annotations

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments.

    Args:
        command: The command's name, such as "report".
        description: What the command does.
        epilog: Examples and further explanations, printed as they stand.
    """

    def __init__(self, command: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=f"initstudy {command}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Leaves with code 2."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            message = f"{unknown}: there is no such option"
        self.exit(2, f"initstudy: {message}; see {self.prog} --help\n")
