"""A file as each author released it gives the vectors that the author's own code gives.

The architectures are shrunk through the same entries and the same code: only widths and depths differ. Where the reference is a package
(transformers), it runs here; where it is not on the index any more (timm 0.5.4) its outputs were computed once from tensors of a formula;
the attention pooling of CONCH is written out here as its paper's code does it, in plain matrix products.
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ml.encoders.catalogue import encoder
from ml.encoders.networks import build_network
from ml.encoders.spec import WeightsMismatch

TINY_VIT = {"embed_dim": 24, "depth": 2, "num_heads": 3}


def tiny(name, dim, **kwargs):
    """The entry with a narrow network; input of 56 px."""
    spec = encoder(name)
    kwargs = {**spec.timm_kwargs, "img_size": 56, **TINY_VIT, **kwargs}
    return replace(spec, dim=dim, input_px=56, timm_kwargs=kwargs)


def randomised(module, seed=0):
    """Every tensor random, also those that start as zeros or ones: a tensor that is mixed up then shows."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2 + 0.05)
    return module.eval()


def pixels(px=56, n=2):
    return torch.randn(n, 3, px, px, generator=torch.Generator().manual_seed(1))


def vectors(spec, path, px=56):
    with torch.inference_mode():
        return build_network(spec, path).eval()(pixels(px))


# --- transformers


def hf_folder(model, tmp_path):
    """model.safetensors as `save_pretrained` writes it: the naming of the released files."""
    model.save_pretrained(tmp_path)
    return tmp_path / "model.safetensors"


def test_phikon_is_transformers_vit(tmp_path):
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96, image_size=56, patch_size=8)
    model = randomised(ViTModel(config))
    found = vectors(tiny("phikon", 24, patch_size=8), hf_folder(model, tmp_path))
    with torch.inference_mode():
        wanted = model(pixel_values=pixels()).last_hidden_state[:, 0]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("image_size", [56, 112])
@pytest.mark.parametrize("name", ["phikon-v2", "midnight-12k"])
def test_phikon_v2_and_midnight_are_transformers_dinov2(name, image_size, tmp_path):
    """Also when the file's positions are those of larger images, as DINOv2's own are."""
    from transformers import Dinov2Config, Dinov2Model

    swiglu = name == "midnight-12k"
    shape = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "patch_size": 8, "image_size": image_size}
    model = randomised(Dinov2Model(Dinov2Config(**shape, use_swiglu_ffn=swiglu)))
    dim = 48 if swiglu else 24
    found = vectors(tiny(name, dim, patch_size=8), hf_folder(model, tmp_path))
    with torch.inference_mode():
        tokens = model(pixel_values=pixels()).last_hidden_state
    wanted = torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=-1) if swiglu else tokens[:, 0]
    assert found.shape == (2, dim)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("image_size", [56, 112])
def test_hibou_is_transformers_dinov2_with_registers(image_size, tmp_path):
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    shape = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "patch_size": 8, "image_size": image_size}
    config = Dinov2WithRegistersConfig(**shape, use_swiglu_ffn=True, num_register_tokens=4)
    model = randomised(Dinov2WithRegistersModel(config))
    found = vectors(tiny("hibou-l", 24, patch_size=8, mlp_ratio=128 / 24), hf_folder(model, tmp_path))
    with torch.inference_mode():
        wanted = model(pixel_values=pixels()).pooler_output
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


# --- timm


@pytest.mark.parametrize("name", ["uni", "uni2-h", "prov-gigapath", "h-optimus-0", "lunit-s16-dino", "kaiko-b8"])
def test_timm_files_give_the_class_token(name, tmp_path):
    from ml.encoders.networks import make_network

    spec = tiny(name, 24, patch_size=8)
    model = randomised(make_network(spec))
    torch.save({**model.state_dict(), "head.weight": torch.zeros(5, 24), "head.bias": torch.zeros(5)}, tmp_path / "pytorch_model.bin")
    with torch.inference_mode():
        tokens = model.forward_features(pixels())
        torch.testing.assert_close(vectors(spec, tmp_path / "pytorch_model.bin"), tokens[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "registers"), [("virchow", 0), ("virchow2", 4), ("h0-mini", 4)])
def test_virchow_and_h0_mini_join_class_token_and_mean_of_patches(name, registers, tmp_path):
    from ml.encoders.networks import make_network

    spec = tiny(name, 48, patch_size=8)
    trunk = randomised(make_network(spec).trunk)
    torch.save(trunk.state_dict(), tmp_path / "pytorch_model.bin")
    with torch.inference_mode():
        tokens = trunk.forward_features(pixels())
        wanted = torch.cat([tokens[:, 0], tokens[:, 1 + registers :].mean(1)], dim=-1)
        assert tokens.shape[1] == 1 + registers + 49
        torch.testing.assert_close(vectors(spec, tmp_path / "pytorch_model.bin"), wanted, rtol=1e-4, atol=1e-5)


def test_lunits_resnet_is_torchvisions_without_its_classifier(tmp_path):
    from torchvision.models.resnet import Bottleneck, ResNet

    model = ResNet(Bottleneck, [3, 4, 6, 3])
    model.fc = nn.Identity()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(std=0.1)
            part.running_var.uniform_(0.5, 1.5)
    model.eval()
    torch.save(model.state_dict(), tmp_path / "bt_rn50_ep200.torch")
    with torch.inference_mode():
        wanted = model(pixels(64))
        torch.testing.assert_close(
            vectors(encoder("lunit-resnet50-bt"), tmp_path / "bt_rn50_ep200.torch", px=64), wanted, rtol=1e-3, atol=1e-4
        )


def test_positions_of_another_grid_are_resampled_as_timm_does(tmp_path):
    import timm

    spec = tiny("dinov2-s14", 24, patch_size=8)
    large = randomised(timm.create_model(spec.timm_name, num_classes=0, **{**spec.timm_kwargs, "img_size": 112}, dynamic_img_size=True))
    torch.save(large.state_dict(), tmp_path / "w.pth")
    with torch.inference_mode():
        torch.testing.assert_close(vectors(spec, tmp_path / "w.pth"), large(pixels()), rtol=1e-4, atol=1e-4)


# --- CONCH, KEEP


def pooled_by_hand(state, tokens, heads, dim):
    """Attention of one query over all tokens, from matrices: softmax(q k' / sqrt(d)) v per head, then the output projection."""
    keys = F.layer_norm(tokens, tokens.shape[-1:], state["ln_k.weight"], state["ln_k.bias"])
    query = F.layer_norm(state["query"], (dim,), state["ln_q.weight"], state["ln_q.bias"])
    if "to_q.weight" in state:
        q = query @ state["to_q.weight"].T
        k, v = (keys @ state["to_kv.weight"].T).split(dim, dim=-1)
    else:
        bq, bk, bv = state["attn.in_proj_bias"].split(dim)
        q = query @ state["attn.q_proj_weight"].T + bq
        k, v = keys @ state["attn.k_proj_weight"].T + bk, keys @ state["attn.v_proj_weight"].T + bv
    width = dim // heads
    out = []
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        share = (k[..., part] @ q[0, part] / math.sqrt(width)).softmax(dim=1)
        out.append((share[..., None] * v[..., part]).sum(1))
    joined = torch.cat(out, dim=-1)
    if "to_out.weight" in state:
        return joined @ state["to_out.weight"].T
    return joined @ state["attn.out_proj.weight"].T + state["attn.out_proj.bias"]


@pytest.mark.parametrize("name", ["conch", "conch-v1.5"])
def test_conch_pools_all_tokens_without_the_projection_to_texts(name, tmp_path):
    from ml.encoders.networks import make_network

    dim = 16
    spec = tiny(name, dim, patch_size=8)
    tower = randomised(make_network(spec))
    if name == "conch":
        file = {f"visual.{k}": v for k, v in tower.state_dict().items()}
        file |= {"visual.proj_contrast": torch.ones(dim, dim), "visual.attn_pool_caption.query": torch.ones(4, dim)}
        file |= {"visual.ln_caption.weight": torch.ones(dim), "text.cls_emb": torch.ones(dim), "logit_scale": torch.ones([])}
    else:
        file = tower.state_dict()
    torch.save(file, tmp_path / "pytorch_model.bin")
    pool = {k.removeprefix("attn_pool_contrast."): v for k, v in tower.state_dict().items() if k.startswith("attn_pool_contrast.")}
    with torch.inference_mode():
        pooled = pooled_by_hand(pool, tower.trunk.forward_features(pixels()), heads=8, dim=dim)
        wanted = F.layer_norm(pooled, (dim,), tower.ln_contrast.weight, tower.ln_contrast.bias)
    torch.testing.assert_close(vectors(spec, tmp_path / "pytorch_model.bin"), wanted, rtol=1e-4, atol=1e-5)


def test_keep_projects_and_normalises(tmp_path):
    from ml.encoders.networks import make_network

    spec = tiny("keep", 20, patch_size=8)
    model = randomised(make_network(spec))
    torch.save({**model.state_dict(), "text.embeddings.word": torch.ones(3), "logit_scale": torch.ones([])}, tmp_path / "pytorch_model.bin")
    head = model.state_dict()
    with torch.inference_mode():
        hidden = F.gelu(model.visual(pixels()) @ head["visual_head.0.weight"].T + head["visual_head.0.bias"])
        wanted = hidden @ head["visual_head.2.weight"].T + head["visual_head.2.bias"]
        wanted /= wanted.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(vectors(spec, tmp_path / "pytorch_model.bin"), wanted, rtol=1e-4, atol=1e-5)


# --- CTransPath


def by_formula(name, shape):
    """A tensor that everybody can make again from its name."""
    seed = sum(ord(letter) * (i + 1) for i, letter in enumerate(name)) % 997
    values = torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * 0.7 + seed).reshape(shape).float() * 0.2
    if name.endswith("running_var"):
        return values.abs() + 0.5
    return 1 + values if name.endswith("weight") and len(shape) == 1 else values


def test_ctranspath_is_the_swin_of_timm_054(tmp_path):
    """Wanted: first values of timm 0.5.4's SwinTransformer with TransPath's ConvStem, its tensors and pixels by the same formula."""
    from ml.encoders.networks import make_network

    spec = encoder("ctranspath")
    small = {"img_size": 64, "embed_dim": 16, "depths": (2, 2, 2), "num_heads": (2, 4, 4), "window_size": 4}
    spec = replace(spec, dim=64, input_px=64, timm_kwargs=small)
    file = {}
    for name, tensor in make_network(spec).state_dict().items():
        old = name
        for stage in (1, 2):  # today's timm names the downsampling by the stage that it leads to
            old = old.replace(f"layers.{stage}.downsample.", f"layers.{stage - 1}.downsample.")
        file[old] = by_formula(old, tuple(tensor.shape)) if tensor.is_floating_point() else tensor
    file |= {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16, dtype=torch.long), "head.weight": torch.ones(2, 64)}
    file["layers.0.blocks.1.attn_mask"] = torch.zeros(16, 16, 16)
    torch.save({"model": file, "epoch": 3}, tmp_path / "ctranspath.pth")
    x = torch.sin(torch.arange(2 * 3 * 64 * 64, dtype=torch.float64) ** 1.3 * 0.01).reshape(2, 3, 64, 64).float()
    with torch.inference_mode():
        found = build_network(spec, tmp_path / "ctranspath.pth").eval()(x)
    torch.testing.assert_close(found[:, : len(TIMM_054[0])], torch.tensor(TIMM_054), rtol=1e-4, atol=2e-5)


TIMM_054 = [
    [0.609127, -1.635383, -0.079245, -0.704137, -0.262262, 0.275868],
    [0.579086, -1.607767, -0.069531, -0.72439, -0.263359, 0.304244],
]


# --- refusals


def test_a_file_of_another_naming_names_tensors(tmp_path):
    from ml.encoders.networks import make_network

    spec = tiny("phikon", 24, patch_size=8)
    torch.save(make_network(tiny("virchow2", 48, patch_size=8)).trunk.state_dict(), tmp_path / "w.bin")
    with pytest.raises(WeightsMismatch, match=r"is not encoder phikon: tensors 5 extra \(e.g. blocks.0.ls1.gamma\), .* of another shape"):
        build_network(spec, tmp_path / "w.bin")


def test_half_precision_files_are_computed_in_float32(tmp_path):
    from ml.encoders.networks import make_network

    spec = tiny("uni", 24, patch_size=8)
    torch.save({k: v.half() for k, v in make_network(spec).state_dict().items()}, tmp_path / "w.bin")
    assert {p.dtype for p in build_network(spec, tmp_path / "w.bin").parameters()} == {torch.float32}
