"""Writes the records of a table into a cohort: new patients, values, outcomes, samples; every changed value leaves its history."""

from __future__ import annotations

from typing import Any

from tissueboard.cohorts.models import ClinicalChange, ClinicalVariable, Cohort, Endpoint, Patient, Sample

from .mapping import Mapping
from .rows import Outcome, Record


def write_records(
    user: Any,
    cohort: Cohort,
    mapping: Mapping,
    records: dict[str, Record],
    known: dict[str, Patient],
    dictionary: dict[str, ClinicalVariable],
    source: str,
) -> dict[str, int]:
    """Writes all records; the caller holds the transaction. An empty cell never erases a known value. Returns counts of what was done."""
    for definition in dictionary.values():
        if definition.pk is None:
            definition.save()
    fresh = Patient.objects.bulk_create(Patient(cohort=cohort, code=code) for code in records if code not in known)
    patients = known | {patient.code: patient for patient in fresh}
    changes = _write_values(patients, records)
    changes += _write_outcomes(patients, records, mapping, source)
    samples = _write_samples(patients, records)
    for change in changes:
        change.changed_by, change.why = user, f"import of {source}"[:200]
    ClinicalChange.objects.bulk_create(changes)
    return {"patients_created": len(fresh), "changes": len(changes), "samples_created": samples}


def _write_values(patients: dict[str, Patient], records: dict[str, Record]) -> list[ClinicalChange]:
    changes, touched = [], []
    for code, record in records.items():
        patient = patients[code]
        new = {name: value for name, value in record.values.items() if patient.clinical.get(name) != value}
        for name, value in new.items():
            if name in patient.clinical:
                changes.append(ClinicalChange(patient=patient, variable=name, old=patient.clinical[name], new=value))
        if new:
            patient.clinical |= new
            touched.append(patient)
    Patient.objects.bulk_update(touched, ["clinical"], batch_size=500)
    return changes


def _write_outcomes(patients: dict[str, Patient], records: dict[str, Record], mapping: Mapping, source: str) -> list[ClinicalChange]:
    zero = {e.name: e.time_zero for e in mapping.endpoints}
    present = {(e.patient_id, e.name): e for e in Endpoint.objects.filter(patient__in=[p.pk for p in patients.values()])}
    changes, fresh, touched = [], [], []
    for code, record in records.items():
        for name, outcome in record.outcomes.items():
            old = present.get((patients[code].pk, name))
            if old is None:
                fresh.append(
                    Endpoint(
                        patient=patients[code], name=name, time_days=outcome.time_days, event=outcome.event,
                        entry_days=outcome.entry_days, time_zero=zero[name], source=source,
                    )
                )  # fmt: skip
            elif Outcome(old.time_days, old.event, old.entry_days) != outcome or old.time_zero != zero[name]:
                before = _outcome_facts(old)
                old.time_days, old.event, old.entry_days = outcome.time_days, outcome.event, outcome.entry_days
                old.time_zero, old.source = zero[name], source
                touched.append(old)
                changes.append(ClinicalChange(patient=patients[code], variable=f"endpoint {name}", old=before, new=_outcome_facts(old)))
    Endpoint.objects.bulk_create(fresh, batch_size=1000)
    Endpoint.objects.bulk_update(touched, ["time_days", "event", "entry_days", "time_zero", "source"], batch_size=500)
    return changes


def _outcome_facts(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "time_days": endpoint.time_days,
        "event": endpoint.event,
        "entry_days": endpoint.entry_days,
        "time_zero": endpoint.time_zero,
        "source": endpoint.source,
    }


def _write_samples(patients: dict[str, Patient], records: dict[str, Record]) -> int:
    wanted = [(patients[code], sample) for code, record in records.items() for sample in record.samples]
    present = set(Sample.objects.filter(patient__in=[p.pk for p, _ in wanted]).values_list("patient_id", "code"))
    fresh = [Sample(patient=patient, code=code) for patient, code in wanted if (patient.pk, code) not in present]
    Sample.objects.bulk_create(fresh, batch_size=1000)
    return len(fresh)
