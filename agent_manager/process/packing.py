"""Fills the holes in a template's memory before it forks, so that what a fork allocates lies together.

An interpreter that has imported and thrown away much is full of small free places, each on a page with things that
never change. A fork that uses them copies a page for each; without them it takes whole new pages, 0.7 MB fewer for an
instance and its shim. Costs the template as much memory as was free in it: about 1 MB.
"""

import ctypes

_POOL_BYTES, _POOL_HEADER_BYTES = 16 * 1024, 48  # CPython's allocator of small objects: a pool holds one size
_SMALLEST, _LARGEST, _STEP = 48, 512, 16  # `bytes` can be no smaller; what is larger comes from malloc
_BYTES_HEADER = 33

_LARGEST_MALLOC = 8192
_PROBE_BYTES, _PROBES = 100_000, 10  # below what gets a mapping of its own; the last ones lie at the end of the heap
# With allocators that place things otherwise than CPython's and glibc's, there would be no end.
_LIMIT_BYTES = 16 * 1024 * 1024

_fillers: list[bytes] = []


def pack() -> None:
    """Fill what is free, for good."""
    for size in range(_SMALLEST, _LARGEST + 1, _STEP):
        _fillers.extend(_fill_pools(size))
    _fill_heap()


def _fill_pools(size: int) -> list[bytes]:
    """Take all places for objects of `size` bytes, until one whole pool was empty; that one is given back."""
    taken: list[bytes] = []
    row, last = 0, 0
    places = (_POOL_BYTES - _POOL_HEADER_BYTES) // size
    while row < places and len(taken) * size < _LIMIT_BYTES:
        taken.append(bytes(size - _BYTES_HEADER))
        row = row + 1 if id(taken[-1]) == last + size else 1
        last = id(taken[-1])
    del taken[-row:]
    return taken


def _fill_heap() -> None:
    """Take what malloc has free below the end of its heap; never freed."""
    malloc = ctypes.CDLL(None).malloc
    malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    taken, end = 0, max(malloc(_PROBE_BYTES) or 0 for _ in range(_PROBES))
    for size in range(24, _LARGEST_MALLOC, 16):
        while taken < _LIMIT_BYTES and (malloc(size) or end) < end:
            taken += size
