"""Where conf/ lies, the folder of every choice a user has."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent.parent
# A wheel holds conf/ inside the package; in a checkout it lies beside the package.
CONF = next(path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if path.is_dir())
