"""The recipes of docs/tasks.md, docs/data.md and docs/optimizers.md, word for word.

Each trains to what its page says of it, and its losses are those of a plain PyTorch loop with
torch's own losses and optimizers.
"""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from initstudy import load_weights, store
from initstudy.models import CNN, GPT, LSTM, MLP, Siren
from initstudy.tasks import Batches, characters
from initstudy.training.tasks import load

DOCS = Path(__file__).parents[2] / "docs"
# Steps that are compared with a plain loop.
STEPS = 20


def recipe(title):
    """The files and the command of a section of the pages."""
    pages = ("tasks.md", "data.md", "optimizers.md")
    text = "".join((DOCS / page).read_text() for page in pages)
    section = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```(\w+)\n(.*?)```", section, flags=re.S)
    files = {}
    for language, text in blocks:
        if language == "python":
            files[text.splitlines()[0].removeprefix("# ")] = text
    (line,) = [text for language, text in blocks if language == "sh"]
    words = shlex.split(line.replace("\\\n", " "))
    assert words[:3] == ["python", "-m", "initstudy"]
    return files, words[3:]


@pytest.fixture
def follow(command, tmp_path):
    """Follows a recipe in an empty folder; gives its study."""

    def run(title, *more):
        files, words = recipe(title)
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        sys.modules.pop("mine", None)
        if "make.py" in files:
            runpy.run_path(str(tmp_path / "make.py"))
        given = {word.split("=")[0] for word in more}
        words = [word for word in words if word.split("=")[0] not in given]
        code, out, err = command(*words, *more, "tracking=off")
        assert code == 0, out + err
        return store.load(
            "runs/" + dict(w.split("=", 1) for w in [*words, *more] if "=" in w)["name"]
        )

    yield run
    sys.modules.pop("mine", None)


def mine():
    import mine

    return mine


def striped(root, classes=3, count=40, size=16):
    """Pictures of stripes: across, down, or slanted, each with noise."""
    from PIL import Image

    rng = np.random.default_rng(0)
    rows, columns = np.indices((size, size))
    for label, phase in enumerate((rows, columns, rows + columns)[:classes]):
        (root / f"kind{label}").mkdir(parents=True)
        for index in range(count):
            wave = np.sin(2 * np.pi * (phase / 6 + rng.uniform()))
            pixels = 127 + 60 * wave[..., None] + rng.normal(0, 25, (size, size, 3))
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(root / f"kind{label}" / f"{index}.png")


def check_against_a_plain_loop(follow, title, make, loss, optimizer=torch.optim.SGD, more=()):
    """The first steps of every run of a recipe, as everybody would write them."""
    study = follow(
        title,
        f"max_steps={STEPS}",
        "log_every=1",
        "eval_every=1000",
        "probes.every=7",
        "save_weights=init",
        "name=short",
        *more,
    )
    for row in study.runs.iter_rows(named=True):
        config = OmegaConf.to_container(
            OmegaConf.load(f"runs/short/runs/{row['run']}/.hydra/config.yaml")
        )
        data = load(config["data"])
        if config["data"]["validation"] is not None:
            data = data.hold_out(config["data"]["validation"], config["seed"])
        model = load_weights(f"runs/short/runs/{row['run']}", make(data), moment="init").train()
        taken = ("lr", "momentum", "betas", "alpha")
        options = {k: v for k, v in config["optimizer"].items() if k in taken}
        trained = [p for p in model.parameters() if p.requires_grad]
        steps = optimizer(trained, **options)
        batches = Batches(data, [config["seed"]], config["batch_size"])
        torch.manual_seed(config["seed"])
        expected = []
        for step in range(STEPS):
            x, y = batches(step)
            x = {k: v[0] for k, v in x.items()} if isinstance(x, dict) else x[0]
            output = model(**x) if isinstance(x, dict) else model(x)
            value = loss(output, y[0])
            expected.append(value.item())
            steps.zero_grad()
            value.backward()
            steps.step()
        rows = study.history.filter(pl.col("run") == row["run"]).sort("step")
        found = rows.filter(pl.col("step") > 0)["train/loss"].to_list()
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_pictures_in_folders(follow, tmp_path):
    striped(tmp_path / "pets")
    study = follow("Pictures in folders")
    assert len(study.runs) == 4
    assert study.runs["test/accuracy"].min() > 0.95
    check_against_a_plain_loop(
        follow, "Pictures in folders", lambda data: CNN(data.shape, 3, [8, 8]), F.cross_entropy
    )


def test_numbers_from_an_archive(follow):
    title = "Numbers from an archive"
    study = follow(title)
    assert study.runs["test/r2"].min() >= 0.9
    assert "test/accuracy" not in study.runs.columns
    # What is selected is selected by the data that were held out.
    for row in study.runs.iter_rows(named=True):
        rows = study.history.filter(pl.col("run") == row["run"]).drop_nulls("validation/r2")
        best = rows.sort("validation/r2", descending=True).row(0, named=True)
        assert row["best/validation/r2"] == best["validation/r2"]
        assert row["best/test/r2"] == best["test/r2"]
    check_against_a_plain_loop(
        follow,
        title,
        lambda data: MLP(data.shape, 1, width=48),
        lambda output, y: F.mse_loss(output[:, 0], y),
        torch.optim.Adam,
    )


def test_the_adding_problem(follow):
    study = follow("The adding problem")
    assert study.runs["test/loss"].item() < 0.05
    assert study.runs["test/r2"].item() > 0.7
    check_against_a_plain_loop(
        follow,
        "The adding problem",
        lambda data: LSTM(data.shape, 1, width=64),
        lambda output, y: F.mse_loss(output[:, 0], y),
        torch.optim.Adam,
    )


def bigram_bits(data):
    """The bits per character of a bigram model with one count added to each pair."""
    counts = torch.ones(data.classes, data.classes)
    x, y = data.train.x.flatten(), data.train.y.flatten()
    counts.index_put_((x, y), torch.ones(len(x)), accumulate=True)
    chances = counts / counts.sum(1, keepdim=True)
    return -chances[data.test.x.flatten(), data.test.y.flatten()].log2().mean().item()


def test_a_language_model(follow):
    study = follow("A language model")
    row = study.runs.row(0, named=True)
    assert row["test/bits_per_token"] < bigram_bits(characters(length=32))
    assert row["test/perplexity"] == pytest.approx(2 ** row["test/bits_per_token"], rel=1e-9)
    # The probes see the tied weights in both of their layers.
    assert study.history["weight/tokens/rms"].drop_nulls().to_list() == pytest.approx(
        study.history["weight/head/rms"].drop_nulls().to_list()
    )
    check_against_a_plain_loop(
        follow,
        "A language model",
        lambda data: GPT(data.shape, data.classes, width=32, depth=1, heads=2),
        lambda output, y: F.cross_entropy(output.flatten(0, 1), y.flatten()),
        torch.optim.Adam,
        # At the recipe's rate Adam multiplies what torch's fused attention rounds otherwise.
        ["optimizer.lr=0.001"],
    )


def test_a_photograph(follow):
    study = follow("A photograph")
    psnr = dict(study.runs.select("init", "test/psnr").iter_rows())
    assert psnr["own"] > 25
    assert psnr["torch"] < psnr["own"] - 8
    check_against_a_plain_loop(
        follow,
        "A photograph",
        lambda data: Siren((2,), 1, depth=2, width=48),
        F.mse_loss,
        torch.optim.Adam,
    )


def test_several_inputs_and_outputs_by_name(follow):
    title = "Several inputs, and outputs by name"
    study = follow(title)
    assert study.runs["test/accuracy"].min() > 0.9
    assert "activation/left/rms" in study.history.columns
    check_against_a_plain_loop(
        follow,
        title,
        lambda data: mine().Pair(2),
        lambda output, y: F.cross_entropy(output["answer"], y),
        torch.optim.Adam,
    )


def test_tied_weights_and_frozen_weights(follow):
    title = "Tied weights, frozen weights"
    study = follow(title, "save_weights=both")
    assert study.runs["test/accuracy"].min() > 0.8
    for run in study.runs["run"]:
        start, end = (
            load_weights(f"runs/tied/runs/{run}", mine().Tied(10), moment=moment)
            for moment in ("init", "final")
        )
        assert torch.equal(start.features.weight, end.features.weight)
        assert torch.equal(start.features.bias, end.features.bias)
        assert not torch.equal(start.encode.weight, end.encode.weight)
    assert study.history["weight/features/update_ratio"].drop_nulls().max() == 0
    check_against_a_plain_loop(follow, title, lambda data: mine().Tied(10), F.cross_entropy)


def test_dropout_and_batchnorm(follow):
    title = "Dropout and BatchNorm"
    study = follow(title)
    assert study.runs["test/accuracy"].min() > 0.9
    check_against_a_plain_loop(follow, title, lambda data: mine().Noisy(10), F.cross_entropy)


def test_torchvisions_resnet_18(follow, tmp_path):
    from torchvision.models import resnet18

    title = "torchvision's ResNet-18"
    striped(tmp_path / "pets", count=30)
    study = follow(title)
    assert study.runs["train/loss"].item() < 0.3
    check_against_a_plain_loop(follow, title, lambda data: resnet18(num_classes=3), F.cross_entropy)


def test_a_model_of_hugging_faces(follow):
    pytest.importorskip("transformers", reason='needs pip install -e ".[transformers]"')
    title = "A model of Hugging Face's"
    study = follow(title)
    accuracy = dict(study.runs.select("init", "test/accuracy").iter_rows())
    assert accuracy["own"] > 0.95
    # transformers' own deviation of 0.02, as the first row of the probes has it.
    start = study.history.join(study.runs.filter(init="own").select("run"), on="run")
    rms = start.filter(step=0)["weight/bert.encoder.layer.0.attention.self.query/rms"].item()
    assert rms == pytest.approx(0.02, rel=0.1)
    check_against_a_plain_loop(
        follow,
        title,
        lambda data: mine().bert(2),
        lambda output, y: F.cross_entropy(output.logits, y),
        # Adam would divide by gradients that are zero but for rounding, as that of a key's bias.
        more=["optimizer=sgd", "optimizer.lr=0.005"],
    )


def test_a_loss_and_a_metric_of_ones_own(follow):
    title = "A loss and a metric of yours"
    study = follow(title)
    assert study.study["objective"] == "test/worst"
    assert study.runs["test/worst"].max() < 0.35
    best = study.history.drop_nulls("test/worst").group_by("run").agg(pl.col("test/worst").min())
    joined = study.runs.join(best, on="run", suffix="/lowest")
    assert joined["best/test/worst"].to_list() == joined["test/worst/lowest"].to_list()
    check_against_a_plain_loop(
        follow,
        title,
        lambda data: MLP(data.shape, 1),
        lambda output, y: F.huber_loss(output[:, 0], y, delta=0.5),
        torch.optim.Adam,
    )


def test_data_of_ones_own(follow):
    title = "As arrays, tensors or datasets"
    study = follow(title)
    assert study.runs["test/accuracy"].min() > 0.9
    check_against_a_plain_loop(follow, title, lambda data: MLP((2,), 2), F.cross_entropy)


def test_seeds_apart_set_what_they_say(follow):
    def trained(name, *seeds):
        more = ["seed=0", "init=torch", "max_steps=1", "save_weights=init", f"name={name}"]
        study = follow("As arrays, tensors or datasets", *more, "+data.noise=0.2", *seeds)
        folder = f"runs/{name}/runs/{study.runs['run'].item()}"
        start = load_weights(folder, MLP((2,), 2), moment="init").fc1.weight
        return start, study.runs["train/loss"].item()

    weights, loss = trained("base")
    assert torch.equal(trained("same", "seeds.init=0", "seeds.order=0")[0], weights)
    other_order = trained("order", "seeds.order=5")
    assert torch.equal(other_order[0], weights)
    assert other_order[1] != loss
    other_start = trained("init", "seeds.init=5")
    assert not torch.equal(other_start[0], weights)


def test_another_optimizer_of_torch(follow):
    title = "Another optimizer of torch"
    study = follow(title)
    assert len(study.runs) == 4
    assert study.runs["test/accuracy"].min() > 0.9
    assert set(study.runs["optimizer.name"]) == {"RMSprop"}
    check_against_a_plain_loop(
        follow,
        title,
        lambda data: MLP(data.shape, 10),
        F.cross_entropy,
        torch.optim.RMSprop,
        ["optimizer.lr=0.0002"],
    )


def test_a_schedule_of_ones_own(follow):
    study = follow("A schedule of yours")
    assert sorted(study.runs["schedule.cycles"]) == [1, 1, 3, 3]
    assert study.runs["test/accuracy"].min() > 0.95
    assert study.runs["fingerprints.code.mine.restarts"].n_unique() == 1


def test_a_warm_up_and_clipping_rescue_a_standard_deviation_that_diverges(follow):
    study = follow("A warm-up and clipping rescue a large standard deviation")
    assert len(study.runs) == 8
    neither = study.runs.filter(pl.col("clip_norm").is_null(), pl.col("schedule.warmup") == 0)
    assert neither["diverged_step"].is_not_null().all()
    both = study.runs.filter(pl.col("clip_norm") == 1, pl.col("schedule.warmup") == 100)
    assert both["test/accuracy"].min() > 0.9
    assert both["diverged_step"].is_null().all()
    # A warm-up alone is not enough.
    risen = study.runs.filter(pl.col("clip_norm").is_null(), pl.col("schedule.warmup") == 100)
    assert risen["test/accuracy"].max() < 0.2
