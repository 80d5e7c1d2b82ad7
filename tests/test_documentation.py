"""What the documents promise: commands that compose, code that runs, links that lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from torch import nn

import initstudy
from initstudy.config import register
from initstudy.config.paths import CONF
from tests.synthetic import save, sweep

ROOT = CONF.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("reports/**/*.md")])
# Those that people write; the others are written by commands.
WRITTEN = [file for file in DOCUMENTS if "reports" not in file.parts]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MEGABYTE = 10**6


def ids(file: Path) -> str:
    return str(file.relative_to(ROOT))


def blocks(file: Path, language: str) -> list[str]:
    return [text for name, text in FENCE.findall(file.read_text()) if name == language]


def commands(file: Path) -> list[list[str]]:
    """Every command of the file's shell blocks, as words, without its comment."""
    lines = "\n".join(blocks(file, "sh")).replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in line.split("&&")]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


def test_the_readme_is_short_and_begins_with_its_two_commands():
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 1200
    first = blocks(ROOT / "README.md", "sh")[:2]
    start = "python3 -m venv .venv && .venv/bin/pip install -q"
    assert first == [
        f"{start} . && .venv/bin/python -m initstudy +sweep=std_grid\n",
        f'{start} -e ".[dev]" && .venv/bin/python -m pytest\n',
    ]
    assert text.count("![") == 1


@pytest.mark.parametrize("file", DOCUMENTS, ids=ids)
def test_links_lead_somewhere(file):
    text = file.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        found = (file.parent / path).resolve() if path else file
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


def anchors(file: Path) -> set[str]:
    """The anchors of a file's headings, as code hosts make them."""
    heads = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("file", WRITTEN, ids=ids)
def test_files_that_are_named_exist(file):
    """A path between backticks that begins with a folder of the repository."""
    folders = "conf|docs|experiments|initstudy|tests|hydra_plugins"
    for path in re.findall(rf"`((?:{folders})/[\w./]+)`", file.read_text()):
        assert "NAME" in path or (ROOT / path).exists(), path


@pytest.fixture
def composing(tmp_path, monkeypatch):
    """A function that composes overrides as the command does, without training."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda overrides: compose("config", overrides)


@pytest.mark.parametrize("file", [file for file in DOCUMENTS if commands(file)], ids=ids)
def test_commands_are_what_the_program_takes(file, composing):
    """Modules and scripts exist, and every override is one of the configuration."""
    for words in commands(file):
        if "-m" in words[:2] and words[0].endswith("python"):
            module = words[2]
            if module == "pytest":
                continue
            assert importlib.util.find_spec(module), words
            if module == "initstudy":
                check_overrides(words[3:], composing)
        elif words[0] == "python":
            assert (ROOT / words[1]).exists(), words


def check_overrides(words, composing):
    given = [word for word in words if "=" in word and not word.startswith("--")]
    if any("my_" in word for word in given):
        return  # A file of the reader's own.
    composing([first_value(word) for word in given])


def first_value(word: str) -> str:
    """An override with the first value of its list, which is a sweep."""
    key, _, value = word.partition("=")
    if value.startswith(("[", "{", "'", "${")):
        return word
    if value.startswith(("range(", "tag(")):
        return f"{key}=1"
    if value.startswith("glob("):
        return f"{key}={value[len('glob(') : -2]}_normal"
    return f"{key}={value.split(',')[0]}"


# Tests of their own run the programs of these, with what each of them needs.
ELSEWHERE = ("python.md", "tasks.md", "optimizers.md")
RUNNING = [f for f in WRITTEN if blocks(f, "python") and f.name not in ELSEWHERE]


@pytest.mark.parametrize("file", RUNNING, ids=ids)
def test_python_in_documents_runs(file, tmp_path, monkeypatch):
    """The blocks of a page are one module, in a folder with a finished study."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    if "store.load" in file.read_text():
        save(sweep(), tmp_path / "runs/std_grid")
    text = "\n".join(block for block in blocks(file, "python") if "runs/NAME" not in block)
    # In a file and among the modules, so that Python finds the source of its classes.
    (tmp_path / "page.py").write_text(text)
    page = ModuleType("page")
    page.__file__ = str(tmp_path / "page.py")
    monkeypatch.setitem(sys.modules, "page", page)
    vars(page).update(what_readers_have())
    exec(compile(text, page.__file__, "exec"), vars(page))
    for line in text.splitlines():
        check_shown(line, vars(page))


def what_readers_have() -> dict[str, object]:
    """The names that documents take for granted: a model, a batch, and data for an image model."""
    torch.manual_seed(0)
    layers = {"body": nn.Linear(8, 8), "act": nn.ReLU(), "head": nn.Linear(8, 2)}
    x, y = torch.randn(64, 1, 8, 8), torch.arange(64) % 10
    data = {"x": x, "y": y, "x_test": x, "y_test": y}
    return {"model": nn.Sequential(OrderedDict(layers)), "batch": torch.randn(4, 8), **data}


def check_shown(line, namespace):
    """A comment that shows a value shows the one that the line gives."""
    code, _, shown = line.partition("  # ")
    if shown.startswith("Fans("):
        value = str(eval(code, namespace))
        assert value.startswith(shown.split("…")[0].rstrip(", ")), line
    elif number := re.match(r"-?\d+(\.\d+)?(?=,|$)", shown):
        assert eval(code, namespace) == pytest.approx(float(number[0])), line


def test_claims_that_are_documented_are_all_that_there_are():
    text = (ROOT / "docs/claims.md").read_text()
    listed = set(re.findall(r"`([A-Z]\w+)`", text.split("## The classes")[1].split("## ")[0]))
    from initstudy import claims

    known = {name for name in claims.__all__ if isinstance(getattr(claims, name), type)}
    assert listed == known - {"Claim", "Finding", "Interval", "Region", "Result"}


def test_the_version_is_stated_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == initstudy.__version__
    assert f"## {initstudy.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_a_rate_is_written_with_per():
    """ "A row a run" reads as two rows; one word for a quantity per unit."""
    rate = re.compile(
        r"\b(row|value|line|file|process|member|pack) an? (run|layer|member|step|pack|core|seed)\b"
    )
    folders = ("initstudy", "hydra_plugins", "experiments", "conf", "docs", "tests")
    kinds = (".py", ".yaml", ".md", ".html", ".js")
    files = [f for name in folders for f in (ROOT / name).rglob("*") if f.suffix in kinds]
    found = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in [*files, *ROOT.glob("*.md"), ROOT / "pyproject.toml"]
        if file != Path(__file__)
        for line in file.read_text().splitlines()
        if rate.search(line)
    ]
    assert found == []


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def test_the_repository_is_light():
    """A clone is quick, and a code host shows what is in it."""
    files = tracked()
    assert sum(file.stat().st_size for file in files) < 16 * MEGABYTE
    reports = [file for file in files if file.is_relative_to(ROOT / "reports")]
    assert sum(file.stat().st_size for file in reports) < 12 * MEGABYTE
    assert not [file for file in reports if file.suffix == ".html"]
    assert [file for file in files if file.stat().st_size > 2 * MEGABYTE] == []
