"""Run the benchmarks: ``python -m benchmarks [WORD…] [--json] [--check]``."""

import argparse
import importlib
import json
import math
import pkgutil
import sys
from collections.abc import Sequence

import benchmarks
from benchmarks.registry import SPECS, Result, run, selected, table

NOT_SPECS = ("__main__", "registry")


def load() -> None:
    """Import every module of this package, so that each registers its benchmarks."""
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if module.name not in NOT_SPECS:
            importlib.import_module(f"benchmarks.{module.name}")


def document(results: Sequence[Result]) -> str:
    """The results as one JSON document."""
    rows = [
        {
            "name": result.spec.name,
            "measures": result.spec.measures,
            "unit": result.spec.unit,
            "figure": result.figure,
            "target": result.spec.target,
            "better": result.spec.better,
            "ratio": result.ratio if result.ratio is not None and math.isfinite(result.ratio) else None,
            "error": result.error,
        }
        for result in results
    ]
    return json.dumps({"benchmarks": rows}, indent=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the selected benchmarks and print them; with --check, the status is 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="figures beside their targets")
    parser.add_argument("words", nargs="*", help="run only benchmarks whose name holds one of these words")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed or a benchmark fails")
    options = parser.parse_args(arguments)
    load()
    specs = selected(options.words)
    if not specs:
        print(f"no benchmark matches; there are {', '.join(SPECS)}", file=sys.stderr)
        return 2
    results = [run(spec) for spec in specs]
    print(document(results) if options.json else table(results))
    return int(options.check and not all(result.reached for result in results))


if __name__ == "__main__":
    sys.exit(main())
