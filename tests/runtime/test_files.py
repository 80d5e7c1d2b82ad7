"""Files on disk: whole or not at all, and nothing left lying about."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from initstudy.runtime.files import first_changed, remove_leftovers, sums, write_atomically


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_no_half(tmp_path):
    file = tmp_path / "new" / "folder" / "file"
    write_atomically(file, lambda partial: partial.write_text("old"))

    def breaks(partial: Path) -> None:
        partial.write_text("ha")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        write_atomically(file, breaks)
    assert file.read_text() == "old"
    assert list(file.parent.iterdir()) == [file]


def test_what_the_dead_left_is_removed_and_what_the_living_write_stays(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = socket.gethostname()
    dead = tmp_path / f".a.parquet.{host}.{gone.pid}.partial"
    living = tmp_path / f".a.parquet.{host}.{os.getpid()}.partial"
    elsewhere = tmp_path / f".a.parquet.other.{gone.pid}.partial"
    for file in (dead, living, elsewhere):
        file.write_text("half")
    remove_leftovers([tmp_path, tmp_path / "absent"])
    assert set(tmp_path.iterdir()) == {living, elsewhere}


def test_the_sums_are_those_that_sha256sum_reads_and_see_one_bit(tmp_path):
    contents = {"a": b"x" * 1000, "b": b"y"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    written = tmp_path / "sums"
    written.write_text(sums(contents))
    files = [tmp_path / "a", tmp_path / "b"]
    assert first_changed(written, files) is None
    check = ["sha256sum", "--check", "sums"]
    subprocess.run(check, cwd=tmp_path, check=True, capture_output=True)
    files[0].write_bytes(b"x" * 999 + b"\x79")
    assert first_changed(written, files) == files[0]
    files[0].unlink()
    assert first_changed(written, files) == files[0]
    written.write_text("garbled")
    assert first_changed(written, files) == written
