"""Meta-device models under FSDP and DTensor, in one process, against the same model in memory."""

from __future__ import annotations

import pytest
import torch
from torch import distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.nn.utils import parametrizations

from initstudy.initializers import GPT2, LSUV, Normal, initialize, param_init_fn


@pytest.fixture(scope="module")
def _group(tmp_path_factory):
    store = distributed.FileStore(str(tmp_path_factory.mktemp("group") / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def build():
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    return nn.Sequential(
        nn.Linear(8, 16),
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        nn.Linear(16, 4),
    )


POLICIES = ["torch", "keras", GPT2(), "kaiming_normal"]


@pytest.mark.usefixtures("_group")
@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.filterwarnings("ignore")
def test_a_sharded_model_has_the_numbers_of_one_in_memory(policy):
    with torch.device("meta"):
        meta = build()
    fill = param_init_fn(meta, policy, seed=3)
    sharded = FullyShardedDataParallel(
        meta,
        param_init_fn=fill,
        auto_wrap_policy=ModuleWrapPolicy({nn.TransformerEncoderLayer}),
        device_id=torch.device("cpu"),
    )
    real = initialize(build(), policy, seed=3)
    with FullyShardedDataParallel.summon_full_params(sharded):
        found = {
            name.replace("_fsdp_wrapped_module.", ""): value.clone()
            for name, value in sharded.named_parameters()
        }
    assert set(found) == {name for name, _ in real.named_parameters()}
    for name, value in real.named_parameters():
        assert torch.equal(found[name], value), name


@pytest.mark.usefixtures("_group")
@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_distributed_tensors_take_their_own_shards(policy):
    with torch.device("meta"):
        model = build()
    mesh = distributed.device_mesh.init_device_mesh("cpu", (1,))
    for layer in model[1].layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model.to_empty(device="cpu")
    initialize(model, policy, seed=3)
    real = initialize(build(), policy, seed=3)
    for name, value in model.named_parameters():
        assert torch.equal(value.full_tensor(), real.get_parameter(name)), name


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_called_module_by_module_it_is_initialize(policy):
    """As FSDP calls it: from the outside in, for every module."""

    def weighted():
        return nn.Sequential(build(), parametrizations.weight_norm(nn.Linear(4, 3)))

    with torch.device("meta"):
        meta = weighted()
    fill = param_init_fn(meta, policy, seed=1)
    for module in list(meta.modules()):
        fill(module)
    real = initialize(weighted(), policy, seed=1)
    for name, value in real.named_parameters():
        torch.testing.assert_close(meta.get_parameter(name), value)


def test_what_would_stay_without_a_value_is_refused_before():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    with pytest.raises(ValueError, match=r"1\.weight is on the meta device"):
        param_init_fn(model, Normal(0.1), seed=0)
    with pytest.raises(ValueError, match="LSUV looks at data, which FSDP has not yet"):
        param_init_fn(model, LSUV(), seed=0)
