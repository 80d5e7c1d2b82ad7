"""Stacked optimizers against torch.optim, step for step."""

from __future__ import annotations

import pytest
import torch

from initstudy.engine.contiguous import contiguous_buffer, side_by_side
from initstudy.engine.optimizers import SGD, Adam, AdamW, Lion, Muon, RMSprop, Target
from initstudy.engine.optimizers.clipping import clip
from initstudy.engine.optimizers.target import flattened, tried, unflattened
from tests import plain_optimizers

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
            lambda p: RMSprop(p, lr=LR, weight_decay=DECAY, momentum=MOMENTUM, alpha=0.9),
            lambda p, i: torch.optim.RMSprop(
                p, LR[i], 0.9, weight_decay=DECAY[i], momentum=MOMENTUM[i]
            ),
        ),
        (
            lambda p: RMSprop(p, lr=LR, eps=1e-3, centered=True),
            lambda p, i: torch.optim.RMSprop(p, LR[i], eps=1e-3, centered=True),
        ),
        (
            lambda p: Lion(p, lr=LR, weight_decay=DECAY, betas=(0.8, 0.95)),
            lambda p, i: plain_optimizers.lion(
                p, lr=LR[i], weight_decay=DECAY[i], betas=(0.8, 0.95)
            ),
        ),
        (
            lambda p: Muon(p, lr=LR, weight_decay=DECAY, momentum=MOMENTUM, adamw_lr=0.02),
            lambda p, i: plain_optimizers.Muon(p, LR[i], DECAY[i], 0.02, MOMENTUM[i]),
        ),
        (
            lambda p: Muon(p, lr=LR, nesterov=False, adjust_lr_fn="match_rms_adamw", ns_steps=3),
            lambda p, i: plain_optimizers.Muon(
                p, LR[i], nesterov=False, adjust_lr_fn="match_rms_adamw", ns_steps=3
            ),
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
        "rmsprop",
        "rmsprop-centered",
        "lion",
        "muon",
        "muon-rms",
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


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW, RMSprop, Lion, Muon])
def test_a_frozen_member_keeps_every_bit_and_its_neighbours_do_not_notice(kind):
    settings = {"momentum": 0.9} if kind in (SGD, RMSprop) else {}
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


def fitted(tensors):
    """Copies of them, side by side."""
    places = side_by_side(tensors)
    for place, tensor in zip(places, tensors, strict=True):
        place.copy_(tensor)
    return places


SHARED = {
    "sgd": (SGD, torch.optim.SGD, {"lr": 0.05}),
    "sgd-momentum": (SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}),
    "sgd-nesterov": (SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.8, "nesterov": True}),
    "adam": (Adam, torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.99), "weight_decay": 0.1}),
    "adamw": (AdamW, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-6}),
}


@pytest.mark.parametrize("name", SHARED)
def test_one_kernel_for_all_members_takes_the_steps_of_torch_optim(name):
    ours, theirs, settings = SHARED[name]
    start, grads = pack()
    stacked = fitted(start)
    optimizer = ours(stacked, **settings)
    for step in grads:
        optimizer.step(fitted(step))
    for member in range(MEMBERS):
        expected = alone(member, lambda p, _: theirs(p, **settings), start, grads)
        for ours_p, torch_p in zip(stacked, expected, strict=True):
            torch.testing.assert_close(ours_p[member], torch_p.detach(), rtol=2e-6, atol=2e-7)
    # Between the parameters lie zeros, which have no gradient.
    assert contiguous_buffer(stacked).count_nonzero() == sum(p.numel() for p in stacked)


@pytest.mark.parametrize("name", SHARED)
def test_members_that_end_or_leave_change_no_bit_of_the_others(name):
    """Frozen after ten steps with gradients that are no numbers, and left out after twenty."""
    ours, _, settings = SHARED[name]
    start, grads = pack()
    undisturbed, stacked = fitted(start), fitted(start)
    whole_pack, ending = ours(undisturbed, **settings), ours(stacked, **settings)
    alive = torch.ones(MEMBERS, dtype=torch.bool)
    for number, step in enumerate(grads):
        whole_pack.step(fitted(step))
        if number == 10:
            kept = [p[1].clone() for p in stacked]
            alive[1] = False
        if number < 20:
            for grad in step:
                grad[~alive] = float("nan")
            ending.step(fitted(step), None if alive.all() else alive)
        if number == 20:
            assert all(torch.equal(p[1], b) for p, b in zip(stacked, kept, strict=True))
            stacked = fitted([p[[0, 2]] for p in stacked])
            ending.keep([0, 2], stacked)
        if number >= 20:
            ending.step(fitted([grad[[0, 2]] for grad in step]))
    for a, b in zip(undisturbed, stacked, strict=True):
        assert torch.equal(a[[0, 2]], b)


def test_a_pack_that_has_become_alike_rounds_as_before():
    """Its members of another learning rate have left: the others do not change their kernel."""
    start, grads = pack()
    undisturbed, stacked = fitted(start), fitted(start)
    rates = {"lr": [0.1, 0.01, 0.1], "momentum": 0.9}
    whole_pack, ending = SGD(undisturbed, **rates), SGD(stacked, **rates)
    stacked = fitted([p[[0, 2]] for p in start])
    ending.keep([0, 2], stacked)
    for step in grads:
        whole_pack.step(fitted(step))
        ending.step(fitted([grad[[0, 2]] for grad in step]))
    for a, b in zip(undisturbed, stacked, strict=True):
        assert torch.equal(a[[0, 2]], b)


def test_only_tensors_that_fill_one_piece_of_memory_are_one():
    places = side_by_side([torch.ones(3, 5), torch.ones(2), torch.ones(16)])
    for number, place in enumerate(places, 1):
        place.fill_(number)
    values = contiguous_buffer(places)
    assert len(values) == 48
    assert values.tolist() == [1.0] * 15 + [0.0] + [2.0] * 2 + [0.0] * 14 + [3.0] * 16
    assert contiguous_buffer(places[:2]) is None
    assert contiguous_buffer(places[::-1]) is None
    assert contiguous_buffer([places[0].T, *places[1:]]) is None
    assert contiguous_buffer([p.clone() for p in places]) is None
    mixed = side_by_side([torch.ones(3), torch.ones(2, dtype=torch.float64)])
    assert [place.dtype for place in mixed] == [torch.float32, torch.float64]
    assert contiguous_buffer(mixed) is None


@pytest.mark.parametrize("largest", [0.1, 30.0, 1e9, float("inf")])
def test_clipping_is_that_of_torch_for_each_member(largest):
    stacked, (grads, *_) = pack()
    grads[1][2] *= 100
    expected = []
    for member in range(MEMBERS):
        params = [p[member].clone() for p in stacked]
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad[member].clone()
        torch.nn.utils.clip_grad_norm_(params, largest)
        expected.append([param.grad for param in params])
    clip(grads, torch.full((MEMBERS,), largest))
    for member in range(MEMBERS):
        for grad, plain in zip(grads, expected[member], strict=True):
            torch.testing.assert_close(grad[member], plain, rtol=1e-6, atol=0)


def test_a_gradient_that_is_not_finite_stays_so_and_stays_with_its_member():
    _, (grads, *_) = pack()
    before = [grad.clone() for grad in grads]
    grads[0][1, 0] = float("inf")
    clip(grads, torch.tensor([float("inf"), 1.0, float("inf")]))
    assert not grads[0][1].isfinite().all()
    for grad, value in zip(grads, before, strict=True):
        assert torch.equal(grad[[0, 2]], value[[0, 2]])


class Replacing(torch.optim.SGD):
    """Holds what JSON and tensors cannot say."""

    def step(self):
        super().step()
        for group in self.param_groups:
            for param in group["params"]:
                self.state[param]["seen"] = {1, 2}


@pytest.mark.parametrize(
    ("kind", "stacked"),
    [
        (torch.optim.RMSprop, True),
        (torch.optim.Adagrad, True),
        (torch.optim.Adadelta, True),
        (torch.optim.NAdam, True),
        (torch.optim.RAdam, True),
        (torch.optim.Rprop, True),
        (torch.optim.Adafactor, False),
    ],
)
def test_an_optimizer_is_stacked_if_members_are_then_updated_as_alone(kind, stacked):
    trial = tried(kind, {"lr": 0.01}, SHAPES)
    assert (trial.why_not_stacked is None) == stacked
    assert not trial.draws
    start, grads = pack()
    params = [p.clone() for p in start]
    own = {"lr": [0.01] * MEMBERS}
    optimizer = Target(params, kind=kind, options={}, own=own, stacked=stacked, lr=own["lr"])
    assert len(optimizer.parts) == (1 if stacked else MEMBERS)
    for step in grads:
        optimizer.step(step)
    for member in range(MEMBERS):
        expected = alone(member, lambda p, _: kind(p, lr=0.01), start, grads)
        for ours_p, torch_p in zip(params, expected, strict=True):
            torch.testing.assert_close(ours_p[member], torch_p.detach(), rtol=2e-6, atol=2e-7)


def test_an_optimizer_whose_state_no_checkpoint_can_keep_is_refused():
    with pytest.raises(ValueError, match="its state holds a set, which no checkpoint can keep"):
        tried(Replacing, {"lr": 0.01}, SHAPES)


def test_a_state_comes_back_from_its_tensors_as_it_was():
    state = [{0: {"step": torch.tensor(3.0), "x": torch.arange(3)}, "lr": 0.1}, [None, True, "a"]]
    back = unflattened(flattened(state))
    assert back[1] == state[1]
    assert back[0]["lr"] == 0.1
    assert torch.equal(back[0][0]["x"], state[0][0]["x"])
    assert flattened(state)["structure"].dtype == torch.uint8
