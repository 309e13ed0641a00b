"motif-repro verify and what is behind it: one row out for each row in, in order, whatever comes."
import json, os, subprocess, sys, threading, time
from pathlib import Path

import pytest

import motif_repro.tasks.verify as verifying
from motif_repro.core.errors import UserError
from motif_repro.core.rows import read_rows, write_rows
from motif_repro.tasks.sandbox import sandbox_problem
from motif_repro.tasks.schema import Task, Verdict
from motif_repro.tasks.verify import stream_verdicts, verify_all, verify_file

PROGRAM = Path(sys.executable).with_name('motif-repro')
needs_sandbox = pytest.mark.skipif(bool(sandbox_problem()), reason=sandbox_problem() or 'there is one')

def motif_repro(*arguments, **env): return subprocess.run([PROGRAM, 'verify', *map(str, arguments)], capture_output=True, text=True, env=os.environ | env, timeout=120)

def checked(tmp_path, domain, *lines, **options)->list[dict]:
    "What comes out for these lines: dicts, text or bytes."
    encoded = [line if isinstance(line, bytes) else line.encode() if isinstance(line, str) else json.dumps(line).encode() for line in lines]
    (tmp_path/'in.jsonl').write_bytes(b'\n'.join(encoded) + b'\n')
    verify_file(tmp_path/'in.jsonl', tmp_path/'out.jsonl', domain, **options)
    rows = read_rows(tmp_path/'out.jsonl')
    assert all(list(row) == ['id', 'reward', 'verdict', 'detail', 'seconds'] for row in rows)
    return rows


BROKEN = [  # a line, its id, words of the detail
    ('not JSON', None, 'not JSON'), ('[1, 2]', None, 'not an object'), ('5', None, 'not an object'), ('null', None, 'not an object'), ('{"id": 1', None, 'not JSON'),
    (b'{"id": "\xff"}', None, 'not UTF-8'), ('[' * 5000, None, 'bounds'), ('{"id": 1, "response": "5", "answer": ' + '9'*5000 + '}', None, 'bounds'), ('{}', None, "'id' is missing"),
    (dict(response='5', answer='5'), None, "'id' is missing"), (dict(id=None, response='5', answer='5'), None, "'id' is missing"),
    (dict(id=1, answer='5'), 1, "'response' is missing"), (dict(id='x', response='5'), 'x', "'answer' is missing"), (dict(id=1, response=None, answer='5'), 1, "'response' is missing"),
    (dict(id=1, response=5, answer='5'), 1, "'response' is int"), (dict(id=1, response=['5'], answer='5'), 1, "'response' is list"), (dict(id=1, response='5', answer=5), 1, "'answer' is int"),
    (dict(id=1, response='5', answer={'a': 5}), 1, "'answer' is dict"), (dict(id=1, response='5', answer=' '), 1, "the right answer in 'answer'"), (dict(id=1, response='5', answer=''), 1, "the right answer"),
    (dict(id=[1], response='5', answer='5'), [1], "'id' is list"), (dict(id=True, response='5', answer='5'), True, "'id' is bool"), ('{"id": NaN, "response": "5", "answer": "5"}', None, "'id' is float")]

@pytest.mark.parametrize('line,known,words', BROKEN, ids=[str(i) for i in range(len(BROKEN))])
def test_a_broken_row_costs_that_row(tmp_path, line, known, words):
    good = [dict(id=name, response='5', answer='5') for name in 'ab']
    first, broken, last = checked(tmp_path, 'math', good[0], line, good[1])
    assert [(r['id'], r['reward'], r['verdict']) for r in (first, last)] == [('a', 1.0, 'correct'), ('b', 1.0, 'correct')]
    assert (broken['id'], broken['reward'], broken['verdict'], broken['seconds']) == (known, None, 'invalid_row', 0) and words in broken['detail'] and 'row 2' in broken['detail']

def test_odd_but_good_rows(tmp_path):
    rows = checked(tmp_path, 'math', b'\xef\xbb\xbf{"id": 1, "response": "5", "answer": "5"}', '', '  ', dict(id=1, response='5', answer='5', extra=[1], verdict='x', answr=3),
                   '{"id": "\\ud800", "response": "\\ud800", "answer": "5"}', dict(id='ü✓', response='<think>5', answer='5'), dict(id='', response='', answer='5'))
    assert [(r['id'], r['verdict']) for r in rows] == [(1, 'correct'), (1, 'correct'), ('\ud800', 'wrong'), ('ü✓', 'no_answer'), ('', 'no_answer')]

def test_our_own_rows_may_have_fields_that_a_public_data_set_has(tmp_path):
    row = dict(id=1, response='a b', constraints=[dict(type='num_words', count=2)], problem='Two words.', answer='c d')
    assert [r['verdict'] for r in checked(tmp_path, 'instructions', row)] == ['correct']

def test_an_empty_file_gives_an_empty_file(tmp_path):
    (tmp_path/'in.jsonl').touch()
    assert verify_file(tmp_path/'in.jsonl', tmp_path/'out.jsonl', 'math').total() == 0 and (tmp_path/'out.jsonl').read_text() == ''

@pytest.mark.parametrize('constraints,words', [(None, 'missing'), ('no_comma', 'constraints'), ([], 'constraints'), (['no_comma'], 'constraints'), ([{'kind': 'no_comma'}], 'constraints'),
                                               ([{'type': 'no_coma'}], "did you mean 'no_comma'"), ([{'type': 'num_words', 'count': '2'}], "count = '2'"), ('[{"type":', 'constraints')])
def test_broken_constraints(tmp_path, constraints, words):
    row, good = checked(tmp_path, 'instructions', dict(id=1, response='a b', constraints=constraints), dict(id=2, response='a b', constraints=[dict(type='num_words', count=2)]))
    assert (row['verdict'], row['reward'], good['verdict']) == ('invalid_row', None, 'correct') and words in row['detail'] and 'metadata' not in row['detail']

def test_nested_beyond_reason(tmp_path):
    "Deep enough to be read, too deep to be written as text."
    for depth in range(700, 1000):
        nested = '['*depth + ']'*depth
        row, good = checked(tmp_path, 'instructions', f'{{"id": 1, "response": "a", "constraints": [{{"type": "no_comma", "x": {nested}}}]}}',
                            dict(id=2, response='a', constraints=[dict(type='no_comma')]))
        assert row['reward'] is None and good['reward'] == 1, depth


@needs_sandbox
def test_the_three_forms_of_code(tmp_path):
    right, wrong = 'Here:\n```python\ndef double(x): return 2*x\n```', '```python\ndef double(x): return x\n```'
    human_eval, mbpp = 'def check(candidate):\n    assert candidate(3) == 6', ['assert double(3) == 6', 'assert double(0) == 0']
    stdio, program = dict(inputs=['3\n', '4\n'], outputs=['6\n', '8']), '```python\nprint(2*int(input()))\n```'
    rows = checked(tmp_path, 'code', *[dict(id=i, response=response, tests=tests, **entry) for i, (response, tests, entry) in enumerate([
        (right, human_eval, dict(entry_point='double')), (wrong, human_eval, dict(entry_point='double')), (right, mbpp, {}), (wrong, mbpp, {}), (program, stdio, {}),
        (program, stdio | dict(outputs=['6', '9']), {}), (right, json.dumps(mbpp), {}), (program, json.dumps(stdio), {}), ('<think>' + right, mbpp, {}), (right, 'assert double(3) == 6', {})])])
    assert [r['verdict'] for r in rows] == ['correct', 'wrong', 'correct', 'wrong', 'correct', 'wrong', 'correct', 'correct', 'no_answer', 'correct']
    assert all(r['seconds'] > 0 for r in rows[:8])

@needs_sandbox
@pytest.mark.parametrize('tests', [None, '', [], 5, [5], {}, dict(inputs=['1']), dict(inputs=['1'], outputs=[]), dict(inputs='1', outputs='1'), [['assert True']]])
def test_broken_tests(tmp_path, tests):
    row, = checked(tmp_path, 'code', dict(id=1, response='x = 1', tests=tests))
    assert (row['verdict'], row['reward']) == ('invalid_row', None) and "'tests'" in row['detail'] and 'metadata' not in row['detail']


@pytest.mark.parametrize('source,target', [('in.parquet', 'out.jsonl'), ('in.jsonl', 'out.parquet'), ('in.parquet', 'out.parquet')])
def test_parquet(tmp_path, source, target):
    write_rows(tmp_path/source, [dict(id=i, response=str(i), answer='3') for i in range(5)])
    verify_file(tmp_path/source, tmp_path/target, 'math')
    assert [(r['id'], r['reward']) for r in read_rows(tmp_path/target)] == [(i, float(i == 3)) for i in range(5)]

def test_parquet_with_constraints_of_different_kinds(tmp_path):
    constraints = [[dict(type='num_words', count=1)], [dict(type='required_words', words=['a'])]]
    write_rows(tmp_path/'struct.parquet', [dict(id=str(i), response='a', constraints=c) for i, c in enumerate(constraints)])            # gaps are filled with null
    write_rows(tmp_path/'text.parquet', [dict(id=str(i), response='a', constraints=json.dumps(c)) for i, c in enumerate(constraints)])
    for name in ('struct', 'text'): assert verify_file(tmp_path/f'{name}.parquet', tmp_path/'out.jsonl', 'instructions') == dict(correct=2)

def test_parquet_takes_ids_of_several_kinds(tmp_path):
    (tmp_path/'in.jsonl').write_text('\n'.join(json.dumps(dict(id=i, response='5', answer='5')) for i in (1, 'a')) + '\nnot JSON')
    verify_file(tmp_path/'in.jsonl', tmp_path/'out.parquet', 'math')
    assert [r['id'] for r in read_rows(tmp_path/'out.parquet')] == ['1', 'a', None]


@pytest.mark.parametrize('num_workers', [1, 4])   # more pairs than may wait with one worker, fewer than with four
def test_order_is_kept_and_the_same_pair_is_checked_once(monkeypatch, num_workers):
    seen, lock = [], threading.Lock()
    def slow(task, response, *, sandbox):
        time.sleep(0.02 if response == '0' else 0)
        with lock: seen.append(response)
        return Verdict('correct' if response == task.answer else 'wrong', response)
    monkeypatch.setattr(verifying, 'verify', slow)
    tasks = [Task(id=str(i), question='q', answer='3') for i in range(60)]
    responses = [str(i % 6) for i in range(60)]
    assert [v.detail for v in verify_all(tasks, responses, num_workers=num_workers)] == responses and sorted(seen) == list('012345')
    other = Task(id='0', question='q', answer='4')
    assert [v.verdict for v in verify_all([tasks[0], other], ['3', '3'])] == ['correct', 'wrong'] and len(seen) == 8

def test_reading_does_not_run_ahead(monkeypatch):
    monkeypatch.setattr(verifying, 'verify', lambda *_, **__: Verdict('wrong'))
    read = []
    def pairs():
        for i in range(5000):
            read.append(i)
            yield Task(id='t', question='q', answer='3'), str(i)
    for done, _ in enumerate(stream_verdicts(pairs(), num_workers=2)): assert len(read) - done <= 102
    assert done == 4999

def test_a_verifier_that_fails_gives_no_reward(monkeypatch, tmp_path):
    import motif_repro.tasks.answers as answers
    monkeypatch.setattr(answers, 'check_answer', lambda *_, **__: 1/0)
    row, = checked(tmp_path, 'math', dict(id=1, response='5', answer='5'))
    assert (row['reward'], row['verdict'], row['detail']) == (None, 'verifier_error', 'ZeroDivisionError: division by zero')

def test_many_rows_in_little_time(tmp_path):
    with (tmp_path/'in.jsonl').open('w') as f: f.writelines(json.dumps(dict(id=i, response=f'<think></think>{i}', answer=str(i - i % 2))) + '\n' for i in range(20_000))
    start = time.process_time()
    assert verify_file(tmp_path/'in.jsonl', tmp_path/'out.jsonl', 'math') == dict(correct=10_000, wrong=10_000)
    assert time.process_time() - start < 40
    assert [row['id'] for row in read_rows(tmp_path/'out.jsonl')] == list(range(20_000))


def test_the_command(tmp_path):
    (tmp_path/'in.jsonl').write_text('{"id": "a", "response": "5", "answer": "5"}\nbroken\n')
    answer = motif_repro('--domain', 'math', tmp_path/'in.jsonl', '--out', tmp_path/'sub/out.jsonl', '--workers', 1)
    assert (answer.returncode, answer.stderr) == (0, '') and '2 rows' in answer.stdout and '1 correct, 1 invalid_row' in answer.stdout
    assert [r['reward'] for r in read_rows(tmp_path/'sub/out.jsonl')] == [1.0, None]

@pytest.mark.parametrize('domain,source,target,words', [
    ('maths', 'in.jsonl', 'out.jsonl', "did you mean 'math'?"), ('math', 'none.jsonl', 'out.jsonl', 'no such file'), ('math', '.', 'out.jsonl', 'use .jsonl or .parquet'),
    ('math', 'in.jsonl', 'out.csv', 'name it .jsonl or .parquet'), ('math', 'in.jsonl', 'folder.jsonl', 'not a file to write'), ('math', 'in.jsonl', 'in.jsonl/out.jsonl', 'cannot be written'),
    ('math', 'broken.parquet', 'out.jsonl', 'not a Parquet file')])
def test_what_makes_all_work_impossible(tmp_path, domain, source, target, words):
    (tmp_path/'in.jsonl').write_text('{"id": "a", "response": "5", "answer": "5"}\n')
    (tmp_path/'broken.parquet').write_bytes(b'PAR')
    (tmp_path/'folder.jsonl').mkdir()
    before = sorted(p.name for p in tmp_path.iterdir())
    answer = motif_repro('--domain', domain, tmp_path/source, '--out', tmp_path/target)
    assert answer.returncode == 2 and words in answer.stderr and 'Traceback' not in answer.stderr and answer.stdout == ''
    assert sorted(p.name for p in tmp_path.iterdir()) == before

@pytest.mark.parametrize('arguments', [['in.jsonl'], ['--domain', 'math', 'in.jsonl'], ['--domain', 'math', '--out', 'o.jsonl'], ['--domain', 'math', 'in.jsonl', '--out', 'o.jsonl', '--workers', '0']])
def test_what_is_typed_wrong(arguments): assert motif_repro(*arguments).returncode == 2

def test_code_without_a_sandbox_is_refused_unless_asked_for_by_name(tmp_path):
    (tmp_path/'in.jsonl').write_text(json.dumps(dict(id=1, response='def f(): return 1', tests='assert f() == 1')))
    (tmp_path/'bin').mkdir()   # a PATH without bubblewrap
    call = ['--domain', 'code', tmp_path/'in.jsonl', '--out', tmp_path/'out.jsonl']
    refused = motif_repro(*call, PATH=str(tmp_path/'bin'))
    assert refused.returncode == 2 and 'bubblewrap' in refused.stderr and 'install' in refused.stderr and not (tmp_path/'out.jsonl').exists()
    assert motif_repro(*call, '--sandbox', 'bublewrap').returncode == 2
    for arguments, env in ((['--sandbox', 'none'], {}), ([], dict(MOTIF_REPRO_SANDBOX='none'))):
        answer = motif_repro(*call, *arguments, PATH=str(tmp_path/'bin'), **env)
        assert answer.returncode == 0 and 'without isolation' in answer.stderr, answer.stderr
        assert read_rows(tmp_path/'out.jsonl')[0]['reward'] == 1
    with pytest.raises(UserError, match='unknown sandbox'): verify_all([Task(id='t', question='q', domain='code', metadata=dict(tests='assert 1'))], ['x = 1'], sandbox='jail')
