"""MNIST with a small test set, since the benchmark measures training."""

from __future__ import annotations

from pathlib import Path

# The number of bytes before the first example, and per example.
FILES = {"t10k-images-idx3-ubyte": (16, 784), "t10k-labels-idx1-ubyte": (8, 1)}
TRAINING = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST_IMAGES = 500
RAW = Path("MNIST") / "raw"


def with_small_test_set(root: Path, folder: Path) -> Path:
    """Copies torchvision's MNIST to `folder`, with only the first `TEST_IMAGES` for testing.

    The copy is empty if there is no MNIST at `root`.
    """
    raw = folder / RAW
    raw.mkdir(parents=True)
    for name in TRAINING:
        if (root / RAW / name).exists():
            (raw / name).symlink_to((root / RAW / name).resolve())
    for name, (head, example) in FILES.items():
        if (root / RAW / name).exists():
            whole = (root / RAW / name).read_bytes()
            # The number of examples follows four bytes that hold the type.
            shortened = whole[:4] + TEST_IMAGES.to_bytes(4, "big") + whole[8:head]
            (raw / name).write_bytes(shortened + whole[head : head + TEST_IMAGES * example])
    return folder
