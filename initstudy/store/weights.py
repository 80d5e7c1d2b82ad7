"""Parameters of a run on disk: safetensors, which any machine reads without executing code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from initstudy.runtime.files import write_atomically

MOMENTS = ("init", "final")


def save_weights(folder: str | Path, moment: str, tensors: Mapping[str, Tensor]) -> Path:
    """Writes FOLDER/MOMENT.safetensors, from any device.

    Raises:
        OSError, SafetensorError: It cannot be written.
    """
    file = Path(folder) / f"{moment}.safetensors"
    here = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(file, lambda partial: save_file(here, partial))
    return file


@torch.no_grad()
def load_weights(run: str | Path, model: nn.Module, *, moment: str = "final") -> nn.Module:
    """Puts a run's parameters and buffers into a model, which keeps its device and type.

    Args:
        run: The run's directory, `runs/NAME/runs/ID`, of a sweep trained with `save_weights`.
        model: Of the run's architecture.
        moment: "init" or "final".

    Returns:
        The same model.

    Raises:
        ValueError: There are no such weights, they are damaged, or they are another model's.
    """
    if moment not in MOMENTS:
        raise ValueError(f"moment={moment}: choose one of {', '.join(MOMENTS)}")
    file = Path(run) / f"{moment}.safetensors"
    if not file.exists():
        raise ValueError(f"{file}: no such file; train with save_weights={moment} or both")
    try:
        found = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file}: cannot be read: {error}") from error
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name in sorted(found.keys() | state.keys()):
        here, there = state.get(name), found.get(name)
        if here is None or there is None:
            where = "model" if there is None else "file"
            raise ValueError(f"{file}: {name} is only in the {where}")
        if here.shape != there.shape:
            shapes = tuple(there.shape), tuple(here.shape)
            raise ValueError(f"{file}: {name} has shape {shapes[0]}, in the model {shapes[1]}")
    for name, value in found.items():
        state[name].copy_(value)
    return model
