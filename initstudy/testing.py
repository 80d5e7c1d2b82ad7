"""For tests of a user's own: a model that starts badly fails them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from initstudy.audit import Audit, audit_model


def assert_initialized(
    model: nn.Module, *inputs: Any, ignore: Sequence[str] = (), **options: Any
) -> Audit:
    """Fails if the audit of a model warns of anything.

    Args:
        model: The model.
        *inputs: Its positional arguments; see `initstudy.audit_model`.
        ignore: Codes of warnings that are no failure.
        **options: What `initstudy.audit_model` takes besides: `targets`, `loss`, `policy`,
            `learning_rate`, and the model's keyword arguments.

    Returns:
        The audit.

    Raises:
        AssertionError: There are warnings; the message holds all of them, the first cause first.
        ValueError: The model cannot be audited, or there is no warning of a name in `ignore`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from initstudy.testing import assert_initialized
        >>> net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
        >>> assert_initialized(net, torch.randn(32, 8))
        Audit(4 parameters, 2 layers: no warnings)
    """
    from initstudy.audit.advice import CODES

    unknown = sorted(set(ignore) - CODES)
    if unknown:
        raise ValueError(f"ignore={unknown[0]}: choose among {', '.join(sorted(CODES))}")
    found = audit_model(model, *inputs, **options)
    bad = [warning for warning in found.warnings if warning.code not in ignore]
    if bad:
        lines = [f"{type(model).__name__} is not well initialized:"]
        lines += [f"  {warning.code}: {warning.message}" for warning in bad]
        raise AssertionError("\n".join(lines))
    return found
