from __future__ import annotations

import subprocess
import sys

from initstudy import store
from initstudy.runtime.clock import seconds_running

SMALL = ["data.subset=64", "epochs=1", "tracking=off", "name=a"]


def test_time_counts_from_the_start_of_the_process_and_not_of_the_import():
    importing = "from initstudy.runtime.clock import seconds_running"
    code = f"import time; time.sleep(0.5); {importing}; print(seconds_running())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(said.stdout) > 0.5


def test_a_study_says_how_long_its_parts_took(command):
    assert command(*SMALL)[0] == 0
    seconds = store.read_study("runs/a")["seconds"]
    assert 0 < seconds["to_first_step"] <= seconds_running()
    assert 0 <= seconds["training"] <= seconds_running() - seconds["to_first_step"] + 0.01
    assert command(*SMALL)[0] == 0
    assert store.read_study("runs/a")["seconds"] == seconds
