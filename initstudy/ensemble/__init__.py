"""Many models as one tensor program. Knows tensors; nothing of Hydra, W&B or files."""

from initstudy.ensemble.checkpoint import State
from initstudy.ensemble.layers import Layer, find_layers
from initstudy.ensemble.optimizers import OPTIMIZERS, SGD, Adam, AdamW, Optimizer
from initstudy.ensemble.probes import HISTOGRAM_EDGES, PRESETS, Probes
from initstudy.ensemble.schedule import Schedule
from initstudy.ensemble.stack import Stack, not_vectorizable
from initstudy.ensemble.train import Row, Summary, train

__all__ = [
    "HISTOGRAM_EDGES",
    "OPTIMIZERS",
    "PRESETS",
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
