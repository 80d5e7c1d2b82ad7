"""What a study has trained so far, on disk: results, weights, locks."""

from initstudy.store.errors import StoreError, writing
from initstudy.store.results import (
    Store,
    ensure_writable,
    failures,
    fingerprints,
    finished,
    load,
    packs,
    read_pack,
    read_study,
    set_aside_damaged,
    summaries,
    write_failure,
    write_pack,
    write_study,
)

__all__ = [
    "Store",
    "StoreError",
    "ensure_writable",
    "failures",
    "fingerprints",
    "finished",
    "load",
    "packs",
    "read_pack",
    "read_study",
    "set_aside_damaged",
    "summaries",
    "write_failure",
    "write_pack",
    "write_study",
    "writing",
]
