"""The settings of a family as a form: one field per setting, made from the JSON schema of its config; and back to plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tissueboard.pipelines.training_config import allowed, property_at, resolved, value_at

PREFIX = "config-"
# What abbreviations are called; the setting's own name stands beside it anyway.
WORDS = {
    "lr": "Learning rate",
    "lr_decay": "Decay of the learning rate",
    "ffn": "Feed-forward width",
    "fds": "Feature distribution smoothing (FDS)",
    "max_seconds": "Longest training of a fold",
    "first": "First resolution",
    "last": "Last resolution",
    "step": "Step between resolutions",
    "largest": "Largest cluster",
    "smallest": "Smallest cluster",
}
SHORT = {"fds": "FDS", "codex": "CODEX", "he": "H&E", "um": "µm"}


@dataclass(frozen=True)
class Setting:
    """One field. kind: "whole", "number", "text", "choice", "switch", "several" (boxes) or "list" (values with commas between).

    value: as typed or as filled in; chosen: of "several". takes: what is allowed, in words. source: where its default comes from.
    """

    name: str
    label: str
    kind: str
    value: str
    options: tuple[str, ...]
    chosen: frozenset[str]
    unit: str
    help: str
    takes: str
    source: str
    error: str

    @property
    def field(self) -> str:
        """Name and id of the field in the form."""
        return PREFIX + self.name


def settings(
    schema: dict[str, Any], values: Mapping[str, Any], errors: Mapping[str, str], choices: Mapping[str, Sequence[str]] | None = None
) -> list[Setting]:
    """The fields. values: plain values or texts by name; what is missing takes the schema's default. errors: sentence by setting.

    choices: what a setting may be chosen among here (the markers that were measured), where the schema cannot know it.
    """
    return [_setting(name, one, schema, values, errors, (choices or {}).get(name)) for name, one in leaves(schema)]


def leaves(schema: dict[str, Any], inside: dict[str, Any] | None = None, prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, property) of every setting; those of a group are named "group.setting"."""
    for name, one in (inside or schema)["properties"].items():
        one = resolved(one, schema)
        if "properties" in one:
            yield from leaves(schema, one, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", one


def _setting(
    name: str,
    one: dict[str, Any],
    schema: dict[str, Any],
    values: Mapping[str, Any],
    errors: Mapping[str, str],
    choices: Sequence[str] | None,
) -> Setting:
    kind, options = _kind(one, schema, choices)
    value = values[name] if name in values else value_at(values, name)
    if value is None and name not in values:
        value = one.get("default")
    # Where nobody chose yet, all are chosen: a default of the schema does not know what was measured here.
    chosen = frozenset(map(str, values.get(name, options))) if kind == "several" else frozenset()
    return Setting(
        name, label(name), kind, written(value), tuple(options), chosen, str(one.get("unit", "")), str(one.get("description", "")),
        allowed(one, schema), str(one.get("source", "")), errors.get(name, ""),
    )  # fmt: skip


def label(name: str) -> str:
    """A setting's name for people: "weight_decay" is "Weight decay"."""
    last = name.rsplit(".", maxsplit=1)[-1]
    words = WORDS.get(last) or " ".join(SHORT.get(word, word) for word in last.split("_"))
    return words[:1].upper() + words[1:]


def _kind(one: dict[str, Any], schema: dict[str, Any], choices: Sequence[str] | None) -> tuple[str, Sequence[str]]:
    if choices is not None:
        return "several", choices
    parts = [resolved(part, schema) for part in one.get("anyOf", ())]
    empty = any(part.get("type") == "null" for part in parts)
    real = next((part for part in parts if part.get("type") != "null"), one)
    if "enum" in real or "const" in real:
        return "choice", (*([""] if empty else []), *map(written, real.get("enum", [real.get("const")])))
    kinds = {"integer": "whole", "number": "number", "boolean": "switch", "array": "list"}
    return kinds.get(real.get("type", ""), "text"), ()


def written(value: Any) -> str:
    """A value as it stands in a field."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else ""
    if isinstance(value, list | tuple):
        return ", ".join(map(written, value))
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def typed(form: Any, schema: dict[str, Any], choices: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """What a sent form says, by setting, as texts (lists where several were chosen): what the fields show again after a refusal."""
    found: dict[str, Any] = {}
    for name, one in leaves(schema):
        kind, options = _kind(one, schema, (choices or {}).get(name))
        if kind == "several":
            sent = set(form.getlist(PREFIX + name))
            found[name] = [option for option in options if option in sent]
        elif kind == "switch":
            found[name] = "true" if form.get(PREFIX + name) else ""
        elif PREFIX + name in form:
            found[name] = form[PREFIX + name].strip()
    return found


def values_of(texts: Mapping[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Texts as the plain values that a config takes: lists parted at commas, switches as yes and no, groups nested, empty as nothing."""
    found: dict[str, Any] = {}
    for name, text in texts.items():
        one = property_at(schema, name)
        kind, _ = _kind(one, schema, None)
        group = found
        *outer, last = name.split(".")
        for part in outer:
            group = group.setdefault(part, {})
        group[last] = _value(text, kind, one)
    return found


def _value(text: Any, kind: str, one: dict[str, Any]) -> Any:
    if kind == "switch":
        return text == "true"
    if kind == "choice":
        # A choice may be of values that are no texts (one that is always yes).
        return next((option for option in one.get("enum", [one.get("const")]) if written(option) == text), text)
    if kind == "list" and isinstance(text, str):
        return [part.strip() for part in text.split(",") if part.strip()]
    if text == "" and any(part.get("type") == "null" for part in one.get("anyOf", ())):
        return None
    return text
