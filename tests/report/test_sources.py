"""The same sweep from its store, from offline W&B files and from a W&B server: the same charts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from initstudy.claims import evaluate_study
from initstudy.report.charts.catalogue import ON_PAGES, charts_of
from initstudy.report.charts.style import NothingToShow
from initstudy.report.data.sources import read
from initstudy.report.data.sources.mirrored import Mirrored, as_store
from initstudy.store import StoreError
from initstudy.store.frames import prepare

SWEEP = [
    "-m",
    "init.std=0.05,0.2,40",
    "seed=0,1",
    "model=mlp,cnn",
    "max_steps=4",
    "data.subset=64",
    "log_every=2",
    "probes=full",
    "probes.every=2",
    "by=init.std",
    "+claims.hurts={_target_: initstudy.claims.WorseThanBest, statement: s, count: 1}",
]


def charts_data(source):
    """Every chart of every facet: its rows, in no order, or why it is absent."""
    study = prepare(read(source))
    found = {}
    for name, draw in {**charts_of(study), **{f"page {k}": v for k, v in ON_PAGES.items()}}.items():
        for facet in sorted(study.facets):
            try:
                spec = draw(study, facet)
            except NothingToShow as reason:
                found[name, facet] = str(reason)
                continue
            rows = [row for part in spec["datasets"].values() for row in json.loads(part)]
            found[name, facet] = sorted(json.dumps(row, sort_keys=True) for row in rows)
    return found, sorted(
        # W&B does not hold when a claim was declared.
        str(replace(result, declared=""))
        for result in evaluate_study(study)
    )


@pytest.mark.slow
def test_store_offline_files_and_server_give_the_same_charts_and_claims(command, server):
    assert command(*SWEEP, "name=here", "tracking=offline")[::2] == (0, "")
    assert command(*SWEEP, "name=there", "tracking=online")[0] == 0
    charts, claims = charts_data("runs/here")
    assert len(charts) == 26
    assert sum(isinstance(rows, list) for rows in charts.values()) >= 24
    for source in ("runs/here/wandb", "wandb:team/initstudy?group=there"):
        theirs, their_claims = charts_data(source)
        assert their_claims == claims
        for key, rows in charts.items():
            assert theirs[key] == rows, (source, key)
    assert len(claims) == 2


def test_what_cannot_be_read_from_a_server_is_one_line(server):
    for address, said in {
        "wandb:team/nothing?group=g": "Could not find project nothing",
        "wandb:team": "write it as wandb:ENTITY/PROJECT",
        "wandb:team/p?grp=1": "write it as wandb:ENTITY/PROJECT",
    }.items():
        with pytest.raises(StoreError, match=said) as error:
            read(address)
        assert "\n" not in str(error.value)
    server.buckets["other"] = {"project": "p", "groupName": "h"}
    with pytest.raises(StoreError, match="no finished run of a study in group 'g'"):
        read("wandb:team/p?group=g")
    server.fault = 403
    with pytest.raises(StoreError, match="Failed to verify credentials"):
        read("wandb:team/p?group=g")


def test_a_folder_without_a_finished_run_is_one_line(tmp_path):
    with pytest.raises(StoreError, match="holds no finished run"):
        read(tmp_path)
    folder = tmp_path / "offline-run-20260101_000000-abc"
    folder.mkdir()
    (folder / "run-abc.wandb").write_bytes(b"garbled")
    with pytest.raises(StoreError, match=r"run-abc\.wandb|none of them a finished run"):
        read(Path(tmp_path))


@pytest.mark.parametrize(
    "claim",
    [
        {"_target_": "os.system", "command": "touch ran"},
        {"_target_": "initstudy.report.page.pdf.write", "page": "a", "out": "ran"},
        {
            "_target_": "initstudy.claims.WorseThanBest",
            "statement": {"_target_": "os.system", "command": "touch ran"},
        },
    ],
    ids=["elsewhere", "no-claim", "nested"],
)
def test_a_claim_from_a_server_runs_no_code_from_elsewhere(claim, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    ours = {"_target_": "initstudy.claims.WorseThanBest", "statement": "s"}
    config = {
        "model": {"_target_": "initstudy.models.MLP"},
        "seed": 0,
        "claims": {"theirs": claim, "ours": ours},
    }
    run = Mirrored("a", "g", config, {"test/accuracy": 0.5}, [{"step": 0}])
    study = as_store([run], "command").study
    assert study["claims"] == {"ours": ours}
    assert "theirs" in caplog.text
    assert not list(tmp_path.iterdir())
