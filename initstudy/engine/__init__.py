"""How a pack of models takes a step. Knows tensors, and nothing of Hydra, W&B or files."""

from initstudy.engine.choose import ENGINES, Choice, choose_engine
from initstudy.engine.contract import Batch, Capabilities, Engine, EngineKind
from initstudy.engine.losses import CROSS_ENTROPY, Loss, Losses
from initstudy.engine.optimizers import OPTIMIZERS, SGD, Adam, AdamW, Optimizer
from initstudy.engine.schedule import Schedule
from initstudy.engine.stack import Stack
from initstudy.engine.state import State
from initstudy.engine.train import Row, Summary, Training, train
from initstudy.engine.workload import Workload

__all__ = [
    "CROSS_ENTROPY",
    "ENGINES",
    "OPTIMIZERS",
    "SGD",
    "Adam",
    "AdamW",
    "Batch",
    "Capabilities",
    "Choice",
    "Engine",
    "EngineKind",
    "Loss",
    "Losses",
    "Optimizer",
    "Row",
    "Schedule",
    "Stack",
    "State",
    "Summary",
    "Training",
    "Workload",
    "choose_engine",
    "train",
]
