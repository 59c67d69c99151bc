"""Settings of a training, checked by the family's own config before anything is queued; every refusal in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .errors import ConfigInvalid
from .training_kinds import Training, config_class

# Whole numbers beyond it are no longer exact in every program that reads them.
LARGEST = 2**53


def validated(training: Training, values: Mapping[str, Any], decided: Mapping[str, Any] | None = None) -> Any:
    """The config made from plain values and from what the data decide. ConfigInvalid names each setting that does not fit."""
    return checked(config_class(training), values, decided)


def checked(cls: Any, values: Mapping[str, Any], decided: Mapping[str, Any] | None = None) -> Any:
    """The same for any config class of `ml`."""
    from pydantic import ValidationError

    try:
        config = cls.model_validate({**(decided or {}), **values})
    except ValidationError as error:
        raise ConfigInvalid(_told(error, values, cls.model_json_schema())) from error
    endless = [
        (name, f"{name} is {_said(values.get(name))}, which is no number that can be used.") for name in _endless(config.model_dump())
    ]
    if endless:
        raise ConfigInvalid(endless)
    return config


def _told(error: Any, values: Mapping[str, Any], schema: dict[str, Any]) -> list[tuple[str, str]]:
    """(setting, sentence) per setting, in the order of the schema; its name, what was given and what is allowed."""
    found: dict[str, str] = {}
    for one in error.errors(include_url=False, include_context=True):
        path = [str(part) for part in one["loc"]]
        name = ".".join(path[: _depth(path, schema)])
        if name not in found:
            found[name] = _sentence(name, one, values, schema)
    order = list(schema["properties"])
    return sorted(found.items(), key=lambda item: order.index(head) if (head := item[0].split(".")[0]) in order else len(order))


def _depth(path: list[str], schema: dict[str, Any]) -> int:
    """How much of an error's place names a setting: two parts within a group of settings, else one (an item of a list is its list)."""
    group = resolved(schema["properties"].get(path[0], {}), schema) if path else {}
    return 2 if "properties" in group else 1


def _sentence(name: str, error: Any, values: Mapping[str, Any], schema: dict[str, Any]) -> str:
    given = _said(value_at(values, name))
    if error["type"] == "value_error":
        said = str(error["ctx"]["error"]).strip()
        return said if not name else f"{name} is {given}. {said}"
    if error["type"] == "extra_forbidden":
        return f"There is no setting {name[:80]}; there are {', '.join(schema['properties'])}."
    if error["type"] == "missing" and value_at(values, name) is None:
        return f"{name} is missing; it takes {allowed(property_at(schema, name), schema)}."
    return f"{name} is {given}; it takes {allowed(property_at(schema, name), schema)}."


def value_at(values: Mapping[str, Any], name: str) -> Any:
    """values["weights"]["morphology"] for "weights.morphology"; None where it is missing."""
    found: Any = values
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def property_at(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """The schema of one setting, also of one inside a group."""
    found = schema
    for part in name.split("."):
        found = resolved(found.get("properties", {}).get(part, {}), schema)
    return found


def resolved(one: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A property with its reference followed; what it says itself (its description) wins."""
    reference = one.get("$ref") or next((part["$ref"] for part in one.get("allOf", ()) if "$ref" in part), None)
    return one if reference is None else {**schema["$defs"][reference.rsplit("/", 1)[-1]], **one}


def allowed(one: dict[str, Any], schema: dict[str, Any]) -> str:
    """What a setting takes, in words: "a number above 0 and at most 1"."""
    if "anyOf" in one:
        kinds = [resolved(part, schema) for part in one["anyOf"]]
        words = " or ".join(allowed(part, schema) for part in kinds if part.get("type") != "null")
        return f"{words}, or nothing" if any(part.get("type") == "null" for part in kinds) else words
    if "enum" in one or "const" in one:
        return f"one of {', '.join(map(_said, one.get('enum', [one.get('const')])))}"
    if one.get("type") == "array":
        return _list(one)
    if "properties" in one:
        return f"a group of {', '.join(one['properties'])}"
    words = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "a text"}
    return words.get(one.get("type", ""), "something else") + _limits(one)


def _list(one: dict[str, Any]) -> str:
    if "prefixItems" in one:
        plural = {"integer": "whole numbers", "number": "numbers"}.get(one["prefixItems"][0].get("type", ""), "texts")
        return f"{len(one['prefixItems'])} {plural}"
    least = one.get("minItems", 0)
    return f"a list of at least {least}" if least else "a list"


def _limits(one: dict[str, Any]) -> str:
    low, high = one.get("minimum"), one.get("maximum")
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    rules = (("exclusiveMinimum", "above"), ("minimum", "of at least"), ("exclusiveMaximum", "below"), ("maximum", "at most"))
    told = [f"{word} {one[key]:g}" for key, word in rules if key in one]
    return f" {' and '.join(told)}" if told else ""


def _said(value: Any) -> str:
    """What was given, short enough for a sentence; long lists are counted."""
    if value is None or value in ("", [], ()):
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(map(_said, value)) if 0 < len(value) <= 4 else f"a list of {len(value)}"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"“{text[:60]}{'…' if len(text) > 60 else ''}”" if isinstance(value, str) else text[:60]


def _endless(values: dict[str, Any], prefix: str = "") -> list[str]:
    """Names of numbers that are infinite or NaN, or too large for any use."""
    found = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += _endless(value, f"{prefix}{name}.")
        elif any(_is_endless(one) for one in (value if isinstance(value, list | tuple) else (value,))):
            found.append(f"{prefix}{name}")
    return found


def _is_endless(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and (abs(value) > LARGEST or math.isnan(value))
