"""The mapping step of a clinical table as a form: what each column is read as, and which value means that the event happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

UNITS = ("days", "weeks", "months", "years")
KINDS = ("number", "category", "boolean", "date", "text")


@dataclass(frozen=True)
class Choice:
    """One way to read a status column, with the number of events that it would give."""

    coding: str
    says: str
    events: int
    chosen: bool


@dataclass(frozen=True)
class EndpointForm:
    """One proposed endpoint; place numbers its fields. n, events: as it is read now, None while a question is open."""

    place: int
    name: str
    time: str
    unit: str
    event: str
    coding: str
    entry: str
    time_zero: str
    choices: list[Choice]
    values: list[tuple[str, int]]
    n: int | None
    events: int | None

    @property
    def own_coding(self) -> str:
        """A coding that is none of the choices (typed by hand)."""
        return "" if any(c.chosen for c in self.choices) else self.coding


def mapping_view(options: dict[str, Any], preview: dict[str, Any]) -> dict[str, Any]:
    """The form of a mapping (`Mapping.to_dict`) with the preview of its dry run."""
    previews = preview.get("endpoints", {})
    endpoints = [_endpoint(i, e, previews.get(e["name"], {})) for i, e in enumerate(options["endpoints"])]
    return {
        "patient": options["patient"],
        "sample": options["sample"],
        "create_patients": options["create_patients"],
        "decimal": options["decimal"],
        "endpoints": endpoints,
        "variables": list(enumerate(options["variables"])),
        "columns": _columns(options),
        "units": UNITS,
        "kinds": KINDS,
    }


def _endpoint(place: int, entry: dict[str, str], seen: dict[str, Any]) -> EndpointForm:
    choices = [Choice(c, says(c), n, c == entry["coding"]) for c, n in seen.get("events_if", {}).items()]
    fields = {name: entry[name] for name in ("name", "time", "unit", "event", "coding", "entry", "time_zero")}
    return EndpointForm(
        place, **fields, choices=choices, values=list(seen.get("values", {}).items()), n=seen.get("n"), events=seen.get("events")
    )


def says(coding: str) -> str:
    """A coding in words."""
    kind, _, values = coding.partition("=")
    if kind == "words":
        return "As its words say"
    return f"“{values}” means it happened" if kind == "event" else f"“{values}” means it did not happen"


def _columns(options: dict[str, Any]) -> list[str]:
    """Columns of the table as far as the mapping names them, for the list of suggestions."""
    named = [options["patient"], options["sample"], *(v["column"] for v in options["variables"]), *options.get("ignored", [])]
    for endpoint in options["endpoints"]:
        named += [*endpoint["time"].split("|"), endpoint["event"], endpoint["entry"]]
    return sorted({name for name in named if name})


def options_from(form: Any, before: dict[str, Any]) -> dict[str, Any]:
    """The options of the next dry run: the mapping of the last one, changed by what the form says."""
    if "endpoints" not in before:
        return before
    options = {key: value for key, value in before.items() if key != "ignored"}
    options["patient"] = form.get("patient", before["patient"]).strip()
    options["create_patients"] = form.get("create_patients") == "yes"
    options["decimal"] = form.get("decimal", before["decimal"])
    endpoints = [_changed(form, i, entry) for i, entry in enumerate(before["endpoints"]) if form.get(f"endpoint-{i}-use") == "yes"]
    options["endpoints"] = endpoints + _added(form)
    options["variables"] = [
        {**entry, "kind": form.get(f"variable-{i}-kind", entry["kind"]), "unit": form.get(f"variable-{i}-unit", entry["unit"]).strip()}
        for i, entry in enumerate(before["variables"])
        if form.get(f"variable-{i}-use") == "yes"
    ]
    for entry in options["variables"]:
        # Categories belong to the column as a category; another kind has none.
        entry["categories"] = entry["categories"] if entry["kind"] == "category" else []
    return options


def _changed(form: Any, place: int, entry: dict[str, str]) -> dict[str, str]:
    coding = form.get(f"endpoint-{place}-own", "").strip() or form.get(f"endpoint-{place}-coding", entry["coding"])
    zero = form.get(f"endpoint-{place}-zero", entry["time_zero"]).strip() or entry["time_zero"]
    return {**entry, "unit": form.get(f"endpoint-{place}-unit", entry["unit"]), "coding": coding, "time_zero": zero}


def _added(form: Any) -> list[dict[str, str]]:
    """The endpoint that somebody described by hand, if any."""
    fields = {name: form.get(f"new-{name}", "").strip() for name in ("name", "time", "unit", "event", "coding")}
    return [fields] if fields["name"] or fields["time"] or fields["event"] else []
