"""Feature distribution smoothing: statistics per marker and bin, and what they do to features."""

from datetime import timedelta

import numpy as np
import pytest
import torch
from torch import nn

from ml.hex.errors import CheckpointError, HexError
from ml.hex.fds import FeatureSmoothing, from_released, full_calibration, kernel_window, predict_smoothed, to_released

P, D = 3, 6


def tiles(n=200, markers=P, dim=D, seed=0):
    """Features that follow the first label, and labels in 0..1."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.rand(n, markers, generator=generator)
    return torch.randn(n, dim, generator=generator) * (0.5 + labels[:, :1]) + labels[:, :1], labels


def after_an_epoch(features, labels, **settings):
    smoothing = FeatureSmoothing(labels.shape[1], features.shape[1], **{"start_smooth": 1, "bins": 10, "kernel_length": 5, **settings})
    smoothing.collect(features, labels)
    smoothing.end_epoch(0)
    return smoothing


def test_labels_fall_into_fifty_bins_and_outside_ones_into_the_border():
    bins = FeatureSmoothing(1, 1).bins_of(torch.tensor([[-3.0], [0.0], [0.0199], [0.5], [0.999], [1.0], [7.0]]))
    assert bins.dtype == torch.int64 and bins[:, 0].tolist() == [0, 0, 0, 25, 49, 49, 49]


def test_kernels_sum_to_one_and_are_even():
    for kernel in ("gaussian", "triang", "laplace"):
        window = kernel_window(kernel, 7, 1.5)
        assert window.sum() == pytest.approx(1) and torch.equal(window, window.flip(0)) and window.argmax() == 3
    with pytest.raises(ValueError, match="odd length"):
        kernel_window("gaussian", 8, 2.0)


def test_the_statistics_of_a_bin_are_those_of_its_tiles():
    features, labels = tiles()
    smoothing = after_an_epoch(features, labels)
    for marker, label_bin in ((0, 3), (2, 9)):
        mine = features[smoothing.bins_of(labels)[:, marker] == label_bin].double().numpy()
        np.testing.assert_allclose(smoothing.running_mean[marker, label_bin], mine.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(smoothing.running_var[marker, label_bin], mine.var(0, ddof=1), rtol=1e-5)
        assert smoothing.num_samples_tracked[marker, label_bin] == len(mine)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_batches_add_up_to_the_whole(covariance):
    features, labels = tiles()
    whole, parts = (FeatureSmoothing(P, D, bins=10, covariance=covariance) for _ in range(2))
    whole.collect(features, labels)
    for part in torch.arange(200).split(17):
        parts.collect(features[part], labels[part])
    for smoothing in (whole, parts):
        smoothing.end_epoch(0)
    torch.testing.assert_close(whole.state_dict(), parts.state_dict())


def test_markers_do_not_know_of_each_other():
    features, labels = tiles()
    together = after_an_epoch(features, labels)
    for marker in range(P):
        alone = after_an_epoch(features, labels[:, [marker]])
        torch.testing.assert_close(together.smooth(features, labels, 1)[:, marker], alone.smooth(features, labels[:, [marker]], 1)[:, 0])


def test_the_past_weighs_nine_tenths_and_bins_without_tiles_keep_it():
    features, labels = tiles()
    smoothing = after_an_epoch(features, labels)
    before = smoothing.running_mean.clone()
    low = labels[:, 0] < 0.5
    smoothing.collect(features[low] + 5, labels[low])
    smoothing.end_epoch(1)
    assert torch.equal(smoothing.running_mean[0, 5:], before[0, 5:])
    torch.testing.assert_close(smoothing.running_mean[0, :5], 0.9 * before[0, :5] + 0.1 * (before[0, :5] + 5))


def test_bins_that_no_tile_ever_fell_into_take_their_neighbours_means():
    """Walking upward: the left neighbour is filled already, the right one still holds its start, which is zero."""
    smoothing = FeatureSmoothing(1, 1, bins=6, kernel_length=3)
    smoothing.collect(torch.tensor([[8.0], [2.0]]), torch.tensor([[1 / 6 + 0.01], [4 / 6 + 0.01]]))
    smoothing.end_epoch(0)
    assert smoothing.running_mean[0, :, 0].tolist() == [8, 8, 4, 3, 2, 2]
    assert smoothing.running_var[0, 1, 0] == 0, "one tile has no variance"


def test_a_bin_between_equal_ones_is_smoothed_to_what_it_is():
    """The border is reflected, so a constant stays a constant everywhere."""
    smoothing = FeatureSmoothing(1, 2, bins=10)
    smoothing.running_mean.fill_(3)
    smoothing.running_var.fill_(0.5)
    smoothing.update_last_epoch_stats(1)
    torch.testing.assert_close(smoothing.smoothed_mean_last_epoch, torch.full((1, 10, 2), 3.0))
    torch.testing.assert_close(smoothing.smoothed_var_last_epoch, torch.full((1, 10, 2), 0.5))


def test_an_epoch_is_taken_over_once_and_in_turn():
    smoothing = FeatureSmoothing(1, 1, bins=10)
    smoothing.update_last_epoch_stats(2)
    assert int(smoothing.epoch) == 0
    smoothing.update_last_epoch_stats(1)
    smoothing.running_mean.fill_(9)
    smoothing.update_last_epoch_stats(1)
    assert int(smoothing.epoch) == 1 and not smoothing.running_mean_last_epoch.any()


def test_before_the_start_every_marker_has_the_features_as_they_are():
    features, labels = tiles()
    smoothing = after_an_epoch(features, labels, start_smooth=10)
    assert torch.equal(smoothing.smooth(features, labels, 9), features.unsqueeze(1).expand(-1, P, -1))
    assert not torch.equal(smoothing.smooth(features, labels, 10)[:, 0], features)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_gradients_flow_to_the_features_and_nowhere_else(covariance):
    features, labels = tiles(n=6)
    smoothing = after_an_epoch(*tiles(), covariance=covariance)
    # float32 inside: a step wide enough that its rounding does not show
    features = features.requires_grad_()
    weight = torch.randn(6, P, D, generator=torch.Generator().manual_seed(2))
    (smoothing.smooth(features, labels, 1) * weight).sum().backward()
    with torch.no_grad():
        for i, d in ((0, 0), (3, 5)):
            step = torch.zeros_like(features)
            step[i, d] = 0.25
            numeric = ((smoothing.smooth(features + step, labels, 1) - smoothing.smooth(features - step, labels, 1)) * weight).sum() / 0.5
            assert float(features.grad[i, d]) == pytest.approx(float(numeric), rel=1e-3, abs=1e-4)
    assert not any(buffer.requires_grad for buffer in smoothing.buffers())


def test_half_precision_is_computed_in_float32_and_given_back_as_it_came():
    features, labels = tiles()
    smoothing = after_an_epoch(features, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = smoothing.smooth(features.bfloat16(), labels, 1)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, smoothing.smooth(features.bfloat16().float(), labels, 1).bfloat16())


# -- the paper's full covariances


def test_full_covariances_that_are_diagonal_do_what_the_diagonal_form_does():
    """Also where the ratio is clipped, and in dimensions without variance."""
    features, labels = tiles(n=20)
    generator = torch.Generator().manual_seed(1)
    diagonal, full = (FeatureSmoothing(P, D, bins=10, start_smooth=1, covariance=c) for c in ("diagonal", "full"))
    for name in ("running_mean", "running_var", "smoothed_mean", "smoothed_var"):
        name += "_last_epoch"
        values = torch.rand(P, 10, D, generator=generator) * 3 + 0.01
        if "var" in name:
            values[0, :, 1] = 50.0 if "smoothed" in name else 0.5
            values[:, :, 0] = 0
            values[:, 0] = 0
        getattr(diagonal, name).copy_(values)
        getattr(full, name).copy_(values.diag_embed() if "var" in name else values)
    labels[0] = 0
    wanted = diagonal.smooth(features, labels, 1)
    assert torch.equal(wanted[:, :, 0], features[:, :1].expand(-1, P)) and torch.equal(wanted[0, 0], features[0])
    torch.testing.assert_close(full.smooth(features, labels, 1), wanted, rtol=1e-4, atol=1e-4)


def test_full_covariances_colour_whitened_features():
    """Tiles of covariance C1 have covariance C2 afterwards, and its mean."""
    generator = torch.Generator().manual_seed(0)
    mix = [torch.eye(D) + 0.3 * torch.randn(D, D, generator=generator).tril(-1) for _ in range(2)]
    c1, c2 = (m @ m.T for m in mix)
    features = torch.randn(4000, D, generator=generator, dtype=torch.float64).float()
    features = (features - features.mean(0)) @ torch.linalg.cholesky(features.T.cov()).inverse().T @ mix[0].T + 2
    centre, matrix, target = full_calibration(torch.full((D,), 2.0), c1, torch.full((D,), -1.0), c2)
    moved = (features - centre) @ matrix.T + target
    torch.testing.assert_close(moved.mean(0), torch.full((D,), -1.0), rtol=0, atol=1e-3)
    torch.testing.assert_close(moved.T.cov(), c2, rtol=0.02, atol=0.02)


def test_fewer_tiles_than_features_stay_finite_and_bounded():
    features, labels = tiles(n=12, dim=32)
    smoothing = after_an_epoch(features, labels, covariance="full")
    moved = smoothing.smooth(features, labels, 1)
    assert moved.isfinite().all() and moved.abs().max() < 4 * features.abs().max()


def test_full_covariances_of_hundreds_of_genes_are_refused():
    with pytest.raises(HexError, match="do not fit into memory") as caught:
        FeatureSmoothing(785, 256, covariance="full")
    assert caught.value.code == "fds_too_large"


# -- predictions, several ranks, the authors' state


def test_each_output_sees_the_features_of_its_own_marker():
    last, calibrated = nn.Linear(D, P), torch.randn(4, P, D, generator=torch.Generator().manual_seed(0))
    found = predict_smoothed(last, calibrated)
    for marker in range(P):
        torch.testing.assert_close(found[:, marker], last(calibrated[:, marker])[:, marker])
    assert torch.equal(predict_smoothed(last, calibrated, active=1), last(calibrated[:, 1]))


def one_rank(rank, folder):
    """Two epochs of one of two ranks: in the first only rank 0 sees tiles, in the second each sees half of them."""
    features, labels = tiles()
    smoothing = FeatureSmoothing(P, D, bins=10)
    meeting = {"init_method": f"file://{folder}/meeting", "rank": rank, "world_size": 2, "timeout": timedelta(seconds=120)}
    torch.distributed.init_process_group("gloo", **meeting)
    try:
        if rank == 0:
            smoothing.collect(features, labels)
        smoothing.end_epoch(0)
        smoothing.collect(features[rank::2], labels[rank::2])
        smoothing.end_epoch(1)
    finally:
        torch.distributed.destroy_process_group()
    torch.save(smoothing.state_dict(), f"{folder}/{rank}.pt")
    return smoothing


def test_ranks_share_their_moments(tmp_path):
    other = torch.multiprocessing.get_context("spawn").Process(target=one_rank, args=(1, tmp_path))
    other.start()
    mine = one_rank(0, tmp_path)
    other.join()
    alone = FeatureSmoothing(P, D, bins=10)
    for epoch in range(2):
        alone.collect(*tiles())
        alone.end_epoch(epoch)
    for found in (mine.state_dict(), torch.load(tmp_path / "1.pt")):
        torch.testing.assert_close(found, alone.state_dict())


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_the_authors_state_goes_out_and_comes_back(covariance):
    features, labels = tiles()
    smoothing = after_an_epoch(features, labels, covariance=covariance)
    released = to_released(smoothing)
    assert released["FDS.2.running_mean"].shape == (10, D) and released["FDS.1.epoch"].tolist() == [1]
    back = from_released({**released, "regression_head.0.weight": torch.zeros(1)}, start_smooth=1)
    assert torch.equal(back.smooth(features, labels, 1), smoothing.smooth(features, labels, 1))
    assert all(torch.equal(a, b) for a, b in zip(to_released(back).values(), released.values(), strict=True))


@pytest.mark.parametrize("harm", ["absent marker", "absent buffer", "other shape", "other epoch", "nothing"])
def test_an_incomplete_state_is_refused_with_a_sentence(harm):
    released = to_released(FeatureSmoothing(2, 4, bins=10))
    if harm == "absent marker":
        released = {key: value for key, value in released.items() if not key.startswith("FDS.0.")}
    elif harm == "absent buffer":
        del released["FDS.1.smoothed_var_last_epoch"]
    elif harm == "other shape":
        released["FDS.1.running_mean"] = torch.zeros(10, 5)
    elif harm == "other epoch":
        released["FDS.1.epoch"] += 1
    else:
        released = {}
    with pytest.raises(CheckpointError) as caught:
        from_released(released)
    assert caught.value.code == "tensors_wrong" and caught.value.sentence.endswith(".")


def test_loading_a_state_forgets_what_was_computed_from_the_old_one():
    features, labels = tiles()
    first, second = after_an_epoch(features, labels, covariance="full"), after_an_epoch(*tiles(seed=5), covariance="full")
    first.smooth(features, labels, 1)
    first.load_state_dict(second.state_dict())
    assert torch.equal(first.smooth(features, labels, 1), second.smooth(features, labels, 1))
