"""Sequential models without autograd: every layer's members in one batched kernel.

A value between two layers is either features `[members, features, batch]`, or images
`[batch, members × channels, height, width]` in channels-last memory. In both the layer's kernel
finds each member's part contiguous: a linear layer is one batched matrix product, a convolution is
one grouped convolution, and where members share their input both become a single, larger one.
"""

from initstudy.engine.batched.chain import Chain, stages

__all__ = ["Chain", "stages"]
