"""Shapeset-3×2: images of one or two simple shapes (Glorot & Bengio 2010, section 2.1)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from initstudy.tasks.arrays import Part
from initstudy.tasks.batches import generator
from initstudy.tasks.data import Data

SHAPES = ("triangle", "parallelogram", "ellipse")
# A class says which shapes there are, whatever lies in front: one, or two in any order. -1 stands
# for no second shape.
CLASSES = ((0, -1), (1, -1), (2, -1), (0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
CLASS_NAMES = tuple("+".join(SHAPES[shape] for shape in pair if shape >= 0) for pair in CLASSES)
# Of the area of either shape, what the other one may cover.
LARGEST_OVERLAP = 0.5
# Images that are drawn at a time, and points per side of a pixel at which they are sampled.
CHUNK, SUPERSAMPLING = 500, 2
# Of half the image's side, the radius of the circle around a shape.
RADII = (0.3, 0.75)
# Between background, which is black, and shapes, and between the two shapes.
SMALLEST_CONTRAST = 0.2


def shapeset(size: int = 32, train: int = 10_000, test: int = 2_000, seed: int = 0) -> Data:
    """Shapeset-3×2: one or two shapes per image, and nine classes that say which.

    The shapes are triangles, parallelograms and ellipses with random proportions, sizes, angles,
    positions and greys, on black. Neither of two covers more than half of the other. Every class
    is equally probable. In the paper images are generated without end; here there are as many as
    are asked for.

    Args:
        size: Pixels per side, at least 8.
        train: The number of images for training.
        test: The number of images for testing.
        seed: Which images.

    Raises:
        ValueError: For a size below its least.

    Example:
        >>> data = shapeset(train=20, test=10)
        >>> data.shape, data.classes, CLASS_NAMES[4]
        ((1, 32, 32), 9, 'triangle+parallelogram')
    """
    for key, value, low in (("size", size, 8), ("train", train, 1), ("test", test, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"data.{key}={value}: must be a whole number of at least {low}")

    def part(count: int, name: str) -> Part:
        random = generator(seed, 0, f"shapeset/{name}")
        chunks = [
            _images(min(CHUNK, count - start), size, random) for start in range(0, count, CHUNK)
        ]
        return Part(*(torch.cat(tensors) for tensors in zip(*chunks, strict=True)))

    return Data(part(train, "train"), part(test, "test"), classes=len(CLASSES), name="Shapeset-3×2")


def _images(count: int, size: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """So many images `[count, 1, size, size]` of bytes, and their classes `[count]`."""
    labels = torch.randint(len(CLASSES), (count,), generator=random)
    shapes = torch.tensor(CLASSES)[labels]
    # Which one lies in front is no part of the class.
    swapped = (torch.rand(count, generator=random) < 0.5) & (shapes[:, 1] >= 0)
    shapes = torch.where(swapped[:, None], shapes.flip(1), shapes)
    covers = torch.zeros(count, 2, size * SUPERSAMPLING, size * SUPERSAMPLING)
    pending = torch.arange(count)
    while len(pending):
        for layer in (0, 1):
            covers[pending, layer] = _covered(shapes[pending, layer], size, random)
        both = covers[pending].prod(1).sum((1, 2))
        areas = covers[pending].sum((2, 3))
        single = shapes[pending, 1] < 0
        pending = pending[~single & (both > LARGEST_OVERLAP * areas.amin(1))]
    greys = SMALLEST_CONTRAST + (1 - 2 * SMALLEST_CONTRAST) * torch.rand(count, 2, generator=random)
    greys = greys + SMALLEST_CONTRAST * (greys > greys.flip(1))
    back, front = greys[:, 0, None, None], greys[:, 1, None, None]
    picture = torch.where(covers[:, 1] > 0, front, covers[:, 0] * back)
    picture = torch.nn.functional.avg_pool2d(picture[:, None], SUPERSAMPLING)
    return (255 * picture).round().to(torch.uint8), labels


def _covered(
    shapes: Int[Tensor, " n"], size: int, random: torch.Generator
) -> Float[Tensor, "n points points"]:
    """Which points of the image a random shape of each kind covers, as 0 and 1."""

    def uniform(low: float, high: float, *axes: int) -> Tensor:
        return low + (high - low) * torch.rand(len(shapes), *axes, generator=random)

    radius = uniform(*RADII)
    centre = uniform(-1, 1, 2) * (1 - radius[:, None])
    angle = uniform(0, 2 * math.pi)
    corners = _corners(uniform(0, 1, 3), uniform(0.5, 1), uniform(math.pi / 4, math.pi / 2))
    ratio = uniform(0.4, 1)
    # The axes of each shape's own coordinates, in those of the image.
    axes = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    axes = axes * radius[:, None, None]
    points = size * SUPERSAMPLING
    line = (torch.arange(points) + 0.5) / points * 2 - 1
    covered = torch.zeros(len(shapes), points, points)
    for shape in (0, 1):
        rows = torch.nonzero(shapes == shape).squeeze(1)
        placed = corners[shape][rows] @ axes[rows] + centre[rows, None]
        covered[rows] = _in_polygon(line, placed).float()
    rows = torch.nonzero(shapes == 2).squeeze(1)
    covered[rows] = _in_ellipse(line, axes[rows], centre[rows], ratio[rows]).float()
    return covered


def _corners(
    shares: Float[Tensor, "n 3"], ratio: Float[Tensor, " n"], angle: Float[Tensor, " n"]
) -> tuple[Tensor, Tensor]:
    """The corners of a triangle `[n, 3, 2]` and of a parallelogram `[n, 4, 2]` in the unit circle.

    Args:
        shares: How the triangle's corners share the circle; each arc has at least 50 degrees.
        ratio: The length of the parallelogram's shorter side over that of the longer one.
        angle: The angle between its sides.
    """
    least = math.radians(50)
    arcs = least + (2 * math.pi - 3 * least) * shares / shares.sum(1, keepdim=True).clamp_min(1e-6)
    at = arcs.cumsum(1)
    triangle = torch.stack([at.cos(), at.sin()], 2)
    along = torch.stack([torch.ones_like(ratio), torch.zeros_like(ratio)], 1)
    across = ratio[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    diagonals = torch.stack([along + across, across - along, -along - across, along - across], 1)
    return triangle, diagonals / diagonals.norm(dim=2).amax(1)[:, None, None]


def _in_polygon(
    line: Float[Tensor, " points"], corners: Float[Tensor, "n corners 2"]
) -> Bool[Tensor, "n points points"]:
    """Which points lie in a convex polygon, whose corners run counter-clockwise."""
    inside = torch.ones(len(corners), len(line), len(line), dtype=torch.bool)
    for start, end in zip(corners.unbind(1), corners.roll(-1, 1).unbind(1), strict=True):
        dx, dy = (end - start).unbind(1)
        offset = dx * start[:, 1] - dy * start[:, 0]
        rows, columns = dx[:, None] * line - offset[:, None], dy[:, None] * line
        inside &= rows[:, :, None] >= columns[:, None, :]
    return inside


def _in_ellipse(
    line: Float[Tensor, " points"],
    axes: Float[Tensor, "n 2 2"],
    centre: Float[Tensor, "n 2"],
    ratio: Float[Tensor, " n"],
) -> Bool[Tensor, "n points points"]:
    """Which points lie in an ellipse, whose second axis is shorter by the ratio."""
    total = torch.zeros(len(axes), len(line), len(line))
    for axis, length in ((axes[:, 0], torch.ones_like(ratio)), (axes[:, 1], ratio)):
        # A point's coordinate along the axis, where the ellipse ends at 1.
        step = axis / (axis.square().sum(1) * length)[:, None]
        offset = (step * centre).sum(1)
        rows, columns = step[:, 1, None] * line - offset[:, None], step[:, 0, None] * line
        total += (rows[:, :, None] + columns[:, None, :]).square()
    return total <= 1
