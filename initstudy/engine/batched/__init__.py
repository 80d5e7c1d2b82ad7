"""Sequential models without autograd: every layer of all members in one batched kernel.

A value between two layers is either features `[members, features, batch]`, or images
`[batch, members × channels, height, width]` in channels-last memory. In both forms the layer's
kernel finds each member's part contiguous: a linear layer is one batched matrix product and a
convolution is one grouped convolution. For members that share their input both become a single,
larger product.
"""
