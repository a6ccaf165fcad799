"""The house of design §9: what an extra brings is imported where it is used, never by importing the package."""

import importlib.util
import json
import subprocess
import sys

import pytest

HEAVY = (
    "altair",
    "dask",
    "distributed",
    "gymnasium",
    "jinja2",
    "onnx",
    "optuna",
    "ortools",
    "pandas",
    "psutil",
    "pynvml",
    "scipy",
    "starlette",
    "torch",
    "transformers",
    "uvicorn",
    "vl_convert",
)
MAY_NEED_AN_EXTRA = ("ridgepoint.web",)

LOADED = "import {module}, json, sys; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"

IMPORT_ALL = f"""
import importlib, json, pkgutil, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ImportError(f"{{name}} comes with an extra")

sys.meta_path.insert(0, Refuse())
import ridgepoint

broken = {{}}
pending = list(pkgutil.iter_modules(ridgepoint.__path__, "ridgepoint."))
while pending:
    module = pending.pop()
    if module.name.startswith({MAY_NEED_AN_EXTRA!r}) or module.name.endswith(".__main__"):
        continue
    try:
        found = importlib.import_module(module.name)
    except ImportError as error:
        broken[module.name] = str(error)
        continue
    if module.ispkg:
        pending.extend(pkgutil.iter_modules(found.__path__, module.name + "."))
print(json.dumps(broken))
"""


def run_python(code: str) -> object:
    """What a fresh interpreter prints as JSON when it runs the code."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("module", ["ridgepoint", "ridgepoint.cli"])
def test_importing_loads_no_extra(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not written yet")
    loaded = run_python(LOADED.format(module=module))
    assert isinstance(loaded, list)
    assert not set(loaded) & set(HEAVY)


def test_every_module_imports_without_the_extras() -> None:
    assert run_python(IMPORT_ALL) == {}
