"""A retrieval set is written by COPY: the rows that the ORM would write, whole or not at all."""

import numpy as np
import pytest
from django.db import DataError, transaction

from ml.types import NicheSet
from tissueboard.assays.models import MultiplexImage
from tissueboard.predictions.models import Prediction
from tissueboard.retrieval.models import Niche
from tissueboard.retrieval.publishing import publish_niche_set

COLUMNS = ("rank", "vector", "weight", "x", "y", "width", "height", "proteins", "slide_id", "image_id", "patient_id", "version_id")


def a_set(n=3, dim=5, seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, dim)).astype(np.float32)
    return NicheSet(vectors, np.full(n, 1 / n), rng.random((n, 4)) * 1000), [{"CD8": 0.25, 'α-SMA "x"': float(i)} for i in range(n)]


def fields(people):
    return {"job": people.lung.jobs["done"], "inputs": {}, "code_version": "test"}


def an_image(people):
    return MultiplexImage.objects.create(sample=people.lung.sample, name="M1", sealed_sha256="a" * 64)


def test_the_rows_are_those_that_the_orm_writes(people):
    image, version = an_image(people), people.versions["niche"]
    niches, proteins = a_set()
    made = publish_niche_set(image, version, niches, proteins, fields(people))
    copied = list(made.niches.values_list(*COLUMNS))
    assert len(copied) == 3 and made.image == image and made.slide is None and made.patient == people.lung.patient
    made.niches.all().delete()
    Niche.objects.bulk_create(
        Niche(
            prediction=made,
            patient=made.patient,
            image=image,
            version=version,
            rank=i,
            vector=v.tolist(),
            weight=w,
            x=box[0],
            y=box[1],
            width=box[2],
            height=box[3],
            proteins=p,
        )
        for i, (v, w, box, p) in enumerate(zip(niches.vectors, niches.weights, niches.boxes, proteins))
    )
    assert list(made.niches.values_list(*COLUMNS)) == copied


def test_a_new_set_takes_the_place_of_the_old_one(people):
    image, version = an_image(people), people.versions["niche"]
    first = publish_niche_set(image, version, *a_set(n=3), fields(people))
    again = publish_niche_set(image, version, *a_set(n=2, seed=1), fields(people))
    assert again == first and again.niches.count() == 2


@pytest.mark.parametrize("wrong", [np.nan, 1e6])
def test_a_number_that_a_half_cannot_hold_is_refused_before_anything_is_written(people, wrong):
    niches, proteins = a_set()
    niches.vectors[1, 1] = wrong
    with pytest.raises(ValueError, match="halfvec cannot hold"), transaction.atomic():
        publish_niche_set(people.lung.slide, people.versions["niche"], niches, proteins, fields(people))
    assert people.lung.niche_set.niches.count() > 0


def test_what_the_database_refuses_leaves_the_old_set_in_place(people):
    before = list(people.lung.niche_set.niches.values_list(*COLUMNS))
    niches, proteins = a_set()
    broken = [*proteins[:2], {"CD8": "\x00"}]
    with pytest.raises(DataError), transaction.atomic():
        publish_niche_set(people.lung.slide, people.versions["niche"], niches, broken, fields(people))
    assert list(people.lung.niche_set.niches.values_list(*COLUMNS)) == before


def test_the_niches_of_an_image_are_seen_by_its_cohort_alone(people):
    publish_niche_set(an_image(people), people.versions["niche"], *a_set(), fields(people))
    found = Niche.objects.filter(image__isnull=False)
    assert found.visible_to(people.viewer).count() == 3 and not found.visible_to(people.stranger).exists()
    assert Prediction.objects.visible_to(people.viewer).filter(image__isnull=False).count() == 1
