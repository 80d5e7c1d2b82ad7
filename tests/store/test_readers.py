"""The files of a store as other programs read them: every one as one table, with no option."""

from __future__ import annotations

import math
import shutil
import struct
from pathlib import Path

import polars as pl
import pytest

from initstudy import store
from initstudy.columns import READING

ROOT = Path(__file__).parent.parent.parent
NAN = 0x7FF8000000000000


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of three packs: one healthy, one diverged, one of both, with whole-number values."""
    path = tmp_path_factory.mktemp("study")
    for pack, stds, lost in (
        ("healthy", [1, 2], []),
        ("diverged", [1e5, 2e5], [0, 1]),
        ("both", [0.5, 3e5], [1]),
    ):
        runs, history = [], []
        for member, std in enumerate(stds):
            run = f"{pack}-{member}"
            diverged = member in lost
            runs.append(
                {
                    "run": run,
                    "init": "normal",
                    "init.std": std,
                    "model.width": 64,
                    "data.subset": None,
                    "optimizer.base_width": 64 if pack == "both" else None,
                    "seed": member,
                    "train/loss": math.nan if diverged else 1,
                    "diverged_step": 20 if diverged else None,
                    "diverged_layer": "fc2" if diverged else None,
                    **({} if diverged else {"theory/sigma_w2": 2.0}),
                }
            )
            for step in (0, 20):
                row = {"run": run, "step": step, "train/loss": 1 if step == 0 else math.nan}
                if not (diverged and step):
                    row |= {
                        "activation/fc1/rms": 1,
                        "activation/fc1/nonfinite": 0.0,
                        "activation/fc1/histogram": [1, 2, 3],
                    }
                if pack == "healthy":
                    row["activation/fc1/theory"] = 0.5
                history.append(row)
        store.write_pack(path, pack, runs, history)
    return path


RUNS = {
    "run": ["both-0", "both-1", "diverged-0", "diverged-1", "healthy-0", "healthy-1"],
    "init.std": [0.5, 3e5, 1e5, 2e5, 1.0, 2.0],
    "diverged_step": [None, 20, 20, 20, None, None],
    "diverged_layer": [None, "fc2", "fc2", "fc2", None, None],
}


def files(study, kind):
    return sorted(str(file) for file in (study / "store").glob(f"*.{kind}.parquet"))


def test_polars_reads_the_files_as_one_table(study):
    runs = pl.read_parquet(study / "store" / "*.runs.parquet").sort("run")
    assert runs.select(*RUNS).to_dict(as_series=False) == RUNS
    history = pl.scan_parquet(study / "store" / "*.history.parquet").collect()
    assert history["activation/fc1/histogram"].drop_nulls().to_list() == [[1, 2, 3]] * 9
    assert history["activation/fc1/theory"].null_count() == 8


def test_pandas_reads_the_files_as_one_table(study):
    import pandas as pd

    runs = pd.read_parquet(files(study, "runs")).sort_values("run")
    assert runs["init.std"].to_list() == RUNS["init.std"]
    assert runs["diverged_step"].dtype.kind == "f"
    assert runs["diverged_step"].isna().tolist() == [v is None for v in RUNS["diverged_step"]]
    history = pd.read_parquet(files(study, "history"))
    assert [v.tolist() for v in history["activation/fc1/histogram"].dropna()] == [[1, 2, 3]] * 9


def test_pyarrow_reads_the_files_as_one_table(study):
    from pyarrow import dataset

    runs = dataset.dataset(files(study, "runs")).to_table().sort_by("run")
    assert runs.select([*RUNS]).to_pydict() == RUNS
    history = dataset.dataset(files(study, "history")).to_table()
    assert history["activation/fc1/histogram"].drop_null().to_pylist() == [[1, 2, 3]] * 9


def test_duckdb_reads_the_files_as_one_table(study):
    import duckdb

    columns = ", ".join(f'"{name}"' for name in RUNS)
    found = duckdb.sql(f"select {columns} from '{study}/store/*.runs.parquet' order by run")
    assert found.fetchall() == list(zip(*RUNS.values(), strict=True))
    counts = duckdb.sql(
        f"""select count("activation/fc1/histogram"), sum("activation/fc1/histogram"[2])
            from '{study}/store/*.history.parquet'"""
    )
    assert counts.fetchall() == [(9, 18)]


def test_all_files_of_a_store_have_one_type_per_column(study):
    """Summaries and histories together: no reader finds a column that has two types."""
    import duckdb
    import pyarrow as pa
    from pyarrow import dataset, parquet

    every = sorted((study / "store").glob("*.parquet"))
    together = pl.concat([pl.read_parquet(file) for file in every], how="diagonal")
    assert len(together) == 6 + 12
    schema = pa.unify_schemas([parquet.read_schema(file) for file in every])
    assert dataset.dataset(every, schema=schema).to_table().num_rows == len(together)
    found = duckdb.sql(
        f"select count(*) from read_parquet('{study}/store/*.parquet', union_by_name=true)"
    )
    assert found.fetchall() == [(len(together),)]


def test_the_documented_ways_to_read_a_study_do(study, tmp_path, monkeypatch):
    shutil.copytree(study, tmp_path / "runs/std_grid")
    monkeypatch.chdir(tmp_path)
    assert READING in (ROOT / "docs/columns.md").read_text()
    lines = [line for line in READING.splitlines() if "(" in line]
    found: dict[str, object] = {}
    exec("\n".join(line for line in READING.splitlines() if "import" in line), found)
    lengths = [len(table) for line in lines if (table := eval(line, found)) is not None]
    assert lengths == [6, 6, 6, 6, 18]


def test_a_column_has_one_type_in_every_file_of_a_trained_study(command):
    grid = ["-m", "init.std=0.1,100000", "seed=0,1", "model.depth=6", "max_steps=25"]
    code, *_ = command(
        *grid, "data.subset=200", "probes=full", "planner.pack_size=2", "tracking=off", "name=grid"
    )
    assert code == 0
    types: dict[str, set] = {}
    for file in Path("runs/grid/store").glob("*.parquet"):
        for name, kind in pl.read_parquet_schema(file).items():
            types.setdefault(name, set()).add(str(kind))
    assert {name: kinds for name, kinds in types.items() if len(kinds) != 1} == {}
    assert not any("Null" in kinds for kinds in types.values())
    for kind in ("runs", "history"):
        table = pl.read_parquet(f"runs/grid/store/*.{kind}.parquet")
        assert table["run"].n_unique() == 4
    # One pack is healthy, the other diverged.
    lost = (
        pl.read_parquet("runs/grid/store/*.runs.parquet").group_by("init.std").agg("diverged_step")
    )
    assert {std: all(s is None for s in steps) for std, steps in lost.iter_rows()} == {
        0.1: True,
        100000.0: False,
    }


def test_nan_is_written_in_one_way_whatever_its_sign(tmp_path):
    values = [
        struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in (NAN, NAN | 1 << 63, NAN | 7)
    ]
    contents = []
    for number, value in enumerate(values):
        path = tmp_path / str(number)
        store.write_pack(
            path, "p", [{"run": "a", "train/loss": value}], [{"run": "a", "step": 0, "x": value}]
        )
        contents.append({f.name: f.read_bytes() for f in (path / "store").iterdir()})
    assert contents[0] == contents[1] == contents[2]
    read = store.load(tmp_path / "1").runs["train/loss"][0]
    assert struct.unpack("<Q", struct.pack("<d", read))[0] == NAN


def test_whole_arguments_are_floats_in_files_and_integers_when_loaded(study):
    assert pl.read_parquet_schema(files(study, "runs")[0])["model.width"] == pl.Float64
    loaded = store.load(study).runs
    assert loaded["model.width"].dtype == pl.Int64
    assert loaded["init.std"].dtype == pl.Float64
    assert loaded["optimizer.base_width"].drop_nulls().to_list() == [64, 64]
    # What no run has is no column.
    assert not {"data.subset", "init/passes", "theory/critical_std"} & set(loaded.columns)


def test_a_store_of_another_version_is_refused_in_one_line(tmp_path, command):
    folder = tmp_path / "runs/old/store"
    folder.mkdir(parents=True)
    pl.DataFrame({"run": ["a"], "diverged_step": [None]}).write_parquet(folder / "p.runs.parquet")
    pl.DataFrame({"run": ["a"], "step": [0]}).write_parquet(folder / "p.history.parquet")
    for ask in (store.load, store.packs, store.finished):
        with pytest.raises(store.StoreError, match="written by another version") as refused:
            ask(folder.parent)
        assert "\n" not in str(refused.value)
    code, _, err = command("max_steps=1", "tracking=off", "name=old")
    assert code == 2
    assert err.splitlines()[-1] == f"initstudy: {refused.value}".replace(f"{tmp_path}/", "")
    # Nothing was set aside, and nothing trained.
    assert {file.name for file in folder.iterdir()} == {"p.runs.parquet", "p.history.parquet"}
