"""A saved HEX comes back the same, says where it is from, and a damaged one is refused with a sentence."""

import json
import shutil

import numpy as np
import pytest
import torch

from ml.hex.checkpoint import export_authors_head, load, load_authors_head
from ml.hex.errors import CheckpointError
from ml.hex.predict import infer
from ml.training.splits import patient_hash


def test_what_is_loaded_predicts_as_what_was_saved(saved, toy, toy_fit):
    before, after = infer(toy_fit.weights, toy.images[:20]), infer(saved, toy.images[:20])
    for name in ("features", "values", "out_of_range"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), atol=1e-5)
    np.testing.assert_array_equal(load(saved).scale.factor, toy_fit.weights.scale.factor)


def test_the_provenance_names_everything_but_the_patients(saved, toy_fit):
    text = (saved / "provenance.json").read_text()
    provenance = json.loads(text)
    assert provenance["label"] == load(saved).label == "trained on simulated tissue"
    assert provenance["code_version"] == "test" and provenance["inputs"] == {"toy": "0" * 64}
    assert provenance["encoder"]["pretraining_overlap"] == "no" and provenance["metrics"]["median_r_within"] > 0
    assert [row["marker"] for row in provenance["card"]] == list(toy_fit.weights.markers)
    for fold, hashes in enumerate(provenance["membership"]):
        assert set(hashes) == {patient_hash(p, "salt") for p, f in toy_fit.fold_of.items() if f != fold}
    assert '"P0"' not in text and "salt" not in text


def test_the_config_holds_unit_size_and_markers(saved):
    config = json.loads((saved / "config.json").read_text())
    assert config["fit"]["tile_um"] == 56 and config["input_px"] == load(saved).config.input_px
    assert config["label_scale"]["kind"] == "p99_global" and len(config["label_scale"]["factor"]) == len(config["fit"]["markers"])


def edit(name, change):
    def damage(folder):
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return damage


def flip_a_byte(folder):
    path = folder / "fold1.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (shutil.rmtree, "folder_incomplete"),
        (lambda folder: (folder / "provenance.json").unlink(), "folder_incomplete"),
        (lambda folder: (folder / "fold1.safetensors").unlink(), "weights_absent"),
        (lambda folder: (folder / "config.json").write_text("<html>"), "json_wrong"),
        (lambda folder: (folder / "config.json").write_text("[]"), "json_wrong"),
        (flip_a_byte, "weights_changed"),
        (edit("config.json", lambda c: c.update(family="mica")), "not_hex"),
        (edit("config.json", lambda c: c.pop("label_scale")), "config_wrong"),
        (edit("config.json", lambda c: c["fit"].update(folds=3)), "config_wrong"),
        (edit("config.json", lambda c: c["fit"].update(nonsense=1)), "config_wrong"),
        (edit("config.json", lambda c: c["fit"].update(hidden=[256, 64])), "tensors_wrong"),
    ],
)
def test_a_damaged_folder_is_refused_with_a_sentence(saved, tmp_path, damage, code):
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    damage(folder)
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert caught.value.code == code and caught.value.sentence.endswith(".") and caught.value.hint


def test_the_head_can_be_handed_on_under_the_authors_keys(toy_fit):
    model = toy_fit.weights.folds[0].model
    state = export_authors_head(model)
    assert set(state) == {
        f"{k}.{part}" for k in ("regression_head.0", "regression_head.3", "regression_head1.0") for part in ("weight", "bias")
    }
    vectors = torch.rand(4, 128)
    with torch.inference_mode():
        torch.testing.assert_close(load_authors_head(state)(vectors), model.head(vectors))
    with pytest.raises(CheckpointError, match="regression_head1"):
        load_authors_head({k: v for k, v in state.items() if not k.startswith("regression_head1")})
    with pytest.raises(CheckpointError, match=r"regression_head\.3"):
        load_authors_head({**state, "regression_head.3.bias": torch.zeros(5)})
