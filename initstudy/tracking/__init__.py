"""Weights & Biases: a mirror of the store's rows, with one W&B run per run of the study.

All calls to wandb happen on one thread of their own, so that neither its start-up nor a slow server
holds up training, and wandb is imported there, only when it is used. Online, rows are sent as they
come. Offline nobody watches them, so a pack's files are written from the store once the pack is
complete, and without the client, which would take as long as the training.

A pack's runs are promised to W&B before the store has them, and the promise stays on disk until W&B
has them too. What a kill, or a server that is too slow, leaves unsent is sent from the store.
"""

from initstudy.tracking.settings import Settings, agents_sweep, check
from initstudy.tracking.study import StudyRecord
from initstudy.tracking.tracker import Tracker

__all__ = ["Settings", "StudyRecord", "Tracker", "agents_sweep", "check"]
