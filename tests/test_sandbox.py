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

from hostile import GREEDY, QUICK

pytestmark = pytest.mark.skipif(sys.platform != 'linux' or not shutil.which('bwrap'), reason='needs Linux and bubblewrap (apt-get install bubblewrap)')
TIGHT  = Limits(cpu_s=1, wall_s=3, memory_mib=300, output_kib=200)
SECRET = 'SECRET-' + secrets.token_hex(16)
FORMS  = dict(
    apart=(f"def check(candidate):\n    assert candidate() == {SECRET!r}\n", ''),
    together=(f"assert Box().answer() == {SECRET!r}\n", '\nclass Box:\n    def answer(self): return answer()\n'),
    script=(dict(inputs=[''], outputs=[SECRET]), '\nprint(answer())\n'),
)


def judge(tests, program, entry_point=None, **options):
    return verify_code(Task(id='t', question='…', domain='code', metadata=dict(tests=tests, entry_point=entry_point)), f'```python\n{program}\n```', **options)


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
        self.servers, self.visits = [socket.create_server(('127.0.0.1', 0)), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)], []
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
        for mark, value in dict(FILE=self.file, TOUCH=self.touched, PORT=self.servers[0].getsockname()[1], SOCKET=self.name, PID=self.bystander.pid, NAME=self.name).items():
            program = program.replace(f'@{mark}@', str(value))
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
    verdicts = assault(host, [(name, form, program) for name, program in QUICK.items()])
    assert all(verdict.reduced_assurance == (form == 'together') for verdict in verdicts.values())


OUT_OF_TIME = {'loop_late', 'sleep', 'deadlock', 'stop_itself', 'handles_xcpu', 'threads', 'fork_bomb', 'loop', 'ignores_signals', 'more_time', 'slow_end',
               'regular_expression', 'error_output', 'clone_bomb'}
SCRIPTS, LATER = {'output', 'fill_disk', 'slow_end', 'hoard'}, {'loop', 'ignores_signals', 'more_time', 'slow_end', 'slow_exception', 'lazy_forever',
          'regular_expression', 'error_output', 'clone_bomb', 'slow_equality', 'report_flood', 'deadlock', 'big_power'}   # like one that is judged always
SAID = dict(output='KiB of output', hoard='MemoryError', hoard_late='MemoryError', more_memory='MemoryError', large_value='too many to cross')


@pytest.mark.parametrize('names', [sorted(GREEDY.keys() - LATER), pytest.param(sorted(LATER), marks=pytest.mark.slow)], ids=['first', 'later'])
def test_greedy(host, neighbours, names):
    verdicts = assault(host, [(name, 'script' if name in SCRIPTS else 'apart', GREEDY[name]) for name in names])
    for (name, _), verdict in verdicts.items():
        assert verdict.verdict == 'timeout' or name not in OUT_OF_TIME, (name, verdict)
        assert SAID.get(name, '') in verdict.detail, (name, verdict)


# what an honest test uses → a program that would pass if it could exchange it
TOOLS = dict(
    abs=('assert abs(f(2) - 4) < 1e-6', 'import builtins\nbuiltins.abs = lambda x: 0\ndef abs(x): return 0\ndef f(x): return 1'),
    math=('import math\nassert math.isclose(f(2), 4)', 'import math\nmath.isclose = lambda *a, **k: True\ndef f(x): return 1'),
    math_late=('import math\nassert math.isclose(f(2), 4)', 'def f(x):\n    import math\n    math.isclose = lambda *a, **k: True\n    return 1'),
    all=('assert all(f(x) == x*x for x in range(4))', 'import builtins\nbuiltins.all = all = lambda it: True\ndef f(x): return 1'),
    all_late=('assert all(map(lambda x: f(x) == x*x, range(4)))', 'def f(x): raise StopIteration'),
    sorted=('assert sorted(f([2, 1])) == [1, 2]', 'import builtins\nbuiltins.sorted = sorted = lambda x: [1, 2]\ndef f(x): return [1]'),
    isinstance=('assert isinstance(f(1), str)', 'import builtins\nbuiltins.isinstance = isinstance = lambda *a: True\ndef f(x): return 1'),
    len=('assert len(f(3)) == 3', 'import builtins\nbuiltins.len = len = lambda x: 3\ndef f(x): return []'),
    order=('assert abs(f(2) - 4) < 1e-6', 'class A:\n    __sub__ = __abs__ = lambda s, *o: s\n    __lt__ = lambda s, o: True\ndef f(x): return A()'),
    membership=('assert f(2) in (4, 5)', 'class A:\n    __eq__ = lambda s, o: True\ndef f(x): return A()'),
    container=('assert 4 in f(2)', 'class A(list):\n    __contains__ = lambda s, o: True\ndef f(x): return A()'),
    within=('assert f(2) == [4, {"a": (4,)}]', 'class A:\n    __eq__ = lambda s, o: True\ndef f(x): return [A(), {"a": (A(),)}]'),
    reverse=('assert 4 == f(2)', 'class A(int):\n    __eq__ = lambda s, o: True\ndef f(x): return A()'),
    unequal=('assert not f(2) != 4', 'class A(float):\n    __ne__ = lambda s, o: False\ndef f(x): return A()'),
    hash=('assert f(2) in {4}', 'class A(int):\n    __hash__ = lambda s: hash(4)\n    __eq__ = lambda s, o: True\ndef f(x): return A()'),
    arguments=('x = [2, 1]\nassert f(x) == sorted(x)', 'def f(x):\n    x.clear()\n    return []'),
    nan=('assert f(2) == 4 and not f(2) < 4', 'def f(x): return float("nan")'),
    random=('import random\nrandom.seed(1)\nx = random.random()\nassert f(x) == 2*x', 'import random\nrandom.random = lambda: 0\ndef f(x): return 0'),
    own_check=('def check(candidate):\n    assert candidate(2) == 4', 'def f(x): return 1\ndef check(candidate): pass\nclass AssertionError(Exception): pass'),
    unittest=('import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(f(2), 4)',
              'import unittest\nunittest.TestCase.assertEqual = lambda *a: None\nunittest.TestResult.addFailure = lambda *a: None\ndef f(x): return 1'),
)


@pytest.mark.parametrize('shared', [False, True], ids=['apart', 'together'])
def test_tools_of_the_tests(host, shared):
    "Each test has one thing between the program and a reward, and the program attacks just that."
    def one(name):
        tests, program = TOOLS[name]
        if shared: tests, program = tests + '\nassert Extra().n == 1\n', program + '\nclass Extra: n = 1\n'
        return judge(tests, program, 'f', limits=TIGHT)
    names = sorted(TOOLS.keys() - ({'all_late', 'arguments', 'unittest', 'container', 'random'} if shared else set()))   # in one process these succeed
    with ThreadPoolExecutor(4) as pool: verdicts = dict(zip(names, pool.map(one, names)))
    assert {verdict.reward for verdict in verdicts.values()} == {0.0}, verdicts
    assert {verdict.reduced_assurance for verdict in verdicts.values()} == {shared}


# name → tests, program: all correct
HONEST = dict(
    human_eval=('METADATA = {}\ndef check(candidate):\n    assert candidate([1., 2.8, 3.9], .3) == False\n    assert candidate([1., 2.8, 3., 4.], .3) == True\n',
                'from typing import List\ndef f(numbers: List[float], threshold: float) -> bool:\n    """Example.\n    >>> f([1.0], 0.5)\n    False\n    """\n'
                '    return any(abs(a - b) < threshold for i, a in enumerate(numbers) for b in numbers[:i])'),
    helper=('import math, random, copy\ndef check(candidate):\n    rng = random.Random(42)\n    for _ in range(20):\n'
            '        xs = [rng.randint(-9, 9) for _ in range(3)] + [1]\n        solution = candidate(copy.deepcopy(xs))\n'
            '        assert math.fabs(poly(xs, solution)) < 1e-4\n',
            'import math\ndef poly(xs, x): return sum(c*math.pow(x, i) for i, c in enumerate(xs))\ndef f(xs):\n    a, b = -1., 1.\n'
            '    while poly(xs, a)*poly(xs, b) > 0: a *= 2; b *= 2\n    while b - a > 1e-10:\n        c = (a + b)/2\n'
            '        a, b = (c, b) if poly(xs, c)*poly(xs, a) > 0 else (a, c)\n    return a'),
    mbpp=(['assert set(common((3, 4, 5), (5, 4))) == set((4, 5))', 'assert common((1,), (1,)) == (1,)'], 'def common(a, b): return tuple(set(a) & set(b))'),
    mbpp_builtin_name=(['assert sum(10, 15) == 6'], 'def sum(a, b): return 6'),
    builtin_names=('assert max(f([3, 1])) == 3', 'def max(xs): return -1\ndef f(xs): return xs'),
    types=('assert f() == (1, {2}, {"a": frozenset({3})}, 2j, float("inf"), b"x", None, True, range(3))\nassert type(f()[-2]) is bool',
           'def f(): return 1, {2}, {"a": frozenset({3})}, 2j, float("inf"), b"x", None, True, range(3)'),
    collections=('assert f("aab") == {"a": 2, "b": 1} and g() == (1, 2) and h()["x"] == [1]',
                 'from collections import *\ndef f(s): return Counter(s)\ndef g(): return namedtuple("P", "x y")(1, 2)\ndef h():\n    d = defaultdict(list)\n'
                 '    d["x"].append(1)\n    return d'),
    exceptions=('import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        with self.assertRaises(ValueError) as c: f(-1)\n'
                '        self.assertIn("negative", str(c.exception))\n        self.assertRaises(ZeroDivisionError, f, 0)\n        self.assertEqual(f(2), 0.5)\n',
                'class Negative(ValueError): pass\ndef f(x):\n    if x < 0: raise Negative("negative")\n    return 1/x'),
    key_error=('try: f()\nexcept KeyError as e: assert e.args == ("x",), e.args\nelse: assert False', 'def f(): return {}["x"]'),
    state=('assert [count(), count(), count()] == [1, 2, 3]', 'def counter():\n    n = 0\n    def count():\n        nonlocal n\n        n += 1\n        return n\n'
           '    return count\ncount = counter()'),
    arguments=('assert f(1) == 111 and f(1, 2) == 121 and f(1, c=3) == 131 and f(b=5, a=1, c=0) == 151 and f(*[1], **{"c": 2}) == 121',
               'def f(a, b=1, *, c=0): return 100*a + 10*(c or b) + 1 if c or b != 1 else 111'),
    in_place=('xs, d, s = [2, 1], {}, {1}\nf(xs, d, s)\nassert (xs, d, s) == ([1, 2], {1: 2}, {1, 5})', 'def f(xs, d, s): xs.sort(); d[1] = 2; s.add(5)'),
    generators=('assert list(f(3)) == [0, 1, 2]\nassert sum(f(2000)) == 1999000\nassert next(g()) == 1\nassert list(f(f2)) == [0, 1]'.replace('f2', 'len(list(f(2)))'),
                'def f(n): yield from range(n)\ndef g():\n    n = 0\n    while True: n += 1; yield n'),
    lambda_function=('assert f(2) == 4', 'f = lambda x: x*x'),
    wrapped=('assert f(30) == 832040', 'import functools\n@functools.lru_cache(None)\ndef f(n): return n if n < 2 else f(n - 1) + f(n - 2)'),
    recursion=('assert f(5000) == 5000', 'import sys\nsys.setrecursionlimit(10**5)\ndef f(n): return n and 1 + f(n - 1)'),
    threads=('assert f(4) == 6', 'from concurrent.futures import ThreadPoolExecutor\ndef f(n):\n    with ThreadPoolExecutor() as p: return sum(p.map(int, range(n)))'),
    library=('assert f("2024-02-28") == "2024-02-29" and g([3, 1, 2]) == 1 and h("a1") == ["1"]',
             'import datetime, heapq, re, json, itertools, bisect, string, decimal, fractions, dataclasses, enum, statistics, hashlib\n'
             'def f(s): return str(datetime.date.fromisoformat(s) + datetime.timedelta(1))\ndef g(xs): heapq.heapify(xs); return heapq.heappop(xs)\n'
             'def h(s): return re.findall(r"\\d", s)'),
    prints=('assert f(1) == 2', 'print("x"*10**6)\ndef f(x): print("debug"); return x + 1'),
    main=('assert f(1) == 2', 'def f(x): return x + 1\nif __name__ == "__main__": print(f(int(input())))'),
    large=('assert len(f(10**5)) == 10**5 and f(3) == [0, 1, 2]', 'def f(n): return list(range(n))'),
    huge_numbers=('assert f(5000) == 7**5000', 'def f(n): return 7**n'),
    text=('assert f("é\\n日本") == "本日\\né" and f("\\ud800") == "\\ud800"', 'def f(s): return s[::-1]'),
    constant=('assert LIMIT == 3 and f() == 3', 'LIMIT = 3\ndef f(): return LIMIT'),
    quits=(dict(inputs=['1'], outputs=['1']), 'print(input())\nexit()'),
    script=(dict(inputs=['3\n1 2 3\n', '1\n-5\n'], outputs=['6\n', '-5']), 'import sys\ndef main():\n    n, *xs = map(int, sys.stdin.read().split())\n'
            '    print(sum(xs), " ")\nif __name__ == "__main__": main()'),
    script_open=(dict(inputs=['a b'], outputs=['b\na']), 'a, b = open(0).read().split()\nprint(b, a, sep="\\n")'),
    script_lines=(dict(inputs=[['1', '2']], outputs=[['3']]), 'print(int(input()) + int(input()))'),
    script_recursion=(dict(inputs=['20000'], outputs=['20000']), 'import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(2**27)\n'
                      'def f(n): return n and 1 + f(n - 1)\ndef main(): print(f(int(input())))\nt = threading.Thread(target=main)\nt.start()\nt.join()'),
)
HONEST_TOGETHER = dict(
    classes=('s = Stack()\ns.push(1)\nassert s.pop() == 1 and isinstance(s, Stack) and s != 1\nassert Stack() == Stack()',
             'from dataclasses import dataclass, field\n@dataclass\nclass Stack:\n    xs: list = field(default_factory=list)\n    def push(self, x): self.xs.append(x)\n'
             '    def pop(self): return self.xs.pop()'),
    functions=('assert adder(2)(3) == 5', 'def adder(n): return lambda x: x + n'),
    callbacks=('assert twice(lambda x: x + 1, 1) == 3', 'def twice(f, x): return f(f(x))'),
    named=('def key(x): return -x\nassert order([1, 2], key) == [2, 1]', 'def order(xs, key): return sorted(xs, key=key)'),
    own_exception=('try: f()\nexcept OwnError as e: assert e.code == 3\nelse: assert False', 'class OwnError(Exception): code = 3\ndef f(): raise OwnError'),
    coroutines=('import asyncio\nassert asyncio.run(f(2)) == 4', 'import asyncio\nasync def f(x): await asyncio.sleep(0); return x*2'),
    attributes=('p = make(1, 2)\nassert p.x == 1 and 0 < p.y <= 2', 'from collections import namedtuple\ndef make(x, y): return namedtuple("P", "x y")(x, y)'),
    check=('def check(candidate):\n    t = candidate([1, 2])\n    assert t.value == 1 and t.next.value == 2 and t.next.next is None',
           'from typing import NamedTuple\nimport enum\nclass Kind(enum.Enum): A = 1\nclass Node(NamedTuple):\n    value: int\n    next: object\n'
           'def f(xs): return Node(xs[0], f(xs[1:])) if xs else None'),
)


def test_honest_programs_pass(host):
    cases = [(tests, program, False) for tests, program in HONEST.values()] + [(tests, program, True) for tests, program in HONEST_TOGETHER.values()]
    with ThreadPoolExecutor(4) as pool: verdicts = list(pool.map(lambda case: judge(case[0], case[1], 'f' if 'check(' in str(case[0]) else None), cases))
    wrong = {name: str(verdict) for (name, verdict, case) in zip([*HONEST, *HONEST_TOGETHER], verdicts, cases)
             if verdict.verdict != 'correct' or verdict.reduced_assurance != case[2]}
    assert not wrong, wrong


@pytest.mark.parametrize('tests, verdict', [
    ('assert f(', 'verifier_error'), ('x = 1', 'verifier_error'), ('f = 1\nassert f', 'verifier_error'),
    ('import numpy\nassert f(1)', 'verifier_error'), ('import numpy\nassert Foo().f(1)', 'verifier_error'), ('import os\nassert f(1)\nos._exit(3)', 'verifier_error'),
    ('def test(): assert f(1)', 'verifier_error'),
    (dict(inputs=['1'], outputs=[None]), 'verifier_error'), ('assert g(1) == 1', 'wrong'), ('def check(c): assert c(1) == 2', 'wrong'), ('while f(1): pass', 'timeout'),
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
    run = subprocess.run(['/usr/bin/python3', '-c', script], cwd=tmp_path, user=65533, group=65533, extra_groups=[], env=dict(PATH='/usr/bin:/bin', PYTHONPATH=str(tmp_path)),
                         capture_output=True, text=True, timeout=60)
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


@pytest.mark.parametrize('left_out, found', [('--unshare-net', 'servers of the host'), ('--seccomp', 'new processes'), ('--remount-ro', 'writing files')])
def test_the_scout_sees_what_is_open(monkeypatch, tmp_path, left_out, found):
    "A bubblewrap that ignores one of our wishes is not trusted."
    takes = 0 if left_out == '--unshare-net' else 1
    fake = tmp_path/'bwrap'
    fake.write_text(f'#!{sys.executable}\nimport os, sys\nargs = sys.argv[1:]\ni = args.index({left_out!r})\ndel args[i:i + 1 + {takes}]\nos.execv({shutil.which("bwrap")!r}, ["bwrap", *args])\n')
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
    script = ("import sys\nfrom motif_repro.tasks import sandbox\nsandbox.PYTHON_FLAGS += ['-X', sys.argv[1]]\nfrom motif_repro.tasks.code import verify_code\n"
              "from motif_repro.tasks.schema import Task\n"
              "verify_code(Task(id='t', question='…', domain='code', metadata=dict(tests='f()')), 'import time\\ntime.sleep(100)', limits=sandbox.Limits(wall_s=100))")
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
