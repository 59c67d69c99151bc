"""What the room asks of any input, and what every setting says about itself."""

import subprocess
import sys

import numpy as np
import pytest

from ml.discovery import config
from ml.discovery.checks import held_out_patients, of_patients, patient_codes, two_classes
from ml.discovery.errors import DiscoveryError


def test_outcomes_are_put_in_the_order_of_the_patients():
    assert of_patients({"eva": True, "ada": 0, "zoe": 1}, ["ada", "eva"]).tolist() == [False, True]


@pytest.mark.parametrize(("response", "code"), [({"ada": True}, "no_outcome"), ({"ada": True, "eva": 2}, "outcome_not_binary")])
def test_missing_and_other_outcomes_are_refused(response, code):
    with pytest.raises(DiscoveryError) as refused:
        of_patients(response, ["ada", "eva"])
    assert refused.value.code == code and refused.value.where == "response"


def test_codes_are_of_the_sorted_ids():
    ids, codes = patient_codes(["eva", "ada", "eva"], 3)
    assert ids == ("ada", "eva") and codes.tolist() == [1, 0, 1]


@pytest.mark.parametrize(("count", "share", "held"), [(10, 0.2, 2), (3, 0.01, 1), (3, 0.99, 2), (2, 0.5, 1)])
def test_a_share_of_the_patients_is_held_out_and_never_all(count, share, held):
    ids = [f"p{i}" for i in range(count)]
    found = held_out_patients(ids, share, 0)
    assert len(found) == held and set(found) < set(ids)
    assert found == held_out_patients(ids[::-1], share, 0)


def test_a_class_too_small_names_both_numbers():
    with pytest.raises(DiscoveryError, match="1 patients responded and 4 did not; a split needs 2 of each"):
        two_classes(np.array([True, False, False, False, False]), 2, "a split")


def test_every_setting_has_a_unit_a_source_and_a_sentence():
    configs = [c for c in vars(config).values() if isinstance(c, type) and issubclass(c, config._Config) and c is not config._Config]
    assert len(configs) == 9
    for made in configs:
        for name, field in made.model_fields.items():
            assert field.description and field.description.endswith("."), f"{made.__name__}.{name}"
            assert set(field.json_schema_extra) == {"unit", "source"}, f"{made.__name__}.{name}"
        with pytest.raises(ValueError):
            made(unknown=1)


def test_the_room_loads_neither_torch_nor_its_libraries():
    rooms = "graph leiden biomarkers signatures risk_groups cell_typing transfer neighbourhood"
    unwanted = "[m for m in ('torch', 'sklearn', 'igraph', 'django') if m in sys.modules]"
    code = f"import sys\nfor r in {rooms.split()}: __import__('ml.discovery.' + r)\nprint({unwanted})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
