"""`python -m initstudy.audit` as a user gives it."""

from __future__ import annotations

import json
import textwrap

import pytest

from initstudy.cli.audit import main
from tests.users_own import MINE


@pytest.fixture
def audited(tmp_path, monkeypatch, capsys):
    """Runs the command in a scratch folder; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "mine_audited.py").write_text(textwrap.dedent(MINE))
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(*arguments):
        try:
            code = main(list(arguments))
        except SystemExit as left:
            # As argparse does for --help and for an option that it does not know.
            code = int(left.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_the_tables_name_every_parameter_and_layer(audited):
    code, out, _ = audited("model=cnn", "init=torch_default")
    assert code == 0
    for name in ("conv1.weight", "conv2.bias", "head.weight", "U(±0.333)", "72 → 144"):
        assert name in out
    assert "guessing gives ln(classes) = 2.303" in out
    assert "no warnings" in out


def test_json_holds_the_same(audited):
    code, out, _ = audited("model=cnn", "init=kaiming_normal", "--json")
    assert code == 0
    found = json.loads(out)
    rows = {row["name"]: row for row in found["parameters"]}
    assert rows["conv2.weight"]["fan_in"] == 72
    assert rows["conv2.weight"]["intended_std"] == pytest.approx((2 / 72) ** 0.5)
    assert [layer["name"] for layer in found["signal"]["layers"]] == ["conv1", "conv2", "head"]


def test_strict_fails_on_warnings_alone(audited):
    bad = ["model.depth=12", "init.std=0.3"]
    assert audited(*bad)[0] == 0
    code, out, _ = audited(*bad, "--strict")
    assert code == 1
    assert "warning signal: signal grows" in out
    assert audited("init=kaiming_normal", "--strict")[0] == 0


def test_a_users_own_model_and_data_dependent_initializations(audited):
    assert "body.weight" in audited("model._target_=mine_audited.Net", "init=lsuv")[1]
    assert audited("model=transformer", "init=gpt2", "--strict")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--josn"], "--josn: there is no such option; see initstudy audit --help"),
        (["model=mpl"], "mpl"),
        (["init.std=-1"], "init.std=-1: a standard deviation"),
        (["init=gpt2"], "GPT2 found no residual branch"),
        (["init=orthogonal", "init.gain=-2"], "init.gain=-2"),
        (["init=sparse", "init.sparsity=1.2"], "init.sparsity=1.2"),
        (["init=lsuv", "init.initializer._target_=initstudy.initializers.Constant"], "LSUV cannot"),
        (["model._target_=mine_audited.Scaled", "init=normal"], "init leaves scale"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line_and_exit_code_2(audited, arguments, said):
    code, out, err = audited(*arguments)
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("initstudy: ")
    assert said in err


def test_help_says_how(audited):
    code, out, _ = audited("--help")
    assert code == 0
    assert "python -m initstudy.audit model=cnn" in out


OWN = """
import torch
from torch import nn

class Sines(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body, self.head = nn.Linear(64, 48), nn.Linear(48, classes)
        nn.init.uniform_(self.body.weight, -0.02, 0.02)
        nn.init.orthogonal_(self.head.weight)

    def forward(self, x):
        return self.head(torch.sin(30 * self.body(x.flatten(1))))
"""


def test_a_users_own_model_is_audited_as_its_constructor_makes_it(audited, tmp_path):
    (tmp_path / "mine_sines.py").write_text(OWN)
    code, out, _ = audited("model._target_=mine_sines.Sines", "--json")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(out)["parameters"]}
    assert rows["head.weight"]["distribution"] == "orthogonal"
    assert rows["body.weight"]["std"] == pytest.approx(0.02 / 3**0.5, rel=0.02)
    code, out, _ = audited("model._target_=mine_sines.Sines", "init=normal", "init.std=0.3")
    assert "N(0, 0.3²)" in out


def test_a_learning_rate_that_is_given_is_compared_with_the_curvature(audited):
    code, out, _ = audited("init=kaiming_normal", "optimizer.lr=50", "--strict")
    assert code == 1
    assert "warning sharpness: the learning rate" in out
    assert "sharpness λ = " in out


def test_a_repair_is_printed_and_tried_in_one_pack(audited, tmp_path):
    code, out, err = audited(
        "model.depth=8", "init.std=0.4", "data.subset=400", "--repair", "--try", "--every"
    )
    assert code == 0
    assert 'Rule(KaimingNormal(), name="fc*.weight"),' in out
    assert "_target_: initstudy.initializers.KaimingNormal" in out
    arms = dict(line.split(": ", 1) for line in out.splitlines()[-4:])
    assert list(arms) == ["as it starts", "repaired", "kaiming_normal", "orthogonal"]
    assert arms["as it starts"].startswith("does not train")
    assert arms["repaired"].startswith("trains, loss 0.")
    assert "training 20 in 1 pack" in err
    assert list(tmp_path.iterdir()) == [tmp_path / "mine_audited.py"]
    code, _, err = audited("init=kaiming_normal", "--try")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "there is nothing to repair" in err
