from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from initstudy.tasks import Batches
from initstudy.tasks.images import load

REAL_MNIST = [
    root
    for root in (Path("../shared/data"), Path("data"))
    if (root / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file()
]


def write_idx(path: Path, array: np.ndarray) -> None:
    """The file format of MNIST: magic, sizes, bytes."""
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def fake_mnist(root: Path, train=40, test=10, seed=0, name="MNIST") -> Path:
    """A small data set in MNIST's own files, for torchvision's own reader."""
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for part, count in (("train", train), ("t10k", test)):
        write_idx(raw / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (count, 28, 28)))
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    return root


def test_digits_are_the_bundled_images_split_once_and_stratified():
    data = load("digits")
    images, targets = load_digits(return_X_y=True)
    everything = torch.cat([data.train.x, data.test.x]).flatten(1).numpy()
    assert everything.dtype == np.uint8
    ours = sorted(map(tuple, everything.tolist()))
    assert ours == sorted(map(tuple, images.astype(int).tolist()))
    assert len(data.test.y) == 359
    share = np.bincount(data.train.y) / np.bincount(targets)
    assert share == pytest.approx(np.full(10, 0.8), abs=0.01)
    again = load("digits")
    assert torch.equal(again.train.x, data.train.x)


def test_normalized_images_have_mean_zero_and_variance_one():
    x = load("digits")
    normal = x.normalize(x.train.x)
    assert normal.mean().item() == pytest.approx(0, abs=1e-5)
    assert normal.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_every_epoch_shows_each_image_at_most_once_in_an_order_of_the_seed_alone():
    data = load("digits", subset=200)
    alone, together = Batches(data, [7], 60), Batches(data, [3, 7, 7], 60)
    assert alone.per_epoch == 3
    for step in range(7):
        x, y = alone(step)
        xs, ys = together(step)
        assert torch.equal(xs[1], x[0])
        assert torch.equal(ys[2], y[0])
        assert not torch.equal(xs[0], x[0])
    # An image and its label stay together, and none comes twice in an epoch.
    raw = data.normalize(data.train.x).flatten(1)
    for epoch in (0, 1):
        shown = [alone(step) for step in range(3 * epoch, 3 * epoch + 3)]
        x = torch.cat([x[0] for x, _ in shown]).flatten(1)
        y = torch.cat([y[0] for _, y in shown])
        rows = torch.cdist(x, raw).argmin(1)
        assert torch.equal(data.train.y[rows], y)
        assert len(set(rows.tolist())) == 180
    # Steps can be asked for in any order.
    assert torch.equal(alone(0)[0], Batches(data, [7], 60)(0)[0])


@pytest.mark.skipif(not REAL_MNIST, reason="the real MNIST is not on this machine")
def test_real_mnist_has_its_published_numbers():
    data = load("mnist", REAL_MNIST[0], download=False)
    assert (len(data.train.y), len(data.test.y), data.shape) == (60_000, 10_000, (1, 28, 28))
    # Mean and deviation as everybody quotes them, 0.1307 and 0.3081 of 255.
    assert data.moments.mean.item() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert data.moments.std.item() / 255 == pytest.approx(0.3081, abs=5e-5)


def test_torchvisions_files_are_read_as_they_are(tmp_path):
    data = load("mnist", fake_mnist(tmp_path), download=False)
    assert data.train.x.shape == (40, 1, 28, 28)
    expected = np.random.default_rng(0).integers(0, 256, (40, 28, 28)).astype(np.uint8)
    assert np.array_equal(data.train.x[:, 0].numpy(), expected)


@pytest.mark.parametrize("damage", ["truncate", "garble", "labels", "directory"])
def test_a_damaged_dataset_is_one_line_that_says_what_to_do(tmp_path, damage):
    raw = fake_mnist(tmp_path) / "MNIST" / "raw"
    images, labels = raw / "train-images-idx3-ubyte", raw / "train-labels-idx1-ubyte"
    if damage == "truncate":
        images.write_bytes(images.read_bytes()[:1000])
    elif damage == "garble":
        images.write_bytes(gzip.compress(b"not images"))
    elif damage == "labels":
        write_idx(labels, np.full(40, 77))
    else:
        images.unlink()
    with pytest.raises(ValueError, match=r"data\.root=.*data=digits") as refused:
        load("mnist", tmp_path, download=False)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"name": "mnits"}, "data=mnits: unknown; choose one of digits"),
        ({"name": "digits", "subset": 5000}, "data.subset=5000: digits has 1438"),
    ],
)
def test_wrong_choices_are_named(wrong, line):
    with pytest.raises(ValueError, match=line):
        load(**wrong)
