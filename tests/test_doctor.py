"The doctor: every planted illness is found, with its mend; a healthy machine passes."
import json, os, subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from motif_repro.core.settings import load_settings
from motif_repro.pipeline import doctor
from motif_repro.pipeline.doctor import Finding, check_compiler, check_disk, check_gpu, check_hub, check_sandbox, findings_text, unmet

ROOT = Path(__file__).parents[1]

def settings(**changes): return load_settings(ROOT, {f'MOTIF_REPRO_{name.upper()}': str(value) for name, value in changes.items()})

@pytest.fixture
def program(tmp_path, monkeypatch):
    "Puts a program of one's own on an otherwise empty PATH."
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('CXX', raising=False)
    def make(name, script):
        (tmp_path/name).write_text(f'#!/bin/sh\n{script}\n')
        (tmp_path/name).chmod(0o755)
    return make


def test_packages_that_are_old_or_missing_are_named():
    assert unmet(['torch>=99']) and unmet(['not-a-package']) == ['not-a-package (missing)']
    assert unmet(['torch>=2', "not-a-package; python_version < '3'", "not-a-package; extra == 'gpu'"]) == []

def test_no_compiler(program): assert check_compiler().state == 'absent' and 'apt-get' in check_compiler().mend

def test_a_compiler_that_fails_is_not_taken_for_one(program):
    program('c++', 'echo "no headers here" >&2; exit 1')
    assert check_compiler().state == 'absent' and 'no headers here' in check_compiler().found

def test_a_gpu_that_torch_does_not_see(program):
    import torch
    if torch.cuda.is_available(): pytest.skip('torch sees one')
    assert check_gpu().state == 'absent'
    program('nvidia-smi', 'echo "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-0)"')
    assert check_gpu().state == 'amiss' and 'constraints-cuda' in check_gpu().mend and 'H100' in check_gpu().found

def test_a_driver_that_fails_is_no_gpu(program):
    import torch
    if torch.cuda.is_available(): pytest.skip('torch sees one')
    program('nvidia-smi', 'echo "NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver."; exit 9')   # says so on its standard output
    assert check_gpu().state == 'absent' and 'nvidia-smi fails' in check_gpu().found and 'driver sees' not in check_gpu().found

def test_a_gpu_that_does_not_compute(monkeypatch):
    import torch
    def fails(*args, **kwargs): raise RuntimeError('CUDA error: no kernel image is available for execution on the device\nmore')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda i: SimpleNamespace(name='H900', total_memory=2**30, major=12, minor=0))
    monkeypatch.setattr(torch, 'ones', fails)
    assert check_gpu().state == 'amiss' and check_gpu().found.endswith('no kernel image is available for execution on the device') and 'constraints-cuda' in check_gpu().mend

def test_a_sandbox_switched_off_or_not_there(program):
    assert check_sandbox(settings(sandbox='none')).state == 'amiss'
    assert check_sandbox(settings()).state == 'amiss' and 'install' in check_sandbox(settings()).mend

def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    assert check_disk(settings(runs_dir=tmp_path/'new'/'runs')).state == 'ok' and not (tmp_path/'new').exists()
    assert check_disk(settings(runs_dir=tmp_path), need_gb=1e9).state == 'amiss'
    assert check_disk(settings(runs_dir='/proc/runs')).state == 'amiss'

@pytest.mark.parametrize('status, state', [(200, 'ok'), (503, 'absent')])
def test_a_hub_that_answers_or_fails(status, state):
    class Hub(BaseHTTPRequestHandler):
        def do_GET(self): self.send_response(status); self.end_headers(); self.wfile.write(b'[]')
        def log_message(self, *args): pass
    server = HTTPServer(('127.0.0.1', 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    finding = check_hub(settings(hub_mirror=f'http://127.0.0.1:{server.server_port}'))
    server.shutdown()
    assert finding.state == state and str(server.server_port) in finding.found

def test_a_hub_that_is_not_there():
    assert check_hub(settings(hub_mirror='http://127.0.0.1:9'), timeout_s=1).state == 'absent'

def test_as_a_user_types_it(monkeypatch):
    command = [sys.executable, '-c', 'from motif_repro.pipeline.cli import main; main()', 'doctor']
    well = subprocess.run([*command, '--json'], capture_output=True, text=True, cwd=ROOT)
    found = {f['name']: f['state'] for f in json.loads(well.stdout)}
    assert well.returncode == ('amiss' in found.values()), well.stderr
    ill = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | dict(MOTIF_REPRO_SANDBOX='none'))
    assert ill.returncode == 1 and 'sandbox' in ill.stdout.splitlines()[-1]

def test_every_illness_comes_with_its_mend():
    assert all(f.mend for f in doctor.examine(settings()) if f.state != 'ok')
    assert findings_text([Finding('disk', 'ok', 'much')]).endswith('The default run has all it needs.')
