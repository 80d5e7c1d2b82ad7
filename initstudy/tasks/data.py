"""The data of a task: examples to train on, to select by and to test on, as tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from initstudy.tasks.arrays import Part, as_part
from initstudy.tasks.batches import generator
from initstudy.tasks.metrics import Metric
from initstudy.trees import TensorTree, leaves, map_tensors

# Below this a channel counts as constant.
SMALLEST_STD = 1e-8


@dataclass(frozen=True, eq=False)
class Moments:
    """What inputs are normalized with.

    Attributes:
        mean: The mean over the training examples, in a shape that broadcasts with one example.
        std: The standard deviation, likewise.
    """

    mean: Float[Tensor, "*shape"]
    std: Float[Tensor, "*shape"]


class Data:
    """Examples for training and testing, on one device.

    Every part is a pair `(inputs, targets)` or a map-style dataset of such pairs. Inputs are a
    tensor or array of any shape and type whose first axis is that of the examples, or a tuple or
    dict of such for models that take several arguments. Targets are classes (whole numbers),
    numbers, a class per token (whole numbers `[n, tokens]`), a tuple or dict for a loss of one's
    own, or None where the outputs are compared with the inputs themselves.

    NumPy's float64 arrays become float32; tensors keep their type. Bytes stay bytes in memory and
    are normalized one batch at a time.

    Args:
        train: The examples to train on.
        test: The examples that results are reported on. Nothing is selected by them.
        validation: The examples that everything is selected by, such as the best step or rate.
            None if there are none; see `hold_out`.
        normalize: Whether inputs are brought to mean 0 and variance 1 over the training examples,
            per channel of images `[n, channels, height, width]` and per feature of inputs
            `[n, ..., features]`. Whole numbers other than bytes are never normalized. None
            normalizes images of bytes and nothing else.
        classes: The number of classes or the size of the vocabulary, if there may be more than
            the targets show.
        metrics: What such data are usually judged by, besides the metrics of their loss. The first
            one becomes the objective.
        name: What messages and the page call the data.

    Raises:
        ValueError: In one line, for parts that are no examples, do not fit one another, or hold
            values that are not finite.

    Example:
        >>> import torch
        >>> x = torch.linspace(-1, 1, 40)[:, None]
        >>> data = Data(train=(x, x**2), test=(x, x**2))
        >>> data.shape, data.outputs, len(data.train)
        ((1,), 1, 40)
    """

    def __init__(
        self,
        train: Any,
        test: Any,
        validation: Any = None,
        *,
        normalize: bool | None = None,
        classes: int | None = None,
        metrics: Sequence[Metric] = (),
        name: str = "the data",
    ) -> None:
        self.train = as_part(train, "train")
        self.test = as_part(test, "test")
        self.validation = None if validation is None else as_part(validation, "validation")
        self.normalized = normalize
        self.metrics = tuple(metrics)
        self.name = name
        self._given_classes = classes
        for part_name, part in self.parts.items():
            _fit_together(self.train, part, part_name)

    @property
    def parts(self) -> dict[str, Part]:
        """The parts that there are, by name."""
        parts = {"train": self.train, "test": self.test, "validation": self.validation}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return next(self.train.tensors()).device

    @property
    def shape(self) -> Any:
        """The shape of one example's inputs, such as (channels, height, width).

        A tuple or dict of shapes if the model takes several inputs.
        """
        return map_tensors(lambda tensor: tuple(tensor.shape[1:]), self.train.inputs)

    @cached_property
    def classes(self) -> int | None:
        """The number of classes or the size of the vocabulary; None if targets are no classes."""
        if self._given_classes is not None:
            return self._given_classes
        if not self.has_classes:
            return None
        targets = [part.targets for part in self.parts.values()]
        return 1 + max(int(tensor.max()) for tensor in targets if isinstance(tensor, Tensor))

    @property
    def has_classes(self) -> bool:
        """Whether the targets are classes, one per example or one per token."""
        targets = self.train.targets
        return isinstance(targets, Tensor) and targets.dtype in _WHOLE

    @property
    def has_tokens(self) -> bool:
        """Whether there is a class per token, and not only one per example."""
        targets = self.train.targets
        return self.has_classes and isinstance(targets, Tensor) and targets.dim() > 1

    @property
    def outputs(self) -> int:
        """How many numbers a model has to give per example, or per token: of logits or values."""
        return self.values if self.classes is None else self.classes

    @property
    def values(self) -> int:
        """How many numbers the targets of one example hold."""
        targets = self.train.inputs if self.train.targets is None else self.train.targets
        return sum(tensor[0].numel() for tensor in leaves(targets))

    @cached_property
    def tokens(self) -> int | None:
        """How many different tokens the inputs may hold; None if they are not whole numbers."""
        inputs = [part.inputs for part in self.parts.values()]
        if not all(isinstance(i, Tensor) and i.dtype in _WHOLE and i.dim() == 2 for i in inputs):
            return None
        return 1 + max(int(tensor.max()) for part in inputs for tensor in leaves(part))

    @cached_property
    def moments(self) -> Any:
        """What each tensor of the inputs is normalized with; None for those that stay as they are.

        `Moments` or None, or a tuple or dict of them if the model takes several inputs.
        """
        return map_tensors(lambda tensor: _moments(tensor, self.normalized), self.train.inputs)

    def normalize(self, inputs: Any) -> Any:
        """Raw inputs as the model takes them; the examples may have any number of leading axes."""
        return map_tensors(_normalize, inputs, self.moments)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits; the same for the same content.

        Of all tensors' values, types and shapes, of their split into parts and of how they are
        normalized. It reads about a gigabyte per second.
        """
        digest = hashlib.sha256(repr((self.normalized, self._given_classes)).encode())
        for name, part in self.parts.items():
            for what, tensors in (("inputs", part.inputs), ("targets", part.targets)):
                keys = list(tensors) if isinstance(tensors, Mapping) else type(tensors).__name__
                digest.update(f"{name} {what} {keys}".encode())
                for tensor in leaves(tensors) if tensors is not None else ():
                    digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
                    flat = tensor.detach().cpu().contiguous().flatten()
                    digest.update(flat.view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def to(self, device: torch.device | str) -> Data:
        """The same data on another device, normalized with the same moments."""
        moved = self._with({n: p.map(lambda t: t.to(device)) for n, p in self.parts.items()})
        moved.__dict__["moments"] = map_tensors(
            lambda m: None if m is None else Moments(m.mean.to(device), m.std.to(device)),
            self.moments,
        )
        return moved

    def first(self, examples: int) -> Data:
        """The data with only so many training examples, the first ones of a fixed shuffle.

        Raises:
            ValueError: There are not as many.
        """
        if not 0 < examples <= len(self.train):
            what = "images" if self.are_images else "examples"
            raise ValueError(
                f"data.subset={examples}: {self.name} has {len(self.train)} training {what}"
            )
        keep = torch.randperm(len(self.train), generator=generator(0, 0))[:examples]
        return self._with(self.parts | {"train": self.train.at(keep)})

    def hold_out(self, fraction: float, seed: int = 0) -> Data:
        """The data with a part of the training examples as validation data.

        Targets that are classes are held out in the proportions in which they occur.

        Args:
            fraction: The fraction of the training examples to hold out, between 0 and 1.
            seed: Which examples are held out.

        Raises:
            ValueError: There are validation data already, or one of both parts would be empty.
        """
        if self.validation is not None:
            raise ValueError(
                f"data.validation={fraction:g}: {self.name} has validation data already"
            )
        order = _stratified(self.train, seed)
        held = round(fraction * len(order))
        if not 0 < held < len(order):
            raise ValueError(
                f"data.validation={fraction:g}: must leave at least one of the {len(order)} "
                "training examples on each side"
            )
        # In their old order, so that what is held out changes the order of nothing else.
        rows = {"train": order[held:].sort().values, "validation": order[:held].sort().values}
        split = {name: self.train.at(indices) for name, indices in rows.items()}
        return self._with(self.parts | split)

    def chunks(self, part: str, size: int) -> Iterator[tuple[TensorTree, TensorTree]]:
        """A part in chunks of at most `size` examples: inputs as the model takes them, targets."""
        examples = self.parts[part]
        for start in range(0, len(examples), size):
            rows = slice(start, start + size)
            chunk = examples.at(rows)
            inputs = self.normalize(chunk.inputs)
            yield inputs, inputs if chunk.targets is None else chunk.targets

    def _with(self, parts: Mapping[str, Part]) -> Data:
        return Data(
            **parts,
            normalize=self.normalized,
            classes=self.classes if self.has_classes else self._given_classes,
            metrics=self.metrics,
            name=self.name,
        )

    @property
    def are_images(self) -> bool:
        """Whether the inputs are images of bytes `[n, channels, height, width]`."""
        inputs = self.train.inputs
        return isinstance(inputs, Tensor) and inputs.dtype == torch.uint8 and inputs.dim() == 4


def as_data(value: Any, name: str = "the data") -> Data:
    """What a user's own function returns, as data.

    Args:
        value: `Data`; or `(train, test)` or `(train, test, validation)`; or the tensors of all
            parts in a row, `(inputs, targets, test_inputs, test_targets)`, with two more for
            validation; or a mapping with the keys "train", "test" and perhaps "validation".
        name: What messages call the data.

    Raises:
        ValueError: In one line, for anything else.
    """
    if isinstance(value, Data):
        return value
    if isinstance(value, Mapping) and {"train", "test"} <= set(value):
        return Data(value["train"], value["test"], value.get("validation"), name=name)
    if isinstance(value, tuple | list):
        if len(value) in (4, 6):
            pairs = [tuple(value[i : i + 2]) for i in range(0, len(value), 2)]
            return Data(*pairs, name=name)
        if len(value) in (2, 3):
            return Data(*value, name=name)
    raise ValueError(
        f"data: {type(value).__name__} is no data; give initstudy.Data(train=(inputs, targets), "
        "test=(inputs, targets)) or (train, test)"
    )


_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


def _moments(tensor: Tensor, normalize: bool | None) -> Moments | None:
    """What a tensor of training inputs is normalized with; None if it stays as it is."""
    images = tensor.dtype == torch.uint8 and tensor.dim() >= 3
    eligible = tensor.dtype == torch.uint8 or tensor.is_floating_point()
    if not eligible or not (images if normalize is None else normalize):
        return None
    axis = 1 if tensor.dim() >= 4 else None if images else tensor.dim() - 1
    axes = [a for a in range(tensor.dim()) if a != axis or a == 0]
    std, mean = torch.std_mean(tensor.float(), dim=axes, correction=0)
    shape = [1] * (tensor.dim() - 1)
    if axis:
        shape[axis - 1] = -1
    return Moments(mean.view(shape), std.clamp_min(SMALLEST_STD).view(shape))


def _normalize(raw: Tensor, moments: Moments | None) -> Tensor:
    if moments is None:
        return raw
    return (raw.float() - moments.mean).div_(moments.std)


def _fit_together(train: Part, part: Part, name: str) -> None:
    """Whether a part has the form of the training part, so that one model takes both."""
    for what in ("inputs", "targets"):
        forms = [_form(getattr(p, what)) for p in (train, part)]
        if forms[0] != forms[1]:
            raise ValueError(
                f"data: the {what} of the train part are {forms[0]} and those of the {name} part "
                f"{forms[1]}; they must have one form"
            )


def _form(tensors: TensorTree | None) -> str:
    if tensors is None:
        return "absent"
    if isinstance(tensors, Mapping):
        return "{" + ", ".join(f"{key}: {_form(value)}" for key, value in tensors.items()) + "}"
    if isinstance(tensors, tuple):
        return "(" + ", ".join(_form(value) for value in tensors) + ")"
    kind = str(tensors.dtype).removeprefix("torch.")
    return f"{kind}[n{''.join(f', {size}' for size in tensors.shape[1:])}]"


def _stratified(part: Part, seed: int) -> Tensor:
    """A shuffled order whose every beginning holds the classes in about their proportions."""
    random = generator(seed, 0, "split")
    order = torch.randperm(len(part), generator=random)
    targets = part.targets
    if not (isinstance(targets, Tensor) and targets.dim() == 1 and targets.dtype in _WHOLE):
        return order
    # The k-th of m examples of a class stands at (k + u) / m, with one u per class.
    classes = targets[order].long()
    positions = torch.empty(len(order), dtype=torch.float64)
    for label in classes.unique():
        rows = torch.nonzero(classes == label).squeeze(1)
        offset = torch.rand((), generator=random, dtype=torch.float64)
        positions[rows] = (torch.arange(len(rows), dtype=torch.float64) + offset) / len(rows)
    return order[positions.argsort(stable=True)]
