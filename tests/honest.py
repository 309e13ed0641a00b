"Programs beside the hostile ones: honest ones, and ones that attack just what their tests use. name → tests, program."

# each test has one thing between the program and a reward, and the program attacks that
TOOLS = dict(
    abs=('assert abs(f(2) - 4) < 1e-6', r'''
import builtins
builtins.abs = lambda x: 0
def abs(x): return 0
def f(x): return 1
'''),
    math=(r'''
import math
assert math.isclose(f(2), 4)
''', r'''
import math
math.isclose = lambda *a, **k: True
def f(x): return 1
'''),
    math_late=(r'''
import math
assert math.isclose(f(2), 4)
''', r'''
def f(x):
    import math
    math.isclose = lambda *a, **k: True
    return 1
'''),
    all=('assert all(f(x) == x*x for x in range(4))', r'''
import builtins
builtins.all = all = lambda it: True
def f(x): return 1
'''),
    all_late=('assert all(map(lambda x: f(x) == x*x, range(4)))', 'def f(x): raise StopIteration'),
    sorted=('assert sorted(f([2, 1])) == [1, 2]', r'''
import builtins
builtins.sorted = sorted = lambda x: [1, 2]
def f(x): return [1]
'''),
    isinstance=('assert isinstance(f(1), str)', r'''
import builtins
builtins.isinstance = isinstance = lambda *a: True
def f(x): return 1
'''),
    len=('assert len(f(3)) == 3', r'''
import builtins
builtins.len = len = lambda x: 3
def f(x): return []
'''),
    order=('assert abs(f(2) - 4) < 1e-6', r'''
class A:
    __sub__ = __abs__ = lambda s, *o: s
    __lt__ = lambda s, o: True
def f(x): return A()
'''),
    membership=('assert f(2) in (4, 5)', r'''
class A:
    __eq__ = lambda s, o: True
def f(x): return A()
'''),
    container=('assert 4 in f(2)', r'''
class A(list):
    __contains__ = lambda s, o: True
def f(x): return A()
'''),
    within=('assert f(2) == [4, {"a": (4,)}]', r'''
class A:
    __eq__ = lambda s, o: True
def f(x): return [A(), {"a": (A(),)}]
'''),
    reverse=('assert 4 == f(2)', r'''
class A(int):
    __eq__ = lambda s, o: True
def f(x): return A()
'''),
    unequal=('assert not f(2) != 4', r'''
class A(float):
    __ne__ = lambda s, o: False
def f(x): return A()
'''),
    hash=('assert f(2) in {4}', r'''
class A(int):
    __hash__ = lambda s: hash(4)
    __eq__ = lambda s, o: True
def f(x): return A()
'''),
    arguments=(r'''
x = [2, 1]
assert f(x) == sorted(x)
''', r'''
def f(x):
    x.clear()
    return []
'''),
    nan=('assert f(2) == 4 and not f(2) < 4', 'def f(x): return float("nan")'),
    random=(r'''
import random
random.seed(1)
x = random.random()
assert f(x) == 2*x
''', r'''
import random
random.random = lambda: 0
def f(x): return 0
'''),
    own_check=(r'''
def check(candidate):
    assert candidate(2) == 4
''', r'''
def f(x): return 1
def check(candidate): pass
class AssertionError(Exception): pass
'''),
    unittest=(r'''
import unittest
class T(unittest.TestCase):
    def test(self): self.assertEqual(f(2), 4)
''', r'''
import unittest
unittest.TestCase.assertEqual = lambda *a: None
unittest.TestResult.addFailure = lambda *a: None
def f(x): return 1
'''),
)

# all correct
HONEST = dict(
    human_eval=(r'''
METADATA = {}
def check(candidate):
    assert candidate([1., 2.8, 3.9], .3) == False
    assert candidate([1., 2.8, 3., 4.], .3) == True
''', r'''
from typing import List
def f(numbers: List[float], threshold: float) -> bool:
    """Example.
    >>> f([1.0], 0.5)
    False
    """
    return any(abs(a - b) < threshold for i, a in enumerate(numbers) for b in numbers[:i])
'''),
    helper=(r'''
import math, random, copy
def check(candidate):
    rng = random.Random(42)
    for _ in range(20):
        xs = [rng.randint(-9, 9) for _ in range(3)] + [1]
        solution = candidate(copy.deepcopy(xs))
        assert math.fabs(poly(xs, solution)) < 1e-4
''', r'''
import math
def poly(xs, x): return sum(c*math.pow(x, i) for i, c in enumerate(xs))
def f(xs):
    a, b = -1., 1.
    while poly(xs, a)*poly(xs, b) > 0: a *= 2; b *= 2
    while b - a > 1e-10:
        c = (a + b)/2
        a, b = (c, b) if poly(xs, c)*poly(xs, a) > 0 else (a, c)
    return a
'''),
    mbpp=(['assert set(common((3, 4, 5), (5, 4))) == set((4, 5))', 'assert common((1,), (1,)) == (1,)'],
          'def common(a, b): return tuple(set(a) & set(b))'),
    mbpp_builtin_name=(['assert sum(10, 15) == 6'], 'def sum(a, b): return 6'),
    builtin_names=('assert max(f([3, 1])) == 3', r'''
def max(xs): return -1
def f(xs): return xs
'''),
    types=(r'''
assert f() == (1, {2}, {"a": frozenset({3})}, 2j, float("inf"), b"x", None, True, range(3))
assert type(f()[-2]) is bool
''', 'def f(): return 1, {2}, {"a": frozenset({3})}, 2j, float("inf"), b"x", None, True, range(3)'),
    collections=('assert f("aab") == {"a": 2, "b": 1} and g() == (1, 2) and h()["x"] == [1]', r'''
from collections import *
def f(s): return Counter(s)
def g(): return namedtuple("P", "x y")(1, 2)
def h():
    d = defaultdict(list)
    d["x"].append(1)
    return d
'''),
    exceptions=(r'''
import unittest
class T(unittest.TestCase):
    def test(self):
        with self.assertRaises(ValueError) as c: f(-1)
        self.assertIn("negative", str(c.exception))
        self.assertRaises(ZeroDivisionError, f, 0)
        self.assertEqual(f(2), 0.5)
''', r'''
class Negative(ValueError): pass
def f(x):
    if x < 0: raise Negative("negative")
    return 1/x
'''),
    key_error=(r'''
try: f()
except KeyError as e: assert e.args == ("x",), e.args
else: assert False
''', 'def f(): return {}["x"]'),
    state=('assert [count(), count(), count()] == [1, 2, 3]', r'''
def counter():
    n = 0
    def count():
        nonlocal n
        n += 1
        return n
    return count
count = counter()
'''),
    arguments=(r'''
assert f(1) == 111 and f(1, 2) == 121 and f(1, c=3) == 131 and f(b=5, a=1, c=0) == 151 and f(*[1], **{"c": 2}) == 121
''', 'def f(a, b=1, *, c=0): return 100*a + 10*(c or b) + 1 if c or b != 1 else 111'),
    in_place=(r'''
xs, d, s = [2, 1], {}, {1}
f(xs, d, s)
assert (xs, d, s) == ([1, 2], {1: 2}, {1, 5})
''', 'def f(xs, d, s): xs.sort(); d[1] = 2; s.add(5)'),
    generators=(r'''
assert list(f(3)) == [0, 1, 2]
assert sum(f(2000)) == 1999000
assert next(g()) == 1
assert list(f(len(list(f(2))))) == [0, 1]
''', r'''
def f(n): yield from range(n)
def g():
    n = 0
    while True: n += 1; yield n
'''),
    lambda_function=('assert f(2) == 4', 'f = lambda x: x*x'),
    wrapped=('assert f(30) == 832040', r'''
import functools
@functools.lru_cache(None)
def f(n): return n if n < 2 else f(n - 1) + f(n - 2)
'''),
    recursion=('assert f(5000) == 5000', r'''
import sys
sys.setrecursionlimit(10**5)
def f(n): return n and 1 + f(n - 1)
'''),
    threads=('assert f(4) == 6', r'''
from concurrent.futures import ThreadPoolExecutor
def f(n):
    with ThreadPoolExecutor() as p: return sum(p.map(int, range(n)))
'''),
    library=('assert f("2024-02-28") == "2024-02-29" and g([3, 1, 2]) == 1 and h("a1") == ["1"]', r'''
import datetime, heapq, re, json, itertools, bisect, string, decimal, fractions, dataclasses, enum, statistics, hashlib
def f(s): return str(datetime.date.fromisoformat(s) + datetime.timedelta(1))
def g(xs): heapq.heapify(xs); return heapq.heappop(xs)
def h(s): return re.findall(r"\d", s)
'''),
    prints=('assert f(1) == 2', r'''
print("x"*10**6)
def f(x): print("debug"); return x + 1
'''),
    main=('assert f(1) == 2', r'''
def f(x): return x + 1
if __name__ == "__main__": print(f(int(input())))
'''),
    large=('assert len(f(10**5)) == 10**5 and f(3) == [0, 1, 2]', 'def f(n): return list(range(n))'),
    huge_numbers=('assert f(5000) == 7**5000', 'def f(n): return 7**n'),
    text=(r'''
assert f("é\n日本") == "本日\né" and f("\ud800") == "\ud800"
''', 'def f(s): return s[::-1]'),
    constant=('assert LIMIT == 3 and f() == 3', r'''
LIMIT = 3
def f(): return LIMIT
'''),
    quits=({'inputs': ['1'], 'outputs': ['1']}, r'''
print(input())
exit()
'''),
    script=({'inputs': ['3\n1 2 3\n', '1\n-5\n'], 'outputs': ['6\n', '-5']}, r'''
import sys
def main():
    n, *xs = map(int, sys.stdin.read().split())
    print(sum(xs), " ")
if __name__ == "__main__": main()
'''),
    script_open=({'inputs': ['a b'], 'outputs': ['b\na']}, r'''
a, b = open(0).read().split()
print(b, a, sep="\n")
'''),
    script_lines=({'inputs': [['1', '2']], 'outputs': [['3']]}, 'print(int(input()) + int(input()))'),
    script_recursion=({'inputs': ['20000'], 'outputs': ['20000']}, r'''
import sys, threading
sys.setrecursionlimit(10**6)
threading.stack_size(2**27)
def f(n): return n and 1 + f(n - 1)
def main(): print(f(int(input())))
t = threading.Thread(target=main)
t.start()
t.join()
'''),
)

# all correct, in one process with their tests
HONEST_TOGETHER = dict(
    classes=(r'''
s = Stack()
s.push(1)
assert s.pop() == 1 and isinstance(s, Stack) and s != 1
assert Stack() == Stack() and ((Stack() == s.xs) is False) and (3 < len(s.xs)) == False
''', r'''
from dataclasses import dataclass, field
@dataclass
class Stack:
    xs: list = field(default_factory=list)
    def push(self, x): self.xs.append(x)
    def pop(self): return self.xs.pop()
'''),
    functions=('assert adder(2)(3) == 5', 'def adder(n): return lambda x: x + n'),
    callbacks=('assert twice(lambda x: x + 1, 1) == 3', 'def twice(f, x): return f(f(x))'),
    named=(r'''
def key(x): return -x
assert order([1, 2], key) == [2, 1]
''', 'def order(xs, key): return sorted(xs, key=key)'),
    own_exception=(r'''
try: f()
except OwnError as e: assert e.code == 3
else: assert False
''', r'''
class OwnError(Exception): code = 3
def f(): raise OwnError
'''),
    coroutines=(r'''
import asyncio
assert asyncio.run(f(2)) == 4
''', r'''
import asyncio
async def f(x): await asyncio.sleep(0); return x*2
'''),
    attributes=(r'''
p = make(1, 2)
assert p.x == 1 and 0 < p.y <= 2
''', r'''
from collections import namedtuple
def make(x, y): return namedtuple("P", "x y")(x, y)
'''),
    check=(r'''
def check(candidate):
    t = candidate([1, 2])
    assert t.value == 1 and t.next.value == 2 and t.next.next is None
''', r'''
from typing import NamedTuple
import enum
class Kind(enum.Enum): A = 1
class Node(NamedTuple):
    value: int
    next: object
def f(xs): return Node(xs[0], f(xs[1:])) if xs else None
'''),
)
