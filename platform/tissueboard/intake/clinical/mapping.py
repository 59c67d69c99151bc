"""How the columns of a table are read: which one is the patient, which make an endpoint, which are clinical variables."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tissueboard.cohorts.models import VariableKind
from tissueboard.intake.errors import IntakeCode, IntakeRefused

from .coding import Coding

DAYS_PER_MONTH = 30.4375
UNITS = {"days": 1.0, "weeks": 7.0, "months": DAYS_PER_MONTH, "years": 365.25}
TIME_ZERO = "the start of the source table"


@dataclass(frozen=True)
class EndpointMapping:
    """One time-to-event outcome.

    time: a column, or several joined by "|" (GDC: "days_to_death|days_to_last_follow_up"): an event needs a value in the first one,
    a censored patient gets the latest of all. unit: days, weeks, months or years; "" = not known. event: the status column.
    coding: text of a Coding; "" = not said yet. entry: column of the left truncation, same unit, or "".
    """

    name: str
    time: str
    unit: str = ""
    event: str = ""
    coding: str = ""
    entry: str = ""
    time_zero: str = TIME_ZERO

    @property
    def time_columns(self) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.time.split("|"))

    def columns(self) -> tuple[str, ...]:
        """All columns that it reads."""
        return (*self.time_columns, self.event, *((self.entry,) if self.entry else ()))

    @classmethod
    def parse(cls, text: str) -> EndpointMapping:
        """From a command line: NAME=time_column:unit:event_column:coding[:entry_column]."""
        name, _, rest = text.partition("=")
        parts = rest.split(":")
        if not name.strip() or len(parts) not in (3, 4, 5):
            raise IntakeRefused(
                IntakeCode.BAD_MAPPING,
                f"{text!r} does not describe an endpoint.",
                "Write OS=time_column:months:status_column:event=1 (or censored=1, or words).",
            )
        time, unit, event, coding, entry = (*parts, "", "")[:5]
        return _checked_endpoint(cls(name.strip(), time, unit, event, coding, entry))


@dataclass(frozen=True)
class VariableMapping:
    """One clinical variable: the column it is read from and its line in the cohort's data dictionary. kind "" = by the column's values."""

    column: str
    name: str
    kind: str = ""
    unit: str = ""
    label: str = ""
    categories: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> VariableMapping:
        """From a command line: NAME=column[:kind[:unit]], or only a column."""
        name, equals, rest = text.partition("=")
        column, kind, unit = ((rest if equals else name).split(":") + ["", ""])[:3]
        return _checked_variable(cls(column, name.split(":")[0].strip(), kind, unit))


@dataclass(frozen=True)
class Mapping:
    """The whole answer of the mapping step; the same shape as the JSON of `--mapping` and of the web form (`to_dict`).

    create_patients: a row of an unknown patient makes her record; otherwise it is an error. decimal: "." or ",".
    """

    patient: str = ""
    sample: str = ""
    endpoints: tuple[EndpointMapping, ...] = ()
    variables: tuple[VariableMapping, ...] = ()
    create_patients: bool = True
    decimal: str = "."
    sheet: str = ""
    ignored: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, options: dict[str, Any], base: Mapping | None = None) -> Mapping:
        """A mapping from JSON; keys left out are taken from `base` (the proposal). IntakeRefused names what does not fit."""
        unknown = set(options) - set(cls.__dataclass_fields__) - {"table", "time_zero"}
        if unknown:
            raise _bad(f"The mapping has unknown keys: {', '.join(sorted(unknown))}.")
        changes: dict[str, Any] = {}
        for key in ("patient", "sample", "decimal", "sheet"):
            if key in options:
                changes[key] = _text(options, key)
        if changes.get("decimal", ".") not in (".", ","):
            raise _bad("The decimal sign has to be a point or a comma.")
        if "create_patients" in options:
            if not isinstance(options["create_patients"], bool):
                raise _bad("create_patients has to be true or false.")
            changes["create_patients"] = options["create_patients"]
        if "endpoints" in options:
            changes["endpoints"] = tuple(_checked_endpoint(_build(EndpointMapping, e)) for e in _list(options, "endpoints"))
        if "variables" in options:
            changes["variables"] = tuple(_checked_variable(_build(VariableMapping, v)) for v in _list(options, "variables"))
        mapping = replace(base or cls(), **changes)
        if "time_zero" in options:
            zero = _text(options, "time_zero")
            mapping = replace(mapping, endpoints=tuple(replace(e, time_zero=zero) for e in mapping.endpoints))
        for names, what in (([e.name for e in mapping.endpoints], "endpoint"), ([v.name for v in mapping.variables], "variable")):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise _bad(f"The {what} {sorted(twice)[0]} is described twice.")
        return mapping


def _bad(sentence: str) -> IntakeRefused:
    return IntakeRefused(IntakeCode.BAD_MAPPING, sentence, "Correct the mapping; the proposal of a dry run shows its shape.")


def _text(options: dict[str, Any], key: str) -> str:
    if not isinstance(options[key], str):
        raise _bad(f"{key} has to be a text.")
    return options[key]


def _list(options: dict[str, Any], key: str) -> list[dict[str, Any]]:
    if not isinstance(options[key], list | tuple) or not all(isinstance(entry, dict) for entry in options[key]):
        raise _bad(f"{key} has to be a list of objects.")
    return list(options[key])


def _build(kind: type[Any], entry: dict[str, Any]) -> Any:
    unknown = set(entry) - set(kind.__dataclass_fields__)
    if unknown:
        raise _bad(f"Unknown keys in the mapping: {', '.join(sorted(unknown))}.")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    if not all(isinstance(v, str) or (isinstance(v, tuple) and all(isinstance(x, str) for x in v)) for v in values.values()):
        raise _bad("Endpoints and variables are described by texts only.")
    try:
        return kind(**values)
    except TypeError:
        raise _bad("An endpoint needs a name and a time column, a variable a column and a name.") from None


def _checked_endpoint(endpoint: EndpointMapping) -> EndpointMapping:
    if not endpoint.name or len(endpoint.name) > 16 or len(endpoint.time_zero) > 40:
        raise _bad("An endpoint's name has 1 to 16 characters, its time zero at most 40.")
    if not endpoint.time or not endpoint.event:
        raise _bad(f"The endpoint {endpoint.name} needs a time column and a status column.")
    if endpoint.unit and endpoint.unit not in UNITS:
        raise _bad(f"The endpoint {endpoint.name} has the unknown unit {endpoint.unit!r}; known are {', '.join(UNITS)}.")
    if endpoint.coding:
        Coding.parse(endpoint.coding)
    return endpoint


def _checked_variable(variable: VariableMapping) -> VariableMapping:
    if not variable.column or not variable.name or len(variable.name) > 80 or len(variable.unit) > 24 or len(variable.label) > 120:
        raise _bad("A variable needs a column and a name of at most 80 characters (unit 24, label 120).")
    if variable.kind and variable.kind not in VariableKind.values:
        raise _bad(f"The variable {variable.name} has the unknown kind {variable.kind!r}; known are {', '.join(VariableKind.values)}.")
    return variable
