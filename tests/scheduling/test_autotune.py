"""What is chosen from made-up speeds, and what is remembered of real ones."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from initstudy.runtime.files import cache
from initstudy.scheduling.autotune import NOTICEABLE, SHARE_FOR_MEASURING, Timings, choose, sizes

CPU = torch.device("cpu")
MODEL = {"model": {"_target_": "mine.Net"}, "input": (1, 8, 8), "batch": 32, "optimizer": "sgd"}
COUNTS = st.integers(1, 200)


class Table:
    """Speeds by a formula; each measurement takes some seconds of a clock of its own."""

    def __init__(self, speed, seconds=0.0):
        self.speed = speed
        self.seconds = seconds
        self.now = 0.0
        self.asked = []

    def __call__(self, size, workers):
        self.asked.append((size, workers))
        self.now += self.seconds
        return self.speed(size, workers)

    def choose(self, runs, steps=1_000_000, *, guess=8, most=1000, cores=2, **asked):
        found = choose(
            runs, steps, self, guess=guess, most=most, cores=cores, clock=lambda: self.now, **asked
        )
        return found.pack_size, found.workers


def finish(runs, size, workers, speed):
    """When the last of equal workers is through with its packs, each step by step."""
    free = [0.0] * workers
    for _ in range(-(-runs // size)):
        first = free.index(min(free))
        free[first] += size / (speed(size, workers) / workers)
    return max(free)


def saturating(half, cores=1.0):
    """A pack's overhead pays off with its size; so many workers really train side by side."""
    return lambda size, workers: 1000 * size / (size + half) * min(workers, cores)


@pytest.mark.parametrize("guess", [1, 5, 64])
@pytest.mark.parametrize(
    "speed",
    [
        saturating(4),
        saturating(4, cores=2),
        saturating(0.01),
        # Beyond 10 runs the pack falls out of the cache.
        lambda size, workers: 1000 * min(size, 10) / max(1, size / 10) ** 2,
        # A second worker takes memory bandwidth from the first.
        lambda size, workers: saturating(4)(size, 1) * (1 if workers == 1 else 0.8),
    ],
)
def test_the_plan_that_finishes_first_is_found_from_wherever_it_begins(speed, guess):
    runs = 48
    size, workers = Table(speed).choose(runs, guess=guess)
    ladder = [(s, w) for w in (1, 2) for s in sizes(runs, w, 1000)]
    soonest = min(finish(runs, s, w, speed) for s, w in ladder)
    assert finish(runs, size, workers, speed) <= soonest * NOTICEABLE**2


def test_a_worker_without_work_in_the_last_round_is_counted():
    """Two workers are faster a step, but a third pack would train alone: one pack of all is not."""
    # By hand: one at a time 3 * 1000 / 1000 s; two workers 2 rounds of 2 * 1000 / 1200 s.
    speeds = {1: 1000.0, 2: 1200.0}
    assert Table(lambda size, workers: speeds[workers]).choose(3, pack_size=1) == (1, 1)
    assert Table(lambda size, workers: speeds[workers]).choose(4, pack_size=1) == (1, 2)


@given(
    runs=st.integers(1, 40),
    guess=st.integers(1, 64),
    most=st.integers(1, 64),
    cores=st.integers(1, 4),
    seed=st.integers(0, 2**20),
)
def test_nothing_that_was_measured_is_noticeably_faster_than_the_choice(
    runs, guess, most, cores, seed
):
    """Packs of one among it, which train as a plain loop does."""

    def speed(size, workers):
        return 1.0 + hash((seed, size, workers)) % 1000

    table = Table(speed)
    size, workers = table.choose(runs, guess=guess, most=most, cores=cores)
    assert 1 <= size <= most
    assert 1 <= workers <= max(1, min(cores, runs))
    widest = max(w for _, w in table.asked)
    assert (1, widest) in table.asked

    def seconds(size, workers):
        return -(-runs // (size * workers)) * size / (speed(size, workers) / workers)

    chosen = seconds(size, workers)
    assert chosen <= NOTICEABLE * seconds(1, widest) * (1 + 1e-4)
    assert chosen <= NOTICEABLE**2 * min(seconds(*shape) for shape in table.asked) * (1 + 1e-4)
    assert max(Counter(table.asked).values()) <= 2


def test_what_is_asked_for_is_not_up_to_the_speeds():
    fast_in_ones = Table(lambda size, workers: 1000.0 * workers / size)
    assert fast_in_ones.choose(12, pack_size=6) == (6, 2)
    assert {size for size, _ in fast_in_ones.asked} == {6}
    fast_alone = Table(lambda size, workers: 1000.0 / workers)
    assert fast_alone.choose(12, workers=3)[1] == 3
    assert {workers for _, workers in fast_alone.asked} == {3}
    assert Table(saturating(4)).choose(4, pack_size=100)[0] == 4


def test_memory_limits_packs_and_not_more_workers_than_runs_are_tried():
    large_is_fast = Table(lambda size, workers: 1000.0 * size)
    assert large_is_fast.choose(40, most=7)[0] <= 7
    assert max(size for size, _ in large_is_fast.asked) <= 7
    table = Table(saturating(4))
    table.choose(2, cores=64)
    assert {workers for _, workers in table.asked} <= {1, 2}


def test_a_plan_that_cannot_be_tried_is_neither_chosen_nor_remembered():
    def speed(size, workers):
        return 0.0 if size > 5 else 100.0 * size

    found = choose(16, 1000, speed, guess=16, most=64, cores=1)
    assert 1 <= found.pack_size <= 5
    assert found.rates
    assert all(rate > 0 for rate in found.rates.values())


def test_looking_for_a_better_plan_ends_when_it_costs_too_much_of_the_training():
    """Each larger pack is better, but one measurement takes what all training does."""
    speed = saturating(1000)
    runs, steps = 64, 100
    training = finish(runs, 1, 1, speed) * steps
    dear = Table(speed, seconds=training)
    dear.choose(runs, steps, guess=1, cores=1)
    assert len(dear.asked) == 1
    free = Table(speed)
    free.choose(runs, steps, guess=1, cores=1)
    assert {size for size, _ in free.asked} == set(sizes(runs, 1, 1000))
    several = Table(speed, seconds=training * SHARE_FOR_MEASURING / 3)
    several.choose(runs, steps, guess=1, cores=1)
    assert 1 < len(several.asked) <= 5


def test_where_training_is_short_what_a_pack_costs_besides_counts():
    """Ones are a tenth faster; of forty packs each costs as much as three hundred of its steps."""

    def speed(size, workers):
        return 10_000.0 if size > 1 else 11_000.0

    assert Table(speed).choose(40, steps=100, guess=1, cores=1) != (1, 1)
    assert Table(speed).choose(40, steps=100_000, guess=1, cores=1) == (1, 1)


@pytest.mark.parametrize("disturbed", [(4, 2), (8, 1), (1, 2)])
def test_one_disturbed_trial_does_not_decide_between_the_last_plans(disturbed):
    """Two workers with packs of four are best, and whatever is tried first is held up."""
    speeds = {(4, 2): 1000.0, (8, 1): 700.0, (1, 2): 600.0}
    trials = Counter()

    def speed(size, workers):
        trials[size, workers] += 1
        held_up = (size, workers) == disturbed and trials[disturbed] == 1
        return speeds.get((size, workers), 100.0) / (2 if held_up else 1)

    assert Table(speed).choose(8, guess=8) == (4, 2)


@pytest.mark.parametrize(("gain", "chosen"), [(0.99, 2), (1.01, 1)])
def test_a_gain_within_the_noise_does_not_change_the_plan(gain, chosen):
    def speed(size, workers):
        return 1000.0 * (1 if workers == 2 else NOTICEABLE * gain)

    assert Table(speed).choose(12, pack_size=1) == (1, chosen)


@given(runs=COUNTS, workers=st.integers(1, 8), most=st.integers(1, 64))
def test_pack_sizes_to_try_begin_with_one_and_share_the_runs_evenly(runs, workers, most):
    found = sizes(runs, workers, most)
    assert found == sorted(set(found))
    assert found[0] == 1
    assert found[-1] <= most
    largest = -(-runs // workers)
    assert found[-1] == largest or largest > most
    for size in found[1:]:
        # Not one run less a pack would do in as many rounds.
        rounds = -(-runs // (size * workers))
        assert -(-runs // ((size - 1) * workers)) > rounds


def test_what_was_measured_is_remembered_for_the_same_model_on_the_same_machine(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Timings(MODEL, CPU).recall() == {}
    Timings(MODEL, CPU).remember({"1x8": 10.0})
    Timings(MODEL, CPU).remember({"2x4": 20.5})
    assert Timings(dict(reversed(MODEL.items())), CPU).recall() == {"1x8": 10.0, "2x4": 20.5}
    others = [
        {"model": {"_target_": "mine.Net", "width": 9}},
        {"input": (1, 9, 9)},
        {"batch": 64},
        {"optimizer": "adam"},
    ]
    for other in others:
        assert Timings({**MODEL, **other}, CPU).recall() == {}
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 97)
        assert Timings(MODEL, CPU).recall() == {}
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
        assert Timings(MODEL, torch.device("cuda")).recall() == {}
    assert (tmp_path / "initstudy/planner.json").exists()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache() == tmp_path / "home/.cache/initstudy"


@pytest.mark.parametrize(
    "content",
    ["", "{", "[1, 2]", "null", '{"KEY": 3}', '{"KEY": [1]}', '{"KEY": {"1x8": "fast"}}', "\0"],
)
def test_a_damaged_cache_is_an_empty_one(monkeypatch, tmp_path, content):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    known = Timings(MODEL, CPU)
    known.file.parent.mkdir()
    known.file.write_text(content.replace("KEY", known.key))
    assert known.recall() == {}
    known.remember({"1x8": 10.0})
    assert known.recall() == {"1x8": 10.0}


def test_bytes_that_are_no_text_are_an_empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    known = Timings(MODEL, CPU)
    known.file.parent.mkdir()
    known.file.write_bytes(b"\xff\xfe\x80")
    assert known.recall() == {}


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch, tmp_path):
    """Whoever runs this, root too: where its folder should be there is a file."""
    (tmp_path / "taken").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    known = Timings(MODEL, CPU)
    known.remember({"1x8": 10.0})
    assert known.recall() == {}


def test_other_models_stay_remembered(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, other = Timings(MODEL, CPU), Timings({**MODEL, "batch": 1}, CPU)
    one.remember({"1x8": 10.0})
    other.remember({"1x8": 99.0})
    assert one.recall() == {"1x8": 10.0}
    assert set(json.loads(one.file.read_text())) == {one.key, other.key}
