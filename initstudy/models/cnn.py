"""A small convolutional network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from initstudy.models.activations import activation as make_activation
from initstudy.models.activations import (
    require_choice,
    require_count,
    require_counts,
    require_flag,
)

POOLINGS: dict[str, type[nn.Module] | None] = {
    "max": nn.MaxPool2d,
    "avg": nn.AvgPool2d,
    "none": None,
}


class CNN(nn.Sequential):
    """Convolutions that keep the image's size, each halved by pooling, and a linear head.

    The modules are `conv1, act1, pool1, …, head`; a BatchNorm stands before each activation where
    it is asked for.

    Args:
        input_shape: (channels, height, width) of one image.
        classes: Number of outputs.
        channels: Channels of each convolution.
        kernel_size: Odd.
        pooling: max, avg or none.
        activation: relu, tanh, sigmoid, gelu, selu or linear.
        batch_norm: Whether to normalize.

    Raises:
        ValueError: For a size below its least, an even kernel, an unknown pooling or activation,
            or an image too small for so many poolings.

    Example:
        >>> import torch
        >>> from initstudy.models import CNN
        >>> model = CNN((1, 8, 8), classes=10, channels=[4, 8], pooling="avg")
        >>> model(torch.zeros(4, 1, 8, 8)).shape
        torch.Size([4, 10])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        channels: Sequence[int] = (8, 16),
        kernel_size: int = 3,
        pooling: str = "max",
        activation: str = "relu",
        batch_norm: bool = False,
    ) -> None:
        require_count("kernel_size", kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(
                f"model.kernel_size={kernel_size}: must be odd to keep the image's size"
            )
        require_choice("pooling", pooling, tuple(POOLINGS))
        require_counts("channels", channels, "convolution")
        require_flag("batch_norm", batch_norm)
        depth, height, width = input_shape
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for number, out in enumerate(channels, start=1):
            modules[f"conv{number}"] = nn.Conv2d(depth, out, kernel_size, padding="same")
            if batch_norm:
                modules[f"norm{number}"] = nn.BatchNorm2d(out)
            modules[f"act{number}"] = make_activation(activation)
            pool = POOLINGS[pooling]
            if pool is not None:
                if min(height, width) < 2:
                    raise ValueError(
                        f"model.channels={list(channels)}: {tuple(input_shape)} images are too "
                        f"small for {len(channels)} poolings; use fewer, or model.pooling=none"
                    )
                modules[f"pool{number}"] = pool(2)
                height, width = height // 2, width // 2
            depth = out
        modules["flatten"] = nn.Flatten()
        modules["head"] = nn.Linear(depth * height * width, classes)
        super().__init__(modules)
