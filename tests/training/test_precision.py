"""In which precision a run multiplies: the settings of torch that `precision` makes."""

from __future__ import annotations

import pytest
import torch

from initstudy.config import ConfigError
from initstudy.training.precision import apply, arithmetic, check

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def _as_before():
    """The settings are the process's; they exist without a GPU too."""
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    torch.backends.cudnn.rnn.fp32_precision = "tf32"


def settings():
    cudnn = torch.backends.cudnn
    return (
        torch.backends.cuda.matmul.fp32_precision,
        cudnn.conv.fp32_precision,
        cudnn.rnn.fp32_precision,
    )


def test_tf32_and_highest_set_products_convolutions_and_recurrent_layers():
    apply("tf32", CUDA)
    assert settings() == ("tf32", "tf32", "tf32")
    assert arithmetic("tf32", CUDA) == "tf32"
    apply("highest", CUDA)
    assert settings() == ("ieee", "ieee", "ieee")
    assert arithmetic("highest", CUDA) == "ieee"
    # What autocast leaves in float32 is not rounded either.
    apply("tf32", CUDA)
    apply("bf16", CUDA)
    assert settings() == ("ieee", "ieee", "ieee")
    assert arithmetic("bf16", CUDA) == "bf16"


def test_nothing_is_set_for_a_cpu():
    before = settings()
    for precision in ("highest", "bf16"):
        apply(precision, CPU)
    assert settings() == before
    assert arithmetic("highest", CPU) == "ieee"
    assert arithmetic("bf16", CPU) == "bf16"


def test_a_model_that_uses_either_of_torchs_settings_may_train():
    """Reading the older setting raises once the newer one was written."""
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    with pytest.raises(RuntimeError, match="mix of the legacy and new APIs"):
        torch.get_float32_matmul_precision()
    assert arithmetic("highest", CPU) == "ieee"
    torch.set_float32_matmul_precision("high")
    assert arithmetic("highest", CUDA) == "tf32"


def test_highest_leaves_the_older_setting_readable():
    apply("highest", CUDA)
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_gpu_that_cannot_honour_a_precision_is_named(monkeypatch, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    check("highest", CUDA)
    with pytest.raises(ConfigError, match=f"precision={precision}: Tesla T4 does not have it"):
        check(precision, CUDA)
