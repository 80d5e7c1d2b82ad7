"""Many models as one tensor program. Knows tensors; nothing of Hydra, W&B or files."""

from initstudy.ensemble.layers import Layer, find_layers
from initstudy.ensemble.optimizers import OPTIMIZERS, SGD, Adam, AdamW, Optimizer
from initstudy.ensemble.probes import HISTOGRAM_EDGES, PRESETS, Probes
from initstudy.ensemble.stack import Stack, not_vectorizable
from initstudy.ensemble.train import Row, Schedule, Summary, train

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
    "Summary",
    "find_layers",
    "not_vectorizable",
    "train",
]
