"The Triton kernels without a GPU: interpreted on the CPU, compiled for two generations of GPU."
import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('triton', reason='Triton exists for Linux only')

TESTS = Path(__file__).parent


def test_right_in_the_interpreter():
    "The interpreter must be on before Triton is imported, so these tests have a process of their own."
    command = [sys.executable, '-m', 'pytest', '-x', '-p', 'no:cacheprovider', '-p', 'no:xdist', str(TESTS/'interpreted.py')]
    env = {name: value for name, value in os.environ.items() if not name.startswith('PYTEST_')} | {'TRITON_INTERPRET': '1'}
    child = subprocess.run(command, env=env, cwd=TESTS.parent, capture_output=True, text=True)
    assert child.returncode == 0, child.stdout[-6000:] + child.stderr[-2000:]

def test_compiled_without_spills_and_as_recorded():
    from motif_repro.kernels.triton_resources import compile_report
    rows = compile_report()
    assert not [row for row in rows if row['spill_stores'] or row['spill_loads']]
    with (TESTS.parent/'kernels/results/triton_resources.csv').open() as file: recorded = list(csv.DictReader(file))
    if recorded[0]['triton'] != rows[0]['triton']: pytest.skip(f"recorded with Triton {recorded[0]['triton']}: make it anew")
    assert [{name: str(value) for name, value in row.items()} for row in rows] == [{name: row[name] for name in rows[0]} for row in recorded]
