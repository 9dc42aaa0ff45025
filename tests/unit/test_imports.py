"""What importing costs and hides: no torch for plans and rows, no effects, no hidden modules.

Who may import whom is a contract of import-linter in pyproject.toml.
"""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]


def torch_free() -> list[str]:
    """Return every module of the packages that the contract names as free of torch."""
    (contract,) = [each for each in CONTRACTS if each["name"].endswith("load no torch")]
    modules = []
    for name in contract["source_modules"]:
        path = ROOT / "src" / Path(*name.split("."))
        if path.is_dir():
            files = sorted(path.rglob("*.py"))
            stems = [file.relative_to(ROOT / "src").with_suffix("") for file in files]
            modules += [".".join(stem.parts).removesuffix(".__init__") for stem in stems]
        else:
            assert path.with_suffix(".py").is_file(), f"{name} in pyproject.toml does not exist"
            modules.append(name)
    return modules


def run(script: str) -> None:
    """Run a script in a fresh process; fail with what it says."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_plans_and_rows_load_no_torch():
    """Planning and reading results start without paying for torch: shown in a fresh process."""
    names = torch_free()
    assert len(names) > 20
    run(
        f"import sys, {', '.join(names)}\n"
        "heavy = {'torch', 'transformers', 'prefect', 'duckdb'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or None)"
    )


def test_importing_the_science_has_no_effect():
    """Importing writes no file, seeds nothing and sets up no logging."""
    run(
        "import logging, random\n"
        "state, handlers = random.getstate(), list(logging.root.handlers)\n"
        "import editcollapse.units.edit, editcollapse.units.evaluate, editcollapse.units.prepare\n"
        "assert random.getstate() == state\n"
        "assert logging.root.handlers == handlers"
    )


def is_module(name: str) -> bool:
    """Return whether a name can be imported; a folder without ``__init__`` hides nothing."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


def test_flow_files_hide_no_module():
    """Prefect puts ``flows/`` first on the path: a name in it must be no module's name."""
    names = {
        path.stem
        for path in (ROOT / "flows").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    hidden = {
        name
        for name in names - {"__init__", "__main__"}
        if name in sys.stdlib_module_names or is_module(name)
    }
    assert not hidden, f"flows/ hides the modules {sorted(hidden)}: rename the files"


@pytest.mark.parametrize("package", sorted((ROOT / "src" / "editcollapse").glob("*/__init__.py")))
def test_packages_say_what_is_in_them(package):
    """Each package's docstring says in a few lines what is in it and what is not."""
    text = package.read_text(encoding="utf-8")
    assert text.startswith('"""')
    assert 3 <= len(text.split('"""')[1].strip().splitlines()) <= 8
