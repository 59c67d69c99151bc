"""A fitted MICA goes to disk and comes back the same; damaged folders are refused; the authors' files go in and out."""

import json
import shutil

import numpy as np
import pytest
import torch

from ml.mica.checkpoint import authors_state, load, load_authors, read_authors, write_authors
from ml.mica.errors import MicaError
from ml.mica.predict import predict
from ml.training.splits import SplitError, patient_hash


def test_it_predicts_the_same_after_reading(toy, toy_fit, saved):
    ours, read = (predict(model, toy.bags[:5], 1) for model in (toy_fit.weights, saved))
    for a, b in zip(ours, read):
        assert a.risk == b.risk and a.probability == b.probability
        np.testing.assert_array_equal(a.days, b.days)


def test_it_remembers_whom_each_fold_saw_and_names_nobody(toy, toy_fit, saved):
    weights = load(saved)
    for patient, fold in toy_fit.fold_of.items():
        assert weights.fold_for(patient_hash(patient, "salt")) == fold
    assert weights.fold_for(patient_hash("somebody else", "salt")) is None
    text = (saved / "provenance.json").read_text() + (saved / "config.json").read_text()
    assert '"P1"' not in text and '"S1"' not in text and "salt" not in text.replace('"salt', "")
    assert weights.label == "trained on simulated tissue" and weights.endpoint == "OS" and weights.markers == toy.bags[0].markers
    assert weights.cut == toy_fit.cut and weights.provenance["metrics"]["c"] == toy_fit.figures.c


def test_a_shared_transformer_is_saved_under_both_names(few, brief, tmp_path):
    from ml.mica.checkpoint import save_fit
    from ml.mica.train import fit

    done = fit(few.bags, few.outcomes, brief.model_copy(update={"transformer_mode": "shared", "pooling": "attn"}))
    save_fit(done, tmp_path, salt="s", code_version="test", label="toy", inputs={})
    model = load(tmp_path).folds[0].model
    assert model.path_transformer is model.codex_transformer
    assert predict(tmp_path, few.bags[:1], 0)[0].risk == predict(done.weights, few.bags[:1], 0)[0].risk


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda f: (f / "config.json").unlink(), "folder_incomplete"),
        (lambda f: (f / "config.json").write_text("{"), "json_wrong"),
        (lambda f: (f / "config.json").write_text("[]"), "json_wrong"),
        (lambda f: edit(f, "config.json", family="hex"), "not_mica"),
        (lambda f: edit(f, "config.json", fit={"width": 3}), "config_wrong"),
        (lambda f: edit(f, "provenance.json", membership=[[]]), "config_wrong"),
        (lambda f: (f / "fold1.safetensors").unlink(), "weights_absent"),
        (lambda f: (f / "fold1.safetensors").write_bytes(b"nothing"), "weights_changed"),
        (lambda f: shutil.copy(f / "fold0.safetensors", f / "fold1.safetensors"), "weights_changed"),
    ],
)
def test_a_damaged_folder_is_refused(saved, tmp_path, damage, code):
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    damage(folder)
    with pytest.raises(MicaError) as caught:
        load(folder)
    assert caught.value.code == code and caught.value.sentence.endswith(".") and caught.value.hint.endswith(".")


def edit(folder, name, **fields):
    content = json.loads((folder / name).read_text()) | fields
    (folder / name).write_text(json.dumps(content))


def test_tensors_of_other_sizes_are_named(saved, toy_fit, tmp_path):
    from hashlib import sha256

    shutil.copytree(saved, tmp_path / "copy")
    config = json.loads((saved / "config.json").read_text())
    edit(tmp_path / "copy", "config.json", inputs=config["inputs"] | {"tile_dim": 7})
    with pytest.raises(MicaError, match=r"wsi_net.0.weight is \(16, 6\), not \(16, 7\)"):
        load(tmp_path / "copy")
    (tmp_path / "copy" / "fold0.safetensors").write_bytes(b"nothing")
    sums = json.loads((saved / "provenance.json").read_text())["weights_sha256"]
    edit(tmp_path / "copy", "provenance.json", weights_sha256=sums | {"fold0.safetensors": sha256(b"nothing").hexdigest()})
    with pytest.raises(MicaError, match="cannot be read"):
        load(tmp_path / "copy")


def test_the_authors_checkpoints_go_out_and_in(toy, toy_fit, tmp_path):
    paths = write_authors(toy_fit.weights, tmp_path)
    assert [p.name for p in paths] == ["s_0_checkpoint.pt", "s_1_checkpoint.pt"]
    state = torch.load(paths[0], weights_only=True)
    assert "path_transformer.layers.0.self_attn.in_proj_weight" in state and "coattn.in_proj_weight" in state
    bins = [fold.bins for fold in toy_fit.weights.folds]
    back = read_authors(tmp_path, bins, toy.bags[0].markers, pooling="gap", heads=2, fold_of=toy_fit.fold_of, salt="x")
    assert back.fold_for(patient_hash("P0", "x")) == toy_fit.fold_of["P0"]
    from dataclasses import replace

    plain = [replace(b, encoder="", codex_encoder="") for b in toy.bags[:3]]
    assert [p.risk for p in predict(back, plain, 1)] == [p.risk for p in predict(toy_fit.weights, toy.bags[:3], 1)]
    with pytest.raises(SplitError):
        replace(back, membership=(back.membership[0],) * 2).fold_for(back.membership[0][0])


def test_what_is_no_checkpoint_of_the_authors_is_refused(toy_fit, few, brief, tmp_path):
    state = authors_state(toy_fit.weights.folds[0].model)
    with pytest.raises(MicaError, match="is not one of MICA's"):
        load_authors({"weight": torch.zeros(2)})
    with pytest.raises(MicaError, match=r"classifier.bias is absent"):
        load_authors({k: v for k, v in state.items() if k != "classifier.bias"}, heads=2)
    with pytest.raises(MicaError, match="cannot be shared by 3 heads"):
        load_authors(state, heads=3)
    bins = [f.bins for f in toy_fit.weights.folds]
    with pytest.raises(MicaError, match=r"There is no s_0_checkpoint.pt"):
        read_authors(tmp_path, bins, ())
    (tmp_path / "s_0_checkpoint.pt").write_text("<html>")
    with pytest.raises(MicaError, match="does not hold tensors alone"):
        read_authors(tmp_path, bins, ())
    from ml.mica.model import MicaNet

    with pytest.raises(MicaError, match="no counterpart"):
        authors_state(MicaNet(6, None, brief.model_copy(update={"modality": "he"})))
