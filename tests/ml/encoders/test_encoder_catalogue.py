"""Encoders are data; one that was trained elsewhere is never built without its weight file."""

import subprocess
import sys
from dataclasses import replace

import pytest

from ml.encoders.catalogue import CATALOGUE, EncoderError, WeightsMismatch, WeightsMissing, build, encoder
from ml.encoders.layouts import LAYOUTS
from ml.encoders.spec import PUBLIC_COHORTS

NETWORKS = ("timm", "coca", "coca_v15", "keep", "ctranspath", "musk", "descriptors")


def test_listing_encoders_imports_no_torch():
    code = "import sys, ml.encoders; assert ml.encoders.CATALOGUE; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("spec", CATALOGUE.values(), ids=lambda s: s.name)
def test_every_entry_says_what_a_person_must_know(spec):
    assert spec.licence and spec.label and spec.pretraining_overlap in ("yes", "no", "unknown")
    assert spec.needs_weights == bool(spec.weights_source)
    assert not spec.gated or spec.needs_weights
    assert spec.vector_note and spec.pretrained_on and spec.source and (spec.citation or not spec.needs_weights)
    assert spec.verified or spec.note, "what was not verified is said"
    assert all(0 < v < 1 for v in (*spec.mean, *spec.std)) and spec.layout in LAYOUTS and spec.network in NETWORKS
    assert spec.tile_um == pytest.approx(spec.mpp * spec.input_px) and 0.2 < spec.mpp < 1.3


@pytest.mark.parametrize("spec", CATALOGUE.values(), ids=lambda s: s.name)
def test_what_pretraining_saw_is_consistent(spec):
    """ "yes" names a public cohort, "no" is only said of what holds no patient, and everything else is unknown."""
    assert set(spec.cohorts) <= set(PUBLIC_COHORTS) and set(spec.cohorts.values()) <= {"yes", "no", "unknown"}
    assert (spec.pretraining_overlap == "yes") == ("yes" in (spec.cohorts.get("TCGA"), spec.cohorts.get("CPTAC")))
    if spec.pretraining_overlap == "no":
        assert spec.pretrained_on == "nothing" or "natural images" in spec.pretrained_on
        assert all(spec.saw(cohort) == "no" for cohort in PUBLIC_COHORTS)
    assert spec.saw("a hospital of ours") == ("no" if spec.pretraining_overlap == "no" else "unknown")


def test_the_encoders_that_a_board_asks_for_are_there():
    asked = """
        uni uni2-h conch conch-v1.5 virchow virchow2 phikon phikon-v2 prov-gigapath h-optimus-0 h-optimus-1 h0-mini musk midnight-12k
        keep hibou-b hibou-l lunit-s16-dino lunit-s8-dino lunit-resnet50-bt lunit-resnet50-swav ctranspath
        kaiko-s16 kaiko-s8 kaiko-b16 kaiko-b8 kaiko-l14 resnet50 vit-s16-imagenet dinov2-s14 dinov2-s14-reg dinov2-b14 dinov2-l14
        he-descriptors
    """
    assert set(asked.split()) <= set(CATALOGUE)


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("Apache-2.0", True),
        ("MIT", True),
        ("CC-BY-NC-ND-4.0", False),
        ("Owkin non-commercial", False),
        ("GPL-3.0", True),
        ("see its card", None),
    ],
)
def test_commercial_use_follows_the_licence(licence, allowed):
    assert replace(encoder("uni"), licence=licence).commercial is allowed


@pytest.mark.parametrize("spec", [s for s in CATALOGUE.values() if s.needs_weights], ids=lambda s: s.name)
def test_the_full_architecture_has_the_published_size_and_gives_the_declared_vector(spec):
    """On torch's meta device: shapes without memory. Some are published with the positions of larger images, up to 2% of their size."""
    import torch

    from ml.encoders.networks import make_network

    with torch.device("meta"):
        network = make_network(spec).eval()
        assert network(torch.zeros(1, 3, spec.input_px, spec.input_px)).shape == (1, spec.dim)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(spec.million_parameters, rel=0.025)


def test_fixed_descriptors_cannot_be_trained():
    with pytest.raises(EncoderError, match="no network"):
        build("he-descriptors")


def test_any_model_of_timm_is_an_encoder_by_its_name(tmp_path):
    import timm
    import torch

    spec = encoder("timm:resnet18.a1_in1k")
    assert (spec.dim, spec.input_px, spec.repo, spec.licence, spec.commercial) == (512, 224, "timm/resnet18.a1_in1k", "apache-2.0", True)
    model = timm.create_model("resnet18", num_classes=7).eval()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    tiles = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        wanted = model.forward_head(model.forward_features(tiles), pre_logits=True)
        torch.testing.assert_close(build(spec.name, tmp_path / "w.pth").eval()(tiles), wanted)
    with pytest.raises(EncoderError, match="no pretrained model 'nobody'"):
        encoder("timm:nobody")


def test_the_compact_encoder_gives_one_vector_per_tile():
    import torch

    spec = encoder("compact-resnet-48")
    assert "untrained" in spec.label
    network = build(spec.name).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, spec.input_px, spec.input_px)).shape == (2, spec.dim)


@pytest.mark.parametrize("name", [s.name for s in CATALOGUE.values() if s.needs_weights])
def test_missing_weights_are_refused_with_a_sentence_and_where_to_get_them(name, tmp_path):
    for weights in (None, tmp_path / "not-there.safetensors"):
        with pytest.raises(WeightsMissing) as caught:
            build(name, weights)
        assert caught.value.code == ("weights_gated" if encoder(name).gated else "weights_missing")
        assert caught.value.sentence.endswith(".")
        for fact in (encoder(name).repo, encoder(name).file.split("/")[-1], f"weights/{name}/", encoder(name).licence):
            assert fact in caught.value.hint


def test_a_local_file_gives_the_very_same_network(tmp_path):
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    first = build("compact-resnet-48").eval()
    with_classifier = {**first.state_dict(), "fc.weight": torch.zeros(2, 128), "fc.bias": torch.zeros(2)}
    save_file(with_classifier, tmp_path / "w.safetensors")
    torch.save(first.state_dict(), tmp_path / "w.pth")
    tiles = torch.rand(3, 3, 48, 48)
    for name in ("w.safetensors", "w.pth"):
        with torch.inference_mode():
            assert torch.equal(build("compact-resnet-48", tmp_path / name).eval()(tiles), first(tiles))


def test_another_networks_file_is_refused(tmp_path):
    from safetensors.torch import save_file

    state = build("compact-resnet-48").state_dict()
    absent = sorted(state)[0]
    save_file({k: v for k, v in state.items() if k != absent}, tmp_path / "part.safetensors")
    with pytest.raises(WeightsMismatch, match=absent):
        build("compact-resnet-48", tmp_path / "part.safetensors")
    (tmp_path / "page.bin").write_text("<html>please log in</html>")
    with pytest.raises(WeightsMismatch, match="cannot be read"):
        build("compact-resnet-48", tmp_path / "page.bin")


def test_a_pickle_that_runs_code_is_not_run(tmp_path):
    import pickle

    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(WeightsMismatch):
        build("compact-resnet-48", tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_an_unknown_encoder_names_the_known_ones():
    with pytest.raises(EncoderError, match="compact-resnet-48"):
        encoder("nobody")
