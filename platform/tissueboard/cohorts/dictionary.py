"""What a clinical value may be, by the kind of its variable."""

from __future__ import annotations

import datetime
import math
from typing import Any

from tissueboard.errors import Code, TissueboardError

from .models import ClinicalVariable, VariableKind

TRUE, FALSE = {"1", "true", "yes", "y"}, {"0", "false", "no", "n"}
MISSING = {"", "na", "n/a", "nan", "none", "null", "'--", "--", "[not available]", "[unknown]", "[not applicable]", "not reported"}


def is_missing(value: Any) -> bool:
    """Whether a cell says "no value" in one of the spellings of the usual sources (GDC, cBioPortal, R, Excel)."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value).strip().lower() in MISSING


def parse_value(variable: ClinicalVariable, value: Any) -> Any:
    """The value as kept in Patient.clinical (number, ISO date, bool, text; None if missing). TissueboardError if it does not fit."""
    if is_missing(value):
        return None
    text = str(value).strip()
    try:
        if variable.kind == VariableKind.NUMBER:
            number = float(text)
            if not math.isfinite(number):
                raise ValueError
            return int(number) if number.is_integer() else number
        if variable.kind == VariableKind.DATE:
            return datetime.date.fromisoformat(text[:10]).isoformat()
        if variable.kind == VariableKind.BOOLEAN:
            if text.lower() in TRUE | FALSE:
                return text.lower() in TRUE
            raise ValueError
    except ValueError:
        raise TissueboardError(Code.BAD_REQUEST, f"{text!r} is no {variable.kind} for {variable.name}.", "Correct the value.") from None
    if variable.kind == VariableKind.CATEGORY and variable.categories and text not in variable.categories:
        allowed = ", ".join(variable.categories)
        raise TissueboardError(Code.BAD_REQUEST, f"{text!r} is not a value of {variable.name}.", f"Allowed are {allowed}.")
    return text
