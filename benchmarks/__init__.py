"""Measurements of OPMAS beside its peers, in one run on one machine: `python -m benchmarks NAME`.

Nothing here is a test: no figure fails a build. The figures land in `results.md`, with the machine they were taken on.
"""
