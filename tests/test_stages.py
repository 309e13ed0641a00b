"The runner on a toy checkout: what runs, what is kept, what a failure, a kill or a full disk leaves behind."
import json, os, re, shutil, signal, subprocess, time
from pathlib import Path

import psutil
import pytest
from toys import TOYS, JoinParams, command, make_checkout, run_toys, write_notebook

from motif_repro.core.errors import UserError
from motif_repro.pipeline.arms import row_path
from motif_repro.pipeline.progress import Progress
from motif_repro.pipeline.runner import Run, StageFailed, _Executor, _Worker, open_run, run_pipeline
from motif_repro.pipeline.stages import Stage, StageSpec, find_inputs, open_stage, read_record


def permitted(*flags:str)->bool:
    "Whether we may have namespaces of our own."
    return bool(shutil.which('unshare')) and subprocess.run(['unshare', *flags, 'true'], capture_output=True).returncode == 0

no_network = ('unshare', '-n', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh')
needs_namespaces = pytest.mark.skipif(not permitted('-m'), reason='private mount namespaces are not permitted here')

def plan(root:Path, **arguments)->dict[str,str]:
    return run_pipeline('smoke', stages=TOYS, root=root, dry_run=True, **arguments)

def states(done:subprocess.CompletedProcess)->list[str]:
    "What the progress lines of a run say: 'left done'."
    return [' '.join(found) for found in re.findall('^(left|right|join) +(again|kept|done|FAILED) ', done.stdout, re.MULTILINE)]

def edit(path:Path, old:str, new:str):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture(scope='module')
def first_run(tmp_path_factory):
    "A finished run: an empty home, this environment not on PATH, and no network where that can be had. Not to be changed."
    root, home = make_checkout(tmp_path_factory.mktemp('toys')), tmp_path_factory.mktemp('home')
    env = os.environ | dict(HOME=str(home), PATH='/usr/sbin:/usr/bin:/sbin:/bin')
    offline = permitted('-n') and shutil.which('ip')
    return root, run_toys(root, before=no_network if offline else (), env=env), offline

@pytest.fixture
def finished(first_run, tmp_path):
    "A copy of that run to play with."
    return shutil.copytree(first_run[0], tmp_path/'copy')


# What a run leaves

def test_a_run_from_an_empty_home(first_run):
    root, done, _ = first_run
    assert done.returncode == 0, done.stdout + done.stderr
    assert (root/'runs/smoke/report.html').read_text() == 'xxxxxx'
    assert 'A1     not run' in done.stdout and done.stdout.rstrip().endswith('claims.json')
    record = read_record(root/'runs/smoke/left')
    assert record['params'] == dict(seed=1, size=3, pause_s=0.5, crash=False) and record['metrics'] == dict(size=3)
    assert set(record['code']) == {'left.ipynb', 'motif_repro.toy', 'motif_repro.toy_core'}
    assert not [folder for folder in (root/'runs/smoke/.work').iterdir() if folder.name.startswith(('left-', 'right-', 'join-'))]

def test_without_network(first_run):
    root, _, offline = first_run
    if not offline: pytest.skip('private network namespaces are not permitted here')
    assert json.loads((root/'runs/smoke/left/seen.json').read_text())['networks'] == ['lo']

def test_two_at_a_time_share_the_cores(first_run):
    left, right = (json.loads((first_run[0]/'runs/smoke'/name/'seen.json').read_text()) for name in ('left', 'right'))
    if (cores := json.loads((first_run[0]/'runs/smoke/run.json').read_text())['cores']) == 1: pytest.skip('one core')
    assert left['began'] < right['ended'] and right['began'] < left['ended']
    assert left['threads'] == right['threads'] == str(max(1, cores//2))

def test_times_are_printed_and_kept(first_run):
    root, done, _ = first_run
    times = json.loads((root/'runs/smoke/times.json').read_text())
    assert set(times) == set(TOYS) and all(seconds > 0 for seconds in times.values())
    assert sorted(states(done)) == ['join done', 'left done', 'right done']


# What runs again

def test_nothing_runs_twice(finished):
    again = run_toys(finished)
    assert states(again) == ['left kept', 'right kept', 'join kept']

def test_what_makes_a_stage_run_again(finished):
    kept, notebook = dict(left='', right='', join=''), finished/'nbs/left.ipynb'
    assert plan(finished) == kept
    assert plan(finished, sets=['left.size=4']) == dict(left='changed: size 3 → 4', right='', join='if left comes out different')
    assert plan(finished, sets=['seed=5'])['right'] == 'changed: seed 1 → 5'
    assert plan(finished, sets=['seed=5', 'right.seed=1'])['right'] == ''
    assert set(plan(finished, force=True).values()) == {'forced'}
    core = finished/'motif_repro/toy_core.py'
    core.write_text('x = 1  # a comment\n')
    assert plan(finished) == kept
    core.write_text('x = 2\n')
    assert plan(finished)['left'] == 'changed: motif_repro.toy_core'
    core.write_text('x = 1\n')
    edit(notebook, 'size = 3 ', 'size = 4 ')
    assert plan(finished)['left'] == 'changed: size 3 → 4'
    edit(notebook, 'size = 4 ', 'size = 3 ')
    edit(notebook, "'x'*size", "'y'*size")
    assert plan(finished)['left'] == 'changed: left.ipynb'
    edit(notebook, "'y'*size", "'x'*size")
    (finished/'runs/smoke/left/letters.txt').unlink()
    assert plan(finished) == dict(left='not made yet', right='', join='after left')

def test_selection(finished):
    assert list(plan(finished, only=['right'])) == ['right']
    assert list(plan(finished, start='right')) == ['right', 'join']
    with pytest.raises(UserError, match="unknown stage 'lfet'; did you mean 'left'"): plan(finished, only=['lfet'])
    with pytest.raises(UserError, match='exclude each other'): plan(finished, only=['left'], start='left')
    shutil.rmtree(finished/'runs/smoke/left')
    with pytest.raises(UserError, match="stage 'join' needs 'left', which isn't finished"): plan(finished, only=['join'])

def test_same_outputs_spare_what_follows(finished):
    "A changed cell that makes the same letters: its stage runs, the next is kept. --only leaves the rest alone."
    edit(finished/'nbs/left.ipynb', "'x'*size", "'x'*(size + 0)")
    done = run_toys(finished, sets=['right.size=9'], start='left')
    assert states(done) == ['left again', 'left done', 'join kept']
    assert 'right is taken as it is (changed: size 3 → 9)' in done.stdout


# Failure

def test_a_failure_is_shown_and_what_finished_is_kept(finished):
    failed = run_toys(finished, sets=['left.crash=true', 'left.pause_s=0', 'right.size=9'])
    assert failed.returncode == 1
    for words in ('left          FAILED', 'In [4]', "→ if crash: raise KeyError('a planted error')", "KeyError: 'a planted error'",
                  'runs/smoke/notebooks/left.ipynb', 'right         done'): assert words in failed.stdout, words
    assert 'StageFailed: failed: left' in failed.stderr and 'join        done' not in failed.stdout
    assert plan(finished, sets=['right.size=9']) == dict(left='', right='', join='changed: input right')

def test_what_may_begin():
    "What needs nothing unfinished, as many as there are places; nothing after a failure."
    run = Run(folder=None, root=None, profile=None, stages=TOYS)
    usual = dict(run=run, environ={}, workers=2, cores=2, force=False, progress=None, todo=list(TOYS))
    ready = lambda **state: _Executor(**usual | state)._ready()
    assert ready() == ['left', 'right']
    assert ready(workers=1) == ['left']
    assert ready(todo=['join'], running=dict(left=None)) == []
    assert ready(todo=['join']) == ['join']
    assert ready(todo=['right'], failed=['left']) == []

def test_a_log_hears_how_many_rows_a_stage_has_kept(tmp_path, capsys):
    run, _ = open_run('smoke', stages=TOYS, root=make_checkout(tmp_path/'toys'))
    (rows := tmp_path/'work'/'students').mkdir(parents=True)
    for seed in range(3): row_path(rows, write_notebook, 'aligned', {}, seed).write_text('{}')
    (rows/'other.json').write_text('{}')
    worker = _Worker(subprocess.Popen(['sleep', '0.3']), 'key', tmp_path/'work', time.monotonic() - 61)
    progress = Progress(stages=TOYS, workers=1, usual_s=dict(left=90), sign_of_life_s=0)
    executor = _Executor(run=run, environ={}, workers=1, cores=1, force=False, progress=progress, todo=[], running=dict(left=worker))
    with pytest.raises(StageFailed): executor.execute()
    assert 'running: left 1:01 of 1:30 (3 rows); ' in capsys.readouterr().out

def test_a_stage_that_does_not_finish_has_failed(finished):
    edit(finished/'nbs/left.ipynb', 'stage.finish(', 'print(')
    failed = run_toys(finished, only=['left'])
    assert failed.returncode == 1 and 'ended without stage.finish' in failed.stdout


# kill -9

def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, 'waited in vain'
        time.sleep(0.05)

def test_kill_and_resume(tmp_path):
    "SIGKILL in the middle of a stage: no process and no lock is left, and the next start goes on in the same work folder."
    root = make_checkout(tmp_path/'toys')
    opened = lambda: [path for path in (root/'runs/smoke/.work').glob('left-*/opened.txt') if path.read_text().endswith('\n')]
    arguments = dict(sets=['left.pause_s=60'], only=['left'])
    runner = subprocess.Popen(command(root, **arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(opened)
    kernel = psutil.Process(int(opened()[0].read_text()))
    second = run_toys(root, **arguments)
    assert second.returncode == 1 and f'process {runner.pid} is running it' in second.stderr
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    wait_for(lambda: not kernel.is_running(), 5)
    assert plan(root, **arguments) == dict(left='goes on where it was stopped')
    resumed = run_toys(root, **arguments)
    assert resumed.returncode == 0, resumed.stdout
    assert len((root/'runs/smoke/left/opened.txt').read_text().split()) == 2 and read_record(root/'runs/smoke/left')['resumed']

def test_one_kernel_at_a_time_works_on_a_stage(tmp_path):
    root = make_checkout(tmp_path/'toys')
    stale = [root/'runs/a/.work'/name for name in ('left-0123456789ab', 'left-hand-0123456789ab')]
    for folder in stale: folder.mkdir(parents=True)
    stage = open_stage('left', dict(run_dir='runs/a', seed=0, size=1, pause_s=0, crash=False), stages=TOYS, root=root)
    assert [folder.exists() for folder in stale] == [False, True]   # another key of this stage; another stage
    other = f'''from toys import *
from motif_repro.pipeline.stages import Stage
Stage._lock.__defaults__ = (0.2,)
from motif_repro.pipeline.stages import open_stage
open_stage('left', dict(run_dir='runs/a', seed=0, size=1, pause_s=0, crash=False), stages=TOYS, root={str(root)!r})'''
    run_other = lambda: subprocess.run([command(root)[0], '-c', other], capture_output=True, text=True, cwd=Path(__file__).parent)
    assert "another kernel is at work on stage 'left'" in run_other().stderr
    stage.lock.release(force=True)
    assert run_other().returncode == 0


# Disks

def test_unwritable_runs_folder(tmp_path):
    root = make_checkout(tmp_path/'toys')
    (tmp_path/'file').write_text('')
    refused = run_toys(root, runs_dir=str(tmp_path/'file'))
    assert refused.returncode == 1 and 'UserError' in refused.stderr and f"{tmp_path/'file'}/smoke: cannot be written" in refused.stderr

def small_disk(root:Path, then:str, **arguments):
    "Run the toys with their runs on 1 MB of their own, after the shell command `then`."
    script = f'mkdir -p {root}/runs && mount -t tmpfs -o size=1m tmpfs {root}/runs && {then} && exec "$@"'
    return run_toys(root, before=('unshare', '-m', 'sh', '-c', script, 'sh'), **arguments)

@needs_namespaces
def test_read_only_runs_folder(tmp_path):
    root = make_checkout(tmp_path/'toys')
    refused = small_disk(root, f'mount -o remount,ro {root}/runs')
    assert refused.returncode == 1 and 'Read-only file system' in refused.stderr and 'Traceback' not in refused.stderr

@needs_namespaces
def test_full_disk(tmp_path):
    root = make_checkout(tmp_path/'toys')
    refused = small_disk(root, 'true', sets=['disk_mb=200'])
    assert refused.returncode == 1 and '1 MB are free, this profile needs 200 MB' in refused.stderr and f'{root}/runs' in refused.stderr
    halfway = small_disk(root, 'true', sets=['left.size=2000000'], only=['left'])
    assert states(halfway) == ['left FAILED'] and 'No space left on device' in halfway.stdout


# By hand

CHAIN = dict(tasks=StageSpec(notebook='any.ipynb', params=JoinParams, outputs=('out',)),
             model=StageSpec(notebook='any.ipynb', params=JoinParams, needs=('tasks',), outputs=('out',)),
             score=StageSpec(notebook='any.ipynb', params=JoinParams, needs=('tasks', 'model'), outputs=('out',)))

def by_hand(root:Path, name:str, run_dir:str, text:str='')->Stage:
    "Open a stage of the chain and finish it at once."
    stage = open_stage(name, dict(run_dir=run_dir), stages=CHAIN, root=root)
    (stage.work/'out').write_text(text)
    stage.finish('made by hand')
    return stage

def test_inputs_by_hand_belong_together(tmp_path):
    "A model is judged on the tasks of its own run, though newer ones are there."
    root = make_checkout(tmp_path/'toys')
    write_notebook(root/'nbs/any.ipynb', 'run_dir = ""')
    by_hand(root, 'tasks', 'runs/a', 'old'), by_hand(root, 'model', 'runs/a')
    by_hand(root, 'tasks', 'runs/b', 'new')
    assert by_hand(root, 'score', '').inputs == dict(tasks=root/'runs/a/tasks', model=root/'runs/a/model')
    by_hand(root, 'tasks', 'runs/a', 'changed since')   # the model's own tasks are gone: those in the run at work, else the newest
    assert find_inputs(CHAIN['score'].needs, root/'runs/b', root/'runs') == dict(tasks=root/'runs/b/tasks', model=root/'runs/a/model')

def test_by_hand_is_no_substitute_for_a_run(tmp_path):
    "Cells run by hand may differ from the file's, so the runner makes the stage again."
    root = make_checkout(tmp_path/'toys')
    stage = open_stage('left', dict(run_dir='runs/smoke', seed=1, size=3, pause_s=0.5, crash=False), stages=TOYS, root=root)
    (stage.work/'letters.txt').write_text('xxx')
    stage.finish('three')
    assert 'by hand' in plan(root, only=['left'])['left']

def test_parameters_by_hand_are_checked(tmp_path):
    root = make_checkout(tmp_path/'toys')
    with pytest.raises(UserError, match="left.ipynb, parameters: size = 'many'"):
        open_stage('left', dict(seed=0, size='many', pause_s=0, crash=False), stages=TOYS, root=root)
    with pytest.raises(UserError, match="unknown stage 'lfet'; did you mean 'left'"): open_stage('lfet', {}, stages=TOYS, root=root)

def test_missing_inputs_are_made_at_smoke_size(finished, capsys):
    shutil.rmtree(finished/'runs/smoke/right')
    stage = open_stage('join', {}, stages=TOYS, root=finished)
    assert stage.inputs == dict(left=finished/'runs/smoke/left', right=finished/'runs/manual/right')
    assert 'making right at smoke size' in capsys.readouterr().out
