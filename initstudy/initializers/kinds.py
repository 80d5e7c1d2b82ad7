"""What kind of layer a module is, and which role a parameter plays in it."""

from __future__ import annotations

from torch import nn

Conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
ConvTranspose = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
Recurrent = (nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell)

KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "linear": (nn.Linear,),
    "bilinear": (nn.Bilinear,),
    "conv": Conv,
    "conv_transpose": ConvTranspose,
    "embedding": (nn.Embedding, nn.EmbeddingBag),
    "rnn": (nn.RNN, nn.RNNCell),
    "lstm": (nn.LSTM, nn.LSTMCell),
    "gru": (nn.GRU, nn.GRUCell),
    "attention": (nn.MultiheadAttention,),
    "norm": (
        nn.LayerNorm,
        nn.RMSNorm,
        nn.GroupNorm,
        nn.modules.batchnorm._BatchNorm,
        nn.modules.instancenorm._InstanceNorm,
    ),
    "prelu": (nn.PReLU,),
}
RECURRENT = ("rnn", "lstm", "gru")
# Kinds whose weights map a signal, and so are what an initializer is for.
WEIGHTED = (
    "linear",
    "bilinear",
    "conv",
    "conv_transpose",
    "embedding",
    *RECURRENT,
    "attention",
)
ROLES = ("weight", "recurrent", "bias")
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
# How the parameters of torch's own layers are called; a subclass may add others.
NAMES = ("weight", "bias", "in_proj_", "q_proj_", "k_proj_", "v_proj_")


def kind(module: nn.Module) -> str | None:
    """The layer's kind as policies name it, or None for one that is not known."""
    return next((name for name, classes in KINDS.items() if isinstance(module, classes)), None)


def role(module: nn.Module, parameter: str) -> str | None:
    """What a parameter is to its layer, by its name there; None where that is not known.

    "weight" is what multiplies the input (a normalization's scale too), "recurrent" what multiplies
    a recurrent layer's own last output, "bias" what is added (a normalization's offset too).
    """
    if kind(module) is None:
        return parameter if parameter in ("weight", "bias") else None
    if not parameter.startswith(NAMES):
        return None
    if parameter.startswith("weight_hh"):
        return "recurrent"
    if "bias" in parameter:
        return "bias"
    return "weight"
