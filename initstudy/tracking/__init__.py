"""Weights & Biases: a mirror of the store's rows, one W&B run a grid point.

All calls to wandb happen on one thread of their own, so that neither its start-up nor a slow server
holds up training, and wandb is imported there, only when it is used. Online, rows are sent as they
come; offline nobody watches, so a pack's files are written from the store once it is there, without
the client, which would take as long as the training.

A pack's runs are promised to W&B before the store has them, and the promise is kept on disk until
W&B has them too. What a kill, or a server that is too slow, leaves unsent is sent from the store.
"""

from initstudy.tracking.settings import Settings, check
from initstudy.tracking.study import StudyRecord
from initstudy.tracking.tracker import Tracker

__all__ = ["Settings", "StudyRecord", "Tracker", "check"]
