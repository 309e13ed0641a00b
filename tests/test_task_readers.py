"Problems as the Hub holds them: every row is a task that its own verifier accepts, or set aside with its reason."
import base64, gzip, json, pickle, random, zlib
from pathlib import Path

import pytest

from motif_repro.core.errors import UserError
from motif_repro.core.pools import Counts, Quarantine
from motif_repro.core.rows import read_rows, write_rows
from motif_repro.tasks import readers
from motif_repro.tasks.readers import iter_tasks, load_tasks, shape_of, split_files, to_task
from motif_repro.tasks.sandbox import sandbox_problem
from motif_repro.tasks.schema import read_tasks, write_tasks
from motif_repro.tasks.verify import verify, verify_file

SAMPLES = Path(__file__).parents[1]/'data/hub_tasks'
needs_sandbox = pytest.mark.skipif(bool(sandbox_problem()), reason=sandbox_problem())

GSM8K = dict(question='How many?', answer='2 + 3 = 5\n#### 5')
MATH  = dict(problem='What is half?', level='Level 2', type='Algebra', solution=r'It is \boxed{\frac{1}{2}}.')
DEEP  = dict(problem='What is half?', answer=r'\frac{1}{2}', solution='')
CODE  = dict(question_content='Print 1.', question_id='a', difficulty='hard', starter_code='', metadata='{}',
             public_test_cases='[{"input": "", "output": "1", "testtype": "stdin"}]', private_test_cases='')
CALLS = CODE | dict(starter_code='class Solution:\n    def one(self, x):\n        ', metadata='{"func_name": "one"}',
                    public_test_cases='[{"input": "[1, null]", "output": "true", "testtype": "functional"}]')
ASKED = dict(key=7, prompt='No commas.', instruction_id_list=['punctuation:no_comma'], kwargs=[{}])
OWN   = dict(id='t', question='2 + 3?', answer='5')
ALL   = dict(gsm8k=GSM8K, math=MATH, deepscaler=DEEP, livecodebench=CODE, calls=CALLS, ifeval=ASKED, own=OWN)

def packed(value): return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


@pytest.mark.parametrize('name', ALL)
def test_shapes(name):
    assert shape_of(ALL[name]) == dict(calls='livecodebench', own='').get(name, name)
    assert to_task(ALL[name]) == to_task(dict(reversed(ALL[name].items())))

@pytest.mark.parametrize('folder, split, answers', [
    ('gsm8k', 'main/test', ['1,080', '15']), ('gsm8k', 'main/train', ['19']), ('gsm8k', 'socratic/test', ['19']), ('math', '', [r'\frac{5}{6}', '(-2,2)']),
    ('deepscaler', '', ['7', '6', r'2\sqrt{3}'])])
def test_shipped_mathematics(folder, split, answers):
    "Each task's own answer is accepted, another one isn't."
    tasks = list(iter_tasks(SAMPLES/folder, split=split))
    assert [task.answer for task in tasks] == answers
    for task in tasks: assert (verify(task, rf'So \boxed{{{task.answer}}}').verdict, verify(task, r'\boxed{77}').verdict) == ('correct', 'wrong')

def test_the_last_result_counts():
    task = to_task(dict(question='?', answer='#### First\n2 + 3 = 5\n#### 5'))
    assert (task.answer, task.metadata['solution']) == ('5', '#### First\n2 + 3 = 5')

@needs_sandbox
def test_shipped_code():
    larger, pairs = iter_tasks(SAMPLES/'livecodebench')
    assert (larger.difficulty, pairs.difficulty, len(larger.metadata['tests']['inputs']), pairs.metadata['tests'].count('assert')) == (1, 2, 3, 3)
    method = 'class Solution:\n    def equalPairs(self, nums):\n        return sum(a == b for i, a in enumerate(nums) for b in nums[:i])'
    assert [verify(larger, p).verdict for p in ('print(max(map(int, input().split())))', 'print(input().split()[1])')] == ['correct', 'wrong']
    right = verify(pairs, method)
    assert (right.verdict, right.reduced_assurance) == ('correct', False)
    assert verify(pairs, method.replace('a == b', 'True')).verdict == 'wrong'      # only a private test tells

@needs_sandbox
@pytest.mark.parametrize('program', ['class Solution:\n    def one(self, x): return 1', 'class Solution: pass', 'def one(x): return True', 'Solution = 5',
                                     'class Solution:\n    def __init__(self): raise ValueError\n    def one(self, x): return True',
                                     'class Solution:\n    def __init__(self, x): pass\n    def one(self, x): return True',
                                     'class Yes:\n    def __eq__(self, o): return True\nclass Solution:\n    def one(self, x): return Yes()',
                                     'class Solution:\n    def one(self, x): import os; os._exit(0)'])
def test_methods_that_are_wrong(program):
    "`1 == True`, so the first one is right by Python's own rule."
    verdict = verify(to_task(CALLS), program).verdict
    assert verdict == ('correct' if 'return 1' in program else 'wrong')

def test_shipped_instructions():
    sea, cat = iter_tasks(SAMPLES/'ifeval')
    assert [verify(sea, text).verdict for text in ('The sea is a wide blue plain', 'The sea is blue', 'The sea, a wide and blue plain')] == ['correct', 'wrong', 'wrong']
    assert [verify(cat, text).verdict for text in ('soft fur and long whiskers', 'Soft fur and long whiskers', 'soft fur')] == ['correct', 'wrong', 'wrong']


BAD = {   # what is wrong → a row and words of its reason
    'no result':       (GSM8K | dict(answer='2 + 3 #### '), 'nothing behind'),
    'no question':     (GSM8K | dict(question='  '), "'question' holds no text"),
    'list of answers': (DEEP | dict(answer=['5']), "'answer' holds no text"),
    'true':            (DEEP | dict(answer=True), "'answer' holds no text"),
    'no box':          (MATH | dict(solution='It is 5.'), 'no \\boxed'),
    'open box':        (MATH | dict(solution=r'\boxed{5'), 'no \\boxed'),
    'no tests':        (CODE | dict(public_test_cases='[]'), 'tests of one kind'),
    'two kinds':       (CODE | dict(private_test_cases=packed('[{"input": "", "output": "1", "testtype": "functional"}]')), 'tests of one kind'),
    'odd tests':       (CODE | dict(public_test_cases='[{"input": 5}]'), 'not a list of {input, output}'),
    'no base64':       (CODE | dict(private_test_cases='?!'), ''),
    'no zlib':         (CODE | dict(private_test_cases=base64.b64encode(b'abc').decode()), "can't be unpacked"),
    'no pickle':       (CODE | dict(private_test_cases=base64.b64encode(zlib.compress(b'abc')).decode()), "can't be unpacked"),
    'cut pickle':      (CODE | dict(private_test_cases=base64.b64encode(zlib.compress(pickle.dumps('x'*99)[:20])).decode()), "can't be unpacked"),
    'no method':       (CALLS | dict(metadata='{}'), 'no func_name'),
    'no starter':      (CALLS | dict(starter_code=''), 'no func_name'),
    'metadata a list': (CALLS | dict(metadata='[]'), 'not of the shape livecodebench'),
    'starter a number':(CALLS | dict(starter_code=5), 'not of the shape livecodebench'),
    'arguments no JSON': (CALLS | dict(public_test_cases='[{"input": "x", "output": "1", "testtype": "functional"}]'), ''),
    'unknown kind':    (ASKED | dict(instruction_id_list=['language:response_language']), "unknown type of constraint"),
    'one too many':    (ASKED | dict(kwargs=[{}, {}]), 'same length'),
    'no kwargs':       (ASKED | dict(kwargs=None), 'same length'),
    'kwargs text':     (ASKED | dict(kwargs=['x']), 'not of the shape ifeval'),
    'empty list':      (ASKED | dict(instruction_id_list=[], kwargs=[]), 'at least one'),
    'own, misspelled': (OWN | dict(anwser='5'), "did you mean 'answer'?"),
    'own, no answer':  (dict(id='t', question='?'), "needs the right answer"),
    'an empty cell':   (DEEP | dict(answer=float('nan')), "'answer' holds no text: 'nan'"),
    'nothing':         ({}, "'id' is missing"),
}

@pytest.mark.parametrize('what', BAD)
def test_rows_that_are_no_task(what):
    row, words = BAD[what]
    with pytest.raises(ValueError) as error: to_task(row)
    assert words in str(error.value)

def test_every_row_is_accounted_for(tmp_path):
    good = [row | (dict(question_id=str(i)) if 'question_id' in row else {}) for i, row in enumerate(ALL.values())]
    lines = [json.dumps(row) for row in good] + [json.dumps(row) for row, _ in BAD.values()] + ['not JSON', '[1]']
    random.Random(0).shuffle(lines)
    with gzip.open(tmp_path/'rows.jsonl.gz', 'wt') as file: file.write('\n'.join(lines))
    tasks, counts = load_tasks(tmp_path/'rows.jsonl.gz', tmp_path/'aside.jsonl')
    assert (counts.rows, counts.read, counts.set_aside) == (len(lines), len(good), len(BAD) + 2) and len(tasks) == len(good)
    aside = read_rows(tmp_path/'aside.jsonl')
    assert len(aside) == counts.set_aside and all(row['reason'] for row in aside)
    write_tasks(tmp_path/'tasks.parquet', tasks)
    assert read_tasks(tmp_path/'tasks.parquet') == tasks     # what was read can be kept

@pytest.mark.parametrize('seed', range(4))
def test_garbled_rows_never_stop_the_reading(seed, tmp_path):
    "Fields of one row in another, values of other types: a task or a reason, nothing else."
    rng, values = random.Random(seed), [None, 5, 2.5, True, '', 'x', '[', '{}', [], [None], {}, {'a': 1}, '\ud800', '####', [['x']*3]]
    for _ in range(500):
        row = dict(rng.choice(list(ALL.values())))
        for name in rng.sample(sorted(row), rng.randint(1, min(3, len(row)))): row[name] = rng.choice(values)
        try: to_task(row)
        except ValueError: pass

def test_an_evil_pickle_runs_nothing(tmp_path):
    class Evil:
        def __reduce__(self): return (tmp_path/'evil').touch, ()
    with pytest.raises(ValueError, match='only text is read'): to_task(CODE | dict(private_test_cases=packed(Evil())))
    assert not (tmp_path/'evil').exists()

def test_a_bomb_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(readers, 'MAX_TESTS', 1000)
    with pytest.raises(ValueError, match='unpack to more'): to_task(CODE | dict(private_test_cases=packed('[' + ' '*100_000 + ']')))

def test_a_problem_that_comes_again_is_set_aside(tmp_path):
    write_rows(tmp_path/'rows.jsonl', [GSM8K, DEEP, GSM8K])
    counts = Counts()
    with Quarantine(tmp_path/'aside.jsonl') as quarantine: assert len(list(iter_tasks(tmp_path/'rows.jsonl', quarantine=quarantine, counts=counts))) == 2
    assert 'was read before, at rows.jsonl:1' in counts.first_reason

def test_tasks_are_read_one_at_a_time(tmp_path):
    write_rows(tmp_path/'rows.jsonl', [GSM8K, DEEP])
    tasks = iter_tasks(tmp_path/'rows.jsonl')
    assert next(tasks).source == 'gsm8k'
    (tmp_path/'rows.jsonl').write_text('')
    tasks.close()


def folder_with(root, files, readme=''):
    for name, row in files.items():
        (root/name).parent.mkdir(parents=True, exist_ok=True)
        write_rows(root/name, [row])
    if readme: (root/'README.md').write_text(readme)
    return root

def test_folders_without_a_readme(tmp_path):
    "Splits by the names of files, shards in order."
    folder = folder_with(tmp_path/'named', {f'data/train-0000{i}-of-00002.parquet': GSM8K | dict(question=f'q{i}') for i in range(2)} | {'data/test-00000-of-00001.parquet': GSM8K})
    assert [task.question for task in iter_tasks(folder, split='train')] == ['q0', 'q1'] and len(split_files(folder, 'test')) == 1
    assert len(split_files(folder_with(tmp_path/'one', {'problems.jsonl': GSM8K}))) == 1

def test_a_file_beside_two_named_configs(tmp_path):
    "It may be a third one's, which the README keeps back: what is asked for is read."
    readme = '---\nconfigs:\n- config_name: one\n  data_files: one.jsonl\n- config_name: two\n  data_files: two.jsonl\n---\n'
    folder = folder_with(tmp_path/'rows', {f'{name}.jsonl': GSM8K for name in ('one', 'two', 'three')})
    (folder/'README.md').write_text(readme)
    assert [path.name for path in split_files(folder, 'two/train')] == ['two.jsonl']

def test_a_folder_is_read_from_wherever_it_is_named(tmp_path, monkeypatch):
    "`datasets` gives whole paths; the folder may come as a relative one, or by a link."
    folder_with(tmp_path/'rows', {'train.jsonl': GSM8K})
    (tmp_path/'link').symlink_to('rows')
    monkeypatch.chdir(tmp_path)
    for name in ('rows', './rows', 'link', tmp_path/'link'): assert len(load_tasks(name)[0]) == 1, name

@pytest.mark.parametrize('files, readme, split, words', [
    ({'train.jsonl': GSM8K, 'test.jsonl': GSM8K}, '', '', 'has the splits train, test; say which one'),
    ({'train.jsonl': GSM8K, 'test.jsonl': GSM8K}, '', 'tset', "'tset' is none, did you mean 'test'?"),
    ({'a.jsonl': GSM8K, 'b.jsonl': GSM8K, 'c.parquet': GSM8K}, '', '', 'c.parquet: belongs to no split'),
    ({}, 'no data here', '', 'holds no data files'),
    ({'a.jsonl': GSM8K}, '---\nconfigs:\n- config_name: main\n  data_files: other/*.parquet\n---\n', '', 'files'),
])
def test_folders_that_are_not_clear(tmp_path, files, readme, split, words):
    tmp_path = tmp_path/'data'
    tmp_path.mkdir()
    with pytest.raises(UserError) as error: split_files(folder_with(tmp_path, files, readme), split)
    assert words in str(error.value)

def test_what_holds_no_task(tmp_path):
    (tmp_path/'empty.jsonl').write_text('')
    write_rows(tmp_path/'bad.jsonl', [dict(x=1), OWN])
    with pytest.raises(UserError, match='holds no task'): load_tasks(tmp_path/'empty.jsonl')
    with pytest.raises(UserError, match="bad.jsonl: row 1, unknown field 'x'"): load_tasks(tmp_path/'bad.jsonl')
    with pytest.raises(UserError, match='is no folder'): load_tasks(tmp_path/'bad.jsonl', split='test')
    with pytest.raises(UserError, match='no such file'): load_tasks(tmp_path/'nowhere.jsonl')


def test_verify_reads_the_same_shapes(tmp_path):
    answered = {'gsm8k': 'It is 5.\n#### 5', 'math': r'\boxed{0.5}', 'deepscaler': r'\boxed{2}'}
    write_rows(tmp_path/'in.jsonl', [ALL[name] | dict(response=text) for name, text in answered.items()] + [GSM8K, ASKED | dict(response='No'), GSM8K | dict(response='5', id='mine')])
    counts = verify_file(tmp_path/'in.jsonl', tmp_path/'out.jsonl', 'math')
    rows = read_rows(tmp_path/'out.jsonl')
    assert counts == dict(correct=3, wrong=1, invalid_row=2)
    assert [row['verdict'] for row in rows] == ['correct', 'correct', 'wrong', 'invalid_row', 'invalid_row', 'correct']
    assert "'response' is NoneType" in rows[3]['detail'] and 'verify it with --domain instructions' in rows[4]['detail']
    assert (rows[0]['id'], rows[5]['id']) == (to_task(GSM8K).id, 'mine')
