"""The published example's panel of 43 channels with its real protein vectors, its cell mask and tiles; its pixels are absent, so they are
drawn here: this exercises the path from files to cells, and says nothing of biology."""

import numpy as np
import pytest
import torch

from ml.multiplex.spora import SporaDataset
from ml.types import MultiplexImage
from ml.virtues.config import VirtuesConfig
from ml.virtues.embed import embed
from ml.virtues.embed_config import VirtuesEmbedConfig
from ml.virtues.markers import MarkerBank
from ml.virtues.model import VirTues
from ml.virtues.panel import prepare
from ml.virtues.pretrain_config import VirtuesPretrainConfig
from ml.virtues.train import fit

pytestmark = pytest.mark.realdata
SIDE = 168
NETWORK = VirtuesConfig(
    model_dim=16, feedforward_dim=16, encoder_pattern="hv", decoder_pattern="f", num_encoder_heads=2, num_decoder_heads=2
)


@pytest.fixture
def panel(data):
    """(image of drawn counts with the example's own cells, accessions, bank) of a corner of the tissue."""
    folder = data / "imc" / "virtues_example"
    example = SporaDataset(folder)
    name = next(iter(example.tissues))
    channels = example.channels_of(name)
    cells, tissue = (mask[:SIDE, 200 : 200 + SIDE] for mask in (example.cell_mask(name), example.tissue_mask(name)))
    values = np.random.default_rng(0).poisson(3, (len(channels), SIDE, SIDE)).astype(np.float32)
    image = MultiplexImage(values, tuple(c.name for c in channels), 1.0, cells, tissue)
    return image, [c.uniprot for c in channels], MarkerBank.from_folder(folder / "marker_embeddings")


def test_the_panel_is_trained_on_and_its_cells_have_tokens(panel):
    image, proteins, bank = panel
    config = VirtuesPretrainConfig(network=NETWORK, crop=64, subimage=72, subimages=1, epochs=1, batch=2, held_out=0)
    made = fit([image], [proteins], ["one"], ["example"], config, bank)
    assert len(image.markers) == 43 and len(made.proteins) == 40, "PNAd and two iridium channels have no protein"
    assert {name for name, _ in made.fitted[0].dropped} == {"PNAd", "Iridium", "Iridium (V2)"}
    prepared = prepare(image, proteins, bank, made.standards["example"])
    assert prepared.names == made.fitted[0].names and np.array_equal(prepared.embeddings, made.fitted[0].embeddings)
    found = embed(made.model, prepared, image.mask, VirtuesEmbedConfig(crop_px=64, cell_stride_px=52, cell_pad_px=0))
    ids = np.unique(image.mask[image.mask > 0])
    assert np.array_equal(found.cells.ids, ids) and found.cells.tokens.shape == (len(ids), 16) and np.isfinite(found.cells.tokens).all()


def test_what_is_painted_of_one_marker_depends_on_its_protein(panel):
    image, proteins, bank = panel
    from ml.virtues.staining import stain

    torch.manual_seed(0)
    model = VirTues(NETWORK).eval()
    chosen = bank.select(proteins)
    seen = image.values[chosen.kept][:5, :64, :64] / 10
    first, second = (stain(model, seen, chosen.embeddings[:5], chosen.embeddings[i]) for i in (6, 7))
    assert not np.allclose(first, second)
