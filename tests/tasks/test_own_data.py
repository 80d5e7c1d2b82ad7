"""What a user may hand over as data, and what is said of what they may not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from initstudy.tasks import Batches, Data, as_data
from initstudy.tasks.arrays import as_part


class Rows(Dataset):
    """A map-style dataset whose rows are made by a function."""

    def __init__(self, row, count=6):
        self.row, self.count, self.reads = row, count, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads.append(index)
        return self.row(index)


def pair(n=6, features=3):
    return torch.arange(float(n * features)).view(n, features), torch.arange(n) % 2


def test_arrays_keep_their_values_and_only_numpys_default_type_changes():
    values = np.arange(12.0).reshape(4, 3)
    part = as_part((values, np.array([0, 1, 1, 0], dtype=np.int32)), "train")
    assert part.inputs.dtype == torch.float32
    assert np.array_equal(part.inputs.numpy(), values)
    assert part.targets.tolist() == [0, 1, 1, 0]
    # A tensor has the type that its owner chose.
    double = torch.ones(4, 3, dtype=torch.float64)
    assert as_part((double, torch.zeros(4)), "train").inputs.dtype == torch.float64
    half = np.ones((4, 3), dtype=np.float16)
    assert as_part((half, None), "train").inputs.dtype == torch.float16


@pytest.mark.parametrize(
    "row",
    [
        lambda i: (torch.full((2, 2), float(i)), i % 3),
        lambda i: {"labels": i % 3, "x": torch.full((2, 2), float(i))},
        lambda i: {"x": np.full((2, 2), float(i)), "label": np.int64(i % 3)},
    ],
)
def test_map_style_datasets_are_read_once_row_by_row(row):
    rows = Rows(row)
    part = as_part(rows, "train")
    assert rows.reads == list(range(6))
    inputs = part.inputs["x"] if isinstance(part.inputs, dict) else part.inputs
    assert inputs[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert part.targets.tolist() == [0, 1, 2, 0, 1, 2]


def test_torchs_own_datasets_and_pictures_of_pil_are_taken():
    from PIL import Image

    x, y = pair()
    part = as_part(Subset(TensorDataset(x, y), [3, 1]), "train")
    assert torch.equal(part.inputs, x[[3, 1]])
    assert torch.equal(part.targets, y[[3, 1]])
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    pictures = Rows(lambda i: (Image.fromarray(pixels), 0))
    # Channels first, as torch's layers expect them.
    assert np.array_equal(as_part(pictures, "train").inputs[5].numpy(), pixels.transpose(2, 0, 1))


def test_several_inputs_stay_together_in_batches():
    n = 20
    inputs = {"left": torch.arange(n)[:, None].float(), "right": -torch.arange(n)[:, None].float()}
    data = Data(train=(inputs, torch.arange(n)), test=(inputs, torch.arange(n)), normalize=False)
    assert data.shape == {"left": (1,), "right": (1,)}
    x, y = Batches(data, [3], 5)(2)
    assert torch.equal(x["left"][0, :, 0], y[0].float())
    assert torch.equal(x["right"][0, :, 0], -y[0].float())
    # The order is that of one input, and of images, with the same seed.
    single = Data(train=(inputs["left"], torch.arange(n)), test=(inputs["left"], torch.arange(n)))
    assert torch.equal(Batches(single, [3], 5)(2)[1], y)


def test_without_targets_the_inputs_as_the_model_sees_them_are_the_targets():
    images = torch.randint(0, 256, (12, 1, 4, 4), dtype=torch.uint8)
    data = Data(train=(images, None), test=(images, None))
    x, y = Batches(data, [0], 4)(0)
    assert torch.equal(x, y)
    assert x.dtype == torch.float32
    assert data.outputs == 16
    (chunk, target), *_ = data.chunks("test", 100)
    assert torch.equal(chunk, target)


def test_normalizing_gives_mean_zero_and_variance_one_where_it_is_asked_for():
    torch.manual_seed(0)
    floats = torch.randn(500, 3) * torch.tensor([1.0, 10.0, 0.1]) + 5
    images = torch.randint(0, 256, (50, 3, 4, 4), dtype=torch.uint8)
    tokens = torch.randint(0, 256, (50, 7), dtype=torch.uint8)

    def seen(x, normalize=None):
        data = Data(train=(x, None), test=(x[:5], None), normalize=normalize)
        return data.normalize(x)

    normal = seen(floats, normalize=True)
    torch.testing.assert_close(normal.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(normal.std(0, correction=0), torch.ones(3))
    assert torch.equal(seen(floats), floats)
    by_channel = seen(images)
    torch.testing.assert_close(by_channel.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    # Tokens are names, and stay as they are, also as bytes.
    assert torch.equal(seen(tokens), tokens)
    assert torch.equal(seen(tokens.long(), normalize=True), tokens.long())


def test_what_a_function_may_return_is_the_same_data():
    x, y = pair()
    forms = [
        Data(train=(x, y), test=(x[:2], y[:2])),
        ((x, y), (x[:2], y[:2])),
        (x, y, x[:2], y[:2]),
        [TensorDataset(x, y), TensorDataset(x[:2], y[:2])],
        {"train": (x, y), "test": (x[:2], y[:2])},
        ((x.numpy(), y.numpy()), (x[:2].numpy(), y[:2].numpy())),
    ]
    assert len({as_data(form).fingerprint for form in forms}) == 1
    three = as_data(((x, y), (x[:2], y[:2]), (x[2:4], y[2:4])))
    assert len(three.validation) == 2


def test_a_fingerprint_tells_every_difference_that_could_change_a_result():
    x, y = pair()
    base = Data(train=(x, y), test=(x, y))
    other = x.clone()
    other[3, 1] += 1e-3
    different = [
        Data(train=(other, y), test=(x, y)),
        Data(train=(x, y), test=(other, y)),
        Data(train=(x, 1 - y), test=(x, y)),
        Data(train=(x, y), test=(x, y), normalize=True),
        Data(train=(x, y), test=(x, y), classes=5),
        Data(train=(x, y), test=(x, y), validation=(x, y)),
        Data(train=(x.double(), y), test=(x.double(), y)),
        Data(train=(x.view(6, 1, 3), y), test=(x.view(6, 1, 3), y)),
        Data(train=(x, None), test=(x, None)),
        Data(train=({"a": x}, y), test=({"a": x}, y)),
        Data(train=({"b": x}, y), test=({"b": x}, y)),
    ]
    prints = [data.fingerprint for data in (base, *different)]
    assert len(set(prints)) == len(prints)
    # The same content in other memory is the same.
    again = Data(train=(x.T.contiguous().T, y.clone()), test=(x.clone(), y))
    assert again.fingerprint == base.fingerprint


def test_held_out_examples_are_of_the_training_data_and_keep_the_classes_in_proportion():
    x = torch.arange(300.0)[:, None]
    y = (torch.arange(300) % 10 == 0).long()
    data = Data(train=(x, y), test=(x[:7], y[:7]))
    split = data.hold_out(0.2, seed=4)
    parts = torch.cat([split.train.inputs, split.validation.inputs]).flatten()
    assert torch.equal(parts.sort().values, x.flatten())
    assert (len(split.train), len(split.validation)) == (240, 60)
    assert split.validation.targets.sum() == 6
    assert torch.equal(split.test.inputs, data.test.inputs)
    assert torch.equal(data.hold_out(0.2, seed=4).train.inputs, split.train.inputs)
    assert not torch.equal(data.hold_out(0.2, seed=5).train.inputs, split.train.inputs)
    # What normalizes is worked out from what is trained on alone.
    normalized = Data(train=(x, y), test=(x, y), normalize=True).hold_out(0.2, seed=4)
    torch.testing.assert_close(normalized.moments.mean, split.train.inputs.mean(0))


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: as_part(Stream(), "train"), "the train part is a Stream; give .* needs __len__"),
        (lambda: as_part(3, "test"), r"the test part is an int; give \(inputs, targets\)"),
        (lambda: as_part((torch.zeros(4, 2), torch.zeros(3)), "train"), "4, 3 examples"),
        (lambda: as_part((torch.zeros(0, 2), torch.zeros(0)), "test"), "the test part is empty"),
        (lambda: as_part(Rows(lambda i: (i, i), count=0), "train"), "the train part is empty"),
        (
            lambda: as_part((torch.tensor([[1.0], [float("nan")]]), torch.zeros(2)), "train"),
            "the train inputs hold 1 values that are NaN or infinite",
        ),
        (
            lambda: as_part((torch.zeros(2, 1), torch.tensor([0.0, float("inf")])), "train"),
            "the train targets hold 1 values that are NaN",
        ),
        (
            lambda: as_part(Rows(lambda i: (torch.zeros(2 + (i == 3)), 0)), "train"),
            r"row 3 of the train part has the shapes \[\(3,\), \(\)\] and row 0 \[\(2,\), \(\)\]",
        ),
        (
            lambda: as_part((np.array(["a", "b"]), np.zeros(2)), "train"),
            "of type <U1; it must hold",
        ),
        (lambda: as_part((np.array([{}, {}]), np.zeros(2)), "train"), "of type object"),
        (
            lambda: Data(train=(torch.zeros(4, 3), torch.zeros(4)), test=(torch.zeros(4, 2), None)),
            r"inputs of the train part are float32\[n, 3\] and those of the test part float32",
        ),
        (lambda: as_data(3), "int is no data; give initstudy.Data"),
        (lambda: as_data((1,)), "tuple is no data"),
        (
            lambda: Data(train=pair(), test=pair(), validation=pair()).hold_out(0.5),
            r"data\.validation=0\.5: the data has validation data already",
        ),
        (lambda: Data(train=pair(), test=pair()).hold_out(0.01), r"data\.validation=0\.01: must"),
    ],
)
def test_what_is_no_data_is_one_line(make, line):
    with pytest.raises(ValueError, match=line) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_a_dataset_that_does_not_fit_is_refused_after_its_first_row():
    rows = Rows(lambda i: (torch.zeros(1000, 1000), i), count=10**9)
    with pytest.raises(
        ValueError, match=r"1,000,000,000 examples of the train part take 4e\+06 GB"
    ):
        as_part(rows, "train")
    assert rows.reads == [0]
