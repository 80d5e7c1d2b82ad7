"""The data that come with initstudy, against their definitions and other readers."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_sample_image

from initstudy.tasks import (
    Batches,
    adding,
    characters,
    copy,
    csv,
    image_fit,
    image_folder,
    npz,
    parity,
    regression,
    shapeset,
)
from initstudy.tasks.shapes import CLASS_NAMES


def test_the_adding_problem_asks_for_the_two_marked_values():
    data = adding(length=11, train=400, test=5)
    x, y = data.train.inputs, data.train.targets
    values, marks = x.unbind(2)
    assert torch.equal(marks[:, :5].sum(1), torch.ones(400))
    assert torch.equal(marks[:, 5:].sum(1), torch.ones(400))
    assert torch.equal(y, values[marks.bool()].view(400, 2).sum(1))
    # Of the mean as an answer the squared error is that of two uniform numbers, 1/6.
    assert (y - 1).square().mean().item() == pytest.approx(1 / 6, rel=0.15)
    assert not torch.equal(x[:5], data.test.inputs)


def test_the_copying_task_asks_for_the_symbols_after_the_mark():
    data = copy(blank=7, symbols=3, train=50, test=5)
    x, y = data.train.inputs, data.train.targets
    assert x.shape == y.shape == (50, 13)
    assert torch.equal(y[:, -3:], x[:, :3])
    assert bool((x[:, :3] < 8).all())
    assert bool((y[:, :-3] == 8).all())
    assert (x == 9).nonzero()[:, 1].unique().tolist() == [9]
    assert data.classes == data.tokens == 10


def test_parity_depends_on_its_bits_and_on_no_fewer():
    data = parity(bits=5, relevant=3, train=3000, test=5)
    x, y = data.train.inputs, data.train.targets
    assert torch.equal(1.0 - 2 * y, x[:, :3].prod(1))
    # No two of the bits together say anything.
    signs = 1.0 - 2 * y
    for pair in itertools.combinations(range(5), 2):
        correlation = (signs * x[:, list(pair)].prod(1)).mean().abs()
        assert correlation < 0.1
    with pytest.raises(ValueError, match=r"data\.relevant=6: must be at most data\.bits=5"):
        parity(bits=5, relevant=6)


def test_shapes_are_drawn_on_black_in_nine_equal_classes():
    data = shapeset(train=900, test=10)
    x, y = data.train.inputs, data.train.targets
    counts = torch.bincount(y, minlength=9)
    assert len(CLASS_NAMES) == data.classes == len(counts) == 9
    # Of 900 in nine equal classes; four standard deviations are 37.
    assert (counts - 100).abs().max() < 40
    # One shape has one grey; at its edge a pixel is covered by quarters.
    for image in x[y < 3].float():
        quarters = image.max() * torch.arange(5) / 4
        assert bool(((image[..., None] - quarters).abs().amin(-1) <= 1).all())
    assert bool((x.flatten(1).amax(1) > 40).all())
    assert torch.equal(shapeset(train=20, test=10).test.inputs, data.test.inputs)
    assert not torch.equal(shapeset(train=20, test=10, seed=1).test.inputs, data.test.inputs)


def test_neither_of_two_shapes_hides_more_than_half_of_the_other():
    from initstudy.tasks.shapes import SUPERSAMPLING

    data = shapeset(train=600, test=10)
    x, y = data.train.inputs[:, 0], data.train.targets
    # Triangles inscribed in a circle with arcs of at least 50 degrees, the smallest shapes, have
    # at least this area; what is seen of two shapes is at least one and a half of it.
    angles = torch.tensor([50.0, 50.0, 260.0]).deg2rad()
    smallest = 0.5 * angles.sin().sum() * (0.3 * 16) ** 2
    seen = (x > 0).flatten(1).sum(1)
    assert SUPERSAMPLING == 2
    assert bool((seen[y < 3] >= 0.8 * smallest).all())
    assert bool((seen[y >= 3] >= 0.8 * 1.5 * smallest).all())


def test_characters_are_the_text_and_each_is_to_predict_the_next(tmp_path):
    text = "the quick brown fox jumps over the lazy dog. " * 20
    (tmp_path / "text.txt").write_text(text)
    data = characters(tmp_path / "text.txt", length=10, test=0.25)
    letters = sorted(set(text))
    x, y = data.train.inputs, data.train.targets
    assert data.classes == len(letters)
    read = "".join(letters[token] for token in x.flatten().tolist())
    assert read == text[: len(read)]
    assert torch.equal(x[:, 1:], y[:, :-1])
    assert torch.equal(y[:-1, -1], x[1:, 0])
    tested = "".join(letters[token] for token in data.test.inputs.flatten().tolist())
    split = round(0.75 * len(text))
    assert tested == text[split : split + len(tested)]


def test_without_a_file_the_characters_are_pythons_own_reference():
    from pydoc_data.topics import topics

    data = characters(length=64)
    size = sum(map(len, topics.values()))
    assert len(data.train) * 64 == pytest.approx(0.9 * size, rel=0.01)
    assert 80 < data.classes < 300


def test_an_image_to_fit_is_scikit_learns_photograph():
    data = image_fit("china", size=(427, 640))
    pixels = load_sample_image("china.jpg")
    colours = ((data.train.targets + 1) * 127.5).round().view(427, 640, 3)
    assert np.array_equal(colours.numpy(), pixels)
    corners = data.train.inputs.view(427, 640, 2)
    assert corners[0, 0].tolist() == [-1, -1]
    assert corners[-1, 0].tolist() == [1, -1]
    grey = image_fit("flower", size=8, channels=1)
    assert grey.outputs == 1
    # Of a picture that is off by a tenth of the range everywhere.
    (metric,) = grey.metrics
    psnr = metric.of(grey.train.targets + 0.2, grey.train.targets).item()
    assert psnr == pytest.approx(-20 * math.log10(0.1), rel=1e-4)


def test_the_regression_is_scikit_learns_diabetes():
    data = regression()
    x, y = load_diabetes(return_X_y=True, scaled=False)
    every = torch.cat([data.train.inputs, data.test.inputs]).numpy()
    theirs = x.astype(np.float32)
    assert np.array_equal(every[np.lexsort(every.T)], theirs[np.lexsort(theirs.T)])
    assert data.train.targets.mean().item() == pytest.approx(0, abs=1e-6)
    assert data.train.targets.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    together = torch.cat([data.train.targets, data.test.targets])
    assert np.corrcoef(np.sort(together.numpy()), np.sort(y))[0, 1] == pytest.approx(1)


def pictures(root, classes=("cat", "dog"), count=10, size=(9, 7)):
    from PIL import Image

    rng = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.full((*size, 3), 40 + 120 * number, dtype=np.uint8)
            pixels[0, 0] = rng.integers(0, 256, 3)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


def test_a_folder_of_pictures_is_read_as_torchvision_reads_it(tmp_path):
    from torchvision.datasets import ImageFolder

    root = pictures(tmp_path / "pets")
    data = image_folder(root, size=(9, 7))
    expected = ImageFolder(str(root))
    theirs = sorted(
        (np.array(image).transpose(2, 0, 1).tolist(), label) for image, label in expected
    )
    parts = (data.train, data.test)
    ours = [
        (x.tolist(), int(y))
        for part in parts
        for x, y in zip(part.inputs, part.targets, strict=True)
    ]
    assert sorted(ours) == theirs
    assert torch.bincount(data.test.targets).tolist() == [2, 2]
    grey = image_folder(root, size=4, channels=1)
    assert grey.shape == (1, 4, 4)
    x, _ = Batches(grey, [0], 4)(0)
    assert x.dtype == torch.float32


def test_folders_for_training_and_testing_are_kept_apart(tmp_path):
    pictures(tmp_path / "train", count=4)
    pictures(tmp_path / "val", count=2)
    data = image_folder(tmp_path, size=8)
    assert (len(data.train), len(data.test)) == (8, 4)
    pictures(tmp_path / "test", classes=("cat", "cow"), count=2)
    with pytest.raises(ValueError, match=r"data\.root=.*: train has the classes cat, dog and test"):
        image_folder(tmp_path, size=8)


def test_an_archive_gives_its_arrays(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)), rng.normal(size=50)
    np.savez(tmp_path / "a.npz", x=x, y=y, x_test=x[:7], y_test=y[:7])
    data = npz(tmp_path / "a.npz")
    assert np.array_equal(data.train.inputs.numpy(), x.astype(np.float32))
    assert np.array_equal(data.test.targets.numpy(), y[:7].astype(np.float32))
    np.savez(tmp_path / "b.npz", features=x, label=np.arange(50) % 5)
    split = npz(tmp_path / "b.npz", inputs="features", targets="label", test=0.2)
    assert torch.bincount(split.test.targets).tolist() == [2] * 5
    both = torch.cat([split.train.inputs, split.test.inputs]).numpy()
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, x.astype(np.float32).tolist()))


def saved(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


class Boom:
    def __reduce__(self):
        return (print, ("this must never run",))


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda p: None, "a.npz: there is no such file"),
        (lambda p: p.write_bytes(b"PK nothing"), "a.npz: cannot be read"),
        (lambda p: np.savez(p, z=np.zeros(3)), "a.npz: holds no array x; it has z"),
        (lambda p: np.savez(p, x=np.zeros(3)), "a.npz: holds no array y; it has x"),
        (lambda p: p.write_bytes(saved(np.zeros(3))), "a.npz: cannot be read: is one array"),
        (
            lambda p: np.savez(p, x=np.array([Boom()], dtype=object), y=np.zeros(1)),
            "a.npz: cannot be read: holds pickled objects, which are code",
        ),
    ],
)
def test_an_archive_that_is_none_is_one_line_and_nothing_in_it_runs(tmp_path, make, line, capsys):
    make(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=line) as refused:
        npz(tmp_path / "a.npz")
    assert "\n" not in str(refused.value)
    assert "never run" not in capsys.readouterr().out


def test_a_table_gives_numbers_and_classes(tmp_path):
    (tmp_path / "t.csv").write_text(
        "a,kind,b\n" + "".join(f"{i},{'yes' if i % 3 else 'no'},{i * 0.5}\n" for i in range(30))
    )
    data = csv(tmp_path / "t.csv", target="kind", normalize=None)
    assert data.classes == 2
    for part in (data.train, data.test):
        assert torch.equal(part.inputs[:, 1], part.inputs[:, 0] * 0.5)
        assert torch.equal(part.targets, (part.inputs[:, 0] % 3 != 0).long())
    (tmp_path / "u.csv").write_text("a;b\n1;2.5\n3;4.5\n5;6.5\n")
    values = csv(tmp_path / "u.csv", target="b", separator=";", test_file=tmp_path / "u.csv")
    assert values.classes is None
    assert values.test.targets.tolist() == [2.5, 4.5, 6.5]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a,b\n1,x\n2,y\n", "the column b holds text such as 'x'; inputs must be numbers"),
        ("a,b\n1,\n2,3\n", "the column b has 1 missing values"),
        ("b,c\n1,2\n", "has no column a; it has b, c"),
        ("a,b\n", "has no lines below its header"),
        ("", "cannot be read as a table"),
    ],
)
def test_a_table_that_is_none_is_one_line(tmp_path, text, line):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=line) as refused:
        csv(tmp_path / "t.csv", target="a")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda p: image_folder(p / "none"), "data.root=.*none: .*give a folder per class"),
        (lambda p: image_folder(p, channels=2), "data.channels=2: choose one of 1, 3"),
        (lambda p: image_fit("dog"), "data.image=dog: there is no such file; choose one of china"),
        (
            lambda p: characters(p / "none.txt"),
            "data.file=.*none.txt: cannot be read: No such file",
        ),
        (lambda p: characters(length=10**6), "data.length=1000000: the text has .* too few"),
        (lambda p: adding(length=1), "data.length=1: must be a whole number of at least 2"),
        (lambda p: copy(symbols=0), "data.symbols=0: must be a whole number of at least 1"),
        (lambda p: shapeset(size=4), "data.size=4: must be a whole number of at least 8"),
        (lambda p: regression(test=1.5), "data.test=1.5: must be a number between 0 and 1"),
    ],
)
def test_what_cannot_be_given_is_one_line(tmp_path, make, line):
    with pytest.raises(ValueError, match=line) as refused:
        make(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_damaged_picture_is_named(tmp_path):
    root = pictures(tmp_path / "pets", count=2)
    (root / "dog" / "1.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"data: .*dog/1.png: cannot be read as a picture"):
        image_folder(root)
