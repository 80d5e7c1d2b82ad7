"""A chain of batched kernels against plain autograd, one member at a time."""

from __future__ import annotations

import copy
import random
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initstudy.ensemble import SGD, Adam, Stack, find_layers
from initstudy.ensemble.batched import stages
from initstudy.ensemble.batched.chain import cross_entropy
from initstudy.ensemble.batched.elementwise import BY_AUTOGRAD, FROM_OUTPUT
from initstudy.ensemble.forward import differentiate, evaluate
from initstudy.models import CNN, MLP
from tests.ensemble.test_train import cnn, draws, mlp, plain_loop, problem, run

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
    )  # fmt: skip


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
        f"first-{k}": lambda p=p: nn.Sequential(p, convolutional(nn.ReLU(), shape=p(
            torch.zeros(3, 8, 8)).shape))
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
}  # fmt: skip


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
    model = make()
    chain = stages(model, x[0])
    assert chain is not None
    return Stack(model, members, stages=chain)


def close(actual, expected, message=None):
    torch.testing.assert_close(actual, expected, rtol=2e-4, atol=2e-6, msg=message)


@pytest.mark.parametrize("groups", [1, 2, MEMBERS])
@pytest.mark.parametrize("name", MODELS)
def test_a_pass_is_that_of_plain_autograd(name, groups):
    """Losses, accuracies, gradients, kept outputs, their gradients, and running statistics."""
    make = MODELS[name]
    models, (x, y) = members_of(make), data(make, groups)
    stack = batched(make, models, x)
    layers = find_layers(make(), x[0])
    for _ in range(2):  # Once more, since running statistics depend on those before.
        seen = differentiate(stack, x, y, layers)
        for place, model in enumerate(models):
            group = place * groups // MEMBERS
            loss, hits, kept = by_autograd(model, x[group], y[group], layers)
            close(seen.loss[place], loss)
            assert seen.hits[place] == hits
            for param, grad in zip(model.parameters(), seen.grads, strict=True):
                close(grad[place], param.grad)
            for layer in layers:
                output, grad = kept[layer.output]
                close(seen.outputs[layer.output][place], output)
                close(seen.output_grads[layer.output][place], grad)
            for key, buffer in model.named_buffers():
                close(stack.buffers[key][place], buffer)


def by_autograd(model, x, y, layers):
    """One member's loss, accuracy, and outputs with the gradients by them."""
    kept = {}

    def hook(name, output):
        if name not in kept:
            # A copy, since an activation in place would change what was seen.
            tap = torch.zeros_like(output, requires_grad=True)
            kept[name] = (output + tap).detach().clone(), tap
            return output + tap
        return None

    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda _m, _a, output, name=name: hook(name, output)
        )
        for name in {layer.output for layer in layers}
    ]
    model.zero_grad()
    logits = model(x)
    loss = F.cross_entropy(logits, y)
    loss.backward()
    for handle in handles:
        handle.remove()
    hits = (logits.argmax(1) == y).float().mean()
    return loss.detach(), hits, {name: (value, tap.grad) for name, (value, tap) in kept.items()}


@pytest.mark.parametrize("name", MODELS)
def test_evaluation_is_that_of_each_model_in_evaluation_mode(name):
    make = MODELS[name]
    models, (x, y) = members_of(make), data(make)
    stack = batched(make, models, x)
    differentiate(stack, x, y)
    test = data(make, 1, seed=1)
    found = evaluate(stack, iter([(test[0][0], test[1][0])]))
    for place, model in enumerate(models):
        model(x[place])
        with torch.no_grad():
            loss = F.cross_entropy(model.eval()(test[0][0]), test[1][0])
        assert found["test/loss"][place].item() == pytest.approx(loss.item(), rel=1e-5)
    differentiate(stack, x, y)  # It is in training mode again.
    for place, model in enumerate(models):
        model.train()(x[place])
        for key, buffer in model.named_buffers():
            close(stack.buffers[key][place], buffer)


def test_predictions_are_those_of_argmax():
    """Of equals the first; what is not finite predicts nothing."""
    inf, nan = float("inf"), float("nan")
    rows = torch.tensor([
        [1.0, 2.0, 2.0], [2.0, 2.0, 1.0], [0.0, 0.0, 0.0], [inf, 0.0, 0.0], [-inf, 1.0, 0.0],
        [nan, 1.0, 0.0], [0.0, nan, 0.0], [nan, nan, nan], [-0.0, 0.0, -1.0], [3.0, 1.0, 2.0],
    ])  # fmt: skip
    for label in range(3):
        y = torch.full((1, len(rows)), label)
        each = [cross_entropy(row[None, :, None], y[:, :1])[1].item() for row in rows]
        expected = (rows.argmax(-1) == y[0]) & torch.isfinite(rows).all(-1)
        assert each == expected.float().tolist()


def test_the_loss_of_large_logits_is_that_of_torch():
    logits = torch.tensor([[100.0, -100.0, 0.0], [1e30, 0.0, 0.0], [0.0, 1e-30, 3e38]])
    y = torch.tensor([1, 0, 0])
    for row, label in zip(logits, y, strict=True):
        ours = cross_entropy(row[None, :, None], label[None, None])
        alone = row.clone().requires_grad_()
        loss = F.cross_entropy(alone[None], label[None])
        loss.backward()
        assert ours[0].item() == loss.item()
        torch.testing.assert_close(ours[2][0, :, 0], alone.grad)


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
    "layer-norm-of-rows": lambda: nn.Sequential(
        nn.LayerNorm(6), nn.Flatten(), nn.Linear(36, 4)
    ),
    "linear-on-rows": lambda: nn.Sequential(nn.Linear(6, 6), nn.Flatten(), nn.Linear(36, 4)),
    "unused": Unused,
}  # fmt: skip
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
    assert stages(model, torch.zeros(2, 1, 6, 6)) is None
    assert model.training


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_still_trains_like_a_plain_loop(name):
    make = REFUSED[name]
    models, batches = members_of(make, 2), problem(2)
    members = [{n: p.detach().clone() for n, p in m.named_parameters()} for m in models]
    ours, theirs = (lambda p: SGD(p, lr=0.02)), (lambda p: torch.optim.SGD(p, 0.02))
    rows, summaries, _ = run(make, members, batches, optimizer=ours, chained=True, probes="full")
    for member, params in enumerate(members):
        losses, test_loss = plain_loop(make, params, batches, member, theirs)
        logged = [row.values["train/loss"] for row in rows[member][1:]]
        assert logged == pytest.approx(losses, rel=1e-4)
        assert summaries[member]["test/loss"] == pytest.approx(test_loss, rel=1e-4)
        assert losses[-1] != pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("make", [mlp, cnn], ids=["mlp", "cnn-batchnorm"])
def test_the_size_of_a_pack_changes_a_loss_by_rounding_only(make):
    """Matrix products of other sizes may add up in another order."""
    sizes, batches = (1, 2, 5), problem(1)
    logged = []
    for size in sizes:
        shared = lambda step, m=None: tuple(t[:1] for t in batches(step))  # noqa: E731
        rows, _, _ = run(
            make, draws(make, (0.1,) * size), shared, chained=True,
            optimizer=lambda p: Adam(p, lr=0.002),
        )  # fmt: skip
        logged.append([[r.values["train/loss"] for r in of_member] for of_member in rows])
    for size, of_pack in zip(sizes, logged, strict=True):
        assert len(of_pack) == size
        for losses in of_pack:
            assert losses == pytest.approx(logged[0][0], rel=1e-4)
