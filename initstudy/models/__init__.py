"""Plain torch modules, reached only through a configuration's `_target_`."""

from initstudy.models.cnn import CNN
from initstudy.models.mlp import MLP
from initstudy.models.recurrent import Recurrent
from initstudy.models.resnet import ResNet
from initstudy.models.transformer import Transformer

__all__ = ["CNN", "MLP", "Recurrent", "ResNet", "Transformer"]
