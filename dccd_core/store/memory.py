"""Memory that a fold has used, given back to the system: the service around it runs for months."""

import ctypes

import pyarrow as pa


def release() -> None:
    """Return what is free in Arrow's pool and in the C library's heap, which keep it otherwise.

    A fold holds up to a day of a series; what it leaves in pieces between them adds up. Only
    glibc has to be told so.
    """
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
