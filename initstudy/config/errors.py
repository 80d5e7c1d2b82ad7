"""What every command shares: where conf/ lies, and how an error is said in one line."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf.errors import OmegaConfBaseException

HERE = Path(__file__).parent.parent
# In a wheel conf/ lies inside the package; in a checkout, beside it.
CONF = next(path for path in (HERE / "conf", HERE.parent / "conf") if path.is_dir())
USAGE_ERROR = 2


def refuse(error: Exception) -> int:
    """Says in one line what a user got wrong; returns the exit code for it."""
    cause = error.__cause__
    text = str(cause) if isinstance(cause, OmegaConfBaseException) else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    key = next((line.removeprefix("full_key: ") for line in lines if "full_key" in line), "")
    message = " ".join(line for line in lines if not line.startswith(("full_key", "object_type")))
    sys.stderr.write(f"initstudy: {f'{key}: ' if key else ''}{message}\n")
    return USAGE_ERROR
