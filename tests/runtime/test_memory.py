"""How much memory there is to plan with."""

from __future__ import annotations

import pytest

from initstudy.runtime import memory

VERSIONS = {
    "v2": ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    "v1": (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_available_memory_is_no_more_than_the_control_group_leaves(monkeypatch, tmp_path, version):
    """What it holds of files that nobody reads makes way, and is as good as free."""
    assert memory.available() > 0
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    limit, held, stat, makes_way = (name for name in VERSIONS[version])
    (tmp_path / "memory").mkdir()
    unlimited = memory.available()
    assert unlimited > 2**20
    (tmp_path / held).write_text("12345\n")
    (tmp_path / stat).write_text(f"anon 7\n{makes_way} 345\nslab 9\n")
    (tmp_path / limit).write_text("max\n" if version == "v2" else f"{2**63 - 4096}\n")
    assert memory.available() > 2**20
    (tmp_path / limit).write_text(f"{2**20 + 12000}\n")
    assert memory.available() == 2**20
    (tmp_path / held).write_text(f"{2**30}\n")
    assert memory.available() == 0
