"""What every address of the house answers to every person: the table behind tests/tissueboard/test_routes_and_persons.py.

A new address fails the suite until it has a line here. `Route.get` and `Route.post` give the status by person; a method that is not
named must not open anything. The table is read for the cohort `lung`, and once more for `breast` with the people changing sides.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from people import MEMBERS, PASSWORD, PERSONS

Statuses = dict[str, tuple[int, ...]]
ROLES = ("viewer", "contributor", "manager")


def everybody(*status: int) -> Statuses:
    return dict.fromkeys(PERSONS, status)


def signed_in(*status: int, anonymous: int) -> Statuses:
    """Lists and forms that belong to no cohort: each sees her own."""
    return everybody(*status) | {"anonymous": (anonymous,)}


def members(*status: int, anonymous: int, role: str = "viewer", low: int = 403, stranger: int = 404) -> Statuses:
    """From `role` upwards; a member below it is told so (403); for all others there is no such thing (404)."""
    found = dict.fromkeys(PERSONS, (stranger,)) | {"anonymous": (anonymous,)}
    for person in MEMBERS:
        found[person] = status if ROLES.index(person) >= ROLES.index(role) else (low,)
    return found


@dataclass(frozen=True)
class Route:
    """kwargs, body: made from the records of a cohort (`part`) and the world; body is sent by POST. query: for GET and POST."""

    get: Statuses | None = None
    post: Statuses | None = None
    kwargs: Callable[[Any, Any], dict[str, Any]] = lambda part, world: {}
    body: Callable[[Any, Any], dict[str, Any]] = lambda part, world: {}
    query: Callable[[Any, Any], dict[str, Any]] = lambda part, world: {}
    json: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


def page(*status: int, role: str = "viewer", **more: Any) -> Route:
    """A page of one cohort: the anonymous are sent to the login."""
    return Route(get=members(*(status or (200,)), anonymous=302, role=role), **more)


def page_post(*status: int, role: str = "contributor", **more: Any) -> Route:
    return Route(post=members(*status, anonymous=302, role=role), **more)


def api(*status: int, role: str = "viewer", **more: Any) -> Route:
    return Route(get=members(*(status or (200,)), anonymous=401, role=role), json=True, **more)


def api_post(*status: int, role: str = "contributor", **more: Any) -> Route:
    return Route(post=members(*status, anonymous=401, role=role), json=True, **more)


def api_list(**more: Any) -> Route:
    return Route(get=signed_in(200, anonymous=401), json=True, **more)


def page_list(**more: Any) -> Route:
    return Route(get=signed_in(200, anonymous=302), **more)


def cohort(part: Any, world: Any) -> dict[str, Any]:
    return {"cohort_id": part.cohort.pk}


def patient(part: Any, world: Any) -> dict[str, Any]:
    return {"patient_id": part.patient.pk}


def slide(part: Any, world: Any) -> dict[str, Any]:
    return {"slide_id": part.slide.pk}


def waiting(part: Any, world: Any) -> dict[str, Any]:
    return {"slide_id": part.waiting.pk}


def job(name: str) -> Callable[[Any, Any], dict[str, Any]]:
    return lambda part, world: {"job_id": part.jobs[name].pk}


def version(part: Any, world: Any) -> dict[str, Any]:
    return {"version_id": world.versions[part.cohort.name].pk}


def twin(part: Any, world: Any) -> int:
    """A second risk model of the cohort."""
    from tissueboard.model_registry.models import ModelVersion

    common = {"label": "trained here", "config": {}, "key": "none", "sha256": "0" * 64, "provenance": {}, "licence": "Apache-2.0"}
    made, fresh = ModelVersion.objects.get_or_create(family="cox_summary", name=f"twin of {part.cohort.name}", defaults=common)
    if fresh:
        made.cohorts.set([part.cohort])
    return made.pk


def niche(part: Any, world: Any) -> dict[str, Any]:
    return {"patient_id": part.patient.pk, "niche_id": part.niche_set.niches.first().pk}


def import_(part: Any, world: Any) -> dict[str, Any]:
    return {"import_id": part.import_.pk}


def channel(part: Any, world: Any) -> dict[str, Any]:
    return {"patient_id": part.patient.pk, "prediction_id": part.map.pk, "channel": 0}


def guest(part: Any, world: Any) -> dict[str, Any]:
    """A member who is none of the persons, so that a cohort with one manager has somebody to change."""
    from tissueboard.accounts.models import User
    from tissueboard.cohorts.models import Membership

    user, _ = User.objects.get_or_create(username="guest")
    member, _ = Membership.objects.get_or_create(cohort=part.cohort, user=user, defaults={"role": "viewer"})
    return {"cohort_id": part.cohort.pk, "membership_id": member.pk}


def run(part: Any, world: Any) -> dict[str, Any]:
    """A run over the cohort in which one step failed."""
    from django.utils import timezone

    from tissueboard.pipelines.models import CohortRun

    made, fresh = CohortRun.objects.get_or_create(
        cohort=part.cohort, pipeline="case", fingerprint="by hand", defaults={"resumed_at": timezone.now(), "by_house": True}
    )
    if fresh:
        slide, version = part.slide, world.versions["hex"]
        about = {"kind": "predictions.virtual_map", "per": "slide", "patient": part.patient, "slide": slide, "version": version}
        made.items.create(plan="run", job=part.jobs["failed"], **about)
    return {"run_id": made.pk}


def bag(part: Any) -> Any:
    """Features of the slide that another tool made; written once per part."""
    from feature_bags import imported_bag

    return imported_bag(part.slide)


def training(cohorts: str = "") -> Callable[[Any, Any], dict[str, Any]]:
    """Scales of niches on the cohort, whose slide has features of the hex version. cohorts: the name under which the cohort is sent."""

    def body(part: Any, world: Any) -> dict[str, Any]:
        from tissueboard.predictions.models import Prediction

        about = {"patient": part.patient, "slide": part.slide, "version": world.versions["hex"], "kind": "feature bag"}
        Prediction.objects.get_or_create(**about, defaults={"job": part.jobs["done"], "inputs": {}, "code_version": "test"})
        sent = {"name": f"scales of {part.cohort.name}", "version": world.versions["hex"].pk}
        return sent | ({"what": "niche", cohorts: [part.cohort.name]} if cohorts else {})

    return body


def table(part: Any, world: Any) -> dict[str, Any]:
    file = BytesIO(b"patient_id,age\n" + part.patient.code.encode() + b",60\n")
    file.name = "ages.csv"
    return {"file": file}


def label_table(part: Any, world: Any) -> dict[str, Any]:
    from label_tables import csv_of

    file = BytesIO(csv_of(part.slide))
    file.name = "labels.csv"
    return {"file": file, "tile_um": "56", "kind": "codex"}


def region(part: Any, world: Any) -> dict[str, Any]:
    """A region on the first slide, made when it is first asked for."""
    from tissueboard.slides.models import Region

    outline = {"type": "Polygon", "coordinates": [[[0, 0], [300, 0], [300, 300], [0, 300], [0, 0]]]}
    found, _ = Region.objects.get_or_create(
        slide=part.slide,
        removed_at=None,
        name=f"{part.cohort.name} by hand",
        defaults={"geometry": outline, "n_points": 5, "area_px0": 9e4},
    )
    return {"slide_id": part.slide.pk, "region_id": found.pk}


def region_file(part: Any, world: Any) -> dict[str, Any]:
    """A checked file of regions that waits for somebody."""
    from qupath_files import collection

    from tissueboard.slides.models import RegionImport
    from tissueboard.slides.region_imports import check_regions

    found = RegionImport.objects.filter(slide=part.slide, state="waiting").first()
    sender = world.contributor if part is world.lung else world.stranger
    found = found or check_regions(sender, part.slide, collection(), "front.geojson")
    return {"slide_id": part.slide.pk, "import_id": found.pk}


def geojson(part: Any, world: Any) -> dict[str, Any]:
    from qupath_files import collection

    file = BytesIO(collection())
    file.name = "front.geojson"
    return {"file": file}


OUTLINE = {"type": "Point", "coordinates": [5, 5]}


def with_token(**more: Any) -> Callable[[Any, Any], dict[str, Any]]:
    """Addresses of tiles: the token of a member is the right itself."""
    from tissueboard.slides.services import tile_token

    def kwargs(part: Any, world: Any) -> dict[str, Any]:
        member = world.viewer if part is world.lung else world.stranger
        return {"slide_id": part.slide.pk, "token": tile_token(member, part.slide)} | more

    return kwargs


def image(part: Any, world: Any) -> dict[str, Any]:
    """A multiplex image of the part's sample."""
    from multiplex_pictures import image_of

    return {"image_id": image_of(part.sample).pk}


def seen_by_virtues(part: Any, world: Any) -> dict[str, Any]:
    """An image, and a VirTues of nobody's data that can be asked for."""
    from tissueboard.model_registry.models import ModelVersion

    common = {"label": "released", "config": {}, "key": "none", "sha256": "0" * 64, "provenance": {}, "licence": "MIT"}
    ModelVersion.objects.get_or_create(family="virtues", name="of the table", defaults=common)
    return image(part, world)


def locked_marker(part: Any, world: Any) -> dict[str, Any]:
    """A marker that that VirTues may not paint."""
    from tissueboard.model_registry.models import ModelVersion

    seen_by_virtues(part, world)
    return {"version": ModelVersion.objects.get(name="of the table").pk, "protein": "P07766"}


def stain_output(part: Any, world: Any) -> dict[str, Any]:
    """A virtual stain of an image by that VirTues, two pixels wide."""
    import h5py

    from tissueboard.predictions.models import Prediction
    from tissueboard.store import store

    made = Prediction.objects.get(pk=image_output(part, world)["prediction_id"])
    key = f"tests/stain-{part.cohort.pk}.h5"
    with h5py.File(store.path(key), "w") as file:
        file["values"] = [[0.0, 1.0]]
    about = {"patient": part.patient, "job": part.jobs["done"], "inputs": {}, "code_version": "test", "key": key}
    stain, _ = Prediction.objects.get_or_create(kind="virtual stain", image=made.image, version=made.version, defaults=about)
    return {"image_id": made.image_id, "prediction_id": stain.pk}


def image_output(part: Any, world: Any) -> dict[str, Any]:
    """The embedding of an image by that VirTues, with a file."""
    from tissueboard.model_registry.models import ModelVersion
    from tissueboard.predictions.models import Prediction
    from tissueboard.store import checksum, store

    ids, key = seen_by_virtues(part, world), f"tests/embedding-{part.cohort.pk}.h5"
    store.path(key).parent.mkdir(parents=True, exist_ok=True)
    store.path(key).write_bytes(b"niches")
    about = {"patient": part.patient, "job": part.jobs["done"], "inputs": {}, "code_version": "test", "key": key}
    made, _ = Prediction.objects.get_or_create(
        kind="embedding", image_id=ids["image_id"], version=ModelVersion.objects.get(name="of the table"),
        defaults={**about, "sha256": checksum(store.path(key))},
    )  # fmt: skip
    return {**ids, "prediction_id": made.pk}


def discovery(part: Any, world: Any) -> dict[str, Any]:
    """A discovery with its files, under that VirTues."""
    from planted_cells import found

    from tissueboard.model_registry.models import ModelVersion

    seen_by_virtues(part, world)
    return {"discovery_id": found(part.cohort, ModelVersion.objects.get(name="of the table"), part.jobs["done"]).pk}


def without_cells(part: Any, world: Any) -> dict[str, Any]:
    """A discovery that nobody can start: no image has cells under that VirTues."""
    from tissueboard.model_registry.models import ModelVersion

    seen_by_virtues(part, world)
    version = ModelVersion.objects.get(name="of the table").pk
    return {"kind": "risk groups", "version": version, "endpoint": "OS"}


def waiting_image(part: Any, world: Any) -> dict[str, Any]:
    from multiplex_pictures import image_of

    return {"image_id": image_of(part.sample, "needs attention").pk}


def image_tile(part: Any, world: Any) -> dict[str, Any]:
    from multiplex_pictures import image_of

    from tissueboard.assays.services import tile_token

    member, found = world.viewer if part is world.lung else world.stranger, image_of(part.sample)
    return {"image_id": found.pk, "token": tile_token(member, found), "level": 0, "col": 0, "row": 0}


def with_cells(state: str = "ready") -> Callable[[Any, Any], dict[str, Any]]:
    """An image that has cells."""

    def kwargs(part: Any, world: Any) -> dict[str, Any]:
        from multiplex_pictures import cells_of, image_of

        found = image_of(part.sample)
        cells_of(found, state)
        return {"image_id": found.pk}

    return kwargs


def outline_tile(part: Any, world: Any) -> dict[str, Any]:
    return image_tile(part, world) | with_cells()(part, world)


def place(part: Any, world: Any) -> dict[str, Any]:
    """An image that is placed on the first slide."""
    from multiplex_pictures import image_of, placed

    found = image_of(part.sample)
    placed(found, part.slide)
    return {"image_id": found.pk, "slide_id": part.slide.pk}


def mask_file(part: Any, world: Any) -> dict[str, Any]:
    import numpy as np
    from multiplex_pictures import small_labels

    file = BytesIO()
    np.savez_compressed(file, mask=small_labels())
    file.seek(0)
    file.name = "mask.npz"
    return {"mask": file}


def matrix(part: Any, world: Any) -> list[list[float]]:
    scale = 0.5 / part.slide.mpp
    return [[scale, 0, 5], [0, scale, 9]]


API = {
    "api:token": Route(
        get=everybody(405), post=everybody(200), body=lambda part, world: {"username": "outsider", "password": PASSWORD}, json=True
    ),
    "api:schema": Route(get=everybody(200)),
    "api:unknown": Route(get=everybody(404), post=everybody(404), json=True),
    "api:cohorts": api_list(),
    "api:cohort": api(kwargs=cohort),
    "api:cohort_channels": Route(
        get=members(200, anonymous=401),
        post=members(200, anonymous=401, role="contributor"),
        kwargs=cohort,
        body=lambda part, world: {"channel": "CD3", "uniprot": "P04234", "note": "delta"},
        json=True,
    ),
    "api:cohort_channels_csv": Route(
        get=members(200, anonymous=401),
        post=members(200, anonymous=401, role="contributor"),
        kwargs=cohort,
        body=lambda part, world: {"csv": "channel,uniprot\nCD3,P04234\n"},
        json=True,
    ),
    "api:patients": api_list(),
    "api:patient": api(kwargs=patient),
    "api:patient_risk": api(kwargs=patient),
    "api:patient_risk_contributions": api(kwargs=patient),
    "api:slides": api_list(),
    "api:slide": api(kwargs=slide),
    "api:slide_tiles": api(kwargs=slide),
    "api:slide_tile": api(302, kwargs=lambda part, world: slide(part, world) | {"level": 0, "col": 0, "row": 0}),
    "api:slide_pipeline": api_post(202, kwargs=slide, body=lambda part, world: {"name": "case"}),
    "api:features": api(kwargs=slide),
    "api:feature_file": api(kwargs=lambda part, world: slide(part, world) | {"bag_id": bag(part).pk}),
    "api:slide_labels": Route(
        get=members(200, anonymous=401),
        post=members(201, anonymous=401, role="contributor"),
        kwargs=slide,
        body=label_table,
        json=True,
        facts={"multipart": True},
    ),
    "api:maps": api(kwargs=slide),
    "api:map": api(kwargs=lambda part, world: slide(part, world) | {"map_id": part.map.pk}),
    "api:map_values": api(kwargs=lambda part, world: slide(part, world) | {"map_id": part.map.pk}),
    "api:dense_map": api_post(202, kwargs=slide, body=lambda part, world: {"stride_um": 14}),
    "api:regions": Route(
        get=members(200, anonymous=401),
        post=members(201, anonymous=401, role="contributor"),
        kwargs=slide,
        body=lambda part, world: {"geometry": OUTLINE, "note": "mitosis"},
        json=True,
    ),
    "api:region": api(kwargs=region),
    "api:region_import": api_post(200, kwargs=slide, body=geojson, facts={"multipart": True}),
    "api:regions_file": api(kwargs=slide),
    "api:imports": Route(
        get=signed_in(200, anonymous=401),
        post=members(202, anonymous=401, role="contributor"),
        body=lambda part, world: {"cohort": part.cohort.name, "kind": "clinical"} | table(part, world),
        json=True,
        facts={"multipart": True},
    ),
    "api:import": api(kwargs=import_, role="contributor"),
    "api:import_confirm": api_post(200, kwargs=import_),
    "api:import_discard": api_post(200, kwargs=import_),
    "api:assays": api_list(),
    "api:assay": api(kwargs=image),
    "api:assay_complete": api_post(202, kwargs=waiting_image, body=lambda part, world: {"channels": ["a", "b", "c"], "mpp": 0.5}),
    "api:assay_cells": Route(
        get=members(200, anonymous=401),
        post=members(409, anonymous=401, role="contributor"),  # the image is not ready; reading a mask takes a process of its own
        kwargs=waiting_image,
        body=mask_file,
        json=True,
        facts={"multipart": True},
    ),
    "api:assay_cells_confirm": api_post(200, kwargs=with_cells("needs attention")),
    "api:assay_proteins": api(kwargs=image),
    "api:assay_pipeline": api_post(202, kwargs=seen_by_virtues, body=lambda part, world: {"name": "virtues"}),
    "api:embeddings": api(kwargs=image),
    "api:image_stain": api_post(409, kwargs=seen_by_virtues, body=locked_marker),
    "api:image_output_file": Route(get=members(200, anonymous=401), kwargs=image_output),
    "api:assay_alignments": Route(
        get=members(200, anonymous=401),
        post=members(201, anonymous=401, role="contributor"),
        kwargs=image,
        body=lambda part, world: {"slide": part.slide.pk, "matrix": matrix(part, world)},
        json=True,
    ),
    "api:jobs": api_list(),
    "api:job": api(kwargs=job("done")),
    "api:job_cancel": api_post(200, kwargs=job("queued")),
    "api:job_retry": api_post(200, kwargs=job("failed")),
    "api:runs": Route(
        get=signed_in(200, anonymous=401),
        post=members(202, anonymous=401, role="contributor"),
        body=lambda part, world: {"cohort": part.cohort.name, "pipeline": "case"},
        json=True,
    ),
    "api:run_plan": api_post(200, body=lambda part, world: {"cohort": part.cohort.name, "pipeline": "case"}),
    "api:run": api(kwargs=run),
    "api:run_items": api(kwargs=run),
    "api:run_pause": api_post(200, kwargs=run),
    "api:run_resume": api_post(200, kwargs=run),
    "api:run_retry": api_post(200, kwargs=run),
    "api:run_extend": api_post(200, kwargs=run),
    "api:run_cancel": api_post(200, kwargs=run),
    "api:families": api_list(),
    # What the hand-made cohorts have is enough for the scales of niches: features of the hex version are made when they are asked for.
    "api:trainings": Route(
        get=signed_in(200, anonymous=401), post=members(201, anonymous=401, role="contributor"), body=training("cohorts"), json=True
    ),
    "api:cohort_discoveries": Route(
        get=members(200, anonymous=401),
        post=members(409, anonymous=401, role="contributor"),
        kwargs=cohort,
        body=without_cells,
        json=True,
    ),
    "api:discovery": api(kwargs=discovery),
    "api:discovery_file": api(role="contributor", kwargs=lambda part, world: discovery(part, world) | {"what": "cells"}),
    "api:patient_withdraw": api_post(200, role="manager", kwargs=patient, body=lambda part, world: {"why": "She asked for it."}),
    "api:cohort_references": Route(
        get=members(200, anonymous=401),
        post=members(200, anonymous=401, role="manager"),
        kwargs=cohort,
        body=lambda part, world: {"version": world.versions["niche"].pk, "measured": False, "why": "It is the one that we have."},
        json=True,
    ),
    "api:cohort_outcome_value": api_post(
        202, kwargs=cohort, body=lambda part, world: {"version": world.versions["niche"].pk, "measured": False, "endpoint": "OS"}
    ),
    "api:retrieval": api_post(200, role="viewer", body=lambda part, world: {"slide": part.slide.pk, "k": 3}),
    "api:retrieval_niches": api_post(200, role="viewer", body=lambda part, world: {"niche": part.niche_set.niches.first().pk}),
    "api:kaplan_meier": api(query=lambda part, world: {"cohort": part.cohort.name, "endpoint": "OS", "group_by": "stage"}),
    "api:encoders": api_list(),
    "api:models": api_list(),
    "api:model": api(kwargs=version),
}

TILES = {
    "slide_dzi": Route(get=everybody(200), kwargs=with_token()),
    "slide_tile": Route(get=everybody(200), kwargs=with_token(level=0, col=0, row=0)),
    "slide_thumbnail": page(kwargs=slide),
    "feature_file": page(kwargs=lambda part, world: slide(part, world) | {"prediction_id": bag(part).pk}),
    "multiplex_outlines": Route(get=everybody(200), kwargs=outline_tile),
    "multiplex_tile": Route(get=everybody(200), kwargs=image_tile, query=lambda part, world: {"c": "0:4d6dff:0:250"}),
}

PAGES = {
    "login": Route(get=everybody(302) | {"anonymous": (200,)}, post=everybody(302) | {"anonymous": (200,)}),
    "logout": Route(get=everybody(405), post=everybody(302)),
    "cohorts": page_list(),
    "cohort_new": Route(
        get=signed_in(200, anonymous=302), post=signed_in(302, anonymous=302), body=lambda part, world: {"name": "new", "description": "n"}
    ),
    "cohort": page(kwargs=cohort),
    "cohort_slides": page(kwargs=cohort),
    "cohort_imports": page(kwargs=cohort, role="contributor"),
    "cohort_references": Route(
        get=members(200, anonymous=302),
        post=members(302, anonymous=302, role="manager"),
        kwargs=cohort,
        body=lambda part, world: {"action": "use", "version": world.versions["niche"].pk, "why": "It is the one that we have."},
    ),
    "cohort_members": Route(
        get=members(200, anonymous=302),
        post=members(302, anonymous=302, role="manager"),
        kwargs=cohort,
        body=lambda part, world: {"username": "outsider", "role": "viewer"},
    ),
    "cohort_member_role": page_post(302, role="manager", kwargs=guest, body=lambda part, world: {"role": "contributor"}),
    "cohort_member_remove": page_post(302, role="manager", kwargs=guest),
    "cohort_access_log": page(kwargs=cohort, role="manager"),
    "upload_slide": Route(
        get=members(200, anonymous=302, role="contributor"),
        post=members(302, anonymous=302, role="contributor"),
        kwargs=cohort,
        body=lambda part, world: table(part, world) | {"patient_code": part.patient.code},
    ),
    "upload_table": Route(
        get=members(200, anonymous=302, role="contributor"),
        post=members(302, anonymous=302, role="contributor"),
        kwargs=cohort,
        body=table,
    ),
    "upload_multiplex": Route(
        get=members(200, anonymous=302, role="contributor"),
        post=members(302, anonymous=302, role="contributor"),
        kwargs=cohort,
        body=lambda part, world: table(part, world) | {"channels": "DAPI\nCD3", "mpp": "0,5"},
    ),
    "cohort_multiplex": page(kwargs=cohort),
    "upload_labels": Route(
        get=members(200, anonymous=302, role="contributor"),
        post=members(200, anonymous=302, role="contributor"),
        kwargs=cohort,
        body=lambda part, world: label_table(part, world) | {"slide": part.slide.pk},
    ),
    "cohort_labels": page(kwargs=cohort),
    "multiplex_image": Route(
        get=members(200, anonymous=302),
        post=members(302, anonymous=302, role="contributor"),
        kwargs=waiting_image,
        body=lambda part, world: {"channels": "DAPI\nCD3\nPanCK", "mpp": "0.5"},
    ),
    "multiplex_cells": Route(
        get=members(200, anonymous=302),
        post=members(302, anonymous=302, role="contributor"),
        kwargs=with_cells("needs attention"),
        body=lambda part, world: {"action": "confirm"},
    ),
    "multiplex_cell_table": page(kwargs=with_cells()),
    "virtues_run": page_post(302, kwargs=seen_by_virtues),
    "virtues_stain": page_post(302, kwargs=seen_by_virtues, body=locked_marker),
    "virtues_picture": page(kwargs=stain_output),
    "virtues_file": page(kwargs=image_output),
    "multiplex_place": Route(
        get=members(200, anonymous=302),
        post=members(302, anonymous=302, role="contributor"),
        kwargs=place,
        body=lambda part, world: {"action": "save", "by": "matrix", "matrix": str(matrix(part, world))},
    ),
    "place_slide_picture": page(kwargs=place),
    "place_channel_picture": page(kwargs=place, query=lambda part, world: {"c": "0:00c8ff:0:250"}),
    "cohort_channels": Route(
        get=members(200, anonymous=302),
        post=members(302, anonymous=302, role="contributor"),
        kwargs=cohort,
        body=lambda part, world: {"channel": "CD3", "uniprot": "P04234", "note": "delta"},
    ),
    "cohort_channels_csv": page(kwargs=cohort),
    "km_csv": page(kwargs=cohort, query=lambda part, world: {"endpoint": "OS", "group_by": "stage"}),
    "cohort_runs": page(kwargs=cohort),
    "cohort_run_new": Route(
        get=members(200, anonymous=302, role="contributor"),
        post=members(302, anonymous=302, role="contributor"),
        kwargs=cohort,
        body=lambda part, world: {"what": "case"},
    ),
    "cohort_train": page(kwargs=cohort, role="contributor"),
    "cohort_train_new": Route(
        get=members(200, anonymous=302, role="contributor"),
        post=members(302, anonymous=302, role="contributor"),
        kwargs=lambda part, world: cohort(part, world) | {"what": "niche"},
        body=training(),
    ),
    "cohort_discover": Route(
        get=members(200, anonymous=302),
        post=members(409, anonymous=302, role="contributor"),
        kwargs=cohort,
        body=without_cells,
    ),
    "discovery": page(kwargs=discovery),
    "discovery_file": page(role="contributor", kwargs=lambda part, world: discovery(part, world) | {"what": "patients"}),
    "cohort_run_plan": page(kwargs=cohort, role="contributor", query=lambda part, world: {"what": "case"}),
    "cohort_run": page(kwargs=run),
    "cohort_run_items": page(kwargs=run),
    "cohort_run_action": page_post(302, kwargs=lambda part, world: run(part, world) | {"action": "pause"}),
    "import_": Route(
        get=members(200, anonymous=302, role="contributor"),
        post=members(302, anonymous=302, role="contributor"),
        kwargs=import_,
        body=lambda part, world: {"action": "discard"},
    ),
    "slide_attention": Route(
        get=members(200, anonymous=302, role="contributor"),
        post=members(400, anonymous=302, role="contributor"),
        kwargs=waiting,
        body=lambda part, world: {"mpp": "large"},
    ),
    "cases": page_list(),
    "case": page(kwargs=patient),
    "case_values": Route(
        get=members(200, anonymous=302),
        post=members(302, anonymous=302, role="contributor"),
        kwargs=patient,
        body=lambda part, world: {"variable": "age", "value": "77", "why": "typing error"},
    ),
    "case_withdraw": Route(
        get=members(200, anonymous=302, role="manager"),
        post=members(302, anonymous=302, role="manager"),
        kwargs=patient,
        body=lambda part, world: {"why": "She asked for it.", "code": part.patient.code},
    ),
    "case_similar": page(kwargs=patient, query=lambda part, world: {"slide": part.slide.pk}),
    "case_niches": page(kwargs=niche),
    "niche_picture": page(kwargs=niche),
    "case_decision": page_post(302, kwargs=patient, body=lambda part, world: {"decision": "wait", "owner": "Dr. No"}),
    "case_run": page_post(302, kwargs=patient),
    "map_range": page(kwargs=lambda part, world: {"patient_id": part.patient.pk, "prediction_id": part.map.pk}),
    "map_png": page(kwargs=channel),
    "map_values": page(kwargs=channel),
    "slide_dense_map": page_post(302, kwargs=slide, body=lambda part, world: {"stride_um": "14"}),
    "slide_regions": Route(
        get=members(200, anonymous=302), post=members(302, anonymous=302, role="contributor"), kwargs=slide, body=geojson
    ),
    "slide_regions_data": page(kwargs=slide),
    "slide_regions_geojson": page(kwargs=slide),
    "slide_region_new": page_post(201, kwargs=slide, body=lambda part, world: {"geometry": json.dumps(OUTLINE), "note": "mitosis"}),
    "slide_region_file": Route(
        get=members(200, anonymous=302, role="contributor"),
        post=members(302, anonymous=302, role="contributor"),
        kwargs=region_file,
        body=lambda part, world: {"action": "confirm"},
    ),
    "slide_region": Route(
        get=members(200, anonymous=302),
        post=members(302, anonymous=302, role="contributor"),
        kwargs=region,
        body=lambda part, world: {"action": "edit", "note": "looked at again"},
    ),
    "jobs": page_list(),
    "job": page(kwargs=job("done")),
    "job_cancel": page_post(302, kwargs=job("queued")),
    "job_retry": page_post(302, kwargs=job("failed")),
    "versions": page_list(),
    "version": page(kwargs=version),
    "versions_compare": page(query=lambda part, world: {"id": [version(part, world)["version_id"], twin(part, world)]}),
    "version_metrics_csv": page(kwargs=version),
    "encoders": page_list(),
    "encoder_use": Route(
        post=everybody(403) | {"staff": (302,), "anonymous": (302,)}, kwargs=lambda part, world: {"name": "he-descriptors"}
    ),
}

DASH = {
    "dash": page(kwargs=cohort),
    "dash_part": Route(
        get=members(200, anonymous=302),
        post=members(404, anonymous=302),
        kwargs=lambda part, world: cohort(part, world) | {"path": "_dash-layout"},
    ),
}

ROUTES: dict[str, Route] = {"healthz": Route(get=everybody(200, 503)), **API, **TILES, **PAGES, **DASH}
