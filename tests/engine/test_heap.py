"""What is freed stays with the process: the next step does not pay for its pages again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import templora_cli.engine
import resource, torch

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [torch.ones(1 << 21) for _ in range(20)]  # of 8 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(*(faults() for _ in range(4)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep what is freed")
def test_pages_are_paid_for_once() -> None:
    told = subprocess.run([sys.executable, "-c", FAULTS], stdout=subprocess.PIPE, text=True, check=True)
    faults = list(map(int, told.stdout.split()))
    assert faults[-1] < faults[0] / 4
