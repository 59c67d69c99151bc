"""The house keeps its shape: storeys, folders, sizes, what starts without what, and the one gate."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import call_command

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"platform": ROOT / "platform", "frontend": ROOT / "frontend", "ml": ROOT / "ml"}
MOST_LINES = 450
# What takes long to load and is needed inside jobs or single answers only.
HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "pandas",
    "lifelines",
    "sklearn",
    "scipy",
    "ot",
    "zarr",
    "h5py",
    "openslide",
    "openpyxl",
)
GATED = ("visible_to",)


def files_of(*folders):
    """Every .py below the folders that belongs to us."""
    found = [p for folder in folders for p in sorted(folder.rglob("*.py")) if "node_modules" not in p.parts]
    assert found
    return found


def run_python(code, *paths, **environment):
    """A fresh interpreter with these folders on its path; gives what it printed."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "DJANGO_SETTINGS_MODULE")} | environment
    env["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_platform_is_a_folder_and_not_a_package():
    """A file platform/__init__.py would take the place of the standard library's module."""
    assert not (ROOT / "platform" / "__init__.py").exists()
    home = run_python("import platform; print(platform.__file__); platform.python_version()", ROOT, ROOT / "platform")
    assert Path(home).name == "platform.py" and not Path(home).is_relative_to(ROOT)


def test_no_package_among_the_tests():
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_every_app_keeps_its_migrations_at_the_root():
    ours = [app for app in apps.get_app_configs() if app.name.startswith(("tissueboard.", "frontend"))]
    with_models = {app.label for app in ours if list(app.get_models(include_auto_created=False))}
    assert with_models <= set(settings.MIGRATION_MODULES) and with_models
    for label, module in settings.MIGRATION_MODULES.items():
        folder = ROOT / Path(*module.split("."))
        assert (folder / "__init__.py").is_file(), f"{folder} has no __init__.py, so Django would not see its migrations."
        if label in with_models:
            assert (folder / "0001_initial.py").is_file()
    assert not [p for p in files_of(ROOT / "platform", ROOT / "frontend") if "migrations" in p.parts]


@pytest.mark.django_db
def test_the_migrations_make_the_models_as_they_are(capsys):
    try:
        call_command("makemigrations", "--check", "--dry-run")
    except SystemExit:
        pytest.fail(f"Models and migrations differ: {capsys.readouterr().out}")


def test_imports_only_go_down():
    """The contracts of pyproject.toml."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)])}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and " 0 broken" in done.stdout, done.stdout + done.stderr


START = """
import sys, django
django.setup()
if {urls}:
    import tissueboard.urls
print(*[name for name in {names} if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("urls", "names"), [(True, HEAVY), (False, (*HEAVY, "dash", "plotly"))], ids=["with all addresses", "records only"]
)
def test_django_starts_without_the_heavy_libraries(urls, names):
    """A page, a command or a test of the platform does not wait for torch. (Dash views are built with the addresses.)"""
    module = os.environ.get("DJANGO_SETTINGS_MODULE", settings.SETTINGS_MODULE)
    paths = (*filter(None, sys.path), ROOT / "platform", ROOT, ROOT / "tests" / "support")
    assert run_python(START.format(urls=urls, names=names), *paths, DJANGO_SETTINGS_MODULE=module) == ""


def test_listing_the_families_imports_no_torch():
    code = "import sys, ml.families as f; assert f.FAMILIES; print(*[n for n in ('torch', 'numpy', 'django') if n in sys.modules])"
    assert run_python(code, ROOT) == ""


def test_every_entry_of_the_family_list_exists():
    """Read, not imported: importing the families takes torch."""
    from ml.families import FAMILIES

    for text in (text for family in FAMILIES.values() for task in family.tasks for text in (task.run, task.config)):
        module, _, name = text.partition(":")
        tree = ast.parse((ROOT / Path(*module.split("."))).with_suffix(".py").read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}, text


@pytest.mark.parametrize("storey", SOURCES)
def test_a_file_is_one_thought(storey):
    long = {str(p.relative_to(ROOT)): n for p in files_of(SOURCES[storey]) if (n := len(p.read_text().splitlines())) > MOST_LINES}
    assert not long


def reads_past_the_gate(source):
    """Lines that reach a table without saying for whom: X.objects.<anything but visible_to>, managers by their hidden names."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Attribute):
            continue
        inner = node.value
        past = isinstance(inner, ast.Attribute) and inner.attr == "objects" and node.attr not in GATED
        if past or node.attr in ("_base_manager", "_default_manager"):
            found.append(node.lineno)
    names = {a.name for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ImportFrom) for a in n.names}
    return found + [0] * len(names & {"get_object_or_404", "get_list_or_404"})


def test_the_search_finds_what_it_is_for():
    assert reads_past_the_gate("Slide.objects.get(pk=1)") == reads_past_the_gate("m.Slide.objects.filter(\n  pk=1)") == [1]
    assert reads_past_the_gate("from django.shortcuts import get_object_or_404") == [0]
    assert reads_past_the_gate("Slide._default_manager.all()") == [1]
    assert not reads_past_the_gate("Slide.objects.visible_to(user).filter(pk=1)")


def test_views_read_through_selectors_only():
    views = files_of(ROOT / "frontend", ROOT / "platform" / "tissueboard" / "api")
    views += [p for p in files_of(ROOT / "platform" / "tissueboard") if p.name == "views.py"]
    assert {str(p.relative_to(ROOT)): lines for p in views if (lines := reads_past_the_gate(p.read_text()))} == {}


def test_the_platform_names_no_page():
    """Only the settings name the frontend, by string."""
    for path in files_of(ROOT / "platform"):
        if "settings" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
                assert not any(name.split(".")[0] in ("frontend", "dash", "plotly") for name in names), f"{path}:{node.lineno}"
