"""The benchmark: everybody does the same work, and the page says what was found."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch

from initstudy.config.paths import CONF
from initstudy.tasks import Batches
from initstudy.tasks.images import load

FOLDER = CONF.parent / "experiments"


@pytest.fixture
def tasks(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return import_module("contenders.tasks")


@pytest.fixture
def verdicts(tasks):
    return import_module("benchmark.verdicts")


def work(tasks, name, **changes):
    task = [name, "--steps=20", "--stds=2", "--seeds=2", *changes.pop("more", [])]
    return tasks.work_of(tasks.parser("one line").parse_args(task))


@pytest.mark.parametrize(
    "contender",
    [["jax_vmap"], ["joblib_processes"], ["command", "--probes=basic", "--tracking=offline"]],
    ids=lambda contender: contender[0],
)
def test_contenders_end_with_the_losses_of_the_plain_loop(tasks, contender):
    """The others are that loop, fed or begun in other ways."""
    measure = import_module("benchmark.measure")
    asked = ["mlp_digits", "--steps=20", "--stds=2", "--seeds=2", "--device=cpu"]
    plain = measure.run("plain", [*asked, "--threads=1"])
    assert len(set(plain["losses"])) == 4
    script, *options = contender
    found = measure.run(script, [*options, *asked])
    assert found["losses"] == pytest.approx(plain["losses"], rel=1e-4)
    assert found["rate"] > 0


def test_the_batches_are_those_of_initstudy(tasks):
    asked = work(tasks, "mlp_digits")
    problem = tasks.prepare(asked)
    batches = Batches(load("digits"), asked.seeds, asked.task.batch)
    for step in (0, 19):
        x, y = batches(step)
        for member, seed in enumerate(asked.seeds):
            rows = problem.order[seed][step]
            assert torch.equal(problem.train_x[rows], x[member])
            assert torch.equal(problem.train_y[rows], y[member])


@pytest.mark.parametrize("name", ["mlp_digits", "cnn_digits", "lstm_digits"])
def test_the_models_in_jax_are_those_of_torch(tasks, name):
    models = import_module("contenders.jax_models")
    asked = work(tasks, name)
    problem = tasks.prepare(asked)
    torch.manual_seed(0)
    model = tasks.build(asked, problem.data, 0.3, 0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    x = problem.test_x[:5]
    values = {key: value.detach().numpy() for key, value in model.named_parameters()}
    params = models.translated(asked.task.model, values, problem.data.shape[1:])
    images = x.movedim(1, -1).numpy()
    theirs = np.asarray(models.MODELS[asked.task.model](params, images))
    np.testing.assert_allclose(theirs, model(x).detach().numpy(), rtol=1e-3, atol=1e-4)


def test_a_contender_that_did_other_work_is_marked(verdicts):
    measure, page = import_module("benchmark.measure"), import_module("benchmark.page")
    assert measure.apart([1.0, 0.5], [1.0, 0.4]) == pytest.approx(0.25)
    assert measure.apart([1.0, float("nan")], [1.0, 0.4]) == float("inf")
    one = {"rate": 10.0, "seconds": 1.0, "whole": 2.0, "apart": 0.0, "packs": ""}
    results = {name: [dict(one)] for name in measure.CONTENDERS}
    results["joblib"][0]["apart"] = 0.25
    results["machine"] = [{"peak": 1e9, "flops_of_a_run": 1e6}]
    _, lines = page.detail({"results": results, "member_steps": 20, "runs": 2})
    assert [line[0] for line in lines if "other work" in " ".join(line)] == ["joblib"]


def test_verdicts_go_by_medians_and_can_fail(verdicts):
    rates = {
        "plain loop": [1, 2, 9],
        "JAX": [16, 16, 16],
        "initstudy": [40, 20, 1],
        "initstudy, basic probes": [19],
        "initstudy, W&B offline": [10],
        "initstudy, basic probes and W&B offline": [19],
    }
    found = {name: [{"rate": rate} for rate in values] for name, values in rates.items()}
    said = {v.what: v for v in verdicts.of_row("mlp_digits", "row", found, 0.1)}
    assert said["row: over plain loop"].reached == "10.00×"
    assert said["row: over JAX"].word == "FAIL"
    assert said["row: overhead of basic probes"].word == "PASS"
    assert said["row: overhead of W&B offline"].reached == "100.0%"
    assert said["row: overhead of W&B offline"].word == "FAIL"
    wide = list(verdicts.of_row("mlp_mnist_wide", "row", found, 0.59))
    assert [v.word for v in wide if "GEMM" in v.what] == ["FAIL"]


def test_a_part_that_was_not_measured_passes_nothing(verdicts):
    found = {name: [] for name in verdicts.OVERHEADS}
    found |= {"plain loop": [{"rate": 1}], "initstudy": [{"rate": 20}], "JAX": [{"absent": "none"}]}
    said = {v.what: v for v in verdicts.of_row("mlp_digits", "row", found, 0.1)}
    assert said["row: over JAX"].reached == "–"
    assert said["row: over JAX"].word == "FAIL"


def test_mnist_keeps_its_training_set_and_the_first_test_images(tasks, tmp_path, monkeypatch):
    mnist = import_module("benchmark.mnist")
    monkeypatch.setattr(mnist, "TEST_IMAGES", 2)
    raw = tmp_path / "data" / mnist.RAW
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part, count in (("train", 6), ("t10k", 4)):
        images = random.integers(0, 255, (count, 28, 28), dtype=np.uint8)
        head = np.array([0x803, count, 28, 28], ">i4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = np.array([0x801, count], ">i4").tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(head + bytes(range(count)))
    whole = load("mnist", tmp_path / "data", download=False)
    less = load(
        "mnist", mnist.with_small_test_set(tmp_path / "data", tmp_path / "less"), download=False
    )
    assert torch.equal(less.train.x, whole.train.x)
    assert torch.equal(less.test.x, whole.test.x[:2])
    assert less.test.y.tolist() == [0, 1]
