"""The random generator of every parameter."""

from __future__ import annotations

import hashlib

import torch
from torch import Generator as Generator


def generator_for(seed: int, name: str) -> torch.Generator:
    """The generator of one parameter's values: seeded by (seed, name), on the CPU.

    Args:
        seed: The seed of the whole model.
        name: The parameter's name.

    Example:
        >>> import torch
        >>> from initstudy.initializers.generators import generator_for
        >>> one, other = generator_for(0, "fc.weight"), generator_for(0, "fc.weight")
        >>> torch.equal(torch.rand(3, generator=one), torch.rand(3, generator=other))
        True
    """
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
