from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from initstudy.config import Run
from initstudy.store import StoreError, hydra_files

TEXTS = st.sampled_from(
    ["true", "1e3", "0x1F", "1_000", "null", "~", "", " x", "a: b", "é\n", "- a", "word " * 40,
     "2020-01-01", "off", "'", '"', "#", "%", "@x", "a\tb",]
) | st.text("aZ0.:_-+e \n'\"#é", max_size=8)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc_", min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text("abc_", min_size=1, max_size=4), VALUES, max_size=6))
def test_files_are_what_omegaconf_writes(values):
    assert hydra_files.as_yaml(values) == OmegaConf.to_yaml(OmegaConf.create(values))


def test_values_that_runs_share_are_written_out():
    shared = ["mlp"]
    assert "&id" not in hydra_files.as_yaml({"a": shared, "b": shared})


def test_both_files_of_a_run(tmp_path):
    runs = [Run({"seed": 1}, ("seed=1",), "abc"), Run({"seed": 2}, (), "abd")]
    hydra_files.write(tmp_path, runs)
    written = {
        run.id: [
            (tmp_path / "runs" / run.id / ".hydra" / name).read_text()
            for name in ("config.yaml", "overrides.yaml")
        ]
        for run in runs
    }
    assert written == {"abc": ["seed: 1\n", "- seed=1\n"], "abd": ["seed: 2\n", "[]\n"]}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        hydra_files.write(tmp_path, [Run({"seed": 1}, (), "abc")])
