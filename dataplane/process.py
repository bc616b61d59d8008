"""What this process asks of its C library, collector and log, set once by `main` at start."""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import os
import resource
import struct
import sys
import time
from typing import Final

# malloc.h of glibc
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_KEEP_BYTES: Final = 4 << 20
# linux/capability.h
_CAPABILITY_VERSION: Final = 0x20080522
_NO_CAPABILITIES: Final = bytes(24)


def keep_read_buffers() -> bool:
    """Have glibc keep freed memory below 4 MiB instead of giving it back to the kernel each time.

    uvloop's TLS allocates 256 kB per read; with the default thresholds that is an mmap and a munmap
    per request. False where the C library has no mallopt (musl).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    mallopt.restype = ctypes.c_int
    wanted = ((_M_MMAP_THRESHOLD, _KEEP_BYTES), (_M_TRIM_THRESHOLD, _KEEP_BYTES), (_M_ARENA_MAX, 1))
    return all(mallopt(*option) == 1 for option in wanted)


def give_back_memory() -> bool:
    """Have glibc give all that is free back to the kernel (malloc_trim(3)); whether there was anything.

    By itself it does so only at the end of its heap, where what is allocated last may stay for long: after
    a burst most of the memory that it took is free, and counts as this process's all the same. It takes
    some milliseconds for 100 MB. False where the C library has no malloc_trim (musl).
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:
        return False
    trim.argtypes = (ctypes.c_size_t,)
    trim.restype = ctypes.c_int
    return bool(trim(0))


def freeze_heap() -> None:
    """Collect once, then let the cyclic collector leave alone what lives as long as the process."""
    gc.collect()
    gc.freeze()


def raise_file_limit() -> None:
    """Use as many descriptors as the hard limit allows: a proxied connection takes two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def drop_capabilities() -> None:
    """Give up every capability of this thread, for good (capset(2)). Call it before there is another one.

    Raises OSError if the kernel refuses, which it has no reason to.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    if libc.capset(header, _NO_CAPABILITIES) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capabilities cannot be given up: {os.strerror(number)}")


def resident_bytes() -> int:
    """Resident set size (proc(5), statm, second field)."""
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - pathlib costs more than the read
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class JsonLines(logging.Formatter):
    """One JSON object per record: time (RFC 3339, UTC), level, logger, message, and a traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def log_to_stderr(level: str) -> None:
    """Send every record of `level` ("debug" … "error") and above to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
