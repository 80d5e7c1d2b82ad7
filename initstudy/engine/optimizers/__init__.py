"""What updates all members of a pack at once: the optimizers of a study, by name.

Each is the algorithm of its reference page or paper, step for step, for stacked tensors. Those of
torch.optim that are not among them, and the user's own, are `Target`s.
"""

from __future__ import annotations

from initstudy.engine.optimizers.adam import Adam, AdamW
from initstudy.engine.optimizers.base import Optimizer, PerMember
from initstudy.engine.optimizers.lion import Lion
from initstudy.engine.optimizers.muon import Muon
from initstudy.engine.optimizers.rates import Rates
from initstudy.engine.optimizers.rmsprop import RMSprop
from initstudy.engine.optimizers.sgd import SGD
from initstudy.engine.optimizers.target import Target

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "lion": Lion,
    "muon": Muon,
}

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adam",
    "AdamW",
    "Lion",
    "Muon",
    "Optimizer",
    "PerMember",
    "RMSprop",
    "Rates",
    "Target",
]
