"""A chain of batched kernels against plain autograd, one member at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from initstudy.engine.batched.engine import Batched
from initstudy.engine.contract import Batch
from initstudy.engine.evaluation import evaluate
from initstudy.engine.losses import CROSS_ENTROPY
from initstudy.engine.optimizers import Adam
from initstudy.probes.layers import find_layers
from tests.engine.chains import MEMBERS, MODELS, batched, close, data, members_of
from tests.engine.test_train import cnn, draws, mlp, problem, run


@pytest.mark.parametrize("groups", [1, 2, MEMBERS])
@pytest.mark.parametrize("name", MODELS)
def test_a_pass_is_that_of_plain_autograd(name, groups):
    """Losses, accuracies, gradients, kept outputs, their gradients, and running statistics."""
    make = MODELS[name]
    models, (x, y) = members_of(make), data(make, groups)
    engine = batched(make, models, x)
    layers = find_layers(make(), x[0])
    for _ in range(2):  # Once more, since running statistics depend on those before.
        passed = engine.differentiate(Batch(x, y), layers)
        for place, model in enumerate(models):
            group = place * groups // MEMBERS
            loss, accuracy, kept = by_autograd(model, x[group], y[group], layers)
            close(passed.losses.loss[place], loss)
            assert passed.losses.metrics["accuracy"][place] == accuracy
            for param, grad in zip(model.parameters(), passed.grads, strict=True):
                close(grad[place], param.grad)
            for layer in layers:
                output, grad = kept[layer.output]
                close(passed.outputs[layer.output][place], output)
                close(passed.output_grads[layer.output][place], grad)
            for key, buffer in model.named_buffers():
                close(engine.stack.buffers[key][place], buffer)


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
    accuracy = (logits.argmax(1) == y).float().mean()
    return loss.detach(), accuracy, {name: (value, tap.grad) for name, (value, tap) in kept.items()}


@pytest.mark.parametrize("name", MODELS)
def test_evaluation_is_that_of_each_model_in_evaluation_mode(name):
    make = MODELS[name]
    models, (x, y) = members_of(make), data(make)
    engine = batched(make, models, x)
    engine.differentiate(Batch(x, y))
    test = data(make, 1, seed=1)
    found = evaluate(engine, [(test[0][0], test[1][0])], "test")
    for place, model in enumerate(models):
        model(x[place])
        with torch.no_grad():
            loss = F.cross_entropy(model.eval()(test[0][0]), test[1][0])
        assert found["test/loss"][place].item() == pytest.approx(loss.item(), rel=1e-5)
    engine.differentiate(Batch(x, y))  # It is in training mode again.
    for place, model in enumerate(models):
        model.train()(x[place])
        for key, buffer in model.named_buffers():
            close(engine.stack.buffers[key][place], buffer)


def test_predictions_are_those_of_argmax():
    """Of equals the first; of what is infinite or no number none."""
    inf, nan = float("inf"), float("nan")
    rows = torch.tensor(
        [
            [1.0, 2.0, 2.0],
            [2.0, 2.0, 1.0],
            [0.0, 0.0, 0.0],
            [inf, 0.0, 0.0],
            [-inf, 1.0, 0.0],
            [nan, 1.0, 0.0],
            [0.0, nan, 0.0],
            [nan, nan, nan],
            [-0.0, 0.0, -1.0],
            [3.0, 1.0, 2.0],
        ]
    )
    for label in range(3):
        y = torch.full((1, len(rows)), label)
        losses = [CROSS_ENTROPY.differentiate(row[None, :, None], y[:, :1])[0] for row in rows]
        each = [each.metrics["accuracy"].item() for each in losses]
        expected = (rows.argmax(-1) == y[0]) & (rows < inf).all(-1)
        assert each == expected.float().tolist()


def test_the_loss_of_large_logits_is_that_of_torch():
    logits = torch.tensor([[100.0, -100.0, 0.0], [1e30, 0.0, 0.0], [0.0, 1e-30, 3e38]])
    y = torch.tensor([1, 0, 0])
    for row, label in zip(logits, y, strict=True):
        losses, gradient = CROSS_ENTROPY.differentiate(row[None, :, None], label[None, None])
        alone = row.clone().requires_grad_()
        loss = F.cross_entropy(alone[None], label[None])
        loss.backward()
        assert losses.loss.item() == loss.item()
        torch.testing.assert_close(gradient[0, :, 0], alone.grad)


@pytest.mark.parametrize("make", [mlp, cnn], ids=["mlp", "cnn-batchnorm"])
def test_the_size_of_a_pack_changes_a_loss_by_rounding_only(make):
    """Matrix products of other sizes may add up in another order."""
    sizes, batches = (1, 2, 5), problem(1)
    logged = []
    for size in sizes:
        shared = lambda step, m=None: tuple(t[:1] for t in batches(step))  # noqa: E731
        rows, _, _ = run(
            make,
            draws(make, (0.1,) * size),
            shared,
            engines=(Batched,),
            optimizer=lambda p: Adam(p, lr=0.002),
        )
        logged.append([[r.values["train/loss"] for r in of_member] for of_member in rows])
    for size, of_pack in zip(sizes, logged, strict=True):
        assert len(of_pack) == size
        for losses in of_pack:
            assert losses == pytest.approx(logged[0][0], rel=1e-4)
