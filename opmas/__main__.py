"""Run `opmas` as a module or by its console script."""


def main() -> None:
    """Start the command line."""


if __name__ == "__main__":
    main()
