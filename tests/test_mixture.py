"A mixture that is stopped anywhere continues with the very row it would have drawn; what is drawn follows the schedule."
from collections import Counter

import numpy as np
import pytest

from motif_repro.alignment.mixture import Kinds, Mixture, Schedule, moving, plan_kinds, staged, static, two_stage
from motif_repro.alignment.traces import Trace
from motif_repro.core.errors import UserError

def trace(domain, difficulty, size, n):
    return Trace(task_id=f'{domain}-{difficulty}-{size}-{n}', teacher='me', question='q', reasoning='x'*size, answer='1', domain=domain,
                 difficulty=difficulty)

KINDS = Kinds(difficulty=(3,), length=(100,))
POOL = [trace(domain, d, size, n) for domain, num in dict(math=7, code=5, instructions=1).items() for d in (1, 4) for size in (10, 200) for n in range(num)]
SCHEDULES = dict(
    static=static(dict(math=2, code=1, instructions=1)),
    staged=staged((0.3, {('math', 0): 1}), (0.3, dict(code=1)), (0.4, {('math', 1, None): 1, 'instructions': 1})),
    moving=moving({('math', None, 0): 1}, {('math', None, 1): 3, 'code': 1}),
    two_stage=two_stage({('math', 0): 1, 'code': 1}, {('math', 1): 1}),
)
names = lambda traces: [t.task_id for t in traces]

@pytest.fixture(params=SCHEDULES)
def schedule(request): return SCHEDULES[request.param]

def mixture(schedule, steps=97, **kwargs): return Mixture(POOL, schedule, steps, kinds=KINDS, **kwargs)


def test_cut_anywhere_it_goes_on_with_the_same_rows(schedule):
    whole = names(mixture(schedule))
    for cut in range(98):
        first = mixture(schedule)
        before = [next(first).task_id for _ in range(cut)]
        second = mixture(schedule)
        second.load_state_dict(first.state_dict())
        assert len(second) == 97 - cut and before + names(second) == whole, cut

def test_interrupted_after_every_single_row(schedule):
    whole, state, seen = names(mixture(schedule)), None, []
    while True:
        sampler = mixture(schedule)
        if state: sampler.load_state_dict(state)
        if (row := next(sampler, None)) is None: break
        seen, state = seen + [row.task_id], sampler.state_dict()
    assert seen == whole

def test_no_row_twice_before_all_of_its_kind(schedule):
    by_kind = {}
    for row in mixture(schedule, 500): by_kind.setdefault(KINDS.of(row), []).append(row.task_id)
    for kind, rows in by_kind.items():
        size = sum(KINDS.of(t) == kind for t in POOL)
        for start in range(0, len(rows), size): assert len(set(rows[start:start + size])) == len(rows[start:start + size])
        if size > 3 and len(rows) >= 3*size: assert len({tuple(rows[i:i + size]) for i in range(0, 3*size, size)}) > 1   # each pass in its own order

@pytest.mark.parametrize('seed', range(5))
def test_what_is_drawn_follows_the_shares_at_every_step(schedule, seed):
    sampler = mixture(schedule, 400, seed=seed)
    due = np.cumsum([sampler.shares((i + 0.5)/400) for i in range(400)], axis=0)
    drawn = np.cumsum(np.eye(len(sampler.kinds))[sampler.plan], axis=0)
    assert abs(drawn - due).max() < 2

def test_a_kind_without_weight_is_never_drawn():
    rng = np.random.default_rng(0)
    for _ in range(50):
        shares = rng.dirichlet(np.ones(6))*(rng.random(6) < 0.5)
        if not shares.sum(): continue
        shares /= shares.sum()
        assert set(plan_kinds(lambda p: shares, 60)) <= set(np.flatnonzero(shares))

def test_a_stage_draws_nothing_of_another():
    rows = [KINDS.of(t) for t in mixture(SCHEDULES['staged'], 100)]
    assert {kind[:2] for kind in rows[:30]} == {('math', 0)} and {kind[0] for kind in rows[30:60]} == {'code'}
    assert Counter(kind[0] for kind in rows[60:]) == Counter(math=20, instructions=20)

def test_another_process_draws_the_same(tmp_path):
    "Python's hash of a string differs from process to process; the order must not."
    import subprocess, sys
    program = ("from motif_repro.alignment.mixture import *; from motif_repro.alignment.traces import Trace\n"
               "trace = lambda n: Trace(task_id=str(n), teacher='m', question='q', reasoning='', answer='1', domain='math' if n % 3 else 'code')\n"
               "pool = [trace(n) for n in range(40)]\n"
               "m = Mixture(pool, moving(dict(math=1), dict(code=1)), 60); print([t.task_id for t in m], m.fingerprint)")
    run = lambda seed: subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True, env={'PYTHONHASHSEED': str(seed)})
    outputs = {run(seed).stdout for seed in (1, 2)}
    assert len(outputs) == 1 and outputs != {''}

@pytest.mark.parametrize('change', [dict(seed=1), dict(steps=98), dict(schedule=SCHEDULES['moving'])], ids=str)
def test_a_state_of_something_else_is_refused(change):
    with pytest.raises(UserError, match='another pool, schedule'):
        mixture(**(dict(schedule=SCHEDULES['static']) | change)).load_state_dict(mixture(SCHEDULES['static']).state_dict())

def test_a_shuffled_pool_is_another_pool():
    with pytest.raises(UserError): Mixture(POOL[::-1], SCHEDULES['static'], 97, kinds=KINDS).load_state_dict(mixture(SCHEDULES['static']).state_dict())

def test_an_empty_kind_with_a_weight_is_named():
    with pytest.raises(UserError, match=r"\('math', 2\) has a weight.*it holds .*'code', 0, 0"):
        Mixture(POOL, moving(dict(math=1), {('math', 2): 1}), 10, kinds=KINDS)
    with pytest.raises(UserError, match='it holds nothing'): Mixture([], static(dict(math=1)), 10)

@pytest.mark.parametrize('wrong', [
    lambda: Schedule((), ()), lambda: Schedule((0., 1.), ({'a': 1},)), lambda: Schedule((0., 2.), ({'a': 1}, {'a': 1})),
    lambda: Schedule((0.,), ({'a': float('nan')},)), lambda: Schedule((0.,), ({'a': 0.},)), lambda: two_stage({'a': 1}, {'b': 1}, first=1.), lambda: staged(), lambda: mixture(SCHEDULES['static'], 0)])
def test_impossible_schedules_are_refused(wrong):
    with pytest.raises(UserError): wrong()
