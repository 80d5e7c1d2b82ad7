"""Plain torch modules, reached only through a configuration's `_target_`."""

from initstudy.models.cnn import CNN
from initstudy.models.mlp import MLP

__all__ = ["CNN", "MLP"]
