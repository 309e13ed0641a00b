"The code domain against programs that mean harm, and honest ones beside them: nobody is rewarded, nothing escapes, nothing is left."
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from motif_repro.core.errors import UserError
from motif_repro.tasks import sandbox
from motif_repro.tasks.code import verify_code
from motif_repro.tasks.sandbox import Limits, sandbox_problem
from motif_repro.tasks.schema import Task

from honest import HONEST, HONEST_TOGETHER, TOOLS
from hostile import GREEDY, QUICK

READY = sys.platform == 'linux' and shutil.which('bwrap')
pytestmark = pytest.mark.skipif(not READY, reason='needs Linux and bubblewrap (apt-get install bubblewrap)')
TIGHT  = Limits(cpu_s=1, wall_s=3, memory_mib=300, output_kib=200)
SECRET = 'SECRET-' + secrets.token_hex(16)
FORMS  = dict(
    apart=(f"def check(candidate):\n    assert candidate() == {SECRET!r}\n", ''),
    together=(f"assert Box().answer() == {SECRET!r}\n", '\nclass Box:\n    def answer(self): return answer()\n'),
    script=(dict(inputs=[''], outputs=[SECRET]), '\nprint(answer())\n'),
)


def judge(tests, program, entry_point=None, **options):
    task = Task(id='t', question='…', domain='code', metadata=dict(tests=tests, entry_point=entry_point))
    return verify_code(task, f'```python\n{program}\n```', **options)


def command_lines():
    "pid → command line of every process of this machine."
    found = {}
    for folder in Path('/proc').glob('[0-9]*'):
        try: found[int(folder.name)] = (folder/'cmdline').read_bytes().decode(errors='replace')
        except OSError: pass
    return found


class Host:
    "What a program must not reach: the secret in a file, in the environment, on sockets; and a place where writers leave a trace."
    def __init__(self, folder):
        self.file, self.touched, self.name = folder/'canary.txt', folder/'touched', f'motif-{secrets.token_hex(8)}'
        self.file.write_text(SECRET)
        self.servers = [socket.create_server(('127.0.0.1', 0)), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
        self.visits = []
        self.bystander = subprocess.Popen(['sleep', '1000'], env=dict(os.environ, MOTIF_SECRET=SECRET))
        self.servers[1].bind(f'\0{self.name}')
        self.servers[2].bind(f'{self.file}.sock')
        for server in self.servers:
            server.listen()
            threading.Thread(target=self.serve, args=[server], daemon=True).start()

    def serve(self, server):
        while True:
            try: client, _ = server.accept()
            except OSError: return
            self.visits.append(server.getsockname())
            client.sendall(SECRET.encode())
            client.close()

    def arm(self, program):
        "The program with this host's names."
        port = self.servers[0].getsockname()[1]
        names = dict(FILE=self.file, TOUCH=self.touched, PORT=port, SOCKET=self.name, PID=self.bystander.pid, NAME=self.name)
        for mark, value in names.items(): program = program.replace(f'@{mark}@', str(value))
        return program

    def close(self):
        self.unharmed = self.bystander.poll() is None
        self.bystander.kill()
        self.bystander.wait()
        for server in self.servers: server.close()

    def check(self):
        "Nobody got out, and nothing is left."
        assert not self.visits, f'a program talked to a server of the host: {self.visits}'
        assert self.unharmed, 'a program killed a process of the host'
        assert not self.touched.exists(), 'a program wrote a file of the host'
        left = {pid: line[-300:] for pid, line in command_lines().items() if self.name in line}
        assert not left, f'still running: {left}'


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setenv('MOTIF_SECRET', SECRET)
    host = Host(tmp_path)
    monkeypatch.setattr(sandbox, 'PYTHON_FLAGS', [*sandbox.PYTHON_FLAGS, '-X', host.name])   # by which the processes of this test are known
    yield host
    host.close()
    host.check()


@pytest.fixture
def neighbours():
    "An honest program judged again and again beside whatever the test does; afterwards each verdict was right and in time."
    done, seconds = threading.Event(), []
    def judge_honest():
        while not done.is_set():
            began = time.monotonic()
            verdict = judge('assert double(3) == 6', 'def double(x): return 2*x')
            seconds.append((time.monotonic() - began, verdict.verdict))
            done.wait(0.2)
    thread = threading.Thread(target=judge_honest)
    thread.start()
    yield seconds
    done.set()
    thread.join()
    assert {verdict for _, verdict in seconds} == {'correct'}
    assert max(s for s, _ in seconds) < 5, 'an honest program had to wait for its neighbours'


def assault(host, cases):
    "Judge (name, form, program) four at a time; the verdicts by name, and the longest time."
    def one(case):
        name, form, program = case
        tests, suffix = FORMS[form]
        began = time.monotonic()
        verdict = judge(tests, host.arm(program) + suffix, 'answer' if form == 'apart' else None, limits=TIGHT)
        return verdict, time.monotonic() - began
    with ThreadPoolExecutor(4) as pool: results = list(pool.map(one, cases))
    rewarded = {(name, form): str(verdict) for (name, form, _), (verdict, _) in zip(cases, results) if verdict.reward != 0.0}
    assert not rewarded, f'not refused: {rewarded}'
    slow = {case[:2]: seconds for case, (_, seconds) in zip(cases, results) if seconds > TIGHT.wall_s + 4}
    assert not slow, f'took too long: {slow}'
    return {case[:2]: verdict for case, (verdict, _) in zip(cases, results)}


def test_cases_are_many_and_can_be_solved(host):
    "The task of the hostile programs is one that a program which knows the secret solves, in each form."
    assert len(QUICK) + len(GREEDY) >= 60
    for tests, suffix in FORMS.values(): assert judge(tests, f'def answer(): return {SECRET!r}{suffix}').verdict == 'correct'


def test_canaries_are_real(host):
    "Without isolation these very programs do reach the secret."
    for name in ('file', 'tcp', 'abstract_socket', 'file_socket', 'parents_environment', 'parent_root', 'dot_dot', 'subprocess'):
        assert judge(FORMS['apart'][0], host.arm(QUICK[name]), 'answer', sandbox='none').verdict == 'correct', name
    assert len(host.visits) == 3
    host.visits.clear()


@pytest.mark.parametrize('form', FORMS)
def test_hostile(host, neighbours, form):
    names = list(QUICK)
    if form == 'script': del names[names.index('frames'):names.index('forged_verdicts')]   # no judge, no object to meet
    verdicts = assault(host, [(name, form, QUICK[name]) for name in names])
    assert all(verdict.reduced_assurance == (form == 'together') for verdict in verdicts.values())


OUT_OF_TIME = {'loop_late', 'sleep', 'deadlock', 'stop_itself', 'handles_xcpu', 'threads', 'fork_bomb', 'loop', 'ignores_signals',
               'more_time', 'slow_end', 'regular_expression', 'error_output', 'clone_bomb'}
SCRIPTS = {'output', 'fill_disk', 'slow_end', 'hoard'}
LATER   = {'loop', 'ignores_signals', 'more_time', 'slow_end', 'slow_exception', 'lazy_forever', 'regular_expression', 'error_output',
           'clone_bomb', 'slow_equality', 'report_flood', 'deadlock', 'big_power'}   # each is much like one that is judged always
SAID = dict(output='KiB of output', hoard='MemoryError', hoard_late='MemoryError', more_memory='MemoryError', large_value='too many to')
ROUNDS = [pytest.param(sorted(GREEDY.keys() - LATER), id='first'), pytest.param(sorted(LATER), marks=pytest.mark.slow, id='later')]


@pytest.mark.parametrize('names', ROUNDS)
def test_greedy(host, neighbours, names):
    verdicts = assault(host, [(name, 'script' if name in SCRIPTS else 'apart', GREEDY[name]) for name in names])
    for (name, _), verdict in verdicts.items():
        assert verdict.verdict == 'timeout' or name not in OUT_OF_TIME, (name, verdict)
        assert SAID.get(name, '') in verdict.detail, (name, verdict)


def test_processor_time_ends_a_program_long_before_the_wall_clock():
    verdict = judge('assert f(1)', 'while True: pass', limits=Limits(cpu_s=1, wall_s=60))
    assert (verdict.verdict, verdict.detail) == ('timeout', 'too much processor time')


IN_ONE_PROCESS = {'all_late', 'arguments', 'unittest', 'container'}   # these succeed there: that is what the mark is for


@pytest.mark.parametrize('shared', [False, True], ids=['apart', 'together'])
def test_tools_of_the_tests(host, shared):
    "Each test has one thing between the program and a reward, and the program attacks just that."
    def one(name):
        tests, program = TOOLS[name]
        if shared: tests, program = tests + '\nassert Extra().n == 1\n', program + '\nclass Extra: n = 1\n'
        return judge(tests, program, 'f', limits=TIGHT)
    names = sorted(TOOLS.keys() - (IN_ONE_PROCESS if shared else set()))
    with ThreadPoolExecutor(4) as pool: verdicts = dict(zip(names, pool.map(one, names)))
    assert {verdict.reward for verdict in verdicts.values()} == {0.0}, verdicts
    assert {verdict.reduced_assurance for verdict in verdicts.values()} == {shared}


def test_honest_programs_pass(host):
    cases = HONEST | HONEST_TOGETHER
    def one(case):
        tests, program = case
        return judge(tests, program, 'f' if 'check(' in str(tests) else None)
    with ThreadPoolExecutor(4) as pool: verdicts = dict(zip(cases, pool.map(one, cases.values())))
    wrong = {name: str(verdict) for name, verdict in verdicts.items()
             if (verdict.verdict, verdict.reduced_assurance) != ('correct', name in HONEST_TOGETHER)}
    assert not wrong, wrong


@pytest.mark.parametrize('tests, verdict', [
    ('assert f(', 'verifier_error'), ('x = 1', 'verifier_error'), ('f = 1\nassert f', 'verifier_error'),
    ('import numpy\nassert f(1)', 'verifier_error'), ('import numpy\nassert Foo().f(1)', 'verifier_error'),
    ('import os\nassert f(1)\nos._exit(3)', 'verifier_error'),
    ('def test(): assert f(1)', 'verifier_error'),
    (dict(inputs=['1'], outputs=[None]), 'verifier_error'), ('assert g(1) == 1', 'wrong'),
    ('def check(c): assert c(1) == 2', 'wrong'), ('while f(1): pass', 'timeout'),
])
def test_broken_tests_have_no_reward(tests, verdict):
    said = judge(tests, 'def f(x): return x', limits=TIGHT)
    assert said.verdict == verdict, said


def test_no_program():
    task = Task(id='t', question='…', domain='code', metadata=dict(tests='assert f(1)'))
    for response in ('', '<think>```python\ndef f(x): return 1\n```', '<think>x</think>', '```python\n\n```'):
        assert verify_code(task, response).verdict == 'no_answer', response


def test_an_unprivileged_user(tmp_path):
    "The same verdicts for a user without rights, and for root; the library is all that user needs to read."
    if os.getuid(): pytest.skip('needs root to become somebody else')
    if not os.access('/usr/bin/python3', os.X_OK): pytest.skip('needs a Python that everybody may run')
    root = Path(sandbox.__file__).parents[2]
    shutil.copytree(root/'motif_repro', tmp_path/'motif_repro', ignore=shutil.ignore_patterns('__pycache__'))
    for folder in (tmp_path, *tmp_path.parents[:-2]): folder.chmod(0o755)
    script = ("import os, motif_repro.tasks.sandbox as s, time\nassert os.getuid() == 65533\nprint(repr(s.sandbox_problem()))\n"
              "def work(args):\n    import os\n    os.write(args[0], str(os.getuid()).encode())\n"
              "with s.start([work], []) as box: print(s.read_all({box.report: 99}, time.monotonic() + 9)[0][box.report])\n")
    run = subprocess.run(['/usr/bin/python3', '-c', script], cwd=tmp_path, user=65533, group=65533, extra_groups=[],
                         env=dict(PATH='/usr/bin:/bin', PYTHONPATH=str(tmp_path)), capture_output=True, text=True, timeout=60)
    assert run.stdout.splitlines() == ["''", "b'+65534'"], run.stdout + run.stderr


def test_without_bubblewrap(monkeypatch, tmp_path):
    "No sandbox: an error that says what to do, and never a weaker sandbox instead; 'none' must be asked for, and is marked."
    monkeypatch.setenv('PATH', str(tmp_path))
    assert 'apt-get install bubblewrap' in sandbox_problem()
    with pytest.raises(UserError, match='bubblewrap'): judge('assert f(1)', 'def f(x): return x')
    verdict = judge('assert f(1)', 'def f(x): return x', sandbox='none')
    assert (verdict.verdict, verdict.reduced_assurance) == ('correct', True)
    broken = tmp_path/'bwrap'
    broken.write_text('#!/bin/sh\necho "bwrap: No permissions to create a new namespace" >&2\nexit 1\n')
    broken.chmod(0o755)
    assert 'No permissions' in sandbox_problem() and 'docker run' in sandbox_problem()


OPEN = [('--unshare-net', 'servers of the host'), ('--seccomp', 'new processes'), ('--remount-ro', 'writing files')]


@pytest.mark.parametrize('left_out, found', OPEN)
def test_the_scout_sees_what_is_open(monkeypatch, tmp_path, left_out, found):
    "A bubblewrap that ignores one of our wishes is not trusted."
    takes = 0 if left_out == '--unshare-net' else 1
    fake = tmp_path/'bwrap'
    fake.write_text(f'#!{sys.executable}\nimport os, sys\nargs = sys.argv[1:]\ni = args.index({left_out!r})\ndel args[i:i + 1 + {takes}]\n'
                    f'os.execv({shutil.which("bwrap")!r}, ["bwrap", *args])\n')
    fake.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path))
    assert 'leaves open here: ' in sandbox_problem() and found in sandbox_problem()


def test_a_sandbox_that_fails_later_is_no_verdict_on_the_program(monkeypatch):
    assert not sandbox_problem()
    monkeypatch.setattr(sandbox, 'bubblewrap_command', lambda bwrap: (bwrap, '--ro-bind', '/no/such/folder', '/x'))
    for tests in ('assert f(1)', 'assert F()', dict(inputs=[''], outputs=[''])):
        verdict = judge(tests, 'def f(x): return x')
        assert verdict.verdict == 'verifier_error' and '/no/such/folder' in verdict.detail


def test_the_judge_dies_with_us(host, tmp_path):
    "kill -9 of the process that judges takes its sandboxes along."
    script = ("import sys\nfrom motif_repro.tasks import sandbox\nsandbox.PYTHON_FLAGS += ['-X', sys.argv[1]]\n"
              "from motif_repro.tasks.code import verify_code\nfrom motif_repro.tasks.schema import Task\n"
              "task = Task(id='t', question='…', domain='code', metadata=dict(tests='f()'))\n"
              "verify_code(task, 'import time\\ntime.sleep(100)', limits=sandbox.Limits(wall_s=100))")
    def running(): return [pid for pid, line in command_lines().items() if host.name in line and pid != process.pid]
    def wait_for(condition):
        for _ in range(200):
            if condition(): return True
            time.sleep(0.05)
    process = subprocess.Popen([sys.executable, '-c', script, host.name])
    assert wait_for(lambda: len(running()) >= 6), 'two sandboxes of three processes each'
    process.kill()
    process.wait()
    assert wait_for(lambda: not running())
