"""Weight selection: a part of a larger, trained model as the start of a smaller one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor, nn

from initstudy.initializers.fans import Fans
from initstudy.initializers.policy import Action, ModelPolicy, Policy, Reset, Rule
from initstudy.initializers.slots import named_parameters


@dataclass(frozen=True, eq=False)
class Selected:
    """Evenly spaced entries of a larger tensor along every axis; nothing is random.

    Args:
        source: The larger tensor.

    Example:
        >>> import torch
        >>> from initstudy.initializers.selection import Selected
        >>> Selected(torch.arange(6.0))((3,), None, generator=None, dtype=torch.float32)
        tensor([0., 2., 4.])
    """

    source: Tensor

    def __call__(
        self,
        shape: Sequence[int],
        fans: Fans | None,
        *,
        generator: torch.Generator | None,
        dtype: torch.dtype,
    ) -> Tensor:
        """The entries i·(larger size)/(smaller size), rounded down, along every axis.

        Args:
            shape: The shape of the smaller tensor.
            fans: Not used.
            generator: Not used.
            dtype: The type of the result.

        Raises:
            ValueError: The source has another number of axes, or is smaller.
        """
        larger = tuple(self.source.shape)
        if len(shape) != len(larger) or any(s > n for s, n in zip(shape, larger, strict=True)):
            raise ValueError(f"weight selection cannot take {tuple(shape)} out of {larger}")
        chosen = self.source
        for axis, size in enumerate(shape):
            chosen = chosen.index_select(axis, torch.arange(size) * larger[axis] // size)
        return chosen.to(dtype)


@dataclass(frozen=True, eq=False)
class WeightSelection(ModelPolicy):
    """A smaller model starts from evenly spaced weights of a larger one of the same family.

    A layer takes its weights from the layer of the same name, so that a model with fewer layers
    takes the first ones; along every axis of a tensor the entries are evenly spaced (Xu et al.
    2024, Initializing models with larger ones, section 3, uniform element selection). If a size
    divides the larger one, these are exactly the entries of the authors' code
    (https://github.com/OscarXZQ/weight-selection); otherwise i·larger/smaller is rounded down,
    where that code rounds `linspace(0, larger, smaller)`, which leaves the tensor at its end.

    Args:
        source: The larger model, its state by name, or the path of a file that
            `torch.save(model.state_dict(), path)` or safetensors wrote.
        skip: Patterns of the names of parameters that are not taken from it, such as the head's.
        others: What fills these.

    Raises:
        ValueError: The file does not exist or cannot be read.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import WeightSelection, initialize
        >>> large = nn.Sequential(nn.Linear(8, 8))
        >>> small = initialize(nn.Sequential(nn.Linear(4, 2)), WeightSelection(large), seed=0)
        >>> bool((small[0].weight == large[0].weight[::4, ::2]).all())
        True
    """

    source: nn.Module | Mapping[str, Tensor] | str | Path
    skip: str | Sequence[str] = ("*head*",)
    others: Action = Reset()  # noqa: RUF009 - it is immutable

    def __post_init__(self) -> None:
        skip = (self.skip,) if isinstance(self.skip, str) else tuple(self.skip)
        object.__setattr__(self, "skip", skip)
        if isinstance(self.source, str | Path):
            object.__setattr__(self, "source", _read(Path(self.source)))

    def of(self, model: nn.Module, batch: object = None) -> Policy:
        """The rules for one model.

        Args:
            model: The smaller model.
            batch: Not used.

        Raises:
            ValueError: The larger model has no parameter of a name that is not skipped, or one
                that is smaller.
        """
        source = self.source.state_dict() if isinstance(self.source, nn.Module) else self.source
        assert isinstance(source, Mapping)
        rules = []
        for slot in named_parameters(model):
            if any(fnmatchcase(slot.name, pattern) for pattern in self.skip):
                continue
            if slot.name not in source:
                raise ValueError(
                    f"init: weight selection: the larger model has no {slot.name}; name it in skip"
                )
            rules.append(Rule(Selected(source[slot.name].detach().cpu()), name=slot.name))
        return Policy((*rules, Rule(self.others)))


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # The libraries raise many kinds of errors for a file that is not theirs.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"init.source={path}: cannot be read ({reason})") from error
    if not isinstance(state, Mapping):
        raise ValueError(f"init.source={path}: holds a {type(state).__name__}, not a state_dict")
    return state
