"""What the recorder writes down."""

from __future__ import annotations

import math
import struct

import pytest
import torch

from initstudy import store
from initstudy.engine.train import Row, Summary
from initstudy.scheduling.backends.contract import Finished, Started
from initstudy.scheduling.backends.job import Outbox
from initstudy.scheduling.recorder import Recorder
from initstudy.tracking import Settings, Tracker
from initstudy.training.checkpoints import Partway
from tests.scheduling.jobs import single_runs

# As x86 makes it of 0 * inf, as most of torch does, and one with a payload.
NANS = [
    struct.unpack("<d", struct.pack("<Q", bits))[0]
    for bits in (0xFFF8000000000000, 0x7FF8000000000000, 0x7FF80000DEADBEEF)
]


@pytest.mark.parametrize("nan", NANS)
def test_a_nan_is_a_nan_whatever_instruction_has_made_it(tmp_path, nan):
    """The sign and the payload of a NaN are not in the store: a checkpoint does not keep them."""
    contents = []
    (pack,) = single_runs(1)
    for name, value in (("one", nan), ("other", math.nan)):
        directory = tmp_path / name
        tracker = Tracker(Settings(mode="off"), directory, "group")
        recorder = Recorder(directory, torch.device("cpu"), tracker, Outbox(directory, pack.id))
        ended = {"train/loss": value, "diverged_step": 0, "diverged_layer": None}
        for event in (
            Started(Partway()),
            Row(0, 0, {"train/loss": value, "train/accuracy": 0.5}),
            Summary(0, ended),
            Finished(),
        ):
            recorder.record(pack, event)
        files = sorted((directory / "store").glob("*.parquet"))
        contents.append([(file.name, file.read_bytes()) for file in files])
        assert math.isnan(store.load(directory).history["train/loss"][0])
    assert len(contents[0]) == 2
    assert contents[0] == contents[1]
