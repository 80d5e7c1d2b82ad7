"""Offline W&B runs, written as wandb's own client writes them, at a tenth of its time.

A run's file is a LevelDB log (https://github.com/google/leveldb/blob/main/doc/log_format.md, with
zlib's CRC and a header of its own) of protocol buffers: `Record` and the messages in it, from
wandb/proto/wandb_internal.proto. Numbers of fields are as there. To open a run in the client costs
forty milliseconds, and a row a fifth of one, on which training would wait.
"""

from __future__ import annotations

import json
import math
import struct
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from initstudy.columns import HISTOGRAM_EDGES
from initstudy.tracking.pending import Mirrored
from initstudy.tracking.settings import Settings

FILE_HEADER = b":W&B\xe1\xbe\x00"
BLOCK, CHUNK_HEADER = 2**15, 7
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4
# The oldest reader that can read what is written here, as the client states it.
MIN_READER = "0.70.0"
EDGES = list(HISTOGRAM_EDGES)
# Metrics of which the summary keeps the best value, by the number of that option.
BEST = {"train/loss": 1, "test/loss": 1, "train/accuracy": 2, "test/accuracy": 2}
KEYS = ("run", "step")


@dataclass(frozen=True)
class Destination:
    """Where runs belong, besides their own ids.

    Attributes:
        settings: Project and entity.
        group: The sweep's name.
        directory: The sweep's; the files go into its folder `wandb`.
    """

    settings: Settings
    group: str
    directory: Path


def write_run(to: Destination, run: Mirrored, history: pl.DataFrame) -> Path:
    """Writes one finished run, and gives its folder.

    Args:
        to: Where it belongs.
        run: Its configuration and final values.
        history: Its rows, in the order of their steps.

    Raises:
        OSError: It cannot be written.
    """
    now = time.time()
    stamp = time.strftime("%Y%m%d_%H%M%S", time.localtime(now))
    folder = to.directory / "wandb" / f"offline-run-{stamp}-{run.run}"
    (folder / "files").mkdir(parents=True, exist_ok=True)
    messages = _messages(to, run, history, now)
    records = (_number(1, place) + message for place, message in enumerate(messages, start=1))
    (folder / f"run-{run.run}.wandb").write_bytes(_log(records))
    return folder


def _messages(to: Destination, run: Mirrored, history: pl.DataFrame, now: float) -> Iterator[bytes]:
    versions = _text(1, version("wandb")) + _text(2, MIN_READER)
    yield _field(21, _field(1, versions))
    yield _field(17, _run(to, run, now))
    options = _field(6, _number(1, 1) + _number(3, 1))
    yield _field(12, _text(2, "*") + _text(4, "step") + options)
    for name, best in BEST.items():
        summary = _field(7, _number(best, 1) + _number(5, 1))
        yield _field(12, _text(1, name) + _text(4, "step") + options + summary)
    rows = _Rows([name for name in history.columns if name not in KEYS], now)
    for values in history.drop("run").iter_rows(named=True):
        yield _field(2, rows.encode(values.pop("step"), values))
    ends = {**rows.last, **{k: v for k, v in run.summary.items() if v is not None}}
    yield _field(3, b"".join(_nested(_text(2, key), value) for key, value in ends.items()))
    yield _field(18, b"")


def _run(to: Destination, run: Mirrored, now: float) -> bytes:
    config = {"_wandb": {}, **run.config}
    items = (
        _field(1, _text(1, key) + _text(16, json.dumps(value, default=str)))
        for key, value in config.items()
    )
    seconds, nanos = divmod(int(now * 1e9), 10**9)
    entity = to.settings.entity
    return b"".join(
        (
            _text(1, run.run),
            _text(2, entity) if entity else b"",
            _text(3, to.settings.project),
            _field(4, b"".join(items)),
            _text(6, to.group),
            _text(8, run.name),
            _field(17, _number(1, seconds) + _number(2, nanos)),
        )
    )


class _Rows:
    """The rows of one run.

    Args:
        names: Of the metrics.
        now: Seconds since the epoch, which all rows have: when they were measured nobody knows.
    """

    def __init__(self, names: Iterable[str], now: float) -> None:
        self.names = {name: _text(2, name) for name in (*names, "step", "_step")}
        self.heads = {name: encoded + VALUE for name, encoded in self.names.items()}
        self.always = _nested(_text(2, "_timestamp"), now) + _nested(_text(2, "_runtime"), 0)
        self.last: dict[str, Any] = {}

    def encode(self, step: int, values: Mapping[str, Any]) -> bytes:
        """A `HistoryRecord` of the values that were measured."""
        measured = {key: value for key, value in values.items() if value is not None}
        measured |= {"step": step, "_step": step}
        self.last |= measured
        parts: list[bytes] = []
        for key, value in measured.items():
            if type(value) is not float or not math.isfinite(value):
                parts.append(_nested(self.names[key], value))
                continue
            # As `_nested` does it, without a call: there are millions of them, all short.
            text, head = repr(value).encode(), self.heads[key]
            parts += (ITEM, _varint(len(head) + 1 + len(text)), head, SHORT[len(text)], text)
        return b"".join((*parts, self.always, _field(2, _number(1, step))))


def _nested(name: bytes, value: Any) -> bytes:
    """An item of a record, or several of a histogram, whose counts are a list."""
    if isinstance(value, list):
        parts = (("_type", "histogram"), ("values", value), ("bins", EDGES))
        return b"".join(
            _field(1, name + _text(2, part) + _text(16, json.dumps(content)))
            for part, content in parts
        )
    return _field(1, name + _text(16, json.dumps(value)))


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes: text or a message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    """A field that is a whole number."""
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    return SHORT[value] if value < len(SHORT) else _long_varint(value)


def _long_varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


SHORT = [_long_varint(value) for value in range(2**11)]
ITEM, VALUE = _varint(1 << 3 | 2), _varint(16 << 3 | 2)


def _log(records: Iterable[bytes]) -> bytes:
    """Records cut into chunks, none of which crosses the border of a block."""
    log = bytearray(FILE_HEADER)
    for record in records:
        begin = 0
        while True:
            room = BLOCK - len(log) % BLOCK
            if room < CHUNK_HEADER:
                log += bytes(room)
                room = BLOCK
            chunk = record[begin : begin + room - CHUNK_HEADER]
            end = begin + len(chunk) == len(record)
            kind = (WHOLE if end else FIRST) if begin == 0 else (LAST if end else MIDDLE)
            crc = zlib.crc32(chunk, zlib.crc32(bytes([kind])))
            log += struct.pack("<IHB", crc, len(chunk), kind) + chunk
            begin += len(chunk)
            if end:
                break
    return bytes(log)
