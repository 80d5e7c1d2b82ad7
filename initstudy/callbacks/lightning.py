"""A run of `initstudy.grid` that Lightning's `Trainer` trains.

    for run in initstudy.grid(init=["torch", "kaiming_normal"], seeds=3, name="mine"):
        module = run.initialize(Module())
        Trainer(max_epochs=3, callbacks=[Probe(run)]).fit(module, loader)

Needs `pip install "initstudy[lightning]"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from initstudy.api.grid import GridRun
from initstudy.api.watch import Watch


class Probe(Callback):
    """Logs the loss of every update and the statistics of layers at the cadence of the probes.

    The run is finished when `fit` ends, unless it was interrupted. Whatever the module logs during
    an evaluation stands in the row of the next update.

    Args:
        run: The run.
        module: The name of the submodule that `training_step` calls, such as "net"; the
            LightningModule itself by default.
        metrics: What to call the values that the module logs, such as
            `{"val_acc": "test/accuracy"}`. Others keep their names.
    """

    def __init__(
        self, run: GridRun, module: str = "", metrics: Mapping[str, str] | None = None
    ) -> None:
        self.run = run
        self.module = module
        self.metrics = dict(metrics or {})
        self._watch: Watch | None = None
        self._updates = 0
        self._evaluated: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to watch."""
        self._watch = self.run.watch(pl_module.get_submodule(self.module))
        self._watch.__enter__()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Logs an update; batches whose gradients are only accumulated make no row.

        Raises:
            ValueError: The watched module was never called.
        """
        if trainer.global_step == self._updates:
            return
        assert self._watch is not None
        if not self._watch.layers and self._watch.preset != "off":
            called = self.module or type(pl_module).__name__
            raise ValueError(
                f"Probe: training_step does not call {called} as a module, or it has no layers; "
                'name the submodule that it calls, as in Probe(run, module="net")'
            )
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        self.run.log(self._updates, loss=loss, **self._evaluated)
        self._updates, self._evaluated = trainer.global_step, {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps what the evaluation has logged for the next row."""
        if not trainer.sanity_checking:
            logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
            self._evaluated |= {self.metrics.get(name, name): v for name, v in logged.items()}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the last evaluation, and finishes the run."""
        if self._evaluated:
            self.run.log(self._updates, **self._evaluated)
        self._leave()
        if not trainer.interrupted:
            self.run.finish(pl_module)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leaves the model as it was; the run is not finished."""
        self._leave()

    def _leave(self) -> None:
        if self._watch is not None:
            self._watch.__exit__(None, None, None)
            self._watch = None
