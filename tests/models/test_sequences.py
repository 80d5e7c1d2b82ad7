"""Recurrent networks, transformers and residual networks against their own definitions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initstudy.models import GRU, LSTM, RNN, ResNet, Transformer


def images(count=5, channels=1, size=8):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))


def test_an_lstm_reads_row_by_row():
    """A loop over the rows with an LSTMCell of the same weights ends at the same logits."""
    model = LSTM((2, 8, 8), 10, width=7)
    cell = nn.LSTMCell(16, 7)
    theirs = model.recurrent
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(cell, name).data = getattr(theirs, f"{name}_l0").data
    x = images(channels=2)
    h = c = torch.zeros(5, 7)
    for row in range(8):
        h, c = cell(x[:, :, row].flatten(1), (h, c))
    torch.testing.assert_close(model(x), model.head(h))


def test_rectified_units_read_pixel_by_pixel():
    """The recurrence of Le et al. 2015, written out: h = relu(W x + U h + b)."""
    model = RNN((3, 4, 5), 10, width=7, sequence="pixels", nonlinearity="relu")
    parts = dict(model.recurrent.named_parameters())
    x = torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    h = torch.zeros(6, 7)
    for row in range(4):
        for column in range(5):
            read = x[:, :, row, column] @ parts["weight_ih_l0"].T + parts["bias_ih_l0"]
            h = (read + h @ parts["weight_hh_l0"].T + parts["bias_hh_l0"]).clamp(min=0)
    torch.testing.assert_close(model(x), model.head(h))


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
def test_the_order_of_rows_matters(kind):
    model = kind((1, 8, 8), 10)
    x = images()
    assert not torch.allclose(model(x), model(x.flip(2)))


def test_without_positions_a_transformer_does_not_see_the_order_of_patches():
    model = Transformer((1, 8, 8), 10, patch_size=4).eval()
    x = images()
    shuffled = torch.cat([x[:, :, 4:], x[:, :, :4]], dim=2)
    assert not torch.allclose(model(x), model(shuffled), atol=1e-4)
    nn.init.zeros_(model.positions.weight)
    torch.testing.assert_close(model(x), model(shuffled))


def test_patches_are_cut_as_unfold_cuts_them():
    model = Transformer((3, 8, 12), 10, patch_size=4)
    x = torch.randn(2, 3, 8, 12)
    torch.testing.assert_close(model.cut(x), F.unfold(x, 4, stride=4).mT)


def test_a_block_is_torchs_pre_norm_encoder_layer():
    model = Transformer((1, 8, 8), 10, width=16, heads=2, depth=1, mlp_ratio=3)
    block = model.block1
    layer = nn.TransformerEncoderLayer(16, 2, 48, 0.0, F.gelu, batch_first=True, norm_first=True)
    names = {"attention": "self_attn", "mlp1": "linear1", "mlp2": "linear2"}
    for ours, theirs in {**names, "norm1": "norm1", "norm2": "norm2"}.items():
        layer.get_submodule(theirs).load_state_dict(block.get_submodule(ours).state_dict())
    x = torch.randn(3, 4, 16)
    torch.testing.assert_close(block(x), layer(x))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_block_whose_branch_ends_in_zero_hands_its_input_on(batch_norm):
    model = ResNet((1, 8, 8), 10, channels=(4, 6), blocks=2, batch_norm=batch_norm)
    x = torch.relu(torch.randn(3, 4, 8, 8))
    for block, shape in ((model.stage1.block1, (3, 4, 8, 8)), (model.stage2.block1, (3, 6, 4, 4))):
        last = block.norm2 if batch_norm else block.conv2
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)
        expected = torch.relu(x if block.shortcut is None else block.shortcut(x))
        assert block(x).shape == shape
        torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("size", [8, 28, 32])
def test_residual_networks_take_the_images_of_every_dataset(size):
    for channels in (1, 3):
        model = ResNet((channels, size, size), 10, channels=(4, 8, 8))
        assert torch.isfinite(model(images(2, channels, size))).all()
        assert model.stage3.block1.conv1.stride == (2, 2)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LSTM((1, 8, 8), 10, layers=0), r"model\.layers=0"),
        (lambda: Transformer((1, 8, 8), 10, patch_size=3), r"patch_size=3: must divide .* 8×8"),
        (lambda: Transformer((1, 8, 8), 10, heads=5), r"model\.heads=5: must divide model\.width"),
        (lambda: Transformer((1, 8, 8), 10, depth=-1), r"model\.depth=-1"),
        (lambda: ResNet((1, 8, 8), 10, channels=()), r"model\.channels=\(\): needs"),
        (lambda: ResNet((1, 8, 8), 10, channels=8), r"model\.channels=8: needs a list"),
        (lambda: ResNet((1, 8, 8), 10, batch_norm="maybe"), r"batch_norm=maybe: must be true"),
        (lambda: ResNet((1, 8, 8), 10, blocks=0), r"model\.blocks=0"),
        (lambda: ResNet((1, 8, 8), 10, activation="tahn"), r"model\.activation=tahn"),
    ],
)
def test_bad_sizes_are_one_line(make, said):
    with pytest.raises(ValueError, match=said):
        make()
