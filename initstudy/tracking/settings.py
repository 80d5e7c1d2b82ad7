"""Where the mirror goes, by the configuration and wandb's own environment variables."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from netrc import NetrcParseError, netrc
from pathlib import Path
from urllib.parse import urlsplit

MODES = ("offline", "online", "off")
GRANULARITIES = ("run", "study")
# As wandb reads WANDB_MODE (https://docs.wandb.ai/models/track/environment-variables).
ENVIRONMENT_MODES = {
    "online": "online",
    "offline": "offline",
    "disabled": "off",
    "dryrun": "offline",
}


# A W&B agent sets this for the process that it starts, with the id of the run in WANDB_RUN_ID.
SWEEP_ID = "WANDB_SWEEP_ID"


def agents_sweep() -> str | None:
    """The id of the W&B sweep whose agent has started this process; None if none has."""
    return os.environ.get(SWEEP_ID) or None


@dataclass(frozen=True)
class Settings:
    """Where the mirror goes, and how fine it is.

    Attributes:
        mode: "offline" into files, "online" to a server, or "off".
        project: The project on W&B.
        entity: The user or team that owns it; None for W&B's own default.
        granularity: "run" for one W&B run per run and one for the study; "study" for the last one
            alone, which keeps W&B usable with thousands of runs.
    """

    mode: str = "offline"
    project: str = "initstudy"
    entity: str | None = None
    granularity: str = "run"


def check(settings: Settings, runs: int = 1) -> Settings:
    """Applies wandb's environment variables, which take precedence, and checks the settings.

    Args:
        settings: The settings of the configuration.
        runs: How many runs are to be mirrored.

    Raises:
        ValueError: The mode or the granularity is unknown, the mode is online without a key, or a
            W&B agent would wait in vain for the run.
    """
    mode = os.environ.get("WANDB_MODE")
    if mode is not None and mode not in ENVIRONMENT_MODES:
        raise ValueError(f"WANDB_MODE={mode}: choose one of {', '.join(ENVIRONMENT_MODES)}")
    settings = replace(
        settings,
        mode=ENVIRONMENT_MODES[mode] if mode else settings.mode,
        project=os.environ.get("WANDB_PROJECT", settings.project),
        entity=os.environ.get("WANDB_ENTITY", settings.entity),
    )
    if settings.mode not in MODES:
        raise ValueError(f"tracking.mode={settings.mode}: choose one of {', '.join(MODES)}")
    if settings.granularity not in GRANULARITIES:
        raise ValueError(
            f"tracking.granularity={settings.granularity}: choose one of {', '.join(GRANULARITIES)}"
        )
    if (sweep := agents_sweep()) is not None:
        if runs > 1:
            raise ValueError(
                f"{runs} runs: the agent of W&B sweep {sweep} starts one at a time; move the lists "
                "of values to the sweep's parameters, or unset WANDB_SWEEP_ID"
            )
        for key, value, right in (
            ("tracking.granularity", settings.granularity, "run"),
            ("tracking.mode", settings.mode, "online"),
        ):
            if value != right:
                raise ValueError(
                    f"{key}={value}: the agent of W&B sweep {sweep} waits for a run; set "
                    f"{key}={right} in the sweep's command"
                )
    if settings.mode == "online" and not _has_key():
        raise ValueError(
            "tracking.mode=online: no W&B key; run `wandb login`, set WANDB_API_KEY, "
            "or use tracking=offline"
        )
    return settings


def _has_key() -> bool:
    """Whether there is a key; `wandb.login` would ask the server, which may be slow or away."""
    import wandb

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(wandb.setup().settings.base_url).hostname
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return host is not None and netrc(file).authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False
