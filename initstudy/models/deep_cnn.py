"""A plain convolutional network, as deep as wanted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from initstudy.models.activations import activation as make_activation
from initstudy.models.activations import require_count


class DeepCNN(nn.Sequential):
    """Convolutions of one width without normalization or shortcuts, and a linear head.

    The modules are `conv1, act1, conv2, act2, …, head`. Borders wrap around, as in the theory of
    such networks (Xiao et al. 2018, Dynamical Isometry and a Mean Field Theory of CNNs, section
    2.1), so that every position of an image sees as many inputs.

    Args:
        input_shape: (channels, height, width) of one image.
        classes: Number of outputs.
        depth: Number of convolutions.
        channels: Of each.
        kernel_size: Odd.
        strided: How many of the first convolutions halve the image.
        activation: relu, tanh, sigmoid, gelu, selu or linear.

    Raises:
        ValueError: For a size below its least, an even kernel, an unknown activation, or an image
            too small for the kernel after so many halvings.

    Example:
        >>> import torch
        >>> from initstudy.models import DeepCNN
        >>> model = DeepCNN((1, 8, 8), classes=10, depth=6, channels=8)
        >>> model(torch.zeros(4, 1, 8, 8)).shape
        torch.Size([4, 10])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        depth: int = 32,
        channels: int = 16,
        kernel_size: int = 3,
        strided: int = 1,
        activation: str = "tanh",
    ) -> None:
        for key, value in (("depth", depth), ("channels", channels), ("kernel_size", kernel_size)):
            require_count(key, value)
        require_count("strided", strided, low=0)
        if kernel_size % 2 == 0:
            raise ValueError(
                f"model.kernel_size={kernel_size}: must be odd to keep the image's size"
            )
        before, height, width = input_shape
        around = kernel_size // 2
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(1, depth + 1):
            if min(height, width) < max(2, around):
                raise ValueError(
                    f"model.strided={strided}: {tuple(input_shape)} images are too small for "
                    f"convolution {number}; halve fewer times"
                )
            stride = 2 if number <= strided else 1
            modules[f"conv{number}"] = nn.Conv2d(
                before, channels, kernel_size, stride, around, padding_mode="circular"
            )
            modules[f"act{number}"] = make_activation(activation)
            before, height, width = channels, -(-height // stride), -(-width // stride)
        modules["flatten"] = nn.Flatten()
        modules["head"] = nn.Linear(channels * height * width, classes)
        super().__init__(modules)
