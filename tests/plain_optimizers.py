"""Optimizers of other libraries, in the form of torch.optim, for the names of this one."""

from __future__ import annotations

import torch


def lion(params, **settings):
    """timm's, after the authors' code; torch has none."""
    from timm.optim import Lion

    return Lion(params, **settings)


class Muon:
    """torch's for matrices and its AdamW for the other parameters."""

    def __init__(self, params, lr, weight_decay=0.0, adamw_lr=3e-4, momentum=0.95, **settings):
        params = list(params)
        hidden = [param for param in params if param.ndim == 2]
        others = [param for param in params if param.ndim != 2]
        decay = {"weight_decay": weight_decay}
        matrices = torch.optim.Muon(hidden, lr=lr, momentum=momentum, **decay, **settings)
        rest = torch.optim.AdamW(others, adamw_lr, betas=(0.9, 0.95), eps=1e-10, **decay)
        self.both = [matrices, rest]

    def zero_grad(self):
        for optimizer in self.both:
            optimizer.zero_grad()

    def step(self):
        for optimizer in self.both:
            optimizer.step()
