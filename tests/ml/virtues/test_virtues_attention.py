"""Packed, bucketed attention is the dense one with a mask, whatever the panels and the mask are."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.virtues.config import VirtuesConfig
from ml.virtues.errors import VirtuesError
from ml.virtues.model import VirTues, patches, pictures
from ml.virtues.plan import plan_tokens, rounded

SMALL = VirtuesConfig(
    patch_size=4, model_dim=32, feedforward_dim=48, encoder_pattern="hvhv", num_encoder_heads=2,
    decoder_pattern="f", num_decoder_heads=2, marker_embedding_dim=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = VirTues(SMALL).double().eval()
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net


def sample(rng, channels, grid):
    image = torch.from_numpy(rng.normal(size=(channels, grid[0] * 4, grid[1] * 4)))
    return image, torch.from_numpy(rng.normal(size=(channels, 6)))


def dense(model, image, markers, mask):
    """One sample by plain masked softmax over all of its tokens: the definition, without packing, buckets or rotary code shared."""
    encoder, grid = model.encoder, (image.shape[1] // 4, image.shape[2] // 4)
    x = encoder.all_tokens([image], [markers], [mask])
    size = grid[0] * grid[1]
    channel, place = torch.arange(len(x)) // size, torch.arange(len(x)) % size
    seen = torch.cat([torch.ones(size, dtype=torch.bool), ~mask.flatten()])
    half = 16 // 2
    theta = 10000.0 ** (-2 * torch.arange(half // 2).double() / half)
    angles = [t[:, None] * theta for t in (place // grid[1], place % grid[1])]

    def turn(q):
        out = []
        for axis, angle in enumerate(angles):
            u, w = q[..., axis * half : axis * half + half // 2], q[..., axis * half + half // 2 : (axis + 1) * half]
            cos, sin = angle.cos()[:, None], angle.sin()[:, None]
            out += [u * cos - w * sin, w * cos + u * sin]
        return torch.cat(out, dim=-1)

    for letter, block in zip(SMALL.encoder_pattern, encoder.blocks):
        same = channel[:, None] == channel[None, :] if letter == "h" else place[:, None] == place[None, :]
        allowed = same & seen[:, None] & seen[None, :]
        normed, attention = block.norm1(x), block.attention
        q, k, v = (layer(normed).unflatten(-1, (2, 16)) for layer in (attention.query, attention.key, attention.value))
        if letter == "h":
            q, k = turn(q), turn(k)
        scores = torch.einsum("qhd,khd->hqk", q, k) / 4
        weights = torch.nan_to_num(scores.masked_fill(~allowed, -torch.inf).softmax(dim=-1))
        u = x + attention.output(torch.einsum("hqk,khd->qhd", weights, v).flatten(1))
        y = u + block.contract(torch.nn.functional.gelu(block.expand(block.norm2(u))))
        x = torch.where(seen[:, None], y, x)
    return encoder.norm(x).unflatten(0, (-1, *grid))


@settings(max_examples=15)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(1, 3), st.integers(1, 4), st.floats(0, 1), st.integers(0, 99))
def test_masked_batch_of_different_panels_equals_the_dense_reference(model, channels, rows, cols, ratio, seed):
    rng = np.random.default_rng(seed)
    pairs = [sample(rng, c, (rows, cols)) for c in channels]
    masks = [torch.from_numpy(rng.random((c, rows, cols)) < ratio) for c in channels]
    with torch.no_grad():
        got = model.encoder(*zip(*pairs), masks)
        for i, ((image, markers), mask) in enumerate(zip(pairs, masks)):
            wanted = dense(model, image, markers, mask)
            torch.testing.assert_close(got.summaries[i], wanted[0], atol=1e-6, rtol=0)  # the rotary tables are float32
            torch.testing.assert_close(got.tokens[i], wanted[1:], atol=1e-6, rtol=0)


def test_an_empty_mask_is_no_mask(model):
    rng = np.random.default_rng(1)
    pairs = [sample(rng, c, (3, 2)) for c in (2, 5, 2)]
    empty = [torch.zeros(c, 3, 2, dtype=torch.bool) for c in (2, 5, 2)]
    with torch.no_grad():
        one, other = model.encoder(*zip(*pairs)), model.encoder(*zip(*pairs), empty)
    torch.testing.assert_close(one.summaries, other.summaries, atol=1e-12, rtol=0)


def test_a_sample_does_not_depend_on_its_batch(model):
    rng = np.random.default_rng(2)
    pairs = [sample(rng, c, (2, 3)) for c in (3, 1)]
    together = model.encode(*zip(*pairs))
    for i, (image, markers) in enumerate(pairs):
        torch.testing.assert_close(together[i], model.encode([image], [markers])[0], atol=1e-12, rtol=0)


def test_gradients_reach_every_parameter(model):
    rng = np.random.default_rng(3)
    pairs = [sample(rng, c, (3, 3)) for c in (3, 2)]
    masks = [torch.from_numpy(rng.random((c, 3, 3)) < 0.7) for c in (3, 2)]
    _, pixels = model(*zip(*pairs), masks)
    torch.cat(pixels).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for n, p in model.named_parameters() if not n.endswith("key.bias"))
    model.zero_grad()


def test_without_a_mask_no_key_is_padding():
    plan = plan_tokens([3, 5, 3], (2, 2))
    assert all(bucket.keys is None for part in (plan.spatial, plan.marker) for bucket in part.buckets)
    assert [bucket.index.shape[1] for bucket in plan.marker.buckets] == [4, 6]


@given(st.integers(1, 2000))
def test_a_bucket_is_at_most_an_eighth_padding(length):
    assert length <= rounded(np.array([length]))[0] <= max(length, length * 9 / 8)


def test_patches_and_pictures_are_inverse():
    image = torch.arange(2 * 8 * 12.0).reshape(2, 8, 12)
    tokens = patches(image, 4)
    assert torch.equal(tokens[1, 4], image[1, 4:8, 4:8].flatten())
    assert torch.equal(pictures(tokens, (2, 3)), image)


@pytest.mark.parametrize(
    ("images", "markers", "masks"),
    [
        ([torch.zeros(2, 9, 8)], [torch.zeros(2, 6)], None),
        ([torch.zeros(2, 8, 8)], [torch.zeros(2, 5)], None),
        ([torch.zeros(2, 8, 8), torch.zeros(2, 8, 4)], [torch.zeros(2, 6)] * 2, None),
        ([torch.zeros(2, 8, 8)], [torch.zeros(2, 6)], [torch.zeros(2, 2, 3, dtype=torch.bool)]),
        ([torch.zeros(0, 8, 8)], [torch.zeros(0, 6)], None),
        ([], [], None),
    ],
)
def test_what_does_not_fit_together_is_refused(model, images, markers, masks):
    with pytest.raises(VirtuesError) as refused:
        model.encoder(images, markers, masks)
    assert refused.value.code == "shape"
    assert refused.value.sentence.endswith(".")
