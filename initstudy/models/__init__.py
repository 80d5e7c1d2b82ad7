"""Plain torch modules, reached only through a configuration's `_target_`."""

from initstudy.models.cnn import CNN
from initstudy.models.deep_cnn import DeepCNN
from initstudy.models.mlp import MLP
from initstudy.models.recurrent import GRU, LSTM, RNN
from initstudy.models.resnet import ResNet
from initstudy.models.transformer import Transformer

__all__ = ["CNN", "GRU", "LSTM", "MLP", "RNN", "DeepCNN", "ResNet", "Transformer"]
