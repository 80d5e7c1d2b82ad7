"""Losses and metrics against torch's and scikit-learn's own, and closed forms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, r2_score

from initstudy.tasks import Data, binary, cross_entropy, make_task, mse, psnr
from initstudy.tasks.metrics import (
    ACCURACY,
    BINARY_ACCURACY,
    BITS_PER_TOKEN,
    PERPLEXITY,
    R2,
    TOKEN_ACCURACY,
    own_metric,
)
from initstudy.tasks.task import pick


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def over_chunks(metric, output, target, sizes):
    """A metric as evaluation makes it: from means over chunks, weighted by their lengths."""
    means, start = 0.0, 0
    for size in sizes:
        rows = slice(start, start + size)
        means = means + metric.means(output[rows], target[rows]) * size / sum(sizes)
        start += size
    return metric.value(means).item()


def test_the_losses_have_torchs_own_means():
    logits, labels = torch.randn(7, 5), torch.randint(5, (7,))
    torch.testing.assert_close(
        cross_entropy(logits, labels).mean(), F.cross_entropy(logits, labels)
    )
    tokens = torch.randint(5, (7, 9))
    by_token = torch.randn(7, 9, 5)
    expected = F.cross_entropy(by_token.flatten(0, 1), tokens.flatten())
    torch.testing.assert_close(cross_entropy(by_token, tokens).mean(), expected)
    # torch's own layout of images of classes.
    maps, classes = torch.randn(7, 5, 3, 4), torch.randint(5, (7, 3, 4))
    torch.testing.assert_close(cross_entropy(maps, classes).mean(), F.cross_entropy(maps, classes))
    output, target = torch.randn(7, 3), torch.randn(7, 3)
    torch.testing.assert_close(mse(output, target).mean(), F.mse_loss(output, target))
    flags = torch.randint(2, (7, 3))
    expected = F.binary_cross_entropy_with_logits(output, flags.float())
    torch.testing.assert_close(binary(output, flags).mean(), expected)


def test_a_loss_belongs_to_one_example_alone():
    for loss, output, target in (
        (cross_entropy, torch.randn(6, 4, 5), torch.randint(5, (6, 4))),
        (mse, torch.randn(6, 3), torch.randn(6, 3)),
        (binary, torch.randn(6), torch.randint(2, (6,))),
    ):
        together = loss(output, target)
        alone = torch.cat([loss(output[i : i + 1], target[i : i + 1]) for i in range(6)])
        torch.testing.assert_close(together, alone)
        stacked = torch.vmap(loss)(output.unflatten(0, (2, 3)), target.unflatten(0, (2, 3)))
        torch.testing.assert_close(stacked.flatten(), together)


def test_tokens_of_class_minus_100_do_not_count():
    logits, tokens = torch.randn(2, 4, 5), torch.randint(5, (2, 4))
    masked = tokens.clone()
    masked[0, 2:] = -100
    expected = F.cross_entropy(logits[0, :2], tokens[0, :2])
    torch.testing.assert_close(cross_entropy(logits, masked)[0], expected)
    right = (logits[0, :2].argmax(1) == tokens[0, :2]).double().mean()
    torch.testing.assert_close(TOKEN_ACCURACY.of(logits[:1], masked[:1]), right)


def test_numbers_of_other_shapes_are_refused_and_never_broadcast():
    # (6, 1) less (6,) would be a table of all pairs.
    output, target = torch.randn(6, 1), torch.randn(6)
    torch.testing.assert_close(mse(output, target), (output[:, 0] - target).square())
    with pytest.raises(ValueError, match=r"\(6, 2\) do not fit targets of shape \(6,\)"):
        mse(torch.randn(6, 2), target)
    with pytest.raises(ValueError, match="cross-entropy needs one output per class"):
        cross_entropy(torch.randn(6), torch.zeros(6, dtype=torch.long))


def test_metrics_over_chunks_are_those_over_all_examples():
    sizes = (5, 17, 1, 27)
    logits, labels = torch.randn(50, 4), torch.randint(4, (50,))
    right = accuracy_score(labels, logits.argmax(1))
    assert over_chunks(ACCURACY, logits, labels, sizes) == pytest.approx(right)
    # Targets far from zero, of which a naive variance would lose its digits.
    target = torch.randn(50, 2, dtype=torch.float64) + 300
    output = target + 0.5 * torch.randn(50, 2)
    for values in ((output, target), (output[:, 0], target[:, 0]), (output[:, :1], target[:, 0])):
        expected = r2_score(values[1].numpy().reshape(50, -1), values[0].numpy().reshape(50, -1))
        assert over_chunks(R2, *values, sizes) == pytest.approx(expected, rel=1e-6)
    flags = torch.randint(2, (50, 2))
    expected = ((output - 300 > 0) == flags.bool()).double().mean().item()
    assert over_chunks(BINARY_ACCURACY, output - 300, flags, sizes) == pytest.approx(expected)
    tokens, by_token = torch.randint(6, (50, 3)), torch.randn(50, 3, 6)
    nats = F.cross_entropy(by_token.flatten(0, 1), tokens.flatten()).item()
    bits = over_chunks(BITS_PER_TOKEN, by_token, tokens, sizes)
    assert bits == pytest.approx(nats / math.log(2), rel=1e-5)
    assert over_chunks(PERPLEXITY, by_token, tokens, sizes) == pytest.approx(2**bits)
    pictures = torch.rand(50, 3), torch.rand(50, 3)
    error = (pictures[0] - pictures[1]).square().mean().item()
    assert over_chunks(psnr(), *pictures, sizes) == pytest.approx(-10 * math.log10(error), rel=1e-5)


def test_who_answers_with_the_mean_explains_nothing_and_constants_are_not_divided_by():
    target = torch.randn(40) + 7
    assert R2.of(target.mean().expand(40), target).item() == pytest.approx(0, abs=1e-6)
    assert R2.of(target, target).item() == 1
    constant = torch.full((40,), 3.0)
    assert R2.of(constant, constant).item() == r2_score(constant, constant) == 1
    assert R2.of(constant + 1, constant).item() == r2_score(constant, constant + 1) == 0


def test_outputs_that_are_not_finite_are_wrong():
    logits = torch.tensor([[0.0, 9.0], [float("nan"), 9.0], [0.0, float("inf")]])
    assert ACCURACY.of(logits, torch.tensor([1, 1, 1])).item() == pytest.approx(1 / 3)
    assert BINARY_ACCURACY.of(logits[:, 1], torch.tensor([1, 1, 1])).item() == pytest.approx(2 / 3)


def labelled(targets, inputs=None):
    inputs = torch.randn(len(targets), 3) if inputs is None else inputs
    return Data(train=(inputs, targets), test=(inputs, targets))


@pytest.mark.parametrize(
    ("data", "loss", "metrics", "objective"),
    [
        (labelled(torch.arange(6)), cross_entropy, ["accuracy"], "accuracy"),
        (
            labelled(torch.arange(12).view(6, 2)),
            cross_entropy,
            ["bits_per_token", "perplexity", "accuracy"],
            "bits_per_token",
        ),
        (labelled(torch.randn(6)), mse, ["r2"], "r2"),
        (Data(train=torch.randn(6, 3), test=torch.randn(6, 3)), mse, ["r2"], "r2"),
    ],
)
def test_a_task_follows_its_targets(data, loss, metrics, objective):
    task = make_task(data)
    assert task.loss is loss
    assert [metric.name for metric in task.metrics] == metrics
    assert task.objective == objective
    assert task.better == ("lower" if objective == "bits_per_token" else "higher")


def test_own_losses_and_metrics_have_directions():
    data = labelled(torch.randn(6))

    def huber(output, target):
        return F.huber_loss(output[:, 0], target, reduction="none")

    task = make_task(data, loss=huber)
    assert (task.objective, task.better, task.metrics) == ("loss", "lower", ())
    worst = own_metric("worst", lambda o, t: (o[:, 0] - t).abs().max(), {"better": "lower"})
    task = make_task(data, loss=huber, metrics=[worst], objective="worst")
    assert task.better == "lower"
    output, target = torch.randn(6, 1), torch.randn(6)
    expected = (output[:, 0] - target).abs().max().double()
    torch.testing.assert_close(task.values(task.statistics(output, target))["worst"], expected)


@dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor


def test_the_loss_takes_the_part_of_the_output_that_is_named():
    one, two = torch.zeros(2, 3), torch.ones(2, 3)
    for output, key in (
        (one, None),
        ((one, two), None),
        ((two, one), 1),
        ({"hidden": two, "logits": one}, None),
        ({"reconstruction": one}, None),
        ({"a": two, "b": one}, "b"),
        (Output(one, two), None),
        (Output(two, one), "hidden"),
    ):
        assert pick(output, key) is one
    everything = {"a": one, "b": two}
    assert pick(everything, "all") is everything


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (
            lambda: pick({"a": torch.zeros(2), "b": torch.zeros(2)}, None),
            "returns a mapping with the keys a, b; say which of it the loss takes, by output=KEY",
        ),
        (lambda: pick({"a": torch.zeros(2)}, "c"), "output=c: the model returns a mapping"),
        (lambda: pick((torch.zeros(2),), 3), "output=3: the model returns a tuple of 1"),
        (lambda: pick(None, None), "returns an object of class NoneType"),
        (
            lambda: make_task(labelled(torch.arange(6)), objective="r2"),
            "objective=r2: choose one of accuracy, loss",
        ),
        (
            lambda: make_task(labelled(torch.randn(6)), loss=cross_entropy),
            "loss=cross_entropy: the data has numbers as targets",
        ),
        (
            lambda: make_task(labelled(torch.tensor([0, -1, 2]))),
            "the train targets hold -1; classes are whole numbers from 0 on",
        ),
        (lambda: own_metric("f1", 3, {}), "metrics.f1: is int; give a function"),
        (lambda: own_metric("f1", len, {}), "metrics.f1.better: missing; choose one of higher"),
        (
            lambda: make_task(labelled(torch.randn(6)), loss=lambda o, t: (o - t).mean()).check(
                torch.zeros(2), torch.zeros(2)
            ),
            "the loss gives a single number; it must give one number per example",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(make, line):
    with pytest.raises(ValueError, match=line) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_classes_beyond_those_that_were_promised_are_named():
    x = torch.zeros(3, 1)
    data = Data(train=(x, np.array([0, 1, 5])), test=(x, np.array([0, 1, 1])), classes=3)
    with pytest.raises(ValueError, match="train targets hold the class 5, and there are 3 classes"):
        make_task(data)
