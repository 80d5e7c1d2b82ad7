from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import textwrap

import polars as pl
import pytest

from initstudy import store


def write(path, pack, runs, **extra):
    rows = [{"run": r, "seed": i, "diverged_step": None, **extra} for i, r in enumerate(runs)]
    history = [{"run": r, "step": s, "train/loss": s / 2} for r in runs for s in range(3)]
    store.write_pack(path, pack, rows, history)


def test_what_was_written_is_read_back_with_its_columns_and_kinds_of_nothing(tmp_path):
    store.write_pack(
        tmp_path,
        "p",
        [{"run": "a", "init.std": 0.1, "diverged_step": 3, "diverged_layer": "fc1"}],
        [
            {"run": "a", "step": 0, "train/loss": 1.0, "h": [1, 2]},
            {"run": "a", "step": 3, "train/loss": math.nan},
        ],
    )
    store.write_study(tmp_path, {"name": "x", "claims": {}})
    loaded = store.load(tmp_path)
    assert loaded.runs.row(0, named=True)["diverged_step"] == 3
    assert loaded.history["h"].to_list() == [[1, 2], None]
    assert math.isnan(loaded.history["train/loss"][1])
    assert loaded.history["train/loss"].null_count() == 0
    assert loaded.study == {"name": "x", "claims": {}}


def test_packs_of_different_models_are_one_frame_with_nulls(tmp_path):
    write(tmp_path, "p1", ["a", "b"], depth=3)
    write(tmp_path, "p2", ["c"], channels="[16, 32]")
    frame = store.load(tmp_path).runs.sort("run")
    assert frame["run"].to_list() == ["a", "b", "c"]
    assert frame["depth"].to_list() == [3, 3, None]
    assert store.finished(tmp_path) == {"a", "b", "c"}


def test_files_that_a_kill_left_unfinished_are_not_seen(tmp_path):
    write(tmp_path, "p1", ["a"])
    (tmp_path / "store" / ".p2.runs.parquet.1.partial").write_bytes(b"half")
    # The history of a pack is written before its runs, which make it count.
    write(tmp_path, "p3", ["c"])
    (tmp_path / "store" / "p3.runs.parquet").unlink()
    assert store.finished(tmp_path) == {"a"}
    loaded = store.load(tmp_path)
    assert set(loaded.history["run"]) == {"a"}


def test_a_kill_at_any_moment_leaves_a_readable_store(tmp_path):
    """A process writes packs without end until it is killed, five times over."""
    script = textwrap.dedent("""
        import sys
        from initstudy import store
        number = 0
        while True:
            runs = [f"{sys.argv[2]}-{number}-{i}" for i in range(20)]
            history = [{"run": r, "step": s, "x": 1.0} for r in runs for s in range(50)]
            store.write_pack(sys.argv[1], runs[0], [{"run": r} for r in runs], history)
            print(number, flush=True)
            number += 1
    """)
    promised = 0
    for round_ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), str(round_)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
        )
        assert process.stdout
        for _ in range(3 + 2 * round_):
            process.stdout.readline()
            promised += 1
        process.send_signal(signal.SIGKILL)
        process.stdout.read()
        process.stdout.close()
        process.wait()
        loaded = store.load(tmp_path)
        assert loaded.runs["run"].n_unique() == len(loaded.runs) >= 20 * promised
        rows = loaded.history.group_by("run").len()
        assert set(rows["len"]) == {50}
        assert set(rows["run"]) == set(loaded.runs["run"])


@pytest.mark.parametrize("case", ["absent", "empty", "garbled"])
def test_a_store_that_cannot_be_read_is_one_line(tmp_path, case):
    path = tmp_path / "sweep"
    if case != "absent":
        path.mkdir()
    if case == "garbled":
        write(path, "p1", ["a"])
        (path / "store" / "p1.runs.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(store.StoreError) as refused:
        store.load(path)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(store.StoreError, match="cannot be written"):
        store.ensure_writable(tmp_path / "file" / "sweep")


def test_types_of_a_column_that_one_pack_knows_as_null_are_kept(tmp_path):
    write(tmp_path, "p1", ["a"])
    store.write_pack(tmp_path, "p2", [{"run": "b", "diverged_step": 4}], [{"run": "b", "step": 0}])
    assert store.load(tmp_path).runs["diverged_step"].dtype == pl.Int64
