"""The runner: `python -m benchmarks NAME…`; each name is a module of this package with a coroutine `measure`."""

import argparse
import asyncio
import importlib

from benchmarks.report import write

NAMES = ("starts", "fleet", "roundtrip", "cli", "runs")


def main() -> None:
    """Measure what was named and write each table as soon as it is there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of {', '.join(NAMES)}; none means all")
    parser.add_argument("--agents", type=int, help="how many agents, instead of what the benchmark says")
    parser.add_argument("--rounds", type=int, help="how many repetitions, instead of what the benchmark says")
    parser.add_argument("--sides", help="comma-separated: opmas, supervisord, circus, pm2; default all")
    parser.add_argument("--quick", action="store_true", help="runs: one short round, one replica")
    parser.add_argument("--only", metavar="REGEX", help="runs: of what is printed while it measures, only what matches")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    for name in options.names or NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        section = asyncio.run(module.measure(options))
        print(section.markdown() if options.quick or options.only else write(name, section))


if __name__ == "__main__":
    main()
