"""Which part of an encoder is trained under a head, and encoders that stand still."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch import nn

from ml.encoders.catalogue import CATALOGUE, EncoderError, WeightsMissing, encoder
from ml.encoders.descriptors import describe
from ml.encoders.networks import make_network
from ml.encoders.trainable import blocks_of, freeze_modes, frozen_tower, set_trained


def on_meta(name):
    with torch.device("meta"):
        return make_network(encoder(name))


def trained(network):
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("compact-resnet-48", 4),
        ("uni", 24),
        ("virchow2", 32),
        ("conch", 12),
        ("keep", 24),
        ("ctranspath", 4),
        ("musk", 24),
        ("resnet50", 4),
    ],
)
def test_the_last_block_and_what_follows_it(name, blocks):
    network = on_meta(name)
    found = blocks_of(network)
    assert len(found) == blocks
    set_trained(network, 1)
    inside = {id(p) for p in found[-1].parameters()}
    after = {n for n, p in network.named_parameters() if p.requires_grad and id(p) not in inside}
    assert all(p.requires_grad for p in found[-1].parameters())
    assert not any(p.requires_grad for block in found[:-1] for p in block.parameters())
    wanted = {
        "uni": {"norm.weight", "norm.bias"},
        "virchow2": {"trunk.norm.weight", "trunk.norm.bias"},
        "ctranspath": {"norm.weight", "norm.bias"},
        "musk": {"beit3.encoder.layer_norm.A.weight", "beit3.encoder.layer_norm.A.bias"},
    }
    if name in wanted or "resnet" in name:
        assert after == wanted.get(name, set())
    else:
        first = {"conch": "attn_pool_contrast.query", "keep": "visual_head.0.weight"}[name]
        assert first in after and {"trunk.norm.weight", "visual.norm.weight"} & after, "pooling and projection follow the blocks"


def test_hex_trains_half_of_the_published_tensors():
    """The authors train 164 tensors of 100.9 million values in the last four layers, half of them of the text expert."""
    network = on_meta("musk")
    set_trained(network, 4)
    count = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert len(trained(network)) == 164 / 2 and count / 1e6 == pytest.approx(100.9 / 2, abs=0.05)


@pytest.mark.parametrize("name", [name for name, spec in CATALOGUE.items() if not spec.weight_free])
def test_every_network_of_the_catalogue_has_blocks(name):
    assert len(blocks_of(on_meta(name))) >= 4


def test_all_nothing_and_too_much():
    network = on_meta("vit-s16-imagenet")
    set_trained(network, 0)
    assert not trained(network)
    set_trained(network, 12)
    assert "blocks.0.norm1.weight" in trained(network) and "patch_embed.proj.weight" not in trained(network)
    set_trained(network, None)
    assert trained(network) == {name for name, _ in network.named_parameters()}
    with pytest.raises(EncoderError, match="has 12 blocks, so its last 13") as caught:
        set_trained(network, 13)
    assert caught.value.code == "too_many_blocks"
    set_trained(timm.create_model("convnext_atto", num_classes=0), 2)


def test_a_network_without_a_sequence_is_all_or_nothing():
    network = nn.Sequential(nn.Linear(2, 2))
    set_trained(network, None)
    set_trained(network, 0)
    with pytest.raises(EncoderError, match="Sequential has no sequence of blocks") as caught:
        set_trained(network, 1)
    assert caught.value.code == "no_blocks"


def test_frozen_parts_stand_still_in_training():
    """BatchNorm of the frozen stages keeps its statistics, that of the trained one learns."""
    torch.manual_seed(0)
    network = make_network(encoder("compact-resnet-48"))
    set_trained(network, 1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    freeze_modes(network)
    assert network.training and network.layer4.training and not network.layer3.training and not network.conv1.training
    network(torch.randn(4, 3, 48, 48)).square().mean().backward()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("layer4") for name in moved)
    assert {name for name, p in network.named_parameters() if p.grad is not None} == trained(network)
    set_trained(network, 0)
    freeze_modes(network.train())
    assert not any(module.training for module in network.modules())


def test_fixed_descriptors_stand_under_a_head():
    """The network's vectors are those of the tiles' own pixels, at the pitch that the tile size gives."""
    spec = encoder("he-descriptors")
    tiles = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    x = torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(3, 1, 1)
    for tile_um, mpp in ((None, 1.0), (56.0, 0.5)):
        found = frozen_tower("he-descriptors", tile_um=tile_um)(x)
        assert found.dtype == torch.float32 and not found.requires_grad
        np.testing.assert_array_equal(found.numpy(), describe(tiles, mpp))


def test_a_frozen_encoder_has_its_weights_or_is_refused(tmp_path, monkeypatch):
    from ml.encoders import catalogue

    with pytest.raises(EncoderError, match="would be noise") as caught:
        frozen_tower("compact-resnet-48")
    assert caught.value.code == "untrained"
    with pytest.raises(WeightsMissing):
        frozen_tower("uni")
    spec = replace(encoder("vit-s16-imagenet"), dim=24, timm_kwargs={"embed_dim": 24, "depth": 1, "num_heads": 2})
    monkeypatch.setitem(catalogue.CATALOGUE, spec.name, spec)
    torch.save(make_network(spec).state_dict(), tmp_path / "w.pth")
    tower = frozen_tower(spec.name, tmp_path / "w.pth")
    assert not tower.training and not trained(tower)
