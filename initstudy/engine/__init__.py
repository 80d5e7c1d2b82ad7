"""Many models as one tensor program. Knows tensors; nothing of Hydra, W&B or files."""

from initstudy.engine.optimizers import OPTIMIZERS, SGD, Adam, AdamW, Optimizer
from initstudy.engine.schedule import Schedule
from initstudy.engine.stack import Stack, not_vectorizable
from initstudy.engine.state import State
from initstudy.engine.train import Row, Summary, train
from initstudy.probes.layers import Layer, find_layers
from initstudy.probes.statistics import Probes

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adam",
    "AdamW",
    "Layer",
    "Optimizer",
    "Probes",
    "Row",
    "Schedule",
    "Stack",
    "State",
    "Summary",
    "find_layers",
    "not_vectorizable",
    "train",
]
