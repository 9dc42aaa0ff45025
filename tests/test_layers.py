"""Who may import whom, read off the import statements; and that no file here hides a module."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = ("editcollapse", "tasks", "storage", "reports", "flows", "benchmarks")
TORCH_FREE = (
    "errors",
    "fingerprints",
    "requests",
    "outcomes",
    "answer_outcomes",
    "tables",
    "specs",
    "methods",
    "presets",
    "datasets",
    "dataset_schemas",
    "flat_schema",
    "record_fields",
    "request_fields",
    "json_files",
    "texts",
    "corpora",
    "hub_corpora",
    "template_files",
    "model_files",
    "weight_files",
    "architectures",
    "orders",
    "moment_orders",
    "passes",
    "planning",
    "batches",
    "checkpoints",
    "artifacts",
    "runtime",
    "budgets",
    "once",
    "running_studies",
    "turns",
    "deadlines",
    "retrying",
    "places",
    "leases",
    "mirrors",
    "progress",
    "study_rows",
    "study_files",
    "surveys",
    "forecast_orders",
    "anatomy_orders",
    "encoder_files",
    "continuation_orders",
    "layer_choices",
    "sweep_orders",
    "sweep_reports",
    "verdicts",
    "spec_parts",
    "guard_specs",
    "guarding",
    "guarded_batches",
    "guard_rows",
    "known_setups",
)
HEAVY = {"torch", "transformers"}
STORAGE_SIDE = {"recording", "reporting"}


def files_of(folder):
    """Return the Python files below a folder of the repository."""
    return sorted((ROOT / folder).rglob("*.py"))


def imports_of(path):
    """Return line and full module name of every import of a file, but those for types only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for child in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the import in full"
            found.append((node.lineno, node.module))
    return found


def broken(folder, allowed, why):
    """Return one line for each import of a folder's files that a rule does not allow."""
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}: {why}"
        for path in files_of(folder)
        for line, name in imports_of(path)
        if not allowed(path, name)
    ]


def top(name):
    """Return the package that a module belongs to."""
    return name.split(".")[0]


def test_science_knows_neither_prefect_nor_duckdb():
    """The science is installed alone: it imports nothing of the project around it."""
    foreign = {"prefect", "duckdb", "tasks", "storage", "flows"}
    assert not broken(
        "src/editcollapse",
        lambda _path, name: top(name) not in foreign,
        "workers have only the wheel",
    )


def test_storage_needs_no_torch():
    """Reading results must not load a machine-learning library or a scheduler."""

    def allowed(_path, name):
        if top(name) == "editcollapse":
            return name == "editcollapse" or name.split(".")[1] in TORCH_FREE
        return top(name) not in HEAVY | {"prefect", "tasks", "flows"}

    assert not broken("storage", allowed, "storage uses row types and duckdb only")


def test_reports_are_words_about_results():
    """A report is made of what was published: without scheduler, models or SQL of its own."""

    def allowed(_path, name):
        if top(name) == "editcollapse":
            return name == "editcollapse" or name.split(".")[1] in TORCH_FREE
        return top(name) not in HEAVY | {"prefect", "duckdb", "tasks", "flows"}

    assert not broken("reports", allowed, "reports use storage.findings only")


def test_tasks_travel_to_workers():
    """A task that a worker runs may refer to the science, not to its siblings or to storage."""

    def allowed(path, name):
        if path.stem in STORAGE_SIDE:
            return top(name) != "flows"
        ours = top(name) in {"prefect", "editcollapse"} or name == "tasks.units"
        return ours or top(name) in sys.stdlib_module_names

    assert not broken("tasks", allowed, "a worker has the wheel, not this repository")


def test_flows_never_load_torch():
    """The flow process plans, waits and records; models are the tasks' business."""

    def allowed(_path, name):
        return top(name) not in HEAVY

    assert not broken("flows", allowed, "the flow process stays light")


@pytest.mark.parametrize("folder", ["src/editcollapse", "storage", "tasks", "flows"])
def test_benchmarks_are_imported_by_nobody(folder):
    """What is measured does not know that it is measured."""
    assert not broken(folder, lambda _path, name: top(name) != "benchmarks", "it measures us")


@pytest.mark.parametrize("module", TORCH_FREE)
def test_torch_free_modules_exist(module):
    """The list above names modules that are there."""
    assert (ROOT / "src" / "editcollapse" / f"{module}.py").is_file()


def test_torch_free_modules_load_no_torch():
    """Planning and reading results start without paying for torch: shown in a fresh process."""
    names = ", ".join(f"editcollapse.{module}" for module in TORCH_FREE)
    script = (
        f"import sys, {names}\n"
        "heavy = {'torch', 'transformers', 'prefect', 'duckdb'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"they import {done.stderr.strip()}"


def test_importing_the_science_has_no_effect():
    """Importing writes no file, seeds nothing and sets up no logging."""
    script = (
        "import logging, random\n"
        "state, handlers = random.getstate(), list(logging.root.handlers)\n"
        "import editcollapse.units.edit, editcollapse.units.evaluate, editcollapse.units.prepare\n"
        "assert random.getstate() == state\n"
        "assert logging.root.handlers == handlers"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_flow_files_hide_no_module():
    """Prefect puts ``flows/`` first on the path, so a stem must be no module's name."""
    stems = {path.stem for path in (ROOT / "flows").glob("*.py")} - {"__init__", "__main__"}
    hidden = {
        stem
        for stem in stems
        if stem in sys.stdlib_module_names or importlib.util.find_spec(stem) is not None
    }
    assert not hidden, f"flows/ hides the modules {sorted(hidden)}: rename the files"


def test_project_packages_are_those_of_the_rules():
    """Every package of ours is under a rule above."""
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {
        path.parent.name for path in ROOT.glob("src/*/__init__.py")
    }
    assert packages <= set(PROJECT)
