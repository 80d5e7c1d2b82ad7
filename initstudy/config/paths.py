"""Where conf/ lies, the folder of every choice a user has."""

from __future__ import annotations

from pathlib import Path

# A part of the package, so that other Hydra applications find it as pkg://initstudy.conf. In a
# checkout it is a link to the folder beside the package.
CONF = (Path(__file__).parent.parent / "conf").resolve()
