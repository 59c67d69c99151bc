"""Discovery on the cells of a cohort: what is refused before the queue, what a job freezes, what viewers see, what a withdrawal takes."""

import csv
import json

import pyarrow.parquet as pq
import pytest
import tiny_virtues as tiny
from django.test import TestCase
from planted_cells import QUICK, QUICK_GROUPS, planted

from ml.discovery import runs
from tissueboard.accounts.models import AccessLog
from tissueboard.cohorts.models import Patient
from tissueboard.errors import NotVisible, RoleMissing, TissueboardError
from tissueboard.jobs.errors import Cancelled
from tissueboard.outcomes import discovery_files
from tissueboard.outcomes.discovery_ground import config_class, response_variables
from tissueboard.outcomes.discovery_start import Asked, request_discovery
from tissueboard.outcomes.discovery_view import read_discovery
from tissueboard.outcomes.models import Discovery
from tissueboard.pipelines.withdrawal import withdraw_patient
from tissueboard.store import store


@pytest.fixture
def cohort(people):
    return people.lung.cohort


@pytest.fixture
def version(people, cohort):
    return planted(cohort, people.lung.jobs["done"])


def ask(user, cohort, version, kind="biomarkers", config=None, **more):
    settings = config_class(kind)(**(config or (QUICK if kind == "biomarkers" else QUICK_GROUPS)))
    told = {"variable": "pcr", "value": "yes"} if kind == "biomarkers" else {"endpoint": "OS"}
    return request_discovery(user, cohort, Asked(kind, version.pk, **{**told, **more}), settings)


def test_biomarkers_are_found_frozen_and_hidden_where_few(people, cohort, version):
    job = ask(people.contributor, cohort, version)
    assert ask(people.contributor, cohort, version).pk == job.pk
    assert (tiny.done(job).state, job.error_sentence) == ("succeeded", "")
    found = Discovery.objects.get(job=job)
    assert (found.n, found.events, found.asked, len(found.inputs)) == (23, 12, "pcr is yes", 24)
    assert found.result["nested"]["auroc"] > 0.9 and found.result["nested"]["p"] == 1 / 20
    assert (found.result["in_sample"], found.result["left_out"]) == (1, 1)
    assert found.params["config"]["biomarkers"]["permutations"] == 19
    seen = read_discovery(people.viewer, found.pk)
    assert AccessLog.objects.filter(verb="read discovery", username="viewer").count() == 1
    assert "1 of the 23 patients is in-sample" in seen.notes[0] and not seen.may_download
    with pytest.raises(NotVisible):
        read_discovery(people.stranger, found.pk)
    cohort.min_group_size = 20
    cohort.save()
    hidden, whole = read_discovery(people.viewer, found.pk), read_discovery(people.contributor, found.pk)
    assert hidden.events is None and whole.events == 12
    few = [row for row in hidden.rows if row["patients"] < 20]
    assert few and all(row["suppressed"] and row["auroc"] is None and row["responders"] is None for row in few)
    assert not any(row["suppressed"] for row in whole.rows) and json.dumps(hidden.result)

    with pytest.raises(RoleMissing):
        discovery_files.download_discovery(people.viewer, found.pk, "cells")
    cells = pq.read_table(discovery_files.download_discovery(people.contributor, found.pk, "cells").path).to_pandas()
    assert len(cells) == 720 and cells.took_part.sum() == 690
    best = found.result["biomarkers"][0]
    assert cells[f"cluster {best['name']}"].sum() == best["cells"]
    assert set(cells[cells[f"cluster {best['name']}"]].patient) <= {f"P{i:02}" for i in range(0, 24, 2)}
    lines = discovery_files.download_discovery(people.contributor, found.pk, "patients").path.read_text().splitlines()
    assert lines[0] == "# Research use only"
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert len(rows) == 23 and rows[0]["patient"] == "P00" and rows[0]["response"] == "1"
    assert AccessLog.objects.filter(verb="export discovery").count() == 2

    keys = [found.cells_key, found.patients_key]
    with TestCase.captureOnCommitCallbacks(execute=True):
        withdraw_patient(people.manager, Patient.objects.get(cohort=cohort, code="P23"), "She asked for it.")
    found.refresh_from_db()
    assert (found.cells_key, found.patients_key, found.n) == ("", "", 23) and not any(store.exists(key) for key in keys)
    with pytest.raises(TissueboardError) as refused:
        discovery_files.download_discovery(people.contributor, found.pk, "cells")
    assert refused.value.code == "OUTPUT_WITHDRAWN"


def test_a_cancelled_discovery_goes_on_where_it_was(people, cohort, version, monkeypatch):
    keep = runs._keep_null

    def cancelled(file, state):
        keep(file, state)
        raise Cancelled("somebody cancelled it")

    monkeypatch.setattr(runs, "_keep_null", cancelled)
    job = tiny.done(ask(people.contributor, cohort, version))
    assert job.state == "cancelled" and not Discovery.objects.exists()
    monkeypatch.setattr(runs, "_keep_null", keep)
    monkeypatch.setattr(runs, "leiden", lambda *given: pytest.fail("The clusters were made again."))
    again = ask(people.contributor, cohort, version)
    assert again.pk == job.pk and tiny.done(again).state == "succeeded"
    assert Discovery.objects.get().result["nested"]["permutations"] == 19


def test_risk_groups_stand_on_an_endpoint(people, cohort, version):
    job = tiny.done(ask(people.contributor, cohort, version, "risk groups"))
    found = Discovery.objects.get(job=job)
    assert (found.kind, found.asked, found.n) == ("risk groups", "OS", 24)
    assert sum(row["patients"] for row in found.result["groups"]) == 24
    assert sum(row["events"] for row in found.result["groups"]) == found.events
    assert 1 / 20 <= found.result["out_of_fold"]["p"] <= 1
    cohort.min_group_size = 13
    cohort.save()
    seen = read_discovery(people.viewer, found.pk)
    assert any(row["suppressed"] for row in seen.rows) and seen.events is None and seen.result["events"] is None


@pytest.mark.parametrize(
    ("more", "code", "sentence"),
    [
        ({"variable": "colour"}, "UNKNOWN_VARIABLE", "no category or yes-no variable colour."),
        ({"variable": ""}, "UNKNOWN_VARIABLE", "No response is named."),
        ({"value": ""}, "VALUE_UNKNOWN", "It is not said which value of pcr is response."),
        ({"value": "pCR"}, "VALUE_UNKNOWN", "Nobody has pCR as pcr."),
        ({"variable": "grade", "value": "G1"}, "NOT_TWO_VALUES", "grade has 3 values (G1, G2, G3), and a response has two."),
        ({"config": {"biomarkers": {"folds": 12}}}, "TOO_FEW_PATIENTS", "12 patients responded and 11 did not"),
        ({"config": {"graph": {"neighbours": 200}, "leiden": {"smallest": 5}}}, None, ""),
        ({"kind": "risk groups", "endpoint": "DFS"}, "ENDPOINT_UNKNOWN", "has no endpoint DFS."),
        (
            {"kind": "risk groups", "config": {"groups": 20}},
            "TOO_FEW_PATIENTS",
            "with 16 events; it takes 40",
        ),
        ({"kind": "risk groups", "config": {"cell_clusters": 2000}}, "TOO_FEW_CELLS", "There are 720 cells, and the settings take 2000."),
    ],
)
def test_what_cannot_be_found_is_refused_before_the_queue(people, cohort, version, more, code, sentence):
    if code is None:
        assert ask(people.contributor, cohort, version, **more).state == "queued"
        return
    with pytest.raises(TissueboardError) as refused:
        ask(people.contributor, cohort, version, **more)
    assert refused.value.code == code and sentence in refused.value.sentence


def test_rights_cells_and_variables(people, cohort, version):
    with pytest.raises(RoleMissing):
        ask(people.viewer, cohort, version)
    with pytest.raises(NotVisible):
        ask(people.stranger, cohort, version)
    offered = {one.name: one.values for one in response_variables(people.viewer, cohort)}
    assert offered["pcr"] == (("no", 11), ("yes", 12)) and "grade" not in offered
    assert response_variables(people.stranger, cohort) == []
    version.predictions.all().delete()
    with pytest.raises(TissueboardError) as refused:
        ask(people.contributor, cohort, version)
    assert refused.value.code == "NO_CELLS"


def test_lost_cells_end_the_job_with_a_sentence(people, cohort, version):
    job = ask(people.contributor, cohort, version)
    lost = version.predictions.get(patient__code="P05")
    store.delete(lost.key)
    assert (tiny.done(job).state, job.error_code) == ("failed", "CELLS_MISSING") and "P05-MX" in job.error_sentence
