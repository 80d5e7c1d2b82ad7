"""Every public function and class has an example in its docstring, and every example runs."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import initstudy
from initstudy import claims, initializers, meanfield, models

PACKAGE = Path(initstudy.__file__).parent
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def modules_with_examples():
    for file in sorted(PACKAGE.rglob("*.py")):
        if ">>> " in file.read_text(encoding="utf-8"):
            parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__")


def public():
    """Every function and class that a public module names, once, but for errors and warnings."""
    seen = set()
    for module in (initstudy, initializers, meanfield, claims, models):
        for name in getattr(module, "__all__", dir(module)):
            value = getattr(module, name)
            is_class = inspect.isclass(value) and not issubclass(value, Exception)
            is_documented = inspect.isfunction(value) or is_class
            is_ours = getattr(value, "__module__", "").startswith("initstudy.")
            if is_documented and is_ours and id(value) not in seen:
                seen.add(id(value))
                yield pytest.param(value, id=f"{module.__name__}.{name}")


@pytest.mark.parametrize("name", list(modules_with_examples()))
def test_the_examples_of_a_module_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS)
    assert tried
    assert not failed


@pytest.mark.parametrize("value", list(public()))
def test_a_public_function_or_class_has_an_example(value):
    tests = doctest.DocTestFinder(recurse=False).find(value, value.__name__)
    assert any(test.examples for test in tests)
