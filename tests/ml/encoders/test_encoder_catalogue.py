"""Encoders are data; one that was trained elsewhere is never built without its weight file."""

import subprocess
import sys

import pytest

from ml.encoders.catalogue import CATALOGUE, EncoderError, WeightsMismatch, WeightsMissing, build, encoder


def test_listing_encoders_imports_no_torch():
    code = "import sys, ml.encoders; assert ml.encoders.CATALOGUE; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("spec", CATALOGUE.values(), ids=lambda s: s.name)
def test_every_entry_says_what_a_person_must_know(spec):
    assert spec.licence and spec.label and spec.pretraining_overlap in ("yes", "no", "unknown")
    assert spec.needs_weights == bool(spec.weights_source)
    assert not spec.gated or spec.needs_weights


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
        for fact in (encoder(name).repo, encoder(name).file, f"weights/{name}/", encoder(name).licence):
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
