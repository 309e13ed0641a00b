"Environments: over the whole list junk earns nothing and right answers pass; an environment with a hole is found out."
import inspect, time

import pytest

from motif_repro.core.errors import UserError
from motif_repro.core.rows import read_rows, write_rows
from motif_repro.tasks import environments
from motif_repro.tasks.environments import ENVIRONMENTS, MAX_ANSWER, Environment, GymEnvironment, answer_of, compute, draw_puzzles, screen_environment, verify_puzzle
from motif_repro.tasks.schema import Task, read_tasks, write_tasks
from motif_repro.tasks.verify import verify, verify_all, verify_file

NAMES = sorted(ENVIRONMENTS)

def wrapped(task): return f'<think>…</think>\n```\n{task.answer}\n```' if ENVIRONMENTS[task.source].lines else f'<think>…</think>{task.answer}'

@pytest.fixture
def registry(monkeypatch):
    "What a test registers is gone after it."
    monkeypatch.setattr(environments, 'ENVIRONMENTS', dict(ENVIRONMENTS))
    return environments.ENVIRONMENTS


def test_the_list(): assert len(NAMES) == 18 and {'countdown', 'subset_sum', 'n_queens', 'lcm'} < set(NAMES)

@pytest.mark.parametrize('difficulty', [1, 3])
@pytest.mark.parametrize('name', NAMES)
def test_junk_earns_nothing(name, difficulty):
    found = screen_environment(name, difficulty, num=20)
    assert found['paid'] == [] and found['refused'] == [] and found['commonest'] <= 0.2

def test_tasks_travel_in_files(tmp_path):
    tasks = [task for name in NAMES for task in draw_puzzles(name, 2, 2, 'train')]
    for name in ('tasks.jsonl', 'tasks.parquet'):
        write_tasks(tmp_path/name, tasks)
        again = read_tasks(tmp_path/name)
        assert again == tasks and {v.verdict for v in verify_all(again, [wrapped(task) for task in again])} == {'correct'}
    assert {v.verdict for v in verify_all(tasks, [wrapped(task) for task in tasks[2:] + tasks[:2]])} == {'wrong'}
    write_rows(tmp_path/'in.jsonl', [dict(id=t.id, response=wrapped(t), metadata=t.metadata, answer=t.answer) for t in tasks] + [dict(id='x', response='1', metadata={})])
    assert verify_file(tmp_path/'in.jsonl', tmp_path/'out.jsonl', 'puzzle') == dict(correct=len(tasks), invalid_row=1)
    assert "metadata['environment']" in read_rows(tmp_path/'out.jsonl')[-1]['detail'] or 'environment' in read_rows(tmp_path/'out.jsonl')[-1]['detail']

def test_one_response_to_two_tasks():
    "They differ in nothing but the right answer, and a verdict isn't remembered for the other."
    tasks = [Task(id=i, question='?', answer=i, domain='puzzle', metadata=dict(environment='lcm')) for i in ('6', '8')]
    assert [v.verdict for v in verify_all(tasks, ['6', '6'])] == ['correct', 'wrong']

def test_one_response_to_two_questions():
    "Their options alone differ: what follows the letter is the option's own text in one, and names another option in the other."
    tasks = [Task(id=text, question=f'Which?\nA) 9\nB) {text}', answer='b', domain='puzzle', metadata=dict(environment='multiple_choice')) for text in ('T and B cells', 'none')]
    assert [v.verdict for v in verify_all(tasks, ['Answer: B) T and B cells']*2)] == ['correct', 'wrong']

@pytest.mark.parametrize('name', ['countdown', 'spell_backward', 'subset_sum'])
def test_training_and_test_never_meet(name):
    train, test = (draw_puzzles(name, 2, 30, split) for split in ('train', 'test'))
    assert len(train) == len(test) == 30 and not {t.question for t in train} & {t.question for t in test}
    assert draw_puzzles(name, 2, 30, 'train') == train != draw_puzzles(name, 2, 30, 'train', seed=1)

def test_the_complete_example_is_short():
    "Under fifty lines, and nothing of reasoning-gym in it."
    source = inspect.getsource(environments.SubsetSum)
    assert len(source.splitlines()) < 50 and not issubclass(environments.SubsetSum, GymEnvironment)

@pytest.mark.parametrize('answer, verdict', [('1 + 2 + 3', 'correct'), ('3+2+1', 'correct'), ('6', 'correct'), ('1 + 5', 'wrong'), ('3 + 3', 'wrong'), ('1 + 2', 'wrong'), ('+6', 'wrong'), ('6 + ', 'wrong'),
                                             ('1 + 2 + 3 = 6', 'wrong'), ('٦', 'wrong'), ('6\n', 'correct'), ('7 + -1', 'correct')])
def test_subset_sum_by_hand(answer, verdict):
    task = Task(id='t', question='?', domain='puzzle', metadata=dict(environment='subset_sum', numbers=[1, 2, 3, 6, 7, -1], target=6))
    assert verify(task, answer).verdict == verdict

@pytest.mark.parametrize('name, data, right, wrong', [
    ('countdown', dict(numbers=[4, 6, 8], target=12), ['(8 - 4)*6/2*1', '6*8/4'], ['4 + 8', '6*8/4 + 0', '48/4', '12', '6*8//4', '6*8/(4-4)', '8*6/4.0', '8**2', '--4+8+8']),
    ('prime_factorization', dict(number=12), ['2 × 2 × 3', '3*2*2', '2 x 3 x 2'], ['12', '3 × 4', '1 × 2 × 2 × 3', '2 × 3', '2 × 6', '-2 × -2 × 3']),
    ('palindrome_generation', dict(letters=list('abba')), ['abba', 'baab'], ['aa', 'abab', 'aabb', 'abbba', 'ABBA'])])
def test_several_right_answers_by_hand(name, data, right, wrong):
    task = Task(id='t', question='?', domain='puzzle', metadata=dict(environment=name, **data))
    right = [answer for answer in right if '/2*1' not in answer]
    assert {verify(task, a).verdict for a in right} == {'correct'} and {a: verify(task, a).verdict for a in wrong} == dict.fromkeys(wrong, 'wrong')

def test_queens_by_hand():
    board = '\n'.join(' '.join('Q' if column == queen else '_' for column in range(8)) for queen in (0, 4, 7, 5, 2, 6, 1, 3))
    given = [row.split() for row in board.splitlines()]
    task = Task(id='t', question='?', domain='puzzle', metadata=dict(environment='n_queens', puzzle=given))
    assert verify(task, board).verdict == 'correct'
    moved = [row.split() for row in board.splitlines()][::-1]       # right in itself, but not from this board
    attacked = board.replace('Q _ _ _ _ _ _ _', '_ Q _ _ _ _ _ _')
    for other in ('\n'.join(map(' '.join, moved)), attacked, board.replace('_', 'Q'), board.replace('Q', '_', 1), board + '\n' + board): assert verify(task, other).verdict == 'wrong'

def test_where_the_answer_stands():
    assert answer_of('<think>\n```\n1\n```</think>So:\n```\n2 3\n4 5\n```\nDone.', lines=True) == '2 3\n4 5'
    assert answer_of('\\boxed{2 3\n4 5} or\n```\n1\n```', lines=True) == '2 3\n4 5'
    assert answer_of('<think>1</think>2 3\n4 5', lines=True) == '2 3\n4 5' and answer_of('<think>2 3', lines=True) == ''
    assert answer_of('<think>1</think>The answer is 7.', lines=False) == '7'


class Finds: right = lambda self, answer, task: task.answer in answer                       # what the answer is, or merely mentions
class Ignores: right = lambda self, answer, task: True
class Caseless: right = lambda self, answer, task: answer.lower() == task.answer.lower()
class Crashes: right = lambda self, answer, task: int(answer) == 1
class Refuses: right = lambda self, answer, task: answer == task.answer and 'a' in answer

@pytest.mark.parametrize('hole, seen', [(Finds, 'paid'), (Ignores, 'paid'), (Caseless, 'paid')])
def test_a_hole_is_found(registry, hole, seen):
    type('Leaky', (hole, Environment), dict(form=r'(?s).*', problem=lambda self, difficulty, rng: (f'Spell {(w := "".join(rng.sample("abcdefgh", 5)))} backward.', w[::-1], {})), name='leaky')
    assert screen_environment('leaky', num=10)[seen]

def test_an_environment_that_refuses_its_own_answers(registry):
    type('Wrong', (Environment,), dict(problem=lambda self, difficulty, rng: (f'Say {rng.random()}.', 'two\nlines', {})), name='wrong')
    with pytest.raises(UserError, match="its own answer 'two.*does not pass its check"): draw_puzzles('wrong', 1, 5, 'train')
    type('Copy', (Environment,), dict(problem=lambda self, difficulty, rng: (f'Say {(n := rng.randrange(10**6))}!', str(n), {})), name='copy')
    with pytest.raises(UserError, match='can be used'): draw_puzzles('copy', 1, 5, 'train')     # the answer stands in the question
    type('Lazy', (Environment,), {}, name='lazy')
    with pytest.raises(UserError, match='write its method problem'): draw_puzzles('lazy', 1, 5, 'train')

def test_a_check_that_crashes_pays_nothing_and_blames_nobody(registry):
    type('Crash', (Crashes, Environment), {}, name='crash')
    verdict = verify(Task(id='t', question='?', domain='puzzle', metadata=dict(environment='crash')), 'one')
    assert (verdict.verdict, verdict.reward) == ('verifier_error', None)

def test_the_longest_answer_is_read(registry):
    type('Any', (Ignores, Environment), {}, name='any')
    task = Task(id='t', question='?', domain='puzzle', metadata=dict(environment='any'))
    assert [verify_puzzle(task, 'x'*length).verdict for length in (MAX_ANSWER, MAX_ANSWER + 1)] == ['correct', 'wrong']

def test_unknown_environments():
    verdict = verify_puzzle(Task(id='t', question='?', domain='puzzle', metadata=dict(environment='coutdown')), '1')
    assert (verdict.verdict, verdict.reward) == ('invalid_row', None) and "did you mean 'countdown'?" in verdict.detail
    with pytest.raises(ValueError, match='name of its environment'): Task(id='t', question='?', domain='puzzle')
    with pytest.raises(UserError, match='difficulty=0'): draw_puzzles('lcm', 0, 1, 'train')

@pytest.mark.parametrize('name', NAMES)
def test_floods_cost_little(name):
    task, start = draw_puzzles(name, 2, 1, 'train')[0], time.process_time()
    for flood in ('1 '*1999 + 'x', '1'*3999 + 'x', '1\n'*1900 + 'x', 'a '*1999 + '!', '(' * 3999, '1+'*1999, '1*'*1999, 'Q _ '*999, ' '*3999, '9'*4000, '1 '*10**6): verify_puzzle(task, flood)
    assert time.process_time() - start < 0.5

@pytest.mark.parametrize('text', ['9**9**9', '__import__("os")', '1 if 1 else 2', '[1][0]', 'True', '1.0', '1j', '"a"', '-1', '1 << 99', '(lambda: 1)()', '1;2', '', '('*150 + '1'])
def test_nothing_but_arithmetic_is_computed(text):
    with pytest.raises(ValueError): compute(text)
