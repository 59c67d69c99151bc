"""The network's branches, options and first layers; the likelihood in small cases that can be done by hand."""

import math

import pytest
import torch
from pydantic import ValidationError

from ml.mica.config import MicaFitConfig
from ml.mica.loss import nll_survival
from ml.mica.model import MicaNet

SMALL = {"width": 16, "heads": 2, "ffn": 24, "layers": 1, "he_queries": 3}


def net(**options):
    torch.manual_seed(0)
    return MicaNet(6, 5, MicaFitConfig(**SMALL, **options)).eval()


@pytest.mark.parametrize("pooling", ["gap", "attn"])
@pytest.mark.parametrize(
    "options",
    [{}, {"transformer_mode": "shared"}, {"fusion": "bilinear"}, {"coattention_heads": 2}, {"modality": "he"}, {"modality": "codex"}],
)
def test_every_variant_gives_hazards_a_falling_curve_and_a_risk(options, pooling):
    out = net(pooling=pooling, **options)(torch.randn(7, 6), torch.randn(4, 5))
    assert out.hazards.shape == out.survival.shape == (1, 4) and ((out.hazards > 0) & (out.hazards < 1)).all()
    assert (out.survival.diff(dim=1) < 0).all() and torch.equal(out.risk, -out.survival.sum(dim=1))
    asking = {"he": 3, "codex": None}.get(options.get("modality"), 4)
    assert (out.coattention is None) == (asking is None)
    if asking is not None:
        assert out.coattention.shape == (1, options.get("coattention_heads", 1), asking, 7)
    assert (out.codex is not None) == (pooling == "attn" and options.get("modality") != "he")


def test_a_model_of_one_branch_reads_that_bag_alone():
    tiles, codex = torch.randn(7, 6), torch.randn(4, 5)
    assert torch.equal(net(modality="he")(tiles, codex).logits, net(modality="he")(tiles, None).logits)
    assert torch.equal(net(modality="codex")(tiles, codex).logits, net(modality="codex")(None, codex).logits)
    both = net()
    assert not torch.equal(both(tiles, codex).logits, both(tiles + 1, codex).logits)
    assert not torch.equal(both(tiles, codex).logits, both(tiles, codex + 1).logits)


def test_neither_the_order_of_tiles_nor_that_of_markers_matters():
    tiles, codex, model = torch.randn(7, 6), torch.randn(4, 5), net(pooling="attn")
    torch.testing.assert_close(model(tiles.flip(0), codex.flip(0)).logits, model(tiles, codex).logits)


def test_standardised_inputs_and_raw_inputs_after_absorbing_are_the_same():
    tiles, codex, model = torch.randn(7, 6) * 3 + 5, torch.randn(4, 5), net()
    mean, sd = tiles.mean(0), tiles.std(0)
    wanted = model((tiles - mean) / sd, codex).logits
    model.absorb("path", mean, sd)
    torch.testing.assert_close(model(tiles, codex).logits, wanted, rtol=1e-4, atol=1e-5)


def test_sizes_that_do_not_go_together_are_refused_by_the_config():
    with pytest.raises(ValidationError, match="cannot be shared by 3 heads"):
        MicaFitConfig(width=16, heads=3)
    with pytest.raises(ValidationError, match="joins two branches"):
        MicaFitConfig(fusion="bilinear", modality="he")


def test_every_setting_says_its_source():
    for name, field in MicaFitConfig.model_fields.items():
        assert field.description and field.json_schema_extra["source"], name


def cost(interval, censored, entry=None):
    hazards = torch.tensor([[0.1, 0.2, 0.5, 0.4]])
    survival = torch.cumprod(1 - hazards, dim=1)
    entry = None if entry is None else torch.tensor([entry])
    return nll_survival(hazards, survival, torch.tensor([interval]), torch.tensor([censored]), entry=entry).item()


def test_the_likelihood_by_hand():
    assert cost(0, 0) == pytest.approx(-math.log(0.1))
    assert cost(2, 0) == pytest.approx(-math.log(0.9 * 0.8 * 0.5))
    assert cost(1, 1) == pytest.approx(-math.log(0.9 * 0.8))


def test_a_patient_who_entered_late_owes_nothing_for_the_intervals_before():
    assert cost(2, 0, entry=0) == pytest.approx(cost(2, 0))
    assert cost(2, 0, entry=2) == pytest.approx(-math.log(0.5))
    assert cost(3, 1, entry=1) == pytest.approx(-math.log(0.8 * 0.5 * 0.6))
