"""An image is placed on a slide of its patient; a newer place takes over, and pictures show whether it fits."""

import io

import numpy as np
import pytest
from multiplex_pictures import image_of
from PIL import Image

from tissueboard.accounts.models import AccessLog
from tissueboard.assays.alignments import (
    channel_picture,
    place_image,
    remove_place,
    slide_picture,
    slide_to_place_on,
    slides_to_place_on,
    unsaved,
)
from tissueboard.assays.errors import AssayRefused
from tissueboard.assays.models import Alignment
from tissueboard.assays.selectors import alignment_of, alignments_of
from tissueboard.errors import NotVisible, RoleMissing, TissueboardError
from tissueboard.slides.models import Slide

CORNERS = [[0, 0], [400, 0], [0, 300], [400, 300]]


@pytest.fixture
def image(people):
    return image_of(people.lung.sample)


@pytest.fixture
def fits(image, people):
    """The scale of both um per px, shifted."""
    scale = image.mpp / people.lung.slide.mpp
    return [[scale, 0.0, 10.0], [0.0, scale, 20.0]]


def pairs_by(matrix, points=CORNERS):
    linear = np.asarray(matrix)
    return [{"image": p, "slide": (linear[:, :2] @ p + linear[:, 2]).tolist()} for p in points]


def refused(code, function, *args, **kwargs):
    with pytest.raises(TissueboardError) as error:
        function(*args, **kwargs)
    assert error.value.code == code
    return error.value


def test_landmarks_are_fitted_and_a_newer_place_takes_over(people, image, fits):
    slide = people.lung.slide
    first = place_image(people.contributor, image, slide, matrix=fits)
    assert first.residual_um is None and first.facts["scale"] == pytest.approx(1) and first.findings == []
    second = place_image(people.contributor, image, slide, landmarks=pairs_by(fits))
    assert np.allclose(second.matrix, fits) and second.residual_um < 1e-6 and len(second.landmarks) == 4
    assert alignment_of(people.viewer, image, slide) == second
    everything = list(alignments_of(people.viewer, image, replaced=True))
    assert everything == [second, first] and Alignment.objects.get(pk=first.pk).replaced_at is not None
    assert second.facts["slide_sha256"] == slide.working_sha256 and second.facts["image_sha256"] == image.sha256
    assert AccessLog.objects.filter(verb="place image on slide", username="contributor").count() == 2
    assert place_image(people.contributor, image, slide, matrix=fits, dry_run=True).pk is None
    remove_place(people.contributor, second)
    assert alignment_of(people.viewer, image, slide) is None and Alignment.objects.count() == 2


def test_pixels_of_the_whole_file_are_those_of_the_working_slide_by_its_origin(people, image, fits):
    slide = people.lung.slide
    Slide.objects.filter(pk=slide.pk).update(facts=slide.facts | {"origin_px0": [3, 4]})
    slide.refresh_from_db()
    moved = place_image(people.contributor, image, slide, matrix=fits, whole_file=True)
    assert [row[2] for row in moved.matrix] == [7, 16]
    by_points = place_image(people.contributor, image, slide, landmarks=pairs_by(fits), whole_file=True)
    assert np.allclose(by_points.matrix, moved.matrix) and np.allclose(by_points.landmarks[0]["slide"], [7, 16])


def test_what_cannot_be_right_is_refused_or_told(people, image, fits):
    slide, scale = people.lung.slide, fits[0][0]
    me = people.contributor
    refused("NOTHING_GIVEN", place_image, me, image, slide)
    refused("ALIGNMENT_GIVEN_TWICE", place_image, me, image, slide, matrix=fits, landmarks=[])
    refused("LANDMARKS_TOO_FEW", place_image, me, image, slide, landmarks=pairs_by(fits)[:2])
    refused("LANDMARKS_COLLINEAR", place_image, me, image, slide, landmarks=pairs_by(fits, [[0, 0], [1, 1], [9, 9]]))
    for bad in ("x", [3], [{"image": [1, 2]}], [{"image": [1, "2"], "slide": [0, 0]}] * 3, pairs_by(fits) * 60):
        refused("ALIGNMENT_INVALID", place_image, me, image, slide, landmarks=bad)
    refused("ALIGNMENT_INVALID", place_image, me, image, slide, matrix=[[1, 2], [3, 4]])
    refused("ALIGNMENT_OUTSIDE", place_image, me, image, slide, matrix=[[scale, 0, 1e6], [0, scale, 0]])
    refused("PATIENT_DISAGREES", place_image, me, image, people.lung.slides[1], matrix=fits)
    refused("SLIDE_NOT_READY", place_image, None, image_of(people.lung.waiting.sample), people.lung.waiting, matrix=fits)
    assert refused("IMAGE_NOT_READY", place_image, me, image_of(people.lung.sample, "needs attention"), slide, matrix=fits).status == 409
    with pytest.raises(RoleMissing):
        place_image(people.viewer, image, slide, matrix=fits)
    with pytest.raises(NotVisible):
        place_image(people.outsider, image, slide, matrix=fits)
    assert not Alignment.objects.exists()
    large = unsaved(image, slide, matrix=[[1.3 * scale, 0, 0], [0, -1.3 * scale, 300 * scale]])
    assert {one["code"] for one in large.findings} >= {"ALIGNMENT_MIRRORED", "ALIGNMENT_SCALE"}


def test_only_slides_of_the_patient_are_offered(people, image):
    offered = slides_to_place_on(people.viewer, image)
    assert people.lung.slide in offered and all(slide.sample.patient == image.sample.patient for slide in offered)
    with pytest.raises(NotVisible):
        slide_to_place_on(people.viewer, image, people.breast.slide.pk)
    assert slides_to_place_on(people.outsider, image) == []


def test_both_pictures_show_the_same_pixels(people, image, fits):
    place = unsaved(image, people.lung.slide, matrix=fits)
    slide, channel = (Image.open(io.BytesIO(data)) for data in (slide_picture(place), channel_picture(place, 0, "00c8ff", 0, 250)))
    assert slide.size == channel.size and max(slide.size) == 900 and channel.mode == "RGBA"
    alpha = np.asarray(channel)[..., 3]
    assert alpha[:5].max() == 0 and alpha.max() == 255  # a margin around the image, whose edge is a line
    refused("CHANNEL_NOT_THERE", channel_picture, place, 9, "00c8ff", 0, 1)
    scale = fits[0][0]
    far = unsaved(image, people.lung.slide, matrix=[[1000 * scale, 0, 0], [0, 1000 * scale, 0]])
    with pytest.raises(AssayRefused):
        slide_picture(far)


def test_rest_places_an_image(people, image, fits):
    address = f"/api/v1/assays/{image.pk}/alignments/"
    sent = {"slide": people.lung.slide.pk, "landmarks": pairs_by(fits), "dry_run": True}
    checked = people.api("contributor").post(address, sent)
    assert checked.status_code == 200 and checked.json()["id"] is None and not Alignment.objects.exists()
    kept = people.api("contributor").post(address, sent | {"dry_run": False})
    assert kept.status_code == 201 and np.allclose(kept.json()["matrix"], fits) and len(kept.json()["landmarks"]) == 4
    assert people.api("viewer").get(address).json()["results"][0]["id"] == kept.json()["id"]
    assert people.api("contributor").post(address, {"slide": people.breast.slide.pk, "matrix": fits}).status_code == 404
    beyond = f'{{"slide": {people.lung.slide.pk}, "matrix": [[1e999, 0, 0], [0, 1, 0]]}}'
    assert people.api("contributor").post(address, beyond, content_type="application/json").status_code == 400
