"""The compiled step is the step of plain PyTorch, for every member, whatever its neighbours."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initstudy.engine.batched.engine import Batched
from initstudy.engine.choose import choose_engine
from initstudy.engine.compiled.engine import Compiled
from initstudy.engine.contract import Batch
from initstudy.engine.optimizers import SGD, Adam, AdamW
from initstudy.engine.schedule import Schedule
from initstudy.engine.stack import Stack
from initstudy.engine.train import train
from initstudy.engine.workload import Workload
from initstudy.probes.layers import find_layers
from initstudy.probes.statistics import Probes, update_ratios

STEPS, MEMBERS, BATCH, INPUTS, CLASSES = 12, 6, 10, 12, 5
MODELS = {
    "mlp": lambda: nn.Sequential(
        nn.Flatten(),
        nn.Linear(INPUTS, 9),
        nn.ReLU(),
        nn.Linear(9, 7),
        nn.ReLU(),
        nn.Linear(7, CLASSES),
    ),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, CLASSES)),
    "no-bias": lambda: nn.Sequential(
        nn.Flatten(),
        nn.Linear(INPUTS, 17, bias=False),
        nn.ReLU(),
        nn.Linear(17, CLASSES, bias=False),
    ),
    "deep-linear": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(INPUTS, 4), nn.Identity(), nn.Linear(4, 3), nn.Linear(3, CLASSES)
    ),
    "one-unit": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(INPUTS, 1), nn.ReLU(), nn.Linear(1, CLASSES)
    ),
}
# Of a member: learning rate, weight decay, momentum.
RATES = [(0.02 * (k + 1), 0.01 * k, 0.15 * k) for k in range(MEMBERS)]
OPTIMIZERS = {
    "sgd": (
        lambda p, lr, decay, _: SGD(p, lr=lr, weight_decay=decay),
        lambda p, lr, decay, _: torch.optim.SGD(p, lr, weight_decay=decay),
    ),
    "momentum": (
        lambda p, lr, decay, mu: SGD(p, lr=lr, weight_decay=decay, momentum=mu),
        lambda p, lr, decay, mu: torch.optim.SGD(p, lr, momentum=mu, weight_decay=decay),
    ),
    "nesterov": (
        lambda p, lr, decay, _: SGD(p, lr=lr, weight_decay=decay, momentum=0.8, nesterov=True),
        lambda p, lr, decay, _: torch.optim.SGD(
            p, lr, momentum=0.8, nesterov=True, weight_decay=decay
        ),
    ),
    "adam": (
        lambda p, lr, decay, _: Adam(p, lr=lr, weight_decay=decay, betas=(0.8, 0.99), eps=1e-3),
        lambda p, lr, decay, _: torch.optim.Adam(
            p, lr, betas=(0.8, 0.99), eps=1e-3, weight_decay=decay
        ),
    ),
    "adamw": (
        lambda p, lr, decay, _: AdamW(p, lr=lr, weight_decay=decay, eps=1e-3),
        lambda p, lr, decay, _: torch.optim.AdamW(p, lr, eps=1e-3, weight_decay=decay),
    ),
}


def drawn(make, size=MEMBERS):
    models = []
    for seed in range(size):
        torch.manual_seed(seed)
        models.append(make())
    return models


def data(groups, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(STEPS, groups, BATCH, 1, 3, INPUTS // 3, generator=generator)
    return x, torch.randint(CLASSES, (STEPS, groups, BATCH), generator=generator)


def choice_of(make, optimizer=SGD, engines=(Compiled, Batched)):
    model = make()
    example = torch.zeros(2, 1, 3, INPUTS // 3, dtype=next(model.parameters()).dtype)
    return choose_engine(Workload(model, example, optimizer=optimizer), engines)


def engine_of(kind, make, models, optimizer="momentum", rates=RATES):
    members = [{n: p.detach().clone() for n, p in m.named_parameters()} for m in models]
    stack = Stack(make(), members)
    lr, decay, momentum = (list(values) for values in zip(*rates[: len(models)], strict=True))
    made = OPTIMIZERS[optimizer][0](list(stack.params.values()), lr, decay, momentum)
    layers = find_layers(make(), torch.zeros(2, 1, 3, INPUTS // 3))
    return choose_engine(
        Workload(make(), torch.zeros(2, 1, 3, INPUTS // 3), optimizer=type(made)), (kind,)
    ).build(stack, made, layers)


def compiled(*args, **kwargs):
    return engine_of(Compiled, *args, **kwargs)


def values_of(engine):
    return [engine.stack.member(k) for k in range(engine.stack.size)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("groups", [1, 3, MEMBERS])
def test_members_train_like_plain_models_with_torchs_optimizers(make, groups, optimizer):
    models = drawn(make)
    engine = compiled(make, models, optimizer)
    optimizers = [
        OPTIMIZERS[optimizer][1](m.parameters(), *r) for m, r in zip(models, RATES, strict=True)
    ]
    x, y = data(groups)
    for t in range(STEPS):
        losses = engine.step(Batch(x[t], y[t]))
        for k, (model, optim) in enumerate(zip(models, optimizers, strict=True)):
            group = k * groups // MEMBERS
            logits = model(x[t, group])
            loss = F.cross_entropy(logits, y[t, group])
            optim.zero_grad()
            loss.backward()
            optim.step()
            assert losses.loss[k].item() == pytest.approx(loss.item(), rel=2e-5)
            accuracy = (logits.argmax(1) == y[t, group]).float().mean()
            assert losses.metrics["accuracy"][k] == accuracy
    for found, model in zip(values_of(engine), models, strict=True):
        for name, param in model.named_parameters():
            torch.testing.assert_close(found[name], param.detach(), rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_a_member_is_the_same_to_the_last_bit_alone_and_in_any_pack(optimizer):
    make = MODELS["mlp"]
    models = drawn(make)
    x, y = data(1)
    together = compiled(make, models, optimizer)
    found = [together.step(Batch(x[t], y[t])).loss for t in range(STEPS)]
    for k, model in enumerate(models):
        alone = compiled(make, [model], optimizer, RATES[k:])
        for t in range(STEPS):
            assert alone.step(Batch(x[t], y[t])).loss == found[t][k]
        for name, value in values_of(alone)[0].items():
            assert torch.equal(value, together.stack.member(k)[name])


def test_members_shared_out_to_threads_are_the_same_to_the_last_bit():
    make = MODELS["mlp"]
    x, y = data(2)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            engine = compiled(make, drawn(make))
            found.append([engine.step(Batch(x[t], y[t])) for t in range(STEPS)])
            assert len(engine._scratch[BATCH]) == threads
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one.loss, other.loss)
        assert torch.equal(one.metrics["accuracy"], other.metrics["accuracy"])


def test_a_member_that_diverges_is_frozen_as_it_was_and_touches_nobody():
    make = MODELS["mlp"]
    models = drawn(make)
    x, y = data(1)
    healthy = compiled(make, models)
    with torch.no_grad():
        models[2][1].weight.mul_(1e30)
        models[2][3].weight.mul_(1e30)
    engine = compiled(make, models)
    frozen = engine.stack.member(2)
    for t in range(STEPS):
        expected = healthy.step(Batch(x[t], y[t]))
        losses = engine.step(Batch(x[t], y[t]))
        assert not losses.loss[2].isfinite()
        assert losses.metrics["accuracy"][2] == 0
        others = [0, 1, 3, 4, 5]
        assert torch.equal(losses.loss[others], expected.loss[others])
    assert engine.health.alive.tolist() == [True, True, False, True, True, True]
    assert engine.health.diverged_at.tolist() == [-1, -1, 0, -1, -1, -1]
    assert engine.health.updates == STEPS
    for name, value in engine.stack.member(2).items():
        assert torch.equal(value, frozen[name])


@pytest.mark.parametrize("broken", [None, "large", "nan", "dead"])
@pytest.mark.parametrize("updating", [True, False])
def test_what_is_watched_is_what_the_probes_measure(broken, updating):
    make = MODELS["mlp"]
    models = drawn(make)
    with torch.no_grad():
        if broken == "large":
            models[1][3].weight.mul_(3e38)
        if broken == "nan":
            models[1][3].bias[0] = torch.nan
        if broken == "dead":
            models[1][1].bias.fill_(-100)
    x, y = data(3)
    engine, plain = compiled(make, models), engine_of(Batched, make, models)
    before = {name: p.detach().clone() for name, p in engine.stack.params.items()}
    expected_losses, expected = plain.probe_step(Batch(x[0], y[0]), "basic", updating=updating)
    if not updating:
        # The compiled step reports an update of zero.
        expected |= update_ratios(engine.layers, before, before, expected)
    losses, found = engine.probe_step(Batch(x[0], y[0]), "basic", updating=updating)
    torch.testing.assert_close(losses.loss, expected_losses.loss, equal_nan=True)
    torch.testing.assert_close(
        losses.metrics["accuracy"], expected_losses.metrics["accuracy"], equal_nan=True
    )
    assert found.keys() == expected.keys()
    for key in expected:
        torch.testing.assert_close(
            found[key], expected[key], rtol=1e-4, atol=1e-7, equal_nan=True, msg=key
        )
    if not updating:
        assert engine.health.updates == 0
        assert engine.health.alive.all()
        now = {n: p.detach() for n, p in engine.stack.params.items()}
        torch.testing.assert_close(now, before, rtol=0, atol=0, equal_nan=True)


def test_scores_are_those_of_plain_models():
    make = MODELS["mlp"]
    models = drawn(make)
    engine = compiled(make, models)
    x, y = data(1)
    for chunk in (slice(None), slice(0, 3)):
        losses = engine.scores(Batch(x[0, 0, chunk], y[0, 0, chunk]))
        for k, model in enumerate(models):
            logits = model(x[0, 0, chunk])
            expected = F.cross_entropy(logits, y[0, 0, chunk]).item()
            assert losses.loss[k].item() == pytest.approx(expected, rel=1e-5)
            accuracy = (logits.argmax(1) == y[0, 0, chunk]).float().mean()
            assert losses.metrics["accuracy"][k] == accuracy


def test_training_takes_the_compiled_step_and_probes_change_no_result(monkeypatch):
    make = MODELS["mlp"]
    x, y = data(1)
    calls = []
    run = Compiled._run
    monkeypatch.setattr(
        Compiled, "_run", lambda self, *a, **k: calls.append(k["updating"]) or run(self, *a, **k)
    )
    losses = {}
    for preset in ("off", "basic"):
        rows = train(
            compiled(make, drawn(make)),
            lambda t, _: (x[t], y[t]),
            lambda: iter([(x[0, 0], y[0, 0])]),
            Schedule(STEPS - 1, 1, STEPS, Probes(preset, 3)),
        )
        losses[preset] = [row.values["train/loss"] for row in rows if "train/loss" in row.values]
    assert losses["off"] == losses["basic"]
    # One step more, to look at the last state without an update.
    assert calls == [True] * (STEPS - 1) + [True] * (STEPS - 1) + [False]


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, 4), nn.Tanh(), nn.Linear(4, CLASSES)),
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(4, CLASSES)),
        lambda: nn.Sequential(nn.Flatten(), nn.LayerNorm(INPUTS), nn.Linear(INPUTS, CLASSES)),
        lambda: nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(INPUTS, CLASSES)),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, CLASSES), nn.ReLU()),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, CLASSES)).double(),
    ],
    ids=["tanh", "conv", "layer-norm", "relu-first", "relu-last", "double"],
)
def test_other_models_are_trained_by_batched_kernels(make):
    assert choice_of(make).engine is Batched


def test_a_label_beyond_the_classes_is_an_error():
    engine = compiled(MODELS["mlp"], drawn(MODELS["mlp"]))
    x, y = data(1)
    with pytest.raises(IndexError, match="target"):
        engine.step(Batch(x[0], torch.full_like(y[0], CLASSES)))
