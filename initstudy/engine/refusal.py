"""Why an engine does not take a model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Refusal:
    """The reason, in one sentence without a full stop.

    Attributes:
        reason: The reason.
        module: The module at fault, as in "nn.LSTM (recurrent)", or None if it is not one module's
            fault.
    """

    reason: str
    module: str | None = None


class RefusedError(Exception):
    """Ends the inspection of a model.

    Args:
        reason: See `Refusal`.
        module: See `Refusal`.
    """

    def __init__(self, reason: str, module: str | None = None) -> None:
        super().__init__(reason)
        self.refusal = Refusal(reason, module)


def describe(name: str, module: nn.Module) -> str:
    """A module and its name in the model, as in "nn.LSTM (recurrent)"."""
    kind = type(module)
    known = kind.__module__.startswith("torch.nn.modules.")
    title = f"nn.{kind.__name__}" if known else kind.__name__
    # What a model calls as a function has a name that starts with its position.
    return title if not name or ":" in name else f"{title} ({name})"
