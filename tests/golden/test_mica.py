"""MICA against the authors' own code: every array of golden/mica, at the tolerances of its README.

Outputs rtol 1e-4, atol 1e-5; losses 1e-5; gradients rtol 1e-3, atol 1e-6; bins and maps exact; DINOv2 input 1e-5. A key
that no test here reads would fail `test_every_array_is_read`.
"""

import json
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
import torch

from ml.mica.checkpoint import authors_state, load_authors
from ml.mica.codex_bag import dino_input
from ml.mica.config import MicaFitConfig
from ml.mica.labels import make_bins, sampler_class
from ml.mica.loss import nll_survival
from ml.mica.model import MicaNet
from ml.survival.concordance import concordance

pytestmark = pytest.mark.golden

SMALL = ("bilinear_separate_gap", "concat_separate_attn", "concat_separate_gap", "concat_shared_attn")
FULL = ("separate_attn", "separate_gap", "shared_attn")
MAPS = ("20x", "40x", "unknown")
ALPHAS = ("0.0", "0.15", "0.4", "1.0")
OUTPUT = {"rtol": 1e-4, "atol": 1e-5}
GRADIENT = {"rtol": 1e-3, "atol": 1e-6}
READ: dict[str, set[str]] = defaultdict(set)


class Arrays(dict):
    """The arrays of one file; remembers which were read."""

    def __init__(self, folder, name):
        with np.load(folder / "mica" / name) as file:
            super().__init__({key: file[key] for key in file.files})
        self.name = name

    def __getitem__(self, key):
        READ[self.name].add(key)
        return super().__getitem__(key)

    def starting(self, prefix):
        return {key.removeprefix(prefix): self[key] for key in self if key.startswith(prefix)}


def tensor(array):
    return torch.from_numpy(np.array(array))


def compare_outputs(file, out):
    for ours, key in ((out.logits, "logits"), (out.hazards, "hazards"), (out.survival, "S"), (out.risk, "risk")):
        np.testing.assert_allclose(ours.detach().numpy(), file[key], **OUTPUT, err_msg=key)
    assert out.logits.argmax().item() == file["Y_hat"].item()
    for ours, key in ((out.coattention, "A_coattn_raw"), (out.path, "A_path"), (out.codex, "A_codex")):
        if key in file:
            np.testing.assert_allclose(ours.detach().numpy(), file[key], **OUTPUT, err_msg=key)


@pytest.mark.parametrize("name", SMALL)
def test_the_small_network_gives_the_authors_outputs_loss_and_gradients(golden, name):
    file = Arrays(golden, f"small_{name}.npz")
    state = {key: tensor(value) for key, value in file.starting("sd.").items()}
    net = load_authors(state, pooling=name.rpartition("_")[2], heads=4)
    out = net(tensor(file["x_path"]), tensor(file["x_codex"]))
    compare_outputs(file, out)
    loss = nll_survival(out.hazards, out.survival, tensor(file["loss_uncensored_bin"])[None], torch.zeros(1))
    np.testing.assert_allclose(loss.item(), file["loss"], rtol=0, atol=1e-5)
    net.requires_grad_(True)
    out = net(tensor(file["x_path"]), tensor(file["x_codex"]))
    nll_survival(out.hazards, out.survival, tensor(file["loss_uncensored_bin"])[None], torch.zeros(1)).backward()
    ours = dict(net.named_parameters())
    for key, wanted in file.starting("grad.").items():
        np.testing.assert_allclose(ours[key].grad.numpy(), wanted, **GRADIENT, err_msg=key)
    back = authors_state(net)
    assert back.keys() == state.keys() and all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize("name", FULL)
def test_the_published_size_gives_the_authors_outputs(golden, name):
    """Weights as the README draws them: sorted keys, one stream; both names of a shared module are drawn, the later one stays."""
    file = Arrays(golden, f"full_{name}.npz")
    shapes = json.loads((golden / "mica" / f"full_{name}_keys.json").read_text())
    READ[f"full_{name}_keys.json"].add("shapes")
    rng, scale, state = np.random.RandomState(int(file["seed"])), float(file["scale"]), {}
    for key in sorted(shapes):
        weights = (rng.randn(*shapes[key]) * scale).astype(np.float32)
        state[key] = tensor(weights + np.float32(1) if key.endswith((".norm1.weight", ".norm2.weight")) else weights)
    tiles, codex = rng.randn(50, 1024).astype(np.float32), rng.randn(40, 384).astype(np.float32)
    mode, pooling = name.split("_")
    if mode == "shared":
        state |= {key.replace("codex_", "path_", 1): value for key, value in state.items() if key.startswith("codex_") and "net" not in key}
    net = MicaNet(1024, 384, MicaFitConfig(transformer_mode=mode, pooling=pooling)).eval()
    assert {key: list(value.shape) for key, value in net.state_dict().items()} == shapes
    assert sum(p.numel() for p in net.parameters()) == {"separate": 3_325_958, "shared": 2_074_117}[mode]
    net = load_authors(state, pooling=pooling)
    with torch.inference_mode():
        compare_outputs(file, net(tensor(tiles), tensor(codex)))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_survival_loss_and_its_gradient(golden, alpha):
    file = Arrays(golden, "survival_loss.npz")
    logits = tensor(file["logits"]).requires_grad_(True)
    interval, censored = tensor(file["Y"]), tensor(file["censorship"])

    def loss(rows):
        hazards = torch.sigmoid(logits[rows])
        return nll_survival(hazards, torch.cumprod(1 - hazards, dim=1), interval[rows], censored[rows], float(alpha))

    whole = loss(slice(None))
    whole.backward()
    np.testing.assert_allclose(whole.item(), file[f"alpha{alpha}.loss"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(logits.grad.numpy(), file[f"alpha{alpha}.grad_logits"], **GRADIENT)
    each = [loss(slice(i, i + 1)).item() for i in range(len(interval))]
    np.testing.assert_allclose(each, file[f"alpha{alpha}.per_sample"], rtol=0, atol=1e-5)


def test_concordance_is_scikit_survivals(golden):
    file = Arrays(golden, "survival_loss.npz")
    ours = concordance(file["ci_time"], file["ci_event"], file["ci_risk"])
    c, concordant, discordant, tied_risk, tied_time = file["ci"]
    np.testing.assert_allclose(
        [ours.c, ours.concordant, ours.discordant, ours.tied_score], [c, concordant, discordant, tied_risk], rtol=1e-12
    )
    # scikit-survival's tied_time counts an event and a censoring at one time (comparable); R's counts two events (not comparable)
    time, event = file["ci_time"], file["ci_event"]
    assert ((time[:, None] == time[None, :]) & event[:, None] & ~event[None, :]).sum() == tied_time


def test_intervals_and_labels_are_the_authors_exactly(golden):
    file = Arrays(golden, "clin_bins.npz")
    table, wanted = (pd.read_csv(golden / "mica" / name) for name in ("clin.csv", "clin_discretised.csv"))
    READ["clin.csv"].add("table")
    READ["clin_discretised.csv"].add("table")
    patients = table.drop_duplicates("case_id")
    bins = make_bins(patients.survival_months, patients.censorship == 0)
    np.testing.assert_array_equal(bins.edges, file["bins"])
    interval = bins.of(table.survival_months)
    np.testing.assert_array_equal(table.slide_id, wanted.slide_id)
    np.testing.assert_array_equal(interval, wanted.disc_label)
    np.testing.assert_array_equal(sampler_class(interval, table.censorship == 0), wanted.label)


@pytest.mark.filterwarnings("ignore:0.35 um per pixel")
@pytest.mark.parametrize("name", MAPS)
def test_maps_are_laid_out_as_the_authors_do_exactly(golden, name):
    from ml.hex.released_maps import released_map

    file = Arrays(golden, f"virtual_map_{name}.npz")
    ours = released_map(file["coords"], file["codex_prediction"], tuple(file["dimensions"].tolist()), float(file["mpp"].item()))
    assert ours.dtype == np.float16
    np.testing.assert_array_equal(ours, file["map"])


def test_dinov2_is_given_the_authors_input(golden):
    file = Arrays(golden, "dino_input.npz")
    ours = dino_input(file["map"]).numpy()
    assert ours.shape == (3, 3, 224, 224)
    np.testing.assert_allclose(ours[:, :, ::8, ::8], file["tensor_every8"], rtol=0, atol=1e-5)
    # The reference summed 50,176 pixels in float32 with the colours innermost; in another order the sum itself is off by 4e-5.
    pixels = np.ascontiguousarray(ours.transpose(0, 2, 3, 1)).reshape(3, -1, 3)
    np.testing.assert_allclose(pixels.mean(axis=1), file["mean"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(pixels.std(axis=1), file["std"], rtol=0, atol=1e-5)


COMPARISONS = (
    (test_the_small_network_gives_the_authors_outputs_loss_and_gradients, SMALL),
    (test_the_published_size_gives_the_authors_outputs, FULL),
    (test_the_survival_loss_and_its_gradient, ALPHAS),
    (test_concordance_is_scikit_survivals, ()),
    (test_intervals_and_labels_are_the_authors_exactly, ()),
    (test_maps_are_laid_out_as_the_authors_do_exactly, MAPS),
    (test_dinov2_is_given_the_authors_input, ()),
)


@pytest.mark.filterwarnings("ignore:0.35 um per pixel")
def test_every_array_is_read(golden):
    """What the comparisons above ask for, run here once more, is all that the folder holds."""
    READ.clear()
    for comparison, cases in COMPARISONS:
        for case in cases:
            comparison(golden, case)
        if not cases:
            comparison(golden)
    files = {path.name for path in (golden / "mica").iterdir()} - {"README.md"}
    assert files == set(READ)
    for name in sorted(n for n in files if n.endswith(".npz")):
        with np.load(golden / "mica" / name) as file:
            assert set(file.files) == READ[name], name
