"""Encoders as versions: what is brought is checked and kept, several stay in use, and what was registered is what is loaded."""


import numpy as np
import pytest

from tissueboard.accounts.models import AccessLog, User
from tissueboard.errors import TissueboardError
from tissueboard.model_registry.encoders import ensure_builtin_encoders, load_version, register_encoder
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.selectors import versions_for
from tissueboard.store import store

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
