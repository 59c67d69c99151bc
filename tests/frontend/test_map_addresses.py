"""Pictures and values of a map: fixed limits, locked markers refused, other people's maps not there."""

import io

import numpy as np
import pytest
from django.urls import reverse
from PIL import Image

from frontend.figures.palette import map_table
from tissueboard.accounts.models import AccessLog


def address(name, people, channel=0, part=None, patient=None):
    part = part or people.lung
    ids = {"patient_id": (patient or part.patient).pk, "prediction_id": part.map.pk}
    return reverse(name, kwargs=ids if name == "map_range" else ids | {"channel": channel})


def picture(answer):
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))


def test_a_picture_has_one_pixel_per_cell_coloured_between_the_limits_of_the_version(people):
    from tissueboard.predictions.maps import load_map

    found = picture(people.client("viewer").get(address("map_png", people)))
    values = load_map(people.lung.map).values[0]
    assert found.shape[:2] == values.shape
    assert found[0, 0, 3] == 0 and np.isnan(values[0, 0])
    level = round(float(np.clip(values[3, 4], 0, 1)) * 255)
    assert found[3, 4, :3].tolist() == map_table()[level].tolist()


def test_the_same_value_has_the_same_colour_whatever_else_is_on_the_slide(people):
    version = people.lung.map.version
    before = picture(people.client("viewer").get(address("map_png", people)))
    version.metrics["limits"]["CD8"] = [0.0, 2.0]
    version.save()
    after = picture(people.client("viewer").get(address("map_png", people)))
    assert (before != after).any(), "colours follow the limits of the version"


def test_values_are_those_of_the_picture_with_null_where_there_is_no_tissue(people):
    from tissueboard.predictions.maps import load_map

    body = people.client("viewer").get(address("map_values", people)).json()
    values = load_map(people.lung.map).values[0]
    assert (body["name"], body["rows"], body["cols"]) == ("CD8", *values.shape)
    assert body["values"][0] is None
    assert body["values"][3 * body["cols"] + 4] == pytest.approx(float(values[3, 4]), abs=6e-4)
    assert body["far"] == [values.size - 1]


def test_cells_out_of_range_are_striped_and_others_are_not(people):
    found = picture(people.client("viewer").get(address("map_range", people)))
    side = found.shape[0] // people.lung.map.facts["rows"]
    assert found[-side:, -side:, 3].any()
    assert not found[:-side, :, 3].any()


@pytest.mark.parametrize("name", ["map_png", "map_values"])
def test_a_locked_marker_is_refused_by_its_address_too(people, words, name):
    answer = people.client("manager").get(address(name, people, channel=2))
    assert answer.status_code == 409
    assert "CD68 is not shown: within-slide R2 below 0.10." in words(answer)


def test_maps_of_others_other_channels_and_other_patients_are_not_there(people):
    assert people.client("viewer").get(address("map_png", people, part=people.breast)).status_code == 404
    assert people.client("viewer").get(address("map_png", people, channel=99)).status_code == 404
    assert people.client("viewer").get(address("map_png", people, patient=people.lung.patients[1])).status_code == 404
    assert people.client("outsider").get(address("map_png", people)).status_code == 404


def test_reading_a_map_leaves_a_line_in_the_access_log(people):
    people.client("viewer").get(address("map_png", people))
    row = AccessLog.objects.filter(verb="read map CD8").get()
    assert (row.username, row.patient_code) == ("viewer", people.lung.patient.code)
