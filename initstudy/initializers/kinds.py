"""The kind of layer that a module is, and the role that a parameter plays in it."""

from __future__ import annotations

from torch import nn

Conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
ConvTranspose = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

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
# Classes of other libraries, by module and name, so that those need not be installed. A Conv1D is a
# linear layer whose weight has the inputs first.
OTHERS = {("transformers.pytorch_utils", "Conv1D"): "linear"}
RECURRENT = ("rnn", "lstm", "gru")
# The kinds whose weights map a signal, which are the ones that initializers are for.
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
# The beginnings of the names of torch's own parameters; a subclass may add others.
NAMES = ("weight", "bias", "in_proj_", "q_proj_", "k_proj_", "v_proj_")


def kind(module: nn.Module) -> str | None:
    """The kind of a layer, one of the keys of `KINDS`, or None if it is not known.

    Args:
        module: Any module; a subclass has the kind of its base class.

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import kind
        >>> kind(nn.Conv2d(3, 8, 3)), kind(nn.ReLU())
        ('conv', None)
    """
    known = next((name for name, classes in KINDS.items() if isinstance(module, classes)), None)
    return known or foreign_kind(module)


def foreign_kind(module: nn.Module) -> str | None:
    """The kind of a layer of another library, or None."""
    classes = ((base.__module__, base.__name__) for base in type(module).__mro__)
    return next((OTHERS[name] for name in classes if name in OTHERS), None)


def role(module: nn.Module, parameter: str) -> str | None:
    """The role of a parameter in its layer, or None if it is not known.

    Args:
        module: The layer.
        parameter: The parameter's name in it, such as "weight" or "bias_hh_l0".

    Returns:
        "weight" for what multiplies the input (also a normalization's scale), "recurrent" for what
        multiplies a recurrent layer's previous output, "bias" for what is added (also a
        normalization's offset).

    Example:
        >>> from torch import nn
        >>> from initstudy.initializers import role
        >>> role(nn.LSTM(3, 4), "weight_hh_l0")
        'recurrent'
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
