"""The command line, `opmas ...`."""
