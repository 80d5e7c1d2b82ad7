"""Weights & Biases: a mirror of the store's rows, one W&B run a grid point.

All calls to wandb happen on one thread of their own, so that neither its start-up nor a slow server
holds up training, and wandb is imported there, only when it is used. Online, rows are sent as they
come; offline nobody watches, so they wait until their pack is trained and do not compete with it.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from initstudy.ensemble import HISTOGRAM_EDGES

log = logging.getLogger(__name__)

MODES = ("offline", "online", "off")
# As wandb reads WANDB_MODE (https://docs.wandb.ai/models/track/environment-variables).
ENVIRONMENT_MODES = {
    "online": "online",
    "offline": "offline",
    "disabled": "off",
    "dryrun": "offline",
}
# Rows that may wait for wandb before training waits too: bounds memory, not speed.
BACKLOG = 50_000
INIT_TIMEOUT = 20.0
FINISH_TIMEOUT = 20.0
FINISHING_AT_ONCE = 64


@dataclass(frozen=True)
class Settings:
    """Where the mirror goes: "offline" into files, "online" to a server, or "off"."""

    mode: str = "offline"
    project: str = "initstudy"
    entity: str | None = None


def check(settings: Settings) -> Settings:
    """The settings after wandb's own environment variables, which win, checked before training.

    Raises:
        ValueError: The mode is unknown, or it is online and there is no key.
    """
    mode = os.environ.get("WANDB_MODE")
    if mode is not None and mode not in ENVIRONMENT_MODES:
        raise ValueError(f"WANDB_MODE={mode}: choose one of {', '.join(ENVIRONMENT_MODES)}")
    settings = replace(
        settings,
        mode=ENVIRONMENT_MODES[mode] if mode else settings.mode,
        project=os.environ.get("WANDB_PROJECT", settings.project),
        entity=os.environ.get("WANDB_ENTITY", settings.entity),
    )
    if settings.mode not in MODES:
        raise ValueError(f"tracking.mode={settings.mode}: choose one of {', '.join(MODES)}")
    if settings.mode == "online" and not _has_key():
        raise ValueError(
            "tracking.mode=online: no W&B key; run `wandb login`, set WANDB_API_KEY, "
            "or use tracking=offline"
        )
    return settings


def _has_key() -> bool:
    import wandb

    return bool(wandb.api.api_key)


class Tracker:
    """Mirrors the runs of one sweep to W&B. A context manager; leaving it waits for the rest.

    Trouble with wandb never reaches the training: it is one warning in the log, and what could not
    be sent lies in the files that `wandb sync` sends.

    Args:
        settings: As `check` returns them.
        directory: The sweep's; the files go into its folder `wandb`.
        group: The sweep's name.
    """

    def __init__(self, settings: Settings, directory: Path, group: str) -> None:
        self.settings = settings
        self.directory = directory
        self.group = group
        self._calls: queue.Queue[tuple[Any, ...] | None] = queue.Queue(
            BACKLOG if settings.mode == "online" else 0
        )
        self._held: list[tuple[Any, ...]] = []
        self._thread: threading.Thread | None = None
        if settings.mode != "off":
            self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)

    def __enter__(self) -> Tracker:
        if self._thread:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        if self._thread and not interrupted:
            self._release()
            self._calls.put(None)
            self._thread.join()

    def start(self, run: str, config: Mapping[str, Any], name: str) -> None:
        """Opens a W&B run.

        Args:
            run: Its id, so that a rerun continues the same W&B run.
            config: The full configuration.
            name: What people see.
        """
        self._call("start", run, config, name)

    def log(self, run: str, step: int, row: Mapping[str, Any]) -> None:
        """Logs one row; lists are counts between `HISTOGRAM_EDGES`, None is left out."""
        self._call("log", run, step, row)

    def finish(self, run: str, summary: Mapping[str, Any]) -> None:
        """Sets the final values and closes the W&B run."""
        self._call("finish", run, summary)
        self._release()

    def discard(self, runs: Sequence[str]) -> None:
        """Forgets runs that came to nothing, but for the rows that a server has had already."""
        gone = set(runs)
        self._held = [call for call in self._held if call[1] not in gone]
        for run in gone if self.settings.mode == "online" else ():
            self._call("finish", run, {})

    def _call(self, *call: Any) -> None:
        if self._thread and self.settings.mode == "online":
            self._calls.put(call)
        elif self._thread:
            self._held.append(call)

    def _release(self) -> None:
        for call in self._held:
            self._calls.put(call)
        self._held = []

    def _work(self) -> None:
        worker = _Worker(self.settings, self.directory, self.group)
        while (call := self._calls.get()) is not None:
            worker.do(*call)
        worker.close()


class _Worker:
    """The thread's side: knows wandb."""

    def __init__(self, settings: Settings, directory: Path, group: str) -> None:
        self.settings = settings
        self.directory = directory
        self.group = group
        self.runs: dict[str, Any] = {}
        self.trouble: list[str] = []
        self.finishing = ThreadPoolExecutor(FINISHING_AT_ONCE, thread_name_prefix="wandb-finish")
        self.mode = settings.mode

    def do(self, method: str, run: str, *args: Any) -> None:
        if method != "start" and run not in self.runs:
            return
        try:
            getattr(self, f"_{method}")(run, *args)
        except Exception as error:
            # Whatever wandb does, training goes on.
            self.trouble.append(f"{method} of {run}: {error}")

    def close(self) -> None:
        for run in list(self.runs):
            # Open still: the sweep was interrupted.
            self.do("finish", run, {})
        self.finishing.shutdown(wait=True)
        if self.trouble:
            more = f" (and {len(self.trouble) - 1} more)" if len(self.trouble) > 1 else ""
            log.warning(
                "W&B: %s%s; `wandb sync %s/wandb/*run-*` sends what is missing",
                self.trouble[0],
                more,
                self.directory,
            )

    def _start(self, run: str, config: Mapping[str, Any], name: str) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            opened = self._open(run, config, name)
        except Exception as error:
            if self.mode == "offline":
                raise
            # No server at the start: the rest of the sweep goes to files at once.
            self.trouble.append(f"the server does not answer, logging to files instead: {error}")
            self.mode = "offline"
            opened = self._open(run, config, name)
        opened.define_metric("*", step_metric="step")
        for metric, best in (("loss", "min"), ("accuracy", "max")):
            for split in ("train", "test"):
                opened.define_metric(
                    f"{split}/{metric}", step_metric="step", summary=f"last,{best}"
                )
        self.runs[run] = opened

    def _open(self, run: str, config: Mapping[str, Any], name: str) -> Any:
        import wandb

        return wandb.init(
            id=run,
            name=name,
            group=self.group,
            config=dict(config),
            project=self.settings.project,
            entity=self.settings.entity,
            dir=self.directory,
            mode=self.mode,  # type: ignore[arg-type]
            resume="allow" if self.mode == "online" else None,
            reinit="create_new",
            settings=wandb.Settings(
                # Each of these costs time a run, and says the same for all runs of a sweep.
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
                disable_git=True,
                save_code=False,
                console="off",
                silent=True,
                symlink=False,
                init_timeout=INIT_TIMEOUT,
                finish_timeout=FINISH_TIMEOUT,
            ),
        )

    def _log(self, run: str, step: int, row: Mapping[str, Any]) -> None:
        import wandb

        values: dict[str, Any] = {"step": step}
        for key, value in row.items():
            if isinstance(value, list):
                counts, edges = np.asarray(value), np.asarray(HISTOGRAM_EDGES)
                values[key] = wandb.Histogram(np_histogram=(counts, edges))
            elif value is not None:
                values[key] = value
        self.runs[run].log(values)

    def _finish(self, run: str, summary: Mapping[str, Any]) -> None:
        opened = self.runs.pop(run)
        opened.summary.update({key: v for key, v in summary.items() if v is not None})
        # Finishing waits for the upload; runs wait side by side.
        self.finishing.submit(self._end, run, opened)

    def _end(self, run: str, opened: Any) -> None:
        try:
            opened.finish()
        except Exception as error:
            self.trouble.append(f"finish of {run}: {error}")
