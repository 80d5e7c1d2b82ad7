"""Claims on any table, when they were declared, and what runs that diverged do to a verdict."""

from __future__ import annotations

from dataclasses import replace

import pandas
import polars as pl
import pytest

from initstudy.claims import (
    AtLeast,
    Better,
    TrainsMoreOften,
    evaluate,
    evaluate_study,
    synthetic_study,
)
from initstudy.claims.declared import declare, said
from initstudy.claims.ranking import rank
from initstudy.columns import ACCURACY, LOSS, Schema
from initstudy.store.fates import fates

CLAIM = {"_target_": "initstudy.claims.Better", "statement": "s", "better": "he", "than": "zeros"}


def accuracies(init, seed):
    return {"test/accuracy": {"he": 0.9, "xavier": 0.9, "zeros": 0.1}[init] + 0.001 * (seed % 3)}


def rows(seeds=8):
    return [
        {"init": init, "seed": seed, **accuracies(init, seed)}
        for init in ("he", "xavier", "zeros")
        for seed in range(seeds)
    ]


@pytest.mark.parametrize("frame", [list, pl.DataFrame, pandas.DataFrame])
def test_a_plain_table_is_judged_like_a_study(frame):
    study = synthetic_study({"init": ["he", "xavier", "zeros"]}, accuracies)
    stored = evaluate_study(replace(study, about={"claims": {"a": CLAIM}}))
    found = evaluate(frame(rows()), by="init", claims={"a": CLAIM})
    assert [r.as_row() | {"facet": "MLP"} for r in found] == [r.as_row() for r in stored]
    objects = evaluate(frame(rows()), by="init", claims={"a": Better("s", "he", "zeros")})
    assert objects[0].finding == found[0].finding


def test_a_table_that_lacks_a_column_is_refused():
    with pytest.raises(ValueError, match="runs: has no column seed; it has init"):
        evaluate([{"init": "he"}], by="init", claims={"a": CLAIM})


def test_a_history_decides_what_happens_on_the_way():
    table = [{"run": f"{i}{s}", "init": i, "seed": s} for i in ("he", "zeros") for s in range(8)]
    steps = [
        {"run": row["run"], "step": 0, **dict.fromkeys(names, 1.0)}
        | ({"activation/fc2/std": 0.5 + 0.01 * row["seed"]} if row["init"] == "zeros" else {})
        for names in [[f"activation/fc{n}/{k}" for n in (1, 2, 3) for k in ("rms", "std")]]
        for row in table
    ]
    claim = {"_target_": "initstudy.claims.Flatter", "statement": "s"}
    claims = {"a": claim | {"flatter": "he", "than": "zeros"}}
    (result,) = evaluate(table, steps, by="init", claims=claims, objective="train/loss")
    assert result.finding.verdict == "PASS"


def test_a_claim_that_was_added_or_changed_later_is_marked():
    record = declare({}, {"first": CLAIM}, finished=0)
    later = {"first": CLAIM, "second": CLAIM | {"than": "xavier"}}
    record = declare(record, later, finished=12)
    changed = {**later, "first": CLAIM | {"better": "xavier"}}
    about = {"declared": record, "claims": later}
    assert said(about, "first", CLAIM) == "before any run"
    assert said(about, "second", later["second"]) == "added after 12 runs"
    assert said(about, "first", changed["first"]) == "changed since it was declared"
    about = {"declared": declare(record, changed, finished=20)}
    assert said(about, "first", changed["first"]) == "changed after 20 runs"
    study = synthetic_study({"init": ["he", "xavier", "zeros"]}, accuracies)
    results = evaluate_study(replace(study, about={"declared": record, "claims": later}))
    assert [r.declared for r in results] == ["before any run", "added after 12 runs"]


def test_runs_that_diverged_count_as_chance_are_left_out_and_ranked_last():
    """One of eight diverged: as chance it hides an advantage that all the others have."""

    def results(init, seed):
        return {"test/accuracy": 0.9 + 0.01 * (init == "he") + 0.001 * seed * (init == "zeros")}

    study = synthetic_study({"init": ["he", "zeros"]}, results)
    lost = (pl.col("init") == "he") & (pl.col("seed") == 3)
    metrics = [
        {"name": "accuracy", "meaning": "", "unit": "", "better": "higher"}
        | {"fraction": True, "chance": 0.1}
    ]
    broken = replace(
        study,
        runs=study.runs.with_columns(diverged=lost),
        about={"claims": {"a": CLAIM}, "metrics": metrics, "objective": "test/accuracy"},
    )
    (result,) = evaluate_study(broken)
    assert result.finding.verdict == "UNDECIDED"
    assert result.without_diverged == "PASS"
    assert result.worst_rank == "UNDECIDED"
    assert broken.stand_in("test/accuracy") == 0.1
    shown = broken.runs.select(broken.value("test/accuracy")).to_series().to_list()
    assert shown.count(0.1) == 1
    (whole,) = evaluate_study(replace(broken, runs=study.runs))
    assert (whole.without_diverged, whole.worst_rank) == ("", "")


def test_shares_decide_whatever_the_values_are():
    """A mean of 0.83 with one seed at chance: that most seeds train is certain, that all do not."""

    def results(init, seed):
        return {"test/accuracy": 0.1 if init == "zeros" or seed == 5 else 0.93}

    study = synthetic_study({"init": ["he", "zeros"]}, results, seeds=9)
    assert AtLeast("s", "he", 0.9).check(study, "MLP").verdict == "PASS"
    assert AtLeast("s", "he", 0.9, share=0.95).check(study, "MLP").verdict == "UNDECIDED"
    assert TrainsMoreOften("s", "he", "zeros", 0.5).check(study, "MLP").verdict == "PASS"
    assert TrainsMoreOften("s", "zeros", "he", 0.5).check(study, "MLP").verdict == "REFUTED"


def test_a_ranking_marks_ties_and_names_what_is_the_same():
    study = synthetic_study({"init": ["he", "xavier", "zeros"]}, accuracies)
    found = rank(study, "MLP")
    assert [found.shown(choice) for choice in found.choices] == ["1–2", "1–2", "3"]
    assert found.twins_of("he") == ["xavier"]
    assert found.twins_of("zeros") == []
    for low, high in found.intervals.values():
        assert 0 <= low < high <= 1


def test_the_fate_of_a_run_is_what_its_probes_saw():
    layers = {"activation/fc1/rms": 1.0, "activation/fc2/rms": 1.0, "activation/head/rms": 1.0}
    layers |= {"gradient/fc1/rms": 1.0, "gradient/head/rms": 1.0}
    dead = {"activation/fc1/dead": 0.0, "activation/fc2/dead": 1.0}
    cases = {
        "trained": ((0.9, 0.9), layers),
        "memorized": ((1.0, 0.2), layers),
        "plateau": ((0.1, 0.1), layers),
        "not trained": ((0.1, 0.1), {}),
        "dead units": ((0.1, 0.1), layers | dead),
        "vanished signal": ((0.1, 0.1), layers | {"activation/fc2/rms": 1e-5}),
        "saturated signal": ((0.1, 0.1), layers | {"activation/fc1/saturated": 0.99}),
        "diverged": ((0.9, 0.9), layers),
    }
    runs = pl.DataFrame(
        {
            "run": list(cases),
            "train/accuracy": [accuracy for (accuracy, _), _ in cases.values()],
            "test/accuracy": [accuracy for (_, accuracy), _ in cases.values()],
            "diverged_step": [7 if name == "diverged" else None for name in cases],
        }
    )
    steps = [{"run": name, "step": 0, **seen} for name, (_, seen) in cases.items()]
    history = pl.DataFrame(steps, infer_schema_length=None)
    schema = Schema((replace(LOSS), replace(ACCURACY, chance=0.1)))
    found = dict(fates(runs, history, schema).iter_rows())
    assert found == {name: name for name in cases}
    # A net whose gradient fades on its way back learns as little.
    back = steps[2] | {"gradient/fc1/rms": 1e-6}
    faded = pl.DataFrame([*steps[:2], back, *steps[3:]], infer_schema_length=None)
    assert dict(fates(runs, faded, schema).iter_rows())["plateau"] == "vanished signal"
