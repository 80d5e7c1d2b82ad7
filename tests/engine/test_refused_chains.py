"""What is no chain of batched kernels: found out beforehand, and trained in another way."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initstudy.engine.autograd import Vmap
from initstudy.engine.batched.chain import stages
from initstudy.engine.batched.engine import Batched
from initstudy.engine.optimizers import SGD
from initstudy.engine.refusal import Refusal
from tests.engine.chains import members_of, named
from tests.engine.test_train import assert_as_plain_loop, mlp, problem, run


class OwnLinear(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class OwnReLU(nn.ReLU):
    def forward(self, x):
        return F.relu(x)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(36, 36), nn.Linear(36, 4)

    def forward(self, x):
        x = x.flatten(1)
        return self.fc2(x + self.fc1(x))


class OtherInEvaluation(nn.Module):
    """As some models put a softmax on their logits when they are not trained."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(36, 4)

    def forward(self, x):
        logits = self.fc(x.flatten(1))
        return logits if self.training else logits.relu()


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.spare = nn.Linear(36, 4), nn.Linear(2, 2)

    def forward(self, x):
        return self.fc(torch.flatten(x, 1)) + 0 * self.spare.weight.sum()


class Thrown(nn.Module):
    """Calls a layer whose output nobody reads, as a flag of a user's class may do."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(36, 4), nn.Linear(36, 4)

    def forward(self, x):
        x = x.flatten(1)
        self.fc1(x)
        return self.fc2(x)


class FlattensOtherwise(nn.Module):
    """What `end_dim=1` leaves is not what a layer behind `flatten(1)` gets."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(torch.flatten(x, start_dim=1, end_dim=2).mean(1))


class Flat(nn.Module):
    """What the classes below have in common."""

    def __init__(self):
        super().__init__()
        self.fc, self.seen, self.fn = nn.Linear(36, 4), [], torch.relu

    def forward(self, x):
        return self.fc(x.flatten(1))


class Counting(Flat):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


class Drawing(Flat):
    def forward(self, x):
        random.random()
        return super().forward(x)


class DrawingTensors(Flat):
    def forward(self, x):
        torch.rand(())
        return super().forward(x)


class Keeping(Flat):
    def forward(self, x):
        self.seen.append(1)
        return super().forward(x)


class Helped(Flat):
    def count(self):
        self.calls = 1

    def forward(self, x):
        self.count()
        return super().forward(x)


class CallsAnything(Flat):
    def forward(self, x):
        return self.fn(super().forward(x))


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 36))

    def forward(self, x):
        return F.linear(x.flatten(1), self.weight)


def hooked():
    model = mlp()
    model.fc1.register_forward_hook(lambda _m, _a, output: 2 * output)
    return model


def patched():
    model = mlp()
    forward = model.act1.forward
    model.act1.forward = lambda x: 2 * forward(x)
    return model


def twice():
    layer = nn.Linear(36, 36)
    return nn.Sequential(nn.Flatten(), layer, nn.Tanh(), layer, nn.Linear(36, 4))


def parametrized():
    model = mlp()
    nn.utils.parametrize.register_parametrization(model.fc2, "weight", nn.Softsign())
    return model


def tied():
    first, second = nn.Linear(36, 36), nn.Linear(36, 36)
    second.weight = first.weight
    return nn.Sequential(nn.Flatten(), first, nn.Tanh(), second, nn.Linear(36, 4))


def with_buffer(model):
    model.register_buffer("scale", torch.ones(()))
    return model


def on_images(convolution):
    return nn.Sequential(convolution, nn.Tanh(), nn.Flatten(), nn.LazyLinear(4))


def ready(model):
    model(torch.zeros(2, 1, 6, 6))
    return model


REFUSED = {
    "own-linear": lambda: named(flatten=nn.Flatten(), fc=OwnLinear(36, 4)),
    "own-relu": lambda: named(
        flatten=nn.Flatten(), fc=nn.Linear(36, 9), act=OwnReLU(), head=nn.Linear(9, 4)
    ),
    "residual": Residual,
    "other-in-evaluation": OtherInEvaluation,
    "flattens-otherwise": FlattensOtherwise,
    "functional": Functional,
    "counting": Counting,
    "drawing": Drawing,
    "keeping": Keeping,
    "helped": Helped,
    "calls-anything": CallsAnything,
    "hook": hooked,
    "patched": patched,
    "called-twice": twice,
    "parametrized": parametrized,
    "circular": lambda: ready(on_images(nn.Conv2d(1, 3, 3, padding=1, padding_mode="circular"))),
    "channel-groups": lambda: ready(
        nn.Sequential(nn.Conv2d(1, 4, 3), on_images(nn.Conv2d(4, 4, 3, groups=2)))
    ),
    "reflected": lambda: ready(on_images(nn.Conv2d(1, 3, 3, padding=2, padding_mode="reflect"))),
    "softmax": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.Softmax(1)),
    "prelu": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.PReLU()),
    "layer-norm-of-images": lambda: nn.Sequential(
        nn.LayerNorm((1, 6, 6)), nn.Flatten(), nn.Linear(36, 4)
    ),
    "layer-norm-of-rows": lambda: nn.Sequential(nn.LayerNorm(6), nn.Flatten(), nn.Linear(36, 4)),
    "linear-on-rows": lambda: nn.Sequential(nn.Linear(6, 6), nn.Flatten(), nn.Linear(36, 4)),
    "unused": Unused,
}
NOT_TRAINED = {
    "dropout": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.Dropout()),
    "thrown": Thrown,
    "drawing-tensors": DrawingTensors,
    "no-parameters": nn.Flatten,
    "even-same": lambda: nn.Sequential(
        nn.Conv2d(1, 1, 2, padding="same"), nn.Flatten(), nn.Linear(36, 4)
    ),
    "tied": tied,
    "images-out": lambda: nn.Conv2d(1, 4, 3),
    "stray-buffer": lambda: with_buffer(mlp()),
}


@pytest.mark.parametrize("name", [*REFUSED, *NOT_TRAINED])
def test_what_is_no_chain_is_refused(name):
    model = (REFUSED | NOT_TRAINED)[name]()
    assert isinstance(stages(model, torch.zeros(2, 1, 6, 6)), Refusal)
    assert model.training


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_still_trains_like_a_plain_loop(name):
    make = REFUSED[name]
    models, batches = members_of(make, 2), problem(2)
    members = [{n: p.detach().clone() for n, p in m.named_parameters()} for m in models]
    ours, theirs = (lambda p: SGD(p, lr=0.02)), (lambda p: torch.optim.SGD(p, 0.02))
    rows, summaries, _ = run(
        make, members, batches, optimizer=ours, engines=(Batched, Vmap), probes="full"
    )
    assert_as_plain_loop(make, members, batches, theirs, rows, summaries)
