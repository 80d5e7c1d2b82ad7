"""How runs are cut into packs."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from initstudy.config import Run
from initstudy.scheduling.packing import split
from initstudy.tasks.batches import groups_of


def grid(seeds, points):
    own = {"init": None, "order": None, "split": None}
    configs = {seed: {"seed": seed, "seeds": own} for seed in seeds}
    return [Run(configs[s], id=f"{s}-{point}") for point in range(points) for s in seeds]


@given(
    seeds=st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True),
    points=st.integers(1, 30),
    limit=st.integers(1, 80),
    left_out=st.integers(0, 5),
)
def test_parts_hold_every_run_once_and_differ_by_less_than_one_part(seeds, points, limit, left_out):
    runs = grid(seeds, points)[left_out:]
    parts = split(runs, limit)
    assert Counter(run.id for part in parts for run in part) == Counter(run.id for run in runs)
    lengths = [len(part) for part in parts]
    assert all(0 < n <= limit for n in lengths)
    # No fewer would do, and all but the last are of one size.
    assert len(parts) <= -(-len(runs) // limit)
    assert len(set(lengths[:-1])) <= 1
    for part in parts:
        in_order = [run.config["seed"] for run in part]
        assert in_order == sorted(in_order)


@given(
    seeds=st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True),
    points=st.integers(1, 30),
    each=st.integers(1, 10),
)
def test_a_pack_of_as_many_runs_of_each_seed_draws_each_batch_once(seeds, points, each):
    """What the data set says it shares: one group a seed."""
    parts = split(grid(seeds, points), each * len(seeds))
    size = len(parts[0])
    for part in parts:
        groups = groups_of([run.config["seed"] for run in part])
        if size % len(seeds) == 0:
            assert len(groups) == len(seeds)
        else:
            assert len(groups) <= len(part)


def test_runs_of_one_seed_stay_together_where_a_pack_has_not_all_seeds():
    """12 points of 3 seeds in packs of 4: three packs a seed, and each draws one batch a step."""
    parts = split(grid([0, 1, 2], 12), 4)
    assert [len({run.config["seed"] for run in part}) for part in parts] == [1] * 9
