"""The source of the user's own code that a configuration names, as fingerprints."""

from __future__ import annotations

import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.utils import get_object

TARGET = "_target_"
PACKAGE = Path(__file__).parents[1]
# Code that is installed changes with its version, not under the user's hands. Packages may also lie
# in the folders of another environment, which this one sees.
INSTALLED = tuple({Path(p) for p in sysconfig.get_paths().values()} | {Path(sys.base_prefix)})
FOLDERS = {"site-packages", "dist-packages"}
DIGITS = 12


def code_fingerprints(config: Mapping[str, Any]) -> dict[str, str]:
    """A fingerprint of the source of every target of the user's own, by the target's name.

    It covers the module that defines the target and the user's modules that this one imports. A
    target of an installed package, of Python or of initstudy has none.

    Args:
        config: A run's configuration.
    """
    prints = {target: _fingerprint(target) for target in sorted(set(targets(config)))}
    return {target: digits for target, digits in prints.items() if digits is not None}


def targets(section: Any) -> Iterator[str]:
    """Every `_target_` in a section and below."""
    if isinstance(section, Mapping):
        for key, value in section.items():
            if key == TARGET and isinstance(value, str):
                yield value
            else:
                yield from targets(value)
    elif isinstance(section, list | tuple):
        for value in section:
            yield from targets(value)


@cache
def _fingerprint(target: str) -> str | None:
    if target.startswith("initstudy."):
        return None
    try:
        located = get_object(target)
    except Exception:
        # Claims and the like may name what is absent here; whoever builds it says so.
        return None
    # Not inspect.getmodule, which touches every attribute of every module, deprecated ones too.
    module = sys.modules.get(getattr(located, "__module__", None) or "")
    if module is None or _file(module) is None:
        return _of_text(located)
    files = sorted({str(file) for file in _files(module, set())})
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()[:DIGITS]


def _of_text(located: Any) -> str | None:
    """The fingerprint of what has no file, such as a class that was defined in a notebook."""
    try:
        return hashlib.sha256(inspect.getsource(located).encode()).hexdigest()[:DIGITS]
    except (OSError, TypeError):
        return None


def _files(module: ModuleType, seen: set[str]) -> Iterator[Path]:
    """The files of a module and of all modules of the user's that it uses."""
    file = _file(module)
    if module.__name__ in seen or file is None or not _is_own(file):
        return
    seen.add(module.__name__)
    yield file
    for value in list(vars(module).values()):
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")
        used = sys.modules.get(name) if isinstance(name, str) else None
        if used is not None:
            yield from _files(used, seen)


def _file(module: ModuleType) -> Path | None:
    name = getattr(module, "__file__", None)
    file = Path(name).resolve() if name else None
    return file if file is not None and file.suffix == ".py" and file.is_file() else None


def _is_own(file: Path) -> bool:
    if FOLDERS & set(file.parts):
        return False
    return not any(file.is_relative_to(folder.resolve()) for folder in (*INSTALLED, PACKAGE))
