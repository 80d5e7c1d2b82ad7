"""Runs that Lightning's and Hugging Face's trainers train, with their own loops."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import initstudy


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def examples() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, generator=generator)
    return TensorDataset(x, (x[:, 0] > 0).long())


@pytest.mark.filterwarnings("ignore")
def test_lightning_logs_what_a_plain_loop_logs(monkeypatch):
    lightning = pytest.importorskip("lightning.pytorch")
    from initstudy.callbacks.lightning import Probe

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))

        def training_step(self, batch, index):
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch, index):
            accuracy = (self.net(batch[0]).argmax(1) == batch[1]).float().mean()
            self.log("accuracy", accuracy)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.5)

    loader = DataLoader(examples(), batch_size=16)
    given = {"init": "xavier_normal", "name": "pl", "tracking": "off", "every": 2}
    (run,) = initstudy.grid(**given)
    module = run.initialize(Module())
    probe = Probe(run, module="net", metrics={"accuracy": "test/accuracy"})
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=2, callbacks=[probe], accelerator="cpu", enable_model_summary=False, **quiet
    )
    trainer.fit(module, loader, loader)
    found = initstudy.results("runs/pl")
    plain = run.initialize(Module())
    optimizer = plain.configure_optimizers()
    losses = []
    for _ in range(2):
        for batch in loader:
            loss = plain.training_step(batch, 0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert found.history["train/loss"].drop_nulls().to_list() == pytest.approx(losses, rel=1e-5)
    probed = found.history.drop_nulls("activation/0/rms")["step"].to_list()
    assert probed == [0, 2, 4, 6]
    accuracy = (plain.net(examples()[:][0]).argmax(1) == examples()[:][1]).float().mean().item()
    assert found.runs["test/accuracy"].to_list() == pytest.approx([accuracy])


@pytest.mark.filterwarnings("ignore")
def test_transformers_logs_its_losses_and_the_layers(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from initstudy.callbacks.transformers import Probe

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.act, self.head = nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)

        def forward(self, x, labels):
            logits = self.head(self.act(self.body(x)))
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    data = [{"x": x, "labels": y} for x, y in examples()]
    (run,) = initstudy.grid(init="xavier_normal", name="hf", tracking="off", every=4)
    model = run.initialize(Net())
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "hf"),
        max_steps=6,
        logging_steps=1,
        per_device_train_batch_size=16,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=data, callbacks=[Probe(run)])
    trainer.train()
    found = initstudy.results("runs/hf")
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert found.history["train/loss"].drop_nulls().to_list() == pytest.approx(logged)
    assert found.history.drop_nulls("activation/body/rms")["step"].to_list() == [0, 4]
