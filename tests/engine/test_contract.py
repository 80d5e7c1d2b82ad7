"""Every cell of docs/engines.md: what the engines say of themselves, tried on small models."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from initstudy.engine.autograd import OneByOne
from initstudy.engine.choose import ENGINES, choose_engine
from initstudy.engine.contract import Batch, Engine
from initstudy.engine.graph import Graph
from initstudy.engine.losses import PerExample
from initstudy.engine.optimizers import OPTIMIZERS, SGD, Rates, Target
from initstudy.engine.stack import Stack
from initstudy.engine.workload import Workload
from initstudy.probes.layers import find_layers
from tests import plain_optimizers
from tests.engine.test_graphs import Recorded
from tests.engines import (
    CLASSES,
    DOCUMENT,
    PRECISIONS,
    SUBJECTS,
    TARGET,
    TOKENS,
    dense,
    document,
    taken,
)

STEPS, MEMBERS, EXAMPLES = 6, 3, 8
KINDS = {engine.capabilities.name: engine for engine in ENGINES}
BY_TITLE = {subject.title: subject for subject in SUBJECTS}
DENSE = SUBJECTS[0]
SETTINGS = {
    "sgd": ({"lr": 0.1, "momentum": 0.9}, torch.optim.SGD),
    "adam": ({"lr": 0.01}, torch.optim.Adam),
    "adamw": ({"lr": 0.01, "weight_decay": 0.1}, torch.optim.AdamW),
    "rmsprop": ({"lr": 0.003, "momentum": 0.5}, torch.optim.RMSprop),
    "lion": ({"lr": 0.001, "weight_decay": 0.1}, plain_optimizers.lion),
    "muon": ({"lr": 0.01, "weight_decay": 0.1}, plain_optimizers.Muon),
}


def inputs_of(subject, *size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if subject.shape is None:
        return torch.randint(TOKENS, (*size, 5), generator=generator)
    return torch.randn(*size, *subject.shape, generator=generator)


def batches_of(subject, groups):
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(CLASSES, (STEPS, groups, EXAMPLES), generator=generator)
    inputs = inputs_of(subject, STEPS, groups, EXAMPLES)
    return [Batch(x, y) for x, y in zip(inputs, targets, strict=True)]


def models_of(make, size=MEMBERS):
    models = []
    for seed in range(size):
        torch.manual_seed(seed)
        models.append(make().train())
    return models


def workload_of(subject, models, optimizer=SGD, loss=None):
    own = {} if loss is None else {"loss": loss}
    example = inputs_of(subject, 2)
    return Workload(copy.deepcopy(models[0]), example, len(models), optimizer=optimizer, **own)


def engine_of(kind, subject, models, optimizer="sgd", **common):
    """An engine over copies of some models; a CUDA graph is replayed by hand."""
    stack = Stack(
        copy.deepcopy(models[0]),
        [{n: p.detach().clone() for n, p in model.named_parameters()} for model in models],
    )
    settings, _ = SETTINGS[optimizer]
    made = OPTIMIZERS[optimizer](list(stack.params.values()), **settings, **common)
    layers = find_layers(copy.deepcopy(models[0]), inputs_of(subject, 2))
    engine = kind.build(workload_of(subject, models, type(made)), stack, made, layers)
    if kind is Graph:
        engine.recorder = Recorded()
    return engine


def plain_losses(model, member, batches, optimizer="sgd"):
    """The losses of an ordinary PyTorch loop."""
    model = copy.deepcopy(model)
    settings, kind = SETTINGS[optimizer]
    optim = kind(model.parameters(), **settings)
    losses = []
    for x, y in batches:
        loss = F.cross_entropy(model(x[member % len(x)]), y[member % len(y)])
        optim.zero_grad()
        loss.backward()
        optim.step()
        losses.append(loss.item())
    return losses


def first_difference(value, expected):
    """The two numbers, and the first of their significant digits that differs."""
    texts = f"{value:.17e}", f"{expected:.17e}"
    digits = [text.replace(".", "") for text in texts]
    first = next((i for i, pair in enumerate(zip(*digits, strict=False), 1) if len({*pair}) > 1), 0)
    return f"{value} and {expected} differ in digit {first}"


def assert_as_plain_loops(engine, models, batches, optimizer="sgd"):
    stepped = [engine.step(batch).loss for batch in batches]
    for member, model in enumerate(models):
        expected = plain_losses(model, member, batches, optimizer)
        losses = [loss[member].item() for loss in stepped]
        for step, (loss, plain) in enumerate(zip(losses, expected, strict=True)):
            message = f"member {member}, step {step}: {first_difference(loss, plain)}"
            assert loss == pytest.approx(plain, rel=1e-4), message
        assert expected[-1] != pytest.approx(expected[0], rel=1e-3)  # something was learned


@pytest.mark.parametrize("title", BY_TITLE)
@pytest.mark.parametrize("name", KINDS)
def test_an_engine_takes_the_layers_that_it_says_and_trains_them_like_plain_loops(name, title):
    kind, subject = KINDS[name], BY_TITLE[title]
    # Random numbers are the same as in a plain loop for a single run only.
    models = models_of(subject.make, MEMBERS if subject.plain else 1)
    workload = workload_of(subject, models_of(subject.make))
    reason = kind.refusal(workload)
    assert (reason is None) == subject.taken_by(kind.capabilities), reason
    if reason is None:
        batches = batches_of(subject, len(models))
        engine = engine_of(kind, subject, models)
        assert isinstance(engine, Engine)
        torch.manual_seed(0)
        expected = plain_losses(models[0], 0, batches)
        torch.manual_seed(0)
        if subject.plain:
            assert_as_plain_loops(engine, models, batches)
        else:
            losses = [engine.step(batch).loss.item() for batch in batches]
            assert losses == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", KINDS)
def test_an_engine_takes_the_optimizers_that_it_says(name, optimizer):
    kind, models, batches = KINDS[name], models_of(DENSE.make), batches_of(DENSE, 1)
    taken = kind.capabilities.optimizers
    refused = kind.refusal(workload_of(DENSE, models, OPTIMIZERS[optimizer]))
    assert (refused is None) == (taken is None or optimizer in taken)
    if refused is None:
        engine = engine_of(kind, DENSE, models, optimizer)
        assert_as_plain_loops(engine, models, batches, optimizer)


@pytest.mark.parametrize("name", KINDS)
def test_an_engine_takes_optimizers_of_torchs_form_only_if_it_says_so(name):
    kind, models = KINDS[name], models_of(DENSE.make)
    refused = kind.refusal(workload_of(DENSE, models, Target))
    assert (refused is None) == taken(kind.capabilities.optimizers, TARGET)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", KINDS)
def test_an_engine_computes_with_a_precision_only_if_it_says_so(name, precision):
    kind, models = KINDS[name], models_of(DENSE.make)
    if name == "graph":  # Its device is not this one.
        return
    workload = replace(workload_of(DENSE, models), precision=precision)
    if precision in kind.capabilities.precisions:
        assert choose_engine(workload, (kind,)).engine is kind
    else:
        with pytest.raises(ValueError, match=f"does not compute with precision={precision}"):
            choose_engine(workload, (kind,))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", KINDS)
def test_every_engine_scales_rates_over_the_steps_and_clips_each_member(name, optimizer):
    """The rates and limits of the members differ, and so does what the plain loops are given."""
    kind, models, batches = KINDS[name], models_of(DENSE.make), batches_of(DENSE, 1)
    if kind.refusal(workload_of(DENSE, models, OPTIMIZERS[optimizer])):
        return
    factors = [[1.0, 0.5, 0.25, 0.5, 1.0, 2.0], [1.0] * STEPS, [0.1] * STEPS]
    rates = Rates(torch.tensor(factors, dtype=torch.float64), [0, 1, 2])
    limits = [0.1, float("inf"), 0.5]
    engine = engine_of(kind, DENSE, models, optimizer, rates=rates, clip_norm=limits)
    losses = [engine.step(batch).loss for batch in batches]
    for member, model in enumerate(models):
        settings, make = SETTINGS[optimizer]
        model = copy.deepcopy(model)
        optim = make(model.parameters(), **settings)
        optims = getattr(optim, "both", [optim])
        bases = [each.param_groups[0]["lr"] for each in optims]
        for step, (x, y) in enumerate(batches):
            loss = F.cross_entropy(model(x[0]), y[0])
            assert losses[step][member].item() == pytest.approx(loss.item(), rel=1e-4)
            optim.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), limits[member])
            for each, base in zip(optims, bases, strict=True):
                each.param_groups[0]["lr"] = base * factors[member][step]
            optim.step()


def test_every_optimizer_of_the_compiled_step_is_one():
    for engine in ENGINES:
        assert set(engine.capabilities.optimizers or ()) <= set(OPTIMIZERS)


@pytest.mark.parametrize("name", KINDS)
def test_an_engine_takes_any_loss_only_if_it_says_so(name):
    kind, models = KINDS[name], models_of(DENSE.make)
    own = PerExample(
        "own", lambda output, target: F.cross_entropy(output, target, reduction="none")
    )
    workload = workload_of(DENSE, models, loss=own)
    if name == "graph":  # Its device is not this one.
        assert kind.capabilities.losses is not None
        return
    if kind.capabilities.losses is None:
        assert choose_engine(workload, (kind,)).engine is kind
    else:
        with pytest.raises(ValueError, match="no kernel for the loss own"):
            choose_engine(workload, (kind,))


@pytest.mark.parametrize("preset", ["basic", "full"])
@pytest.mark.parametrize("name", KINDS)
def test_every_engine_measures_what_a_loop_of_single_models_does(name, preset):
    subject = BY_TITLE["`nn.ReLU`"]
    models, (batch, *_) = models_of(subject.make), batches_of(subject, MEMBERS)
    engine, plain = (engine_of(kind, subject, models) for kind in (KINDS[name], OneByOne))
    losses, measured = engine.probe_step(batch, preset, updating=True)
    expected_losses, expected = plain.probe_step(batch, preset, updating=True)
    torch.testing.assert_close(losses.loss, expected_losses.loss)
    assert measured.keys() == expected.keys()
    for column, values in expected.items():
        torch.testing.assert_close(measured[column], values, rtol=1e-4, atol=1e-6, msg=column)
    # And the step was taken.
    for name, param in plain.stack.params.items():
        updated = engine.stack.params[name].detach()
        torch.testing.assert_close(updated, param.detach(), rtol=1e-4, atol=1e-6, msg=name)


SAME_BITS = [
    (name, title)
    for name, kind in KINDS.items()
    for title, subject in BY_TITLE.items()
    if "cpu" in kind.capabilities.devices
    and subject.plain
    and subject.taken_by(kind.capabilities)
    and subject.size_invariant(kind.capabilities)
]


@pytest.mark.parametrize("optimizer", [o for o in OPTIMIZERS if o != "adam"])
@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("graph", "one by one")])
def test_every_optimizer_gives_the_same_bits_in_packs_of_any_size(name, optimizer):
    kind, models = KINDS[name], models_of(DENSE.make, 5)
    if kind.refusal(workload_of(DENSE, models, OPTIMIZERS[optimizer])):
        return
    rates = torch.linspace(1, 0.5, STEPS, dtype=torch.float64)[None]
    trained = []
    for size in (1, 2, 5):
        common = {"rates": Rates(rates, [0] * size), "clip_norm": 0.3}
        engine = engine_of(kind, DENSE, models[:size], optimizer, **common)
        trained.append([engine.step(batch).loss[0].item() for batch in batches_of(DENSE, 1)])
    assert trained[1] == trained[0]
    assert trained[2] == trained[0]


@pytest.mark.parametrize("groups", ["shared", "own"])
@pytest.mark.parametrize(("name", "title"), SAME_BITS)
def test_losses_are_the_same_to_the_bit_alone_and_in_any_pack_if_the_table_says_so(
    name, title, groups
):
    kind, subject = KINDS[name], BY_TITLE[title]
    models = models_of(subject.make, 5)
    trained = {}
    for size in (1, 2, 5):
        engine = engine_of(kind, subject, models[:size], "adam")
        batches = batches_of(subject, 1 if groups == "shared" else 5)
        if groups == "own":
            batches = [Batch(x[:size], y[:size]) for x, y in batches]
        assert engine.size_invariant
        losses = [engine.step(batch).loss[0] for batch in batches]
        trained[size] = [
            *losses,
            engine.scores(Batch(batches[0].inputs[0], batches[0].targets[0])).loss[0],
        ]
    assert trained[2] == trained[1]
    assert trained[5] == trained[1]


def test_an_engine_that_folds_members_into_one_kernel_says_so():
    for title in ("`nn.Conv2d`", "`nn.BatchNorm2d`"):
        subject = BY_TITLE[title]
        for name in ("batched", "vmap"):
            engine = engine_of(KINDS[name], subject, models_of(subject.make))
            assert not engine.size_invariant


def test_the_choice_names_the_reason_of_every_faster_engine():
    def reasons(title, make=None):
        subject = BY_TITLE[title]
        choice = choose_engine(workload_of(subject, models_of(make or subject.make)))
        return choice.name, choice.reasons

    assert reasons("`nn.ReLU`") == ("compiled", {})
    assert reasons("`nn.Tanh`") == (
        "batched",
        {"compiled": "nn.Tanh (2) after 1 is not compiled yet"},
    )
    assert reasons("`nn.LSTM`") == (
        "vmap",
        {
            "compiled": "nn.LSTM (recurrent) is not compiled yet",
            "batched": "nn.LSTM (recurrent) has no batched kernel",
        },
    )
    assert reasons("`nn.Dropout`") == (
        "one by one",
        {
            "compiled": "nn.Dropout (2) is not compiled yet",
            "batched": "nn.Dropout (2) has no batched kernel",
            "vmap": "nn.Dropout draws random numbers",
        },
    )
    name, why = reasons("residual branches")
    assert (name, why["batched"]) == ("vmap", "add joins several branches of its forward")


def test_a_choice_is_made_before_parameters_exist_and_changes_nothing_of_the_model():
    model = dense(torch.nn.BatchNorm1d(8)).train()
    before = copy.deepcopy(model.state_dict())
    choice = choose_engine(Workload(model, torch.randn(4, 2, 6, 6)))
    assert choice.name == "batched"
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_pack_of_one_run_trains_as_a_plain_loop_where_the_group_has_vmap():
    subject = BY_TITLE["`nn.GRU`"]
    choice = choose_engine(workload_of(subject, models_of(subject.make)))
    assert choice.name == "vmap"
    assert choice.of(1).name == "one by one"
    assert choice.of(1).reasons == {**choice.reasons, "vmap": "a single run gains nothing from it"}


def test_the_page_is_what_the_engines_say():
    assert DOCUMENT.read_text() == document()
