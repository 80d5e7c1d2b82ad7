"""A small residual network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from initstudy.models.activations import activation as make_activation
from initstudy.models.activations import require_count, require_counts, require_flag


class Block(nn.Module):
    """Two convolutions added to their input (He et al. 2016, Deep residual learning, fig. 2).

    Its children are conv1, norm1, act1, conv2, norm2, act2, and, where shapes change, shortcut.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        stride: Of the first convolution.
        activation: After each convolution.
        batch_norm: Whether to normalize; without it norm1 and norm2 are absent.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, activation: str, batch_norm: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=not batch_norm)
        self.norm1 = nn.BatchNorm2d(outputs) if batch_norm else None
        self.act1 = make_activation(activation)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=not batch_norm)
        self.norm2 = nn.BatchNorm2d(outputs) if batch_norm else None
        changes = stride != 1 or inputs != outputs
        self.shortcut = _shortcut(inputs, outputs, stride, batch_norm) if changes else None
        self.act2 = make_activation(activation)

    def forward(self, x: Float[Tensor, "batch in h w"]) -> Float[Tensor, "batch out h2 w2"]:
        """The activation of the input, carried over, plus what the branch adds."""
        # The shortcut runs first, so that act2 is the activation that follows conv2.
        kept = x if self.shortcut is None else self.shortcut(x)
        y = self.conv1(x)
        y = self.act1(y if self.norm1 is None else self.norm1(y))
        y = self.conv2(y)
        return self.act2(kept + (y if self.norm2 is None else self.norm2(y)))


def _shortcut(inputs: int, outputs: int, stride: int, batch_norm: bool) -> nn.Module:
    """A projection where shapes change (option B of the paper's section 3.3)."""
    convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=not batch_norm)
    if not batch_norm:
        return convolution
    return nn.Sequential(OrderedDict(conv=convolution, norm=nn.BatchNorm2d(outputs)))


class ResNet(nn.Sequential):
    """A first convolution, stages of residual blocks, global pooling, and a linear head.

    The modules are `stem`, `norm`, `act`, `stage1`, …, `pool`, `flatten`, `head`. Each stage after
    the first halves the image.

    Args:
        input_shape: (channels, height, width) of one image.
        classes: Number of outputs.
        channels: Of each stage.
        blocks: In each stage.
        activation: relu, tanh, sigmoid, gelu, selu or linear.
        batch_norm: Whether to normalize.

    Raises:
        ValueError: For a size below its least, or an unknown activation.

    Example:
        >>> import torch
        >>> from initstudy.models import ResNet
        >>> model = ResNet((3, 16, 16), classes=10)
        >>> model(torch.zeros(4, 3, 16, 16)).shape
        torch.Size([4, 10])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        channels: Sequence[int] = (8, 16),
        blocks: int = 1,
        activation: str = "relu",
        batch_norm: bool = True,
    ) -> None:
        require_counts("channels", channels, "stage")
        require_count("blocks", blocks)
        require_flag("batch_norm", batch_norm)
        super().__init__()
        depth = channels[0]
        self.stem = nn.Conv2d(input_shape[0], depth, 3, padding=1, bias=not batch_norm)
        if batch_norm:
            self.norm = nn.BatchNorm2d(depth)
        self.act = make_activation(activation)
        for number, outputs in enumerate(channels, start=1):
            stage = nn.Sequential()
            for place in range(1, blocks + 1):
                stride = 2 if number > 1 and place == 1 else 1
                block = Block(depth, outputs, stride, activation, batch_norm)
                stage.add_module(f"block{place}", block)
                depth = outputs
            self.add_module(f"stage{number}", stage)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(depth, classes)
