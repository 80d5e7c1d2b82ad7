"""Stacked optimizers against torch.optim, step for step."""

from __future__ import annotations

import pytest
import torch

from initstudy.ensemble import SGD, Adam, AdamW

SHAPES = [(4, 3), (4,), (2, 4, 3, 3)]
MEMBERS = 3
STEPS = 25
LR = [0.1, 0.01, 0.003]
DECAY = [0.0, 0.1, 0.01]
MOMENTUM = [0.0, 0.9, 0.5]
SCALES = [0.5, 2.0, 0.1]  # of the learning rate, one a parameter


def pack():
    generator = torch.Generator().manual_seed(0)
    stacked = [torch.randn(MEMBERS, *shape, generator=generator) for shape in SHAPES]
    grads = [
        [torch.randn(MEMBERS, *shape, generator=generator) for shape in SHAPES]
        for _ in range(STEPS)
    ]
    return stacked, grads


def groups(params, lr):
    return [{"params": [p], "lr": lr * scale} for p, scale in zip(params, SCALES, strict=True)]


def alone(member, make, stacked, grads):
    params = [p[member].clone().requires_grad_() for p in stacked]
    optimizer = make(params, member)
    for step in grads:
        for param, grad in zip(params, step, strict=True):
            param.grad = grad[member].clone()
        optimizer.step()
    return params


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            lambda p: SGD(p, lr=LR, momentum=MOMENTUM, weight_decay=DECAY),
            lambda p, i: torch.optim.SGD(p, LR[i], MOMENTUM[i], weight_decay=DECAY[i]),
        ),
        (
            lambda p: SGD(p, lr=LR, momentum=0.9, nesterov=True, weight_decay=DECAY),
            lambda p, i: torch.optim.SGD(p, LR[i], 0.9, weight_decay=DECAY[i], nesterov=True),
        ),
        (lambda p: SGD(p, lr=LR), lambda p, i: torch.optim.SGD(p, LR[i])),
        (
            lambda p: Adam(p, lr=LR, weight_decay=DECAY, betas=(0.8, 0.99), eps=1e-6),
            lambda p, i: torch.optim.Adam(p, LR[i], (0.8, 0.99), 1e-6, DECAY[i]),
        ),
        (
            lambda p: AdamW(p, lr=LR, weight_decay=DECAY),
            lambda p, i: torch.optim.AdamW(p, LR[i], weight_decay=DECAY[i]),
        ),
        (
            lambda p: SGD(p, lr=LR, momentum=0.9, scales=SCALES),
            lambda p, i: torch.optim.SGD(groups(p, LR[i]), momentum=0.9),
        ),
        (
            lambda p: AdamW(p, lr=LR, weight_decay=DECAY, scales=SCALES),
            lambda p, i: torch.optim.AdamW(groups(p, LR[i]), weight_decay=DECAY[i]),
        ),
    ],
    ids=[
        "sgd-momentum",
        "sgd-nesterov",
        "sgd-plain",
        "adam",
        "adamw",
        "sgd-groups",
        "adamw-groups",
    ],
)
def test_every_member_takes_the_steps_of_torch_optim(ours, theirs):
    start, grads = pack()
    stacked = [p.clone() for p in start]
    optimizer = ours(stacked)
    for step in grads:
        optimizer.step(step)
    for member in range(MEMBERS):
        expected = alone(member, theirs, start, grads)
        for ours_p, torch_p in zip(stacked, expected, strict=True):
            torch.testing.assert_close(ours_p[member], torch_p.detach(), rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_a_frozen_member_keeps_every_bit_and_its_neighbours_do_not_notice(kind):
    settings = {"momentum": 0.9} if kind is SGD else {}
    start, grads = pack()
    free, frozen = [p.clone() for p in start], [p.clone() for p in start]
    without, with_frozen = (kind(p, lr=LR, weight_decay=DECAY, **settings) for p in (free, frozen))
    alive = torch.ones(MEMBERS, dtype=torch.bool)
    for number, step in enumerate(grads):
        if number == 10:
            kept = [p[1].clone() for p in frozen]
            alive[1] = False
        broken = [g.clone() for g in step]
        if number >= 10:
            for grad in broken:
                grad[1] = float("nan")
        without.step(step)
        with_frozen.step(broken, alive)
    for a, b, before in zip(free, frozen, kept, strict=True):
        assert torch.equal(b[1], before)
        assert torch.equal(a[[0, 2]], b[[0, 2]])
