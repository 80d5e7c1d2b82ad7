"""`initstudy completion bash`: prints the script by which a shell completes `initstudy …`.

The script asks `initstudy completion query LINE` for the words that may stand at the end of a line.
Commands and options are answered here; groups, their choices, keys and values by Hydra.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module

from initstudy.cli.door import COMMANDS, DEFAULT
from initstudy.cli.parser import Parser

BASH = """\
_initstudy() {
    local line="${COMP_LINE:0:COMP_POINT}" word prefix="" candidate
    word="${line##*[[:space:]]}"
    # Bash breaks words at "=" and replaces only what stands behind it.
    [[ $COMP_WORDBREAKS == *=* && $word == *=* ]] && prefix="${word%=*}="
    COMPREPLY=()
    while IFS= read -r candidate; do
        COMPREPLY+=("${candidate#"$prefix"}")
    done < <("${COMP_WORDS[0]}" completion query "$line" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=./] ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o default -F _initstudy initstudy
"""
ZSH = """\
_initstudy() {
    local -a open closed
    local candidate
    for candidate in ${(f)"$(${words[1]} completion query "$LBUFFER" 2>/dev/null)"}; do
        if [[ $candidate == *[=./] ]]; then open+=("$candidate"); else closed+=("$candidate"); fi
    done
    if (( ${#open} + ${#closed} == 0 )); then _files; return; fi
    compadd -Q -S '' -- $open
    compadd -Q -- $closed
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _initstudy initstudy
"""
FISH = """\
complete -c initstudy -a '(initstudy completion query (commandline -cp) 2>/dev/null)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
DESCRIPTION = "Prints the script by which a shell completes commands, options, groups and keys."
EXAMPLES = """\
  eval "$(initstudy completion bash)"          in ~/.bashrc
  eval "$(initstudy completion zsh)"           in ~/.zshrc
  initstudy completion fish | source           in ~/.config/fish/config.fish"""
QUERY = "query"
# The commands whose arguments are overrides of the configuration.
CONFIGURED = ("run", "explain", "audit")


def main(arguments: Sequence[str]) -> int:
    """Prints a script, or the words that may stand at the end of a line; returns 0."""
    if arguments[:1] == [QUERY]:
        for candidate in candidates(arguments[1]):
            print(candidate)
        return 0
    print(SCRIPTS[parser().parse_args(arguments).shell], end="")
    return 0


def parser() -> Parser:
    """The command's parser."""
    parser = Parser("completion", DESCRIPTION, EXAMPLES)
    parser.add_argument("shell", choices=tuple(SCRIPTS), help="the shell to complete in")
    return parser


def candidates(line: str) -> list[str]:
    """The words that may stand in place of the last one of a command line.

    None means that the shell may offer files.

    Args:
        line: The line up to the cursor, from the program's name on.
    """
    _, *words = line.split() + [""] * line[-1:].isspace()
    if not words:
        return []
    *before, word = words
    named = before[0] in COMMANDS if before else False
    command = before.pop(0) if named else DEFAULT
    commands = [] if before or named else [name for name in COMMANDS if name.startswith(word)]
    if word.startswith("-"):
        return [option for option in _options(command) if option.startswith(word)]
    if command == "completion":
        return [shell for shell in SCRIPTS if shell.startswith(word)]
    overrides = _overrides(before, word) if command in CONFIGURED else []
    return [*commands, *overrides]


def _options(command: str) -> list[str]:
    """The options of a command."""
    # What explain is asked about is a command that run would take.
    module = import_module(f"initstudy.cli.{DEFAULT if command == 'explain' else command}")
    return sorted(module.parser()._option_string_actions)


def _overrides(before: Sequence[str], word: str) -> list[str]:
    """What Hydra's own completion offers in place of an override."""
    from hydra._internal.utils import get_args_parser

    from initstudy.cli import hydra_app

    given, _ = get_args_parser().parse_known_args(before)
    folder = ["--config-dir", given.config_dir] if given.config_dir else []
    mode = ["-m"] if given.multirun else []
    answer = io.StringIO()
    # Hydra reads the line from the variable that bash sets for the programs that complete it.
    os.environ["COMP_LINE"] = " ".join(["initstudy", *mode, *given.overrides, word])
    with redirect_stdout(answer):
        hydra_app.call(_nothing, ["-sc", *folder, "query=bash"])
    # The group of sweeps has no default, so that a choice of it is an addition.
    return ["+sweep=" if offer == "sweep=" else offer for offer in answer.getvalue().split()]


def _nothing(cfg: object) -> None:
    """The application that Hydra is asked about, and does not run."""
