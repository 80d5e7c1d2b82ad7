"""Plain torch modules, reached only through a configuration's `_target_`."""

from initstudy.models.cnn import CNN
from initstudy.models.deep_cnn import DeepCNN
from initstudy.models.gpt import GPT
from initstudy.models.mlp import MLP
from initstudy.models.recurrent import GRU, LSTM, RNN
from initstudy.models.residual_mlp import ResidualMLP
from initstudy.models.resnet import ResNet
from initstudy.models.siren import Siren
from initstudy.models.transformer import Transformer

__all__ = [
    "CNN",
    "GPT",
    "GRU",
    "LSTM",
    "MLP",
    "RNN",
    "DeepCNN",
    "ResNet",
    "ResidualMLP",
    "Siren",
    "Transformer",
]
