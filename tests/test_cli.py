"motif-repro as a user types it: answers in time, exit codes, messages without a traceback."
import os, subprocess, sys
from pathlib import Path

import pytest

from motif_repro.pipeline.stages import STAGES

ROOT = Path(__file__).parents[1]
PROGRAM = Path(sys.executable).with_name('motif-repro')

def motif_repro(*arguments, cwd=ROOT, **env)->subprocess.CompletedProcess:
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, cwd=cwd, env=os.environ | env, timeout=60)

def cpu_s(*arguments)->float:
    "Processor seconds of a call: what it costs, whatever else this machine is doing."
    before = os.times()
    motif_repro(*arguments)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


@pytest.mark.parametrize('arguments', ['--help', 'run --help', 'run --profile smkoe', 'run --set sft.stesp=20', 'rnu'])
def test_answers_within_a_second(arguments):
    assert min(cpu_s(*arguments.split()) for _ in range(2)) < 1

def test_nothing_heavy_is_imported():
    imported = subprocess.check_output([sys.executable, '-c', 'import motif_repro.pipeline.cli, sys; print(*sys.modules)'], text=True)
    heavy = {'torch', 'transformers', 'datasets', 'numpy', 'papermill', 'nbformat', 'IPython', 'joblib', 'matplotlib', 'scipy', 'rich'}
    assert not heavy & set(imported.split())

@pytest.mark.parametrize('arguments, words', [
    (('run', '--profile', 'smkoe'), ["--profile: unknown profile 'smkoe'", "did you mean 'smoke'?"]),
    (('run', '--set', 'sft.stesp=20'), ["--set sft.stesp=20", "unknown key 'stesp'", "did you mean 'steps'?"]),
    (('run', '--set', 'stf.steps=20'), ["unknown stage 'stf'", "did you mean 'sft'?"]),
    (('run', '--only', 'stf'), ["unknown stage 'stf'", "did you mean 'sft'?"]),
    (('status', '--profile', 'smkoe'), ["did you mean 'smoke'?"]),
    (('rnu',), ["No such command 'rnu'"]),
    (('run', '--oly', 'sft'), ["No such option: --oly"]),
])
def test_mistakes(arguments, words):
    answer = motif_repro(*arguments)
    assert answer.returncode == 2 and answer.stdout == '' and 'Traceback' not in answer.stderr
    for word in words: assert word in answer.stderr

def test_settings_name_the_profile():
    answer = motif_repro('run', MOTIF_REPRO_PROFILE='smkoe')
    assert 'settings.ini, profile: unknown profile' in answer.stderr

def test_dry_run_and_status_from_any_folder(tmp_path):
    "Neither makes a folder; both name every stage."
    for cwd in (ROOT, ROOT/'nbs/recipe', tmp_path):
        for arguments in (('run', '--dry-run'), ('status',)):
            answer = motif_repro(*arguments, '--runs-dir', str(tmp_path/'runs'), cwd=cwd)
            assert answer.returncode == 0, answer.stderr
            assert [line.split()[0] for line in answer.stdout.splitlines()][-len(STAGES):] == list(STAGES)
    assert not (tmp_path/'runs').exists()
