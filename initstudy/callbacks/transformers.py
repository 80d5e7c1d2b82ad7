"""A run of `initstudy.grid` that the `Trainer` of Hugging Face's transformers trains.

    for run in initstudy.grid(init=["gpt2", "torch"], seeds=3, name="mine"):
        model = run.initialize(GPT2LMHeadModel(config))
        Trainer(model, arguments, train_dataset=data, callbacks=[Probe(run)]).train()

Needs `pip install "initstudy[transformers]"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from initstudy.api.grid import GridRun
from initstudy.api.watch import Watch

# What the trainer logs besides measurements, and what it calls the loss.
BOOKKEEPING = ("epoch", "total_flos")
NAMES = {"loss": "train/loss", "eval_loss": "test/loss", "eval_accuracy": "test/accuracy"}


class Probe(TrainerCallback):
    """Logs what the trainer logs, and the statistics of layers at the cadence of the probes.

    The trainer's loss is its mean over the steps since it logged last. The run is finished when
    training ends.

    Args:
        run: The run.
        metrics: What to call the values that the trainer logs, such as
            `{"eval_bleu": "test/bleu"}`. Otherwise `loss`, `eval_loss` and `eval_accuracy` become
            `train/loss`, `test/loss` and `test/accuracy`, and others keep their names.
    """

    def __init__(self, run: GridRun, metrics: Mapping[str, str] | None = None) -> None:
        self.run = run
        self.metrics = NAMES | dict(metrics or {})
        self._watch: Watch | None = None
        self._step = 0
        self._row: dict[str, float] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begins to watch."""
        model: nn.Module = kwargs["model"]
        self._watch = self.run.watch(model)
        self._watch.__enter__()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Writes the row of the update before, for which the trainer has logged by now."""
        self._write()
        self._step = state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keeps what the trainer logs for the row of this update."""
        for name, value in (logs or {}).items():
            if name not in BOOKKEEPING and not name.endswith(("_per_second", "_runtime")):
                self._row[self.metrics.get(name, name)] = float(value)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Writes the last row, and finishes the run."""
        self._write()
        if self._watch is not None:
            self._watch.__exit__(None, None, None)
        self.run.finish(kwargs["model"])

    def _write(self) -> None:
        if self._row or (self._watch is not None and self._watch.observed):
            self.run.log(self._step, **self._row)
            self._row = {}
