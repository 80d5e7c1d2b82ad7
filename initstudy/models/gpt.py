"""A small language model in the form of GPT-2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from initstudy.models.activations import activation as make_activation
from initstudy.models.activations import require_count, require_flag


class Block(nn.Module):
    """Causal self-attention and a two-layer perceptron, each normalized first and added.

    Args:
        width: Features of a token.
        heads: Heads of the attention.
        hidden: Units between the perceptron's layers.
        activation: The activation function between them.
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
        self, x: Float[Tensor, "batch tokens width"], hidden: Bool[Tensor, "tokens tokens"]
    ) -> Float[Tensor, "batch tokens width"]:
        """The tokens, each with what both branches add.

        Args:
            x: The tokens.
            hidden: Which tokens (columns) each token (rows) must not see.
        """
        y = self.norm1(x)
        x = x + self.attention(y, y, y, attn_mask=hidden, need_weights=False)[0]
        return x + self.mlp2(self.act(self.mlp1(self.norm2(x))))


class GPT(nn.Module):
    """Token and position embeddings, pre-norm blocks with causal attention, and a linear head.

    The modules are `tokens`, `positions`, `block1`, …, `norm` and `head` (Radford et al. 2019,
    Language models are unsupervised multitask learners, section 2.3).

    Args:
        input_shape: (tokens,) of one sequence.
        classes: The size of the vocabulary.
        width: Features of a token.
        depth: Number of blocks.
        heads: Heads of each attention; they divide the width.
        mlp_ratio: Units of a block's perceptron divided by the width.
        activation: The perceptron's activation function.
        tied: Whether the head's weights are those of the token embedding.

    Raises:
        ValueError: For a size below its least or one that does not divide, an unknown activation,
            or inputs that are no token sequences.

    Example:
        >>> model = GPT((16,), classes=50, width=8, heads=2)
        >>> model(torch.zeros(3, 16, dtype=torch.long)).shape
        torch.Size([3, 16, 50])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        mlp_ratio: int = 4,
        activation: str = "gelu",
        tied: bool = True,
    ) -> None:
        super().__init__()
        for key, value in {"width": width, "heads": heads, "mlp_ratio": mlp_ratio}.items():
            require_count(key, value)
        require_count("depth", depth, low=0)
        require_flag("tied", tied)
        if width % heads:
            raise ValueError(f"model.heads={heads}: must divide model.width={width}")
        if len(input_shape) != 1:
            raise ValueError(
                f"model=gpt: takes sequences of tokens (tokens,); the data have inputs of shape "
                f"{tuple(input_shape)}; use such data as data=characters or data=copy"
            )
        (length,) = input_shape
        self.tokens = nn.Embedding(classes, width)
        # An embedding, so that policies know what kind of parameter positions are.
        self.positions = nn.Embedding(length, width)
        self.blocks = [f"block{number}" for number in range(1, depth + 1)]
        for name in self.blocks:
            self.add_module(name, Block(width, heads, mlp_ratio * width, activation))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes, bias=False)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, x: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens classes"]:
        """The logits of the token after each one."""
        batch, length = x.shape[0], x.shape[1]
        # Looked up for every sequence, so that the positions have an activation like any layer.
        numbers = torch.arange(length, device=x.device)
        tokens = self.tokens(x) + self.positions(numbers.expand(batch, -1))
        hidden = numbers > numbers[:, None]
        for name in self.blocks:
            tokens = self.get_submodule(name)(tokens, hidden)
        return self.head(self.norm(tokens))
