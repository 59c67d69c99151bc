"""Encoders as versions: what is brought is checked and kept, several stay in use, and what was registered is what is loaded."""

import json

import numpy as np
import pytest

from tissueboard.accounts.models import AccessLog, User
from tissueboard.errors import TissueboardError
from tissueboard.model_registry.encoders import ensure_builtin_encoders, load_version, register_encoder
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.selectors import versions_for
from tissueboard.store import checksum, store

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff():
    return User.objects.create_user("operator", is_staff=True)


def test_the_built_in_encoder_is_there_once_and_works_without_a_file():
    first, again = ensure_builtin_encoders(), ensure_builtin_encoders()
    assert first == again and ModelVersion.objects.filter(family="encoder").count() == len(first)
    version = first[0]
    assert (
        version.label == "fixed, nothing trained"
        and version.pretraining_overlap == "no"
        and version.config == {"encoder": "he-descriptors"}
    )
    assert [p.name for p in store.path(version.key).iterdir()] == ["provenance.json"]
    encoder = load_version(version)
    tiles = np.random.default_rng(0).integers(0, 256, (3, encoder.input_px, encoder.input_px, 3), np.uint8)
    assert encoder(tiles).shape == (3, encoder.dim)


def test_everybody_who_signed_in_sees_it():
    (version,) = ensure_builtin_encoders()
    assert version in versions_for(User.objects.create_user("new"))


def test_only_staff_brings_an_encoder(staff):
    with pytest.raises(TissueboardError, match="staff account") as caught:
        register_encoder(User.objects.create_user("somebody"), "he-descriptors")
    assert caught.value.status == 403 and not ModelVersion.objects.exists()
    version = register_encoder(staff, "he-descriptors")
    assert AccessLog.objects.filter(user_id=staff.pk, verb="register model", object_id=str(version.pk)).exists()


def test_what_cannot_be_used_is_refused_with_a_sentence(staff):
    for name, code in (("nobody", "ENCODER_UNKNOWN_ENCODER"), ("uni", "ENCODER_WEIGHTS_GATED"), ("compact-resnet-48", "ENCODER_UNTRAINED")):
        with pytest.raises(TissueboardError) as caught:
            register_encoder(staff, name)
        assert caught.value.code == code and caught.value.sentence.endswith(".") and caught.value.hint.endswith(".")
    assert not ModelVersion.objects.exists()


# --- a real weight file


NAME, OTHER = "timm:resnet10t.c3_in1k", "timm:resnet14t.c3_in1k"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two files of one architecture as they are released (a pickle of tensors), and a file of another."""
    import timm
    import torch

    folder = tmp_path_factory.mktemp("released")
    torch.manual_seed(0)
    for name in ("first", "second"):
        torch.save(timm.create_model("resnet10t").state_dict(), folder / f"{name}.torch")
    torch.save(timm.create_model("resnet14t").state_dict(), folder / "other.torch")
    return folder


@pytest.fixture
def files(trained, tmp_path):
    for file in trained.iterdir():
        (tmp_path / file.name).hardlink_to(file)
    return tmp_path


def test_a_file_is_kept_as_safetensors_with_its_provenance_and_gives_the_same_vectors(files, staff):
    from ml.encoders.runtime import load_encoder

    version = register_encoder(staff, NAME, files / "first.torch")
    kept = store.path(version.key)
    assert sorted(p.name for p in kept.iterdir()) == ["provenance.json", "weights.safetensors"]
    assert version.sha256 == checksum(kept / "weights.safetensors")
    said = json.loads((kept / "provenance.json").read_text())
    assert said["inputs"] == version.provenance["inputs"] == {"first.torch": checksum(files / "first.torch")}
    assert said["licence"] == "apache-2.0" and version.provenance["facts"]["repo"] == "timm/resnet10t.c3_in1k"
    assert (version.label, version.pretraining_overlap, version.pitch_um) == ("released", "unknown", 88.0)
    tiles = np.random.default_rng(0).integers(0, 256, (2, 176, 176, 3), np.uint8)
    wanted = load_encoder(NAME, files / "first.torch")(tiles)
    (files / "first.torch").unlink()
    np.testing.assert_array_equal(load_version(version)(tiles), wanted)


def test_the_same_file_again_is_the_same_version_and_another_takes_its_place(files, staff):
    (descriptors,) = ensure_builtin_encoders()
    first = register_encoder(staff, NAME, files / "first.torch")
    assert register_encoder(staff, NAME, files / "first.torch") == first
    second = register_encoder(staff, NAME, files / "second.torch")
    other = register_encoder(staff, OTHER, files / "other.torch")
    for version in (descriptors, first, second, other):
        version.refresh_from_db()
    assert [v.is_current for v in (descriptors, first, second, other)] == [True, False, True, True]
    assert second.name == f"{NAME} {second.sha256[:8]}"
    assert register_encoder(staff, NAME, files / "first.torch") == first
    second.refresh_from_db(), first.refresh_from_db()
    assert first.is_current and not second.is_current


def test_another_networks_file_leaves_nothing_behind(files, staff):
    before, unfinished = set(store.root.glob("models/encoder/*")), set(store.root.glob(".tmp/*"))
    with pytest.raises(TissueboardError, match=r"is not encoder timm:resnet10t\.c3_in1k: tensors") as caught:
        register_encoder(staff, NAME, files / "other.torch")
    assert caught.value.code == "ENCODER_WEIGHTS_MISMATCH" and not ModelVersion.objects.exists()
    assert set(store.root.glob("models/encoder/*")) == before and set(store.root.glob(".tmp/*")) == unfinished


def test_a_full_disk_leaves_a_sentence_and_no_version(files, staff, monkeypatch):
    import errno

    def full(temp, key):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "save", full)
    unfinished = set(store.root.glob(".tmp/*"))
    with pytest.raises(TissueboardError, match="could not be written to the store: No space left on device") as caught:
        register_encoder(staff, NAME, files / "first.torch")
    assert caught.value.code == "WEIGHTS_NOT_KEPT" and not ModelVersion.objects.exists()
    assert set(store.root.glob(".tmp/*")) == unfinished


def test_weights_that_changed_or_went_are_never_replaced_by_others(files, staff, settings):
    from tissueboard.model_registry.services import WeightsMissing

    version = register_encoder(staff, NAME, files / "first.torch")
    settings.WEIGHTS_ROOT = files / "weights"
    (settings.WEIGHTS_ROOT / "timm-resnet10t.c3_in1k").mkdir(parents=True)
    (files / "second.torch").rename(settings.WEIGHTS_ROOT / "timm-resnet10t.c3_in1k" / "second.torch")
    changed = register_encoder(staff, NAME)
    (store.path(version.key) / "weights.safetensors").write_bytes((store.path(changed.key) / "weights.safetensors").read_bytes())
    with pytest.raises(TissueboardError, match="not those that were registered") as caught:
        load_version(version)
    assert caught.value.code == "WEIGHTS_CHANGED"
    (store.path(version.key) / "weights.safetensors").unlink()
    with pytest.raises(WeightsMissing):
        load_version(version)


def test_the_command_brings_an_encoder_into_use_or_says_why_not(files, capsys):
    from django.core.management import CommandError, call_command

    call_command("add_encoder", NAME, "--weights", str(files / "first.torch"))
    assert f"encoder {NAME} is in use" in capsys.readouterr().out
    with pytest.raises(CommandError, match=r"ENCODER_WEIGHTS_GATED: .* Accept the terms at MahmoodLab/UNI"):
        call_command("add_encoder", "uni")
