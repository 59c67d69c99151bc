"""The one list of families: every entry leads somewhere, and forms can be made from every config."""

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from ml import families, types

TASKS = [(f.name, t.name) for f in families.FAMILIES.values() for t in f.tasks]


@pytest.mark.parametrize(("family", "task"), TASKS)
def test_a_task_runs_something_and_its_config_is_a_json_schema(family, task):
    assert callable(families.runner(family, task))
    schema = families.config_schema(family, task)
    assert schema["type"] == "object" and schema["properties"] and json.dumps(schema)
    with pytest.raises(ValidationError):
        families.config(family, task, {"no such setting": 1})


def test_types_that_are_named_in_ml_types_exist_there():
    """Capitalised names are types of ml.types, unless they are what a slide or a table gives directly."""
    given = {"TileImages", "Summaries"}
    named = {name for f in families.FAMILIES.values() for t in f.tasks for name in t.takes + t.gives if name[0].isupper()}
    assert {name for name in named - given if not hasattr(types, name)} == set()


def test_unknown_names_say_what_there_is():
    with pytest.raises(KeyError, match="there are hex"):
        families.family("nothing")
    with pytest.raises(KeyError, match="it has fit, predict"):
        families.family("hex").task("nothing")


def test_schemas_cost_no_torch():
    code = (
        "import sys; from ml import families\n"
        "for f in families.FAMILIES.values():\n"
        "    for t in f.tasks: families.config_schema(f.name, t.name)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
