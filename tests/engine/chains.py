"""Models that are chains of stages, as users write them, and members of each."""

from __future__ import annotations

import copy
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

from initstudy.engine.batched.elementwise import BY_AUTOGRAD, FROM_OUTPUT
from initstudy.engine.batched.engine import Batched
from initstudy.engine.choose import choose_engine
from initstudy.engine.optimizers import SGD
from initstudy.engine.stack import Stack
from initstudy.engine.workload import Workload
from initstudy.models import CNN, MLP

MEMBERS, BATCH, CLASSES = 4, 6, 5
IMAGES = {1: (1, 9, 7), 3: (3, 8, 8)}


def named(**modules):
    return nn.Sequential(OrderedDict(modules))


def convolutional(*modules, shape=(3, 8, 8), **options):
    """Layers on images, with a convolution before and a linear head behind them."""
    options = {"kernel_size": 3, "padding": 1, **options}
    body = nn.Sequential(nn.Conv2d(shape[0], 4, **options), *modules, nn.Flatten())
    features = body.eval()(torch.zeros(2, *shape)).shape[1]
    return nn.Sequential(*body.train(), nn.Linear(features, CLASSES))


def dense(*modules, bias=True):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(192, 8, bias=bias), *modules, nn.Linear(8, CLASSES, bias=bias)
    )


class Written(nn.Module):
    """A model as users write it: one `relu` for all layers, functions between them."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.fc, self.head = nn.Linear(4, 7), nn.Linear(7, CLASSES)

    def forward(self, x):
        x = F.max_pool2d(self.relu(self.conv1(x)), 2)
        x = self.relu(self.norm(self.conv2(x)))
        x = torch.flatten(x, start_dim=1)
        return self.head(F.leaky_relu(self.fc(x).tanh(), 0.2))


class Deep(nn.Module):
    """Layers in a list, a method of its own, and an inherited `forward`."""

    def __init__(self, depth=2):
        super().__init__()
        self.depth = depth
        self.first, self.head = nn.Linear(192, 6), nn.Linear(6, CLASSES)
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(depth))

    def body(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x

    def forward(self, x):
        x = x.flatten(1)
        x = self.first(x)
        if self.depth > 1:
            x = self.body(x)
        return self.head(x)


class Deeper(Deep):
    def forward(self, x):
        return super().forward(x).sigmoid()


class Inner(nn.Module):
    """A block of a model, and a reshaping of the user's own."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(nn.Linear(192, 6), nn.Tanh(), nn.Sequential(nn.Linear(6, 5)))

    def forward(self, x):
        return self.blocks(x.flatten(1))


CONVOLUTIONS = {
    "plain": {},
    "no-bias": {"bias": False},
    "stride": {"stride": 2},
    "uneven-stride": {"stride": (1, 2), "padding": (0, 2), "kernel_size": (2, 3)},
    "same": {"padding": "same", "kernel_size": (3, 5)},
    "valid": {"padding": "valid", "kernel_size": 4},
    "pointwise": {"kernel_size": 1, "padding": 0},
    "long-patch": {"kernel_size": 7, "padding": 3},
    "dilated": {"dilation": 2, "padding": "same"},
}
POOLINGS = {
    "max": nn.MaxPool2d(2),
    "max-overlapping": nn.MaxPool2d(3, stride=2, padding=1),
    "max-ceil": nn.MaxPool2d(3, ceil_mode=True),
    "max-dilated": nn.MaxPool2d(2, 1, dilation=2),
    "avg": nn.AvgPool2d(2),
    "avg-overlapping": nn.AvgPool2d((3, 2), stride=(2, 1), padding=(1, 0)),
    "avg-ceil": nn.AvgPool2d(3, ceil_mode=True, count_include_pad=False, padding=1),
    "avg-divisor": nn.AvgPool2d(2, divisor_override=3),
}
INPLACE = [nn.ReLU(True), nn.ELU(inplace=True), nn.LeakyReLU(0.3, True), nn.Hardtanh(inplace=True)]
REPEATED = nn.Sigmoid()
MODELS = {
    **{f"conv-{k}": lambda o=o: convolutional(nn.Tanh(), **o) for k, o in CONVOLUTIONS.items()},
    **{
        f"second-conv-{k}": lambda o=o: convolutional(
            nn.Tanh(), nn.Conv2d(4, 3, **{"kernel_size": 3, "padding": 1, **o}), nn.ReLU()
        )
        for k, o in CONVOLUTIONS.items()
    },
    **{
        f"odd-{k}": lambda o=o: convolutional(nn.ReLU(), shape=IMAGES[1], **o)
        for k, o in CONVOLUTIONS.items()
    },
    **{k: lambda p=p: convolutional(nn.Tanh(), p) for k, p in POOLINGS.items()},
    **{
        f"first-{k}": lambda p=p: nn.Sequential(
            p, convolutional(nn.ReLU(), shape=p(torch.zeros(3, 8, 8)).shape)
        )
        for k, p in POOLINGS.items()
    },
    **{kind.__name__: lambda k=kind: dense(k()) for kind in (*FROM_OUTPUT, *BY_AUTOGRAD)},
    **{f"{m}-on-images": lambda m=m: convolutional(copy.deepcopy(m)) for m in INPLACE},
    "gelu-tanh": lambda: dense(nn.GELU("tanh")),
    "softplus": lambda: dense(nn.Softplus(2.0, 0.5)),
    "no-bias": lambda: dense(nn.Tanh(), bias=False),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES)),
    "deep-linear": lambda: dense(nn.Linear(8, 8), nn.Identity(), nn.ReLU(), nn.ReLU()),
    "repeated": lambda: dense(REPEATED, nn.Linear(8, 8), REPEATED),
    "activation-first": lambda: nn.Sequential(nn.Tanh(), dense(nn.ReLU())),
    "activation-before-conv": lambda: nn.Sequential(nn.ReLU(), convolutional(nn.Tanh())),
    "activation-last": lambda: nn.Sequential(dense(), nn.Tanh()),
    "flattened-twice": lambda: nn.Sequential(nn.Flatten(), dense(nn.Flatten())),
    "written": Written,
    "inner": Inner,
    "deep": Deep,
    "deeper": Deeper,
    "mlp": lambda: MLP((3, 8, 8), CLASSES, depth=2, width=7, layer_norm=True),
    "cnn": lambda: CNN((3, 8, 8), CLASSES, (3, 4), batch_norm=True, activation="gelu"),
    "batch-norm": lambda: dense(nn.BatchNorm1d(8), nn.Tanh()),
    "batch-norm-plain": lambda: dense(nn.BatchNorm1d(8, affine=False, momentum=0.4), nn.ReLU()),
    "batch-norm-cumulative": lambda: dense(nn.BatchNorm1d(8, momentum=None), nn.ReLU()),
    "batch-norm-of-batches": lambda: dense(nn.BatchNorm1d(8, track_running_stats=False)),
    "batch-norm-images": lambda: convolutional(nn.BatchNorm2d(4, eps=0.1), nn.ReLU()),
    "batch-norm-images-plain": lambda: convolutional(nn.BatchNorm2d(4, affine=False), nn.Tanh()),
    "batch-norm-first": lambda: nn.Sequential(nn.BatchNorm2d(3), convolutional(nn.Tanh())),
    "batch-norm-of-data": lambda: nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(192, affine=False), nn.Linear(192, CLASSES)
    ),
    "batch-norm-of-data-batches": lambda: nn.Sequential(
        nn.BatchNorm2d(3, affine=False, track_running_stats=False), convolutional(nn.Tanh())
    ),
    "layer-norm": lambda: dense(nn.LayerNorm(8, eps=0.1), nn.ReLU()),
    "layer-norm-plain": lambda: dense(nn.LayerNorm(8, elementwise_affine=False), nn.ReLU()),
    "layer-norm-no-bias": lambda: dense(nn.LayerNorm(8, bias=False), nn.ReLU()),
    "layer-norm-first": lambda: nn.Sequential(
        nn.Flatten(), nn.LayerNorm(192), nn.Linear(192, CLASSES)
    ),
}


def data(make, groups=MEMBERS, seed=0):
    """Inputs for a model: images of one channel where it takes those."""
    generator = torch.Generator().manual_seed(seed)
    first = next((m for m in make().modules() if isinstance(m, nn.Conv2d)), None)
    shape = IMAGES[1 if first is not None and first.in_channels == 1 else 3]
    x = torch.randn(groups, BATCH, *shape, generator=generator)
    return x, torch.randint(CLASSES, (groups, BATCH), generator=generator)


def members_of(make, size=MEMBERS):
    models = []
    for seed in range(size):
        torch.manual_seed(seed)
        models.append(make())
        for param in models[-1].parameters():
            # Also what starts the same in all members shall be another one's own.
            param.data.add_(torch.randn_like(param), alpha=0.1)
    return models


def batched(make, models, x):
    members = [{n: p.detach().clone() for n, p in m.named_parameters()} for m in models]
    stack = Stack(make(), members)
    optimizer = SGD(list(stack.params.values()), lr=0.0)
    return choose_engine(Workload(make(), x[0]), (Batched,)).build(stack, optimizer)


def close(actual, expected, message=None):
    torch.testing.assert_close(actual, expected, rtol=2e-4, atol=2e-6, msg=message)
