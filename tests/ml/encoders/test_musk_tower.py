"""MUSK's vision tower from files as released; tests/golden/test_hex.py has the authors' own vectors."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ml.encoders.catalogue import encoder
from ml.encoders.musk import OFFSET, POSITIONS, MuskTower, multiscale
from ml.encoders.networks import build_network, make_network
from ml.encoders.runtime import load_encoder
from ml.encoders.spec import WeightsMismatch

SMALL = {"patch": 8, "heads": 2, "hidden": 24, "layers": 2}


def small(px=32):
    return replace(encoder("musk"), dim=16, input_px=px, timm_kwargs=SMALL)


def randomised(tower, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for tensor in tower.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return tower.eval()


def with_texts(state):
    """The file as released: a text expert beside every vision expert, and what belongs to the training."""
    file = {key.replace(".A.", ".B."): torch.full_like(value, torch.nan) for key, value in state.items() if ".A." in key}
    others = ("beit3.text_embed.weight", "language_head.weight", "vision_head.weight", "logit_scale", "beit3.vision_embed.mask_token")
    return {**file, **dict.fromkeys(others, torch.full((1,), torch.nan)), **state}


def pixels(px=32, n=2):
    return torch.randn(n, 3, px, px, generator=torch.Generator().manual_seed(1))


def test_the_text_half_of_a_released_file_is_left_out(tmp_path):
    tower = randomised(make_network(small()))
    torch.save(with_texts(tower.state_dict()), tmp_path / "musk.pth")
    built = build_network(small(), tmp_path / "musk.pth").eval()
    with torch.inference_mode():
        assert torch.equal(built(pixels()), tower(pixels())) and built(pixels()).shape == (2, 16)
    assert built.vision_head is None, "the projection to texts is no part of the vector"


def test_a_tensor_of_another_network_is_told(tmp_path):
    state = with_texts(make_network(small()).state_dict())
    del state["beit3.encoder.layers.1.ffn.A.ffn_layernorm.weight"]
    torch.save({**state, "beit3.encoder.layers.1.moe.gate": torch.zeros(1)}, tmp_path / "musk.pth")
    with pytest.raises(WeightsMismatch, match=r"1 absent \(e.g. .*ffn_layernorm.weight\), 1 extra \(e.g. .*moe.gate\)"):
        build_network(small(), tmp_path / "musk.pth")


def test_positions_of_a_larger_image_are_resampled_but_for_the_first_three_rows(tmp_path):
    state = randomised(make_network(small(px=64))).state_dict()
    torch.save(with_texts(state), tmp_path / "musk.pth")
    table = build_network(small(px=32), tmp_path / "musk.pth").state_dict()[POSITIONS]
    plane = state[POSITIONS][3:].view(1, 8, 8, 16).permute(0, 3, 1, 2)
    wanted = F.interpolate(plane, size=(4, 4), mode="bicubic", align_corners=False).permute(0, 2, 3, 1).reshape(16, 16)
    assert torch.equal(table[:3], state[POSITIONS][:3])
    torch.testing.assert_close(table[3:], wanted)


def test_the_first_rows_of_the_table_belong_to_no_token():
    tower = randomised(make_network(small()))
    with torch.inference_mode():
        before = tower.tokens(pixels())
        tower.state_dict()[POSITIONS][:OFFSET] = 99
        assert torch.equal(tower.tokens(pixels()), before)
        tower.state_dict()[POSITIONS][OFFSET] += 1
        assert not torch.equal(tower.tokens(pixels()), before)


def test_attention_and_feed_forward_have_a_norm_inside():
    """One layer by matrices: scaled products per head, LayerNorm before the output projection and between GELU and the second Linear."""
    layer = randomised(make_network(small())).beit3.encoder.layers[0]
    s = {key.replace(".A.", "."): value for key, value in layer.state_dict().items()}
    x = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(2))

    def linear(name, value):
        return value @ s[f"{name}.weight"].T + s[f"{name}.bias"]

    def norm(name, value):
        return F.layer_norm(value, value.shape[-1:], s[f"{name}.weight"], s[f"{name}.bias"], 1e-5)

    normed = norm("self_attn_layer_norm", x)
    q, k, v = (linear(f"self_attn.{name}_proj", normed) for name in "qkv")
    heads = [((q[0, :, part] * 8**-0.5) @ k[0, :, part].T).softmax(-1) @ v[0, :, part] for part in (slice(0, 8), slice(8, 16))]
    first = x + linear("self_attn.out_proj", norm("self_attn.inner_attn_ln", torch.cat(heads, -1)[None]))
    hidden = F.gelu(linear("ffn.fc1", norm("final_layer_norm", first)))
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), first + linear("ffn.fc2", norm("ffn.ffn_layernorm", hidden)), rtol=1e-4, atol=1e-4)


def test_two_scales_join_the_image_and_its_quarters():
    """Of a constant image the quarters of the enlarged one are that image again."""
    tower = randomised(make_network(small()))
    flat = torch.full((1, 3, 32, 32), 0.4)
    with torch.inference_mode():
        joined = multiscale(tower, flat)
        assert joined.shape == (1, 32)
        torch.testing.assert_close(joined[:, :16], tower(flat))
        torch.testing.assert_close(joined[:, 16:], tower(flat), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(multiscale(tower, pixels())[:, 16:], tower(pixels()), atol=1e-3)


def test_the_projection_to_texts_has_length_one():
    tower = MuskTower(32, dim=16, **SMALL, with_head=True).eval()
    with torch.inference_mode():
        torch.testing.assert_close(tower.projected(pixels()).norm(dim=-1), torch.ones(2))
    with pytest.raises(ValueError, match="without its vision_head"):
        MuskTower(32, dim=16, **SMALL).projected(pixels())


def test_it_is_an_encoder_of_the_catalogue(monkeypatch, tmp_path):
    from ml.encoders import catalogue

    monkeypatch.setitem(catalogue.CATALOGUE, "musk", small())
    (tmp_path / "musk").mkdir()
    tower = randomised(make_network(small()))
    torch.save(with_texts(tower.state_dict()), tmp_path / "musk" / "musk.pth")
    found = load_encoder("musk", root=tmp_path)
    tiles = (pixels().clamp(-1, 1) * 127 + 128).to(torch.uint8)
    with torch.inference_mode():
        wanted = tower((tiles.float() / 255 - 0.5) / 0.5).numpy()
    assert found.precision == "fp32" and found(tiles.permute(0, 2, 3, 1).numpy()) == pytest.approx(wanted, rel=1e-3, abs=1e-4)
