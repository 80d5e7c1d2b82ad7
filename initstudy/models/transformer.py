"""A transformer over the patches of an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from initstudy.models.activations import activation as make_activation
from initstudy.models.activations import require_count


class Block(nn.Module):
    """Self-attention and a two-layer perceptron, each normalized first and added to its input.

    Args:
        width: Features of a token.
        heads: Of the attention.
        hidden: Units between the perceptron's layers.
        activation: Between them.
    """

    def __init__(self, width: int, heads: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp1 = nn.Linear(width, hidden)
        self.act = make_activation(activation)
        self.mlp2 = nn.Linear(hidden, width)

    def forward(
        self, x: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens width"]:
        """The tokens, each with what both branches add."""
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp2(self.act(self.mlp1(self.norm2(x))))


class Transformer(nn.Module):
    """Patches as tokens, learned positions, pre-norm blocks, and the mean token to a linear head.

    The modules are `patches`, `positions`, `block1`, …, `norm`, `head` (Dosovitskiy et al. 2021, An
    image is worth 16×16 words, without the class token).

    Args:
        input_shape: (channels, height, width) of one image.
        classes: Number of outputs.
        patch_size: Side of a patch; it divides height and width.
        width: Features of a token.
        depth: Number of blocks.
        heads: Of each attention; they divide the width.
        mlp_ratio: Units of a block's perceptron over the width.
        activation: Of the perceptron.

    Raises:
        ValueError: For a size below its least or that does not divide, or an unknown activation.

    Example:
        >>> import torch
        >>> from initstudy.models import Transformer
        >>> model = Transformer((1, 8, 8), classes=10, patch_size=4)
        >>> model(torch.zeros(4, 1, 8, 8)).shape
        torch.Size([4, 10])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        patch_size: int = 4,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        mlp_ratio: int = 2,
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        for key, value in {
            "patch_size": patch_size,
            "width": width,
            "heads": heads,
            "mlp_ratio": mlp_ratio,
        }.items():
            require_count(key, value)
        require_count("depth", depth, low=0)
        channels, height, columns = input_shape
        if height % patch_size or columns % patch_size:
            raise ValueError(
                f"model.patch_size={patch_size}: must divide the images' size, {height}×{columns}"
            )
        if width % heads:
            raise ValueError(f"model.heads={heads}: must divide model.width={width}")
        self.patch_size = patch_size
        tokens = (height // patch_size) * (columns // patch_size)
        self.patches = nn.Linear(channels * patch_size**2, width)
        # An embedding, so that policies know what kind of parameter positions are.
        self.positions = nn.Embedding(tokens, width)
        self.blocks = [f"block{number}" for number in range(1, depth + 1)]
        for name in self.blocks:
            self.add_module(name, Block(width, heads, mlp_ratio * width, activation))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits."""
        tokens = self.patches(self.cut(x))
        # Looked up for every example, so that the positions have an activation like any layer.
        numbers = torch.arange(tokens.shape[1], device=x.device).expand(tokens.shape[0], -1)
        tokens = tokens + self.positions(numbers)
        for name in self.blocks:
            tokens = self.get_submodule(name)(tokens)
        return self.head(self.norm(tokens).mean(1))

    def cut(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch tokens pixels"]:
        """An image as its patches, row by row."""
        side = self.patch_size
        rows = x.unflatten(3, (-1, side)).unflatten(2, (-1, side))
        return rows.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
