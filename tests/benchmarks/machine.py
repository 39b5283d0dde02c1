"""What the figures were measured on, in words."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "numpy")


def describe_machine() -> str:
    """Processor, cores, memory, system and versions, as one line."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {memory_bytes / 2**30:.0f} GiB of memory, "
        f"{platform.freedesktop_os_release()['PRETTY_NAME']}; Python {sys.version.split()[0]}, {packages}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
