"""An image as a function: from coordinates to colours, for implicit neural representations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from initstudy.tasks.data import Data
from initstudy.tasks.images import bundled, read_picture
from initstudy.tasks.metrics import psnr

PHOTOGRAPHS = ("china", "flower")


def image_fit(
    image: str | Path = "flower", size: int | Sequence[int] = 64, channels: int = 3
) -> Data:
    """One photograph to be fitted, as in Sitzmann et al. 2020.

    Every pixel is one example: its coordinates, between -1 and 1, and its colour, of which each
    channel is brought from 0…255 to -1…1. Training and test data are the same pixels: the question
    is how well the network represents the image, told by the peak signal-to-noise ratio.

    Args:
        image: "china" or "flower", the photographs that come with scikit-learn, or a picture's
            file.
        size: Height and width in pixels to which it is resized, or one number for both.
        channels: 3 for colour, 1 for grey.

    Raises:
        ValueError: In one line, for a picture that is missing or cannot be read.

    Example:
        >>> data = image_fit(size=8)
        >>> data.shape, data.outputs, len(data.train), data.metrics[0].name
        ((2,), 3, 64, 'psnr')
    """
    if channels not in (1, 3):
        raise ValueError(f"data.channels={channels}: choose one of 1, 3")
    file = bundled("images", f"{image}.jpg") if image in PHOTOGRAPHS else Path(image)
    if not file.is_file():
        raise ValueError(
            f"data.image={image}: there is no such file; choose one of {', '.join(PHOTOGRAPHS)}, "
            "or give a picture's file"
        )
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    pixels = read_picture(file, (width, height), "RGB" if channels == 3 else "L")
    rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    coordinates = torch.cartesian_prod(rows, columns)
    colours = pixels.flatten(1).mT.float() / 127.5 - 1
    examples = (coordinates, colours.contiguous())
    return Data(examples, examples, normalize=False, metrics=(psnr(peak=2.0),), name=file.stem)
