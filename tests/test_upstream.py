"""Private interfaces of other libraries that the package uses, one test for each.

These libraries promise nothing about them. A test that fails here after an update says which detail
has changed; CONTRIBUTING.md lists them with the files that use them.
"""

from __future__ import annotations

import dis
import json
import math
import re
import subprocess
import types
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, max_pool2d

from initstudy.config.paths import CONF

ROOT = CONF.parent
ATEN = torch.ops.aten


def test_contributing_lists_every_interface_with_its_test():
    """The list and this file agree, so that neither is forgotten."""
    here = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text(), re.MULTILINE))
    section = (ROOT / "CONTRIBUTING.md").read_text().split("## Private interfaces")[1]
    listed = set(re.findall(r"`(test_\w+)`", section))
    assert here - {"test_contributing_lists_every_interface_with_its_test"} == listed
    for path in re.findall(r"`((?:initstudy|hydra_plugins)/[\w/.]+)`", section):
        assert (ROOT / path).exists(), path


# Hydra and OmegaConf


def test_hydra_internal_basic_sweeper(tmp_path):
    """Sweeping goes through `validate_batch_is_legal`, and hands all jobs over at once."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from omegaconf import OmegaConf

    seen = []

    class Sweeper(BasicSweeper):
        def validate_batch_is_legal(self, batch):
            seen.append(("validated", len(batch)))

    class Launcher:
        def launch(self, job_overrides, initial_job_idx):
            seen.append(("launched", [list(job) for job in job_overrides]))
            return []

    sweeper = Sweeper(max_batch_size=None, params={"a": "1,2"})
    sweeper.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    sweeper.launcher = Launcher()
    sweeper.hydra_context = types.SimpleNamespace(config_loader=None)
    sweeper.sweep(["b=3"])
    assert seen == [("validated", 2), ("launched", [["a=1", "b=3"], ["a=2", "b=3"]])]


def test_hydra_override_parser():
    """A parsed override knows its text, its key and its value."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(["a=1,2", "b=3"])
    assert BasicSweeper.split_arguments(parsed, None) == [[["a=1", "b=3"], ["a=2", "b=3"]]]
    override = OverridesParser.create().parse_override("init.std=0.5")
    assert override.input_line == "init.std=0.5"
    assert override.key_or_group == "init.std"
    assert override.value() == 0.5


def test_hydra_internal_args_parser():
    """Its parser tells overrides and options apart, and has these names for the options."""
    from hydra._internal.utils import get_args_parser

    words = ["-m", "--config-dir", "folder", "init.std=0.5", "seed=0,1"]
    given, unknown = get_args_parser().parse_known_args(words)
    assert (given.multirun, given.config_dir, given.config_name) == (True, "folder", None)
    assert given.overrides == ["init.std=0.5", "seed=0,1"]
    assert unknown == []


@pytest.fixture
def load(tmp_path):
    """Composes overrides with a configuration that has one key and two groups."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    for group in ("group", "without_default"):
        (tmp_path / group).mkdir()
        (tmp_path / group / "a.yaml").write_text("x: 1\n")
    (tmp_path / "config.yaml").write_text("defaults: [{group: a}, _self_]\nseed: 0\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        yield lambda *words, **more: loader.load_configuration("config", [*words], **more)


def test_hydra_config_loader(load):
    """It composes what a sweep has in common, if it is told not to look at lists of values."""
    from hydra.types import RunMode

    config = load("seed=1", run_mode=RunMode.RUN)
    assert (config.seed, config.group.x) == (1, 1)
    mode = RunMode.MULTIRUN
    words = ["seed=0,1", "hydra.mode=MULTIRUN"]
    config = load(*words, run_mode=mode, validate_sweep_overrides=False)
    assert config.hydra.mode is mode
    assert list(config.hydra.overrides.task) == ["seed=0,1"]


def test_hydra_error_messages(load):
    """Messages of which parts are read, to say the same in one line."""
    from hydra.errors import ConfigCompositionException, MissingConfigException
    from hydra.types import RunMode

    def message(*words):
        with pytest.raises(ConfigCompositionException) as caught:
            load(*words, run_mode=RunMode.RUN)
        return str(caught.value)

    assert "--multirun" in message("seed=0,1")
    assert "'seed=0,1'\n" in message("seed=0,1")
    assert message("+seed=1").startswith("Could not append")
    assert "remove + prefix: 'seed=1'\n" in message("+seed=1")
    assert "No match in the defaults list" in message("without_default=a")
    assert message("without_default=a").rpartition("use +")[2].strip() == "without_default=a"
    assert message("+group=a").endswith("appears more than once in the final defaults list")
    assert message("~none").startswith("Could not delete from config. 'none'")
    with pytest.raises(MissingConfigException) as caught:
        load("group=b", run_mode=RunMode.RUN)
    assert caught.value.missing_cfg_file == "group/b"
    assert caught.value.options == ["a"]


def test_omegaconf_parents():
    """A node knows the configuration that holds it."""
    from omegaconf import OmegaConf

    config = OmegaConf.create({"a": {"b": {"c": 1}}})
    assert config.a.b._get_parent()._get_parent() is config
    assert config._get_parent() is None


def test_omegaconf_utils_dumper():
    """Its representer quotes text that YAML would read as a number or a boolean."""
    from omegaconf._utils import OmegaConfDumper

    class Dumper(yaml.Dumper):
        pass

    Dumper.add_representer(str, OmegaConfDumper.str_representer)
    for text in ("1", "1e3", "true", "null", "1.5"):
        assert yaml.safe_load(yaml.dump({"a": text}, Dumper=Dumper)) == {"a": text}
        assert yaml.dump(text, Dumper=Dumper).startswith("'")


# W&B


def test_wandb_core_reads_runs(tmp_path):
    """The program beside the client prints the records of an offline file as JSON."""
    import wandb
    from wandb.util import get_core_path

    with wandb.init(mode="offline", dir=tmp_path, project="p", id="abc") as run:
        run.log({"loss": 1.5})
    (file,) = tmp_path.glob("wandb/offline-run-*/run-abc.wandb")
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", "--run-file"]
    done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=True)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    rows = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert [row["loss"] for row in rows] == [1.5]


def test_wandb_file_header(tmp_path):
    """An offline file begins with the header that is written here, before a LevelDB log."""
    import wandb

    from initstudy.tracking.offline import FILE_HEADER

    wandb.init(mode="offline", dir=tmp_path, project="p", id="abc").finish()
    (file,) = tmp_path.glob("wandb/offline-run-*/run-abc.wandb")
    assert file.read_bytes().startswith(FILE_HEADER)


def test_wandb_proto_fields():
    """The numbers of the fields of the records that are written here."""
    from wandb.proto import wandb_internal_pb2 as proto

    def numbers(message, **fields):
        known = message.DESCRIPTOR.fields_by_name
        assert {name: known[name].number for name in fields} == fields

    numbers(proto.Record, num=1, history=2, summary=3, metric=12, run=17, exit=18, header=21)
    numbers(proto.HeaderRecord, version_info=1)
    numbers(proto.VersionInfo, producer=1, min_consumer=2)
    numbers(proto.HistoryRecord, item=1, step=2)
    numbers(proto.HistoryItem, key=1, nested_key=2, value_json=16)
    numbers(proto.SummaryItem, key=1, nested_key=2, value_json=16)
    numbers(proto.ConfigItem, key=1, value_json=16)
    numbers(proto.RunRecord, run_id=1, entity=2, project=3, config=4, run_group=6, display_name=8)
    numbers(proto.RunRecord, start_time=17)
    numbers(proto.MetricRecord, name=1, glob_name=2, step_metric=4, options=6, summary=7)


def test_wandb_workspaces_internal_name(server):
    """A workspace that has a name has the address of that name, and not of a random one."""
    ws = pytest.importorskip("wandb_workspaces.workspaces")
    view = ws.Workspace(entity="e", project="p", name="n")
    view._internal_name = "nw-0123456789a-v"
    view._internal_id = "id"
    assert view.url.endswith("nw=0123456789a")
    assert callable(ws.Workspace.from_url)


# torch


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_torch_fused_optimizers(kind):
    """The fused kernels make one step of `torch.optim`."""
    torch.manual_seed(0)
    start, grad = torch.randn(7), torch.randn(7)
    theirs = nn.Parameter(start.clone())
    theirs.grad = grad.clone()
    ours = start.clone()
    settings = {"lr": 0.1, "weight_decay": 0.01}
    if kind == "sgd":
        torch.optim.SGD([theirs], momentum=0.9, **settings).step()
        momenta = [torch.zeros(7)]
        more = {"momentum": 0.9, "dampening": 0.0, "nesterov": False, "is_first_step": False}
        ATEN._fused_sgd_([ours], [grad.clone()], momenta, **settings, **more, maximize=False)
    else:
        optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind]
        optimizer([theirs], **settings).step()
        kernel = {"adam": ATEN._fused_adam_, "adamw": ATEN._fused_adamw_}[kind]
        state = [torch.zeros(7)], [torch.zeros(7)], [], [torch.ones(1)]
        more = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": False, "maximize": False}
        kernel([ours], [grad.clone()], *state, **settings, **more)
    torch.testing.assert_close(ours, theirs.detach())


def test_torch_foreach_copy():
    """It copies lists of tensors in place."""
    into, values = [torch.zeros(2), torch.zeros(3)], [torch.ones(2), torch.arange(3.0)]
    torch._foreach_copy_(into, values)
    assert all(torch.equal(a, b) for a, b in zip(into, values, strict=True))


def test_aten_convolution_backward():
    """Gradients by input, weight and bias, as autograd has them."""
    x, w, b = (torch.randn(s, requires_grad=True) for s in ((2, 4, 5, 5), (6, 2, 3, 3), (6,)))
    y = conv2d(x, w, b, stride=2, padding=1, groups=2)
    grad = torch.randn_like(y)
    found = ATEN.convolution_backward(
        grad, x, w, [6], [2, 2], [1, 1], [1, 1], False, [0, 0], 2, [True, True, True]
    )
    for mine, theirs in zip(found, torch.autograd.grad(y, (x, w, b), grad), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_aten_pooling_backward():
    """Gradients of both poolings, as autograd has them."""
    x = torch.randn(2, 3, 6, 6, requires_grad=True)
    y, places = ATEN.max_pool2d_with_indices(x, [2, 2], [2, 2], [0, 0], [1, 1], False)
    grad = torch.randn_like(y)
    found = ATEN.max_pool2d_with_indices_backward(
        grad, x, [2, 2], [2, 2], [0, 0], [1, 1], False, places
    )
    torch.testing.assert_close(found, *torch.autograd.grad(max_pool2d(x, 2), x, grad))
    found = ATEN.avg_pool2d_backward(grad, x, [2, 2], [2, 2], [0, 0], False, True, None)
    torch.testing.assert_close(found, *torch.autograd.grad(avg_pool2d(x, 2), x, grad))


def test_aten_activations_backward():
    """Gradients by the input, computed from the output."""
    x = torch.randn(20, requires_grad=True)
    grad = torch.randn(20)
    for forward, backward in (
        (torch.relu, lambda grad, y: ATEN.threshold_backward(grad, y, 0)),
        (torch.tanh, ATEN.tanh_backward),
        (torch.sigmoid, ATEN.sigmoid_backward),
    ):
        y = forward(x)
        torch.testing.assert_close(backward(grad, y), *torch.autograd.grad(y, x, grad))


def test_aten_native_batch_norm():
    """Output, statistics, and gradients by input, scale and offset."""
    x = torch.randn(8, 3, 2, 2, requires_grad=True)
    w, b = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    mean, var = torch.zeros(3), torch.ones(3)
    y, saved_mean, inverse = ATEN.native_batch_norm(x, w, b, mean, var, True, 0.1, 1e-5)
    theirs = batch_norm(x, torch.zeros(3), torch.ones(3), w, b, True, 0.1, 1e-5)
    torch.testing.assert_close(y, theirs)
    grad = torch.randn_like(y)
    found = ATEN.native_batch_norm_backward(
        grad, x, w, mean, var, saved_mean, inverse, True, 1e-5, [True, True, True]
    )
    for mine, other in zip(found, torch.autograd.grad(theirs, (x, w, b), grad), strict=True):
        torch.testing.assert_close(mine, other)


def test_torch_module_base_classes():
    """The private base classes hold exactly the public layers of their kind."""
    bases = {
        nn.modules.conv._ConvNd: "Conv",
        nn.modules.batchnorm._BatchNorm: "BatchNorm",
        nn.modules.instancenorm._InstanceNorm: "InstanceNorm",
    }
    for base, name in bases.items():
        for dims in (1, 2, 3):
            assert issubclass(getattr(nn, f"{name}{dims}d"), base)
    assert issubclass(nn.ConvTranspose2d, nn.modules.conv._ConvNd)
    norm = nn.modules.batchnorm._NormBase
    assert issubclass(nn.BatchNorm1d, norm)
    assert issubclass(nn.InstanceNorm1d, norm)
    assert not issubclass(nn.LayerNorm, norm)
    assert not issubclass(nn.GroupNorm, norm)


def test_torch_module_hooks():
    """Hooks of every kind are in the dictionaries that are asked for them."""
    for name, register in (
        ("_forward_hooks", "register_forward_hook"),
        ("_forward_pre_hooks", "register_forward_pre_hook"),
        ("_backward_hooks", "register_full_backward_hook"),
        ("_backward_pre_hooks", "register_full_backward_pre_hook"),
    ):
        module = nn.Linear(2, 2)
        assert not getattr(module, name)
        getattr(module, register)(lambda *arguments: None)
        assert len(getattr(module, name)) == 1


def test_torch_parametrization_names():
    """What a parametrized tensor is made of is called `original` or `original0`, `original1`."""
    from torch.nn.utils.parametrizations import orthogonal, weight_norm

    normed = weight_norm(nn.Linear(3, 2)).parametrizations["weight"]
    assert [name for name, _ in normed.named_parameters()] == ["original0", "original1"]
    kept = orthogonal(nn.Linear(3, 3), use_trivialization=False).parametrizations["weight"]
    assert "original" in dict(kept.named_parameters())


# Python


def test_cpython_opcode_names():
    """Attributes that a method reads and sets are found by the names of these instructions."""

    class Reads(nn.Module):
        def forward(self, x):
            return self.layer(x).relu()

    class Sets(nn.Module):
        def forward(self, x):
            self.calls = self.calls + 1
            return math.sqrt(2) * x

    def attributes(kind, *names):
        steps = dis.get_instructions(kind.forward)
        return [step.argval for step in steps if step.opname in names]

    reading = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR")
    assert attributes(Reads, *reading) == ["layer", "relu"]
    assert attributes(Sets, *reading) == ["calls", "sqrt"]
    assert attributes(Sets, "STORE_ATTR") == ["calls"]
    assert attributes(Sets, "LOAD_GLOBAL") == ["math"]


def test_multiprocessing_resource_tracker():
    """The process that spawning would start can be started before."""
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()
    assert resource_tracker.getfd() >= 0


# Numerical libraries


def test_scipy_blas_for_compiled_code():
    """SciPy's library is found beside torch's, and its threads can be set."""
    import scipy.linalg.cython_blas  # noqa: F401
    from threadpoolctl import ThreadpoolController

    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    found = [library for library in libraries if "scipy" in library.filepath]
    assert found
    before = found[0].get_num_threads()
    found[0].set_num_threads(1)
    assert found[0].get_num_threads() == 1
    found[0].set_num_threads(before)


# Clusters


def test_submitit_helpers():
    """What a job that is out of time returns, and the errors of a submission."""
    pytest.importorskip("submitit")
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.helpers import DelayedSubmission

    assert issubclass(FailedJobError, Exception)
    assert issubclass(FailedSubmissionError, Exception)
    assert DelayedSubmission(len, "abc").function is len
    assert hasattr(SlurmExecutor, "batch")
