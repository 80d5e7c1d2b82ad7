"""Ctrl-C and SIGTERM, sent to real processes."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from initstudy import store

ROOT = Path(__file__).parent.parent.parent
LONG = ["-m", "seed=0,1", "epochs=100000", "probes=off", "eval_every=100000"]


def begin(folder, *command):
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{folder}", "OMP_NUM_THREADS": "1"},
    )


def stop(process, number):
    """Sends a signal; gives the exit code, the seconds until then, and what was said."""
    begun = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    return process.returncode, time.monotonic() - begun, output


def wait_for(process, text):
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"ended without {text}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_training_ends_it_within_two_seconds_and_says_how_to_continue(
    tmp_path, number, code
):
    process = begin(tmp_path, "-m", "initstudy", *LONG)
    wait_for(process, "training 2 in")
    time.sleep(2)
    left, seconds, output = stop(process, number)
    assert left == code
    assert seconds < 2
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if "stopped by" in line]
    # The study had its name from the clock; to go on with it, the line gives that name.
    found = re.search(r"to continue: (.*)$", line)
    assert found
    python, *again = shlex.split(found[1])
    assert Path(python).name.startswith("python")
    assert again[-1] == f"name={next((tmp_path / 'runs').iterdir()).name}"
    again = [*again, "max_steps=2", "tracking=off", "hydra/launcher=basic", "hydra/sweeper=basic"]
    process = begin(tmp_path, *again)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    (study,) = (tmp_path / "runs").iterdir()
    assert len(store.finished(study)) == 2


def test_a_signal_is_heeded_while_the_command_starts(tmp_path):
    for pause in (0.3, 0.8, 1.5):
        process = begin(tmp_path, "-m", "initstudy", *LONG)
        time.sleep(pause)
        left, seconds, output = stop(process, signal.SIGTERM)
        assert seconds < 2
        # Before Python has run a line of ours the system's own answer stands.
        assert (left, "stopped by SIGTERM" in output) in [(143, True), (-15, False)]
        assert "Traceback" not in output


def test_a_signal_that_a_callback_of_native_code_swallows_is_heeded_afterwards(tmp_path):
    """As numba has while it compiles."""
    script = """
        import ctypes, os, signal
        from initstudy.runtime.signals import heed, stoppable

        @ctypes.CFUNCTYPE(None)
        def callback():
            os.kill(os.getpid(), signal.SIGINT)

        with stoppable():
            heed()
            callback()
            print("went on", flush=True)
            heed()
            print("too far", flush=True)
    """
    process = begin(tmp_path, "-c", textwrap.dedent(script))
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert output.startswith("went on\ninitstudy: stopped by Ctrl-C; ")
    assert "too far" not in output
    assert "Traceback" not in output


def test_a_signal_ends_a_process_deep_in_native_code_or_one_that_waits_for_threads(tmp_path):
    waiting = """
        import threading, time, torch
        from initstudy.runtime.signals import stoppable
        with stoppable():
            print("ready", flush=True)
            {}
    """
    for work in ("torch.randn(9000, 9000) @ torch.randn(9000, 9000)", "stubborn()"):
        script = textwrap.dedent(waiting.format(work))
        stubborn = textwrap.dedent("""
            def stubborn():
                while True:
                    try:
                        threading.Event().wait()
                    except BaseException:
                        pass
        """)
        process = begin(tmp_path, "-c", stubborn + script)
        wait_for(process, "ready")
        left, seconds, output = stop(process, signal.SIGTERM)
        assert (left, seconds < 2) == (143, True), output
        assert "stopped by SIGTERM" in output
