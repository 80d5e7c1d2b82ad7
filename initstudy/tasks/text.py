"""Text as characters, for language models."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from initstudy.tasks.data import Data


def characters(file: str | Path | None = None, length: int = 64, test: float = 0.1) -> Data:
    """A text as sequences of characters, each of which is to be predicted from those before it.

    The text is cut into pieces of `length + 1` characters: the inputs are all of them but the last,
    the targets all but the first. The end of the text is for testing. Characters are numbered in
    the order of their code points.

    Args:
        file: A text in UTF-8. None for the language reference that comes with Python: its topics
            of `help()`, about 450,000 characters, which differ between versions of Python.
        length: Characters per sequence.
        test: The fraction of the text for testing.

    Raises:
        ValueError: In one line, for a file that is missing, is no text, or is too short.

    Example:
        >>> data = characters(length=32)
        >>> data.shape, torch.equal(data.train.inputs[:, 1:], data.train.targets[:, :-1])
        ((32,), True)
    """
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise ValueError(f"data.length={length}: must be a whole number of at least 1")
    if isinstance(test, bool) or not 0 < test < 1:
        raise ValueError(f"data.test={test}: must be a number between 0 and 1")
    text = python_reference() if file is None else _read(Path(file))
    vocabulary = sorted(set(text))
    numbers = {character: number for number, character in enumerate(vocabulary)}
    tokens = torch.tensor([numbers[character] for character in text])
    split = round((1 - test) * len(tokens))
    parts = [_pieces(tokens[:split], length), _pieces(tokens[split:], length)]
    if any(len(part) == 0 for part in parts):
        raise ValueError(
            f"data.length={length}: the text has {len(text)} characters, too few for sequences of "
            f"{length} both to train and to test on"
        )
    train, tested = ((pieces[:, :-1], pieces[:, 1:]) for pieces in parts)
    name = "the Python reference" if file is None else Path(file).name
    return Data(train, tested, classes=len(vocabulary), name=name)


def python_reference() -> str:
    """The language reference that comes with Python, as one text."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def _pieces(tokens: Tensor, length: int) -> Tensor:
    """Neighbouring pieces, each of which begins with the last token of the one before it."""
    count = max(0, (len(tokens) - 1) // length)
    starts = torch.arange(count)[:, None] * length
    return tokens[starts + torch.arange(length + 1)]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"data.file={path}: is no text in UTF-8") from error
    except OSError as error:
        raise ValueError(f"data.file={path}: cannot be read: {error.strerror}") from error
