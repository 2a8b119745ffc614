"""Run `opmas` as a module or by its console script; `--version` is answered before a parser is imported."""

import sys


def main() -> None:
    """Start the command line."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from opmas import __version__  # noqa: PLC0415 - nothing may be imported in vain here

        sys.stdout.write(f"opmas {__version__}\n")
        return
    from opmas.cli.app import run  # noqa: PLC0415 - the parser costs 0.1 s

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
