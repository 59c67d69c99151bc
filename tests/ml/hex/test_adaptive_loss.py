"""The adaptive loss: a density for every shape and scale, whose gradients lead to the data's own."""

import math

import pytest
import torch
from scipy.integrate import quad

from ml.hex.adaptive_loss import ALPHA, AdaptiveLoss, general_loss, log_partition

ALPHAS = [0.001, 0.02, 0.3, 1.0, 1.6, 1.95, 1.999]


def f64(value):
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_density_integrates_to_one(alpha):
    def density(y):  # x = exp(y): the tail of small alphas is as long as Cauchy's
        return 2 * math.exp(y - float(general_loss(f64(math.exp(y)), f64(alpha), f64(1.0)) + log_partition(f64(alpha))))

    assert quad(density, -35, 35, limit=400)[0] == pytest.approx(1, abs=1e-6)


def test_known_shapes():
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)
    torch.testing.assert_close(general_loss(x, f64(1.0), f64(1.0)), (x**2 + 1).sqrt() - 1)
    torch.testing.assert_close(general_loss(x, f64(1.9999), f64(0.5)), (x / 0.5) ** 2 / 2, rtol=2e-3, atol=1e-3)
    torch.testing.assert_close(general_loss(x, f64(1e-4), f64(1.0)), torch.log(x**2 / 2 + 1), rtol=1e-3, atol=1e-3)
    assert float(log_partition(f64(0.0))) == pytest.approx(math.log(math.sqrt(2) * math.pi), abs=1e-9)
    assert float(log_partition(f64(2 - 1e-9))) == pytest.approx(math.log(math.sqrt(2 * math.pi)), abs=1e-7)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_partition_functions_slope_is_that_of_its_values(alpha):
    at = f64(alpha).requires_grad_()
    log_partition(at).backward()
    step = 1e-7
    numeric = (log_partition(f64(alpha + step)) - log_partition(f64(alpha - step))) / (2 * step)
    assert float(at.grad) == pytest.approx(float(numeric), rel=1e-5, abs=1e-6)


def test_all_gradients_are_those_of_finite_differences():
    loss = AdaptiveLoss(3).double()
    generator = torch.Generator().manual_seed(0)
    latents = [torch.randn(1, 3, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2)]
    residual = torch.randn(5, 3, generator=generator, dtype=torch.float64).requires_grad_()

    def value(residual, latent_alpha, latent_scale):
        return torch.func.functional_call(loss, {"latent_alpha": latent_alpha, "latent_scale": latent_scale}, (residual,))

    assert torch.autograd.gradcheck(value, (residual, *latents), eps=1e-6, atol=1e-6)


def test_it_starts_at_shape_and_scale_one_and_stays_within_its_ranges():
    loss = AdaptiveLoss(4)
    assert {name: tuple(p.shape) for name, p in loss.named_parameters()} == {"latent_alpha": (1, 4), "latent_scale": (1, 4)}
    torch.testing.assert_close(loss.alpha(), torch.ones(1, 4))
    torch.testing.assert_close(loss.scale(), torch.ones(1, 4))
    with torch.no_grad():
        loss.latent_alpha.copy_(torch.tensor([[-1e4, 1e4, 0.0, 0.0]]))
        loss.latent_scale.copy_(torch.tensor([[0.0, 0.0, -1e4, 1e2]]))
    assert loss.alpha()[0, :2].tolist() == pytest.approx(ALPHA) and loss.scale()[0, 2].item() == pytest.approx(1e-5)
    value = loss(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)))
    value.backward()
    assert value.isfinite() and loss.latent_alpha.grad.isfinite().all() and loss.latent_scale.grad.isfinite().all()


def test_each_marker_finds_the_scale_of_its_own_residuals():
    """Maximum likelihood: normal residuals of deviation 0.05 and 2 end near the square loss with that scale."""
    residual = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.05, 2.0])
    loss = AdaptiveLoss(2)
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.1)
    for _ in range(300):
        optimiser.zero_grad()
        loss(residual).backward()
        optimiser.step()
    torch.testing.assert_close(loss.scale().detach(), torch.tensor([[0.05, 2.0]]), rtol=0.1, atol=0)
    assert (loss.alpha() > 1.8).all()


def test_one_marker_does_not_change_anothers_loss():
    residual = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    loss = AdaptiveLoss(3)
    before = loss.elementwise(residual)
    with torch.no_grad():
        loss.latent_scale[0, 1] = 3
    after = loss.elementwise(residual)
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]]) and not torch.equal(before[:, 1], after[:, 1])
    assert loss(residual).item() == pytest.approx(after.mean().item())


def test_half_precision_residuals_are_computed_in_float32():
    loss, residual = AdaptiveLoss(2), torch.randn(5, 2, generator=torch.Generator().manual_seed(1)).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss.elementwise(residual)
    assert found.dtype == torch.float32 and torch.equal(found, loss.elementwise(residual.float()))


def test_it_can_be_trained_after_it_was_first_used_for_inference():
    from ml.hex.adaptive_loss import _table_on

    _table_on.cache_clear()
    loss = AdaptiveLoss(1)
    with torch.inference_mode():
        loss(torch.ones(2, 1))
    loss(torch.ones(2, 1)).backward()
    assert loss.latent_alpha.grad.isfinite().all()
