from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture(autouse=True)
def _quiet_machine(monkeypatch, tmp_path):
    """No W&B setting, key or Hydra variable of the caller reaches a test."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "HYDRA_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small tensors: threads would only wait for one another."""
    torch.set_num_threads(1)
