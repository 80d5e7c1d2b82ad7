"""The commit of the folder of a command, as git itself gives it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from initstudy.report.data.sources import offline
from initstudy.report.page import words
from initstudy.runtime.repository import revision
from initstudy.store import load
from initstudy.store.frames import prepare

SMALL = ["max_steps=2", "data.subset=64", "model.width=8", "probes=off", "eval_every=2"]


def git(*arguments):
    author = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    done = subprocess.run(["git", *author, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    revision.cache_clear()
    git("init", "-q")
    (tmp_path / "mine.py").write_text("x = 1\n")
    git("add", "mine.py")
    yield tmp_path
    revision.cache_clear()


def test_the_commit_and_whether_tracked_files_differ(repository):
    assert revision(repository) is None  # before the first commit
    git("commit", "-qm", "first")
    revision.cache_clear()
    commit = git("rev-parse", "HEAD")
    # A study's own files are not tracked, and make no commit dirty.
    (repository / "runs").mkdir()
    (repository / "runs" / "x").write_text("x")
    assert revision(repository) == {"commit": commit, "dirty": False}
    (repository / "mine.py").write_text("x = 2\n")
    revision.cache_clear()
    assert revision(repository / "runs") == {"commit": commit, "dirty": True}


def test_a_machine_without_git_has_no_commit(repository, monkeypatch):
    git("commit", "-qm", "first")
    monkeypatch.setenv("PATH", "")
    assert revision(repository) is None


def test_store_w_and_b_and_report_name_the_commit(command, repository):
    git("commit", "-qm", "first")
    (repository / "mine.py").write_text("x = 2\n")
    assert command(*SMALL, "name=kept")[0] == 0
    expected = {"commit": git("rev-parse", "HEAD"), "dirty": True}
    assert json.loads(Path("runs/kept/study.json").read_text())["repository"] == expected
    mirrored = offline.read(Path("runs/kept/wandb"))
    assert mirrored.study["repository"] == expected
    for store in (load("runs/kept"), mirrored):
        text = words.paragraph(prepare(store))
        assert f"Code at commit {expected['commit'][:12]} with changes" in text
