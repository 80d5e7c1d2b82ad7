"""Parameters of a run on disk: safetensors, which any machine reads without executing code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from initstudy.runtime.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor, nn

MOMENTS = ("init", "final")


def save_weights(folder: str | Path, moment: str, tensors: Mapping[str, Tensor]) -> Path:
    """Writes FOLDER/MOMENT.safetensors.

    Args:
        folder: The run's directory.
        moment: "init" or "final".
        tensors: The parameters and buffers by name, on any device.

    Raises:
        OSError, SafetensorError: It cannot be written.
    """
    from safetensors.torch import save_file

    file = Path(folder) / f"{moment}.safetensors"
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(file, lambda partial: save_file(on_cpu, partial))
    return file


def load_weights(run: str | Path, model: nn.Module, *, moment: str = "final") -> nn.Module:
    """Copies a run's parameters and buffers into a model, which keeps its device and dtype.

    Args:
        run: The run's directory, `runs/NAME/runs/ID`, of a study trained with `save_weights`.
        model: A model of the run's architecture.
        moment: "init" or "final".

    Returns:
        The same model.

    Raises:
        ValueError: There are no such weights, they are damaged, or they are another model's.

    Example:
        >>> import tempfile, torch
        >>> folder = tempfile.mkdtemp()
        >>> _ = save_weights(folder, "final", {"weight": torch.ones(1, 2), "bias": torch.zeros(1)})
        >>> load_weights(folder, torch.nn.Linear(2, 1))(torch.ones(2)).item()
        2.0
    """
    from safetensors.torch import load_file
    from torch import no_grad

    if moment not in MOMENTS:
        raise ValueError(f"moment={moment}: choose one of {', '.join(MOMENTS)}")
    file = Path(run) / f"{moment}.safetensors"
    if not file.exists():
        raise ValueError(f"{file}: no such file; train with save_weights={moment} or both")
    try:
        saved = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file}: cannot be read: {error}") from error
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name in sorted(saved.keys() | state.keys()):
        ours, theirs = state.get(name), saved.get(name)
        if ours is None or theirs is None:
            where = "model" if theirs is None else "file"
            raise ValueError(f"{file}: {name} is only in the {where}")
        if ours.shape != theirs.shape:
            shapes = tuple(theirs.shape), tuple(ours.shape)
            raise ValueError(f"{file}: {name} has shape {shapes[0]}, in the model {shapes[1]}")
    with no_grad():
        for name, value in saved.items():
            state[name].copy_(value)
    return model
