"Tasks: made problems, the split, the verifier, and what people bring along."
import pytest

from motif_repro.core.errors import UserError
from motif_repro.core.rows import write_rows
from motif_repro.tasks.answers import final_answer
from motif_repro.tasks.drawing import split_of
from motif_repro.tasks.math import JUNK, SOURCES, draw_tasks, reduce_expression
from motif_repro.tasks.schema import read_tasks
from motif_repro.tasks.verify import verify


@pytest.fixture(scope='module')
def tasks(): return {split: [t for s in SOURCES for n in (2, 4, 6) for t in draw_tasks(s, n, 60, split)] for split in ('train', 'test')}


def test_every_answer_is_what_python_computes(tasks):
    for task in tasks['train'] + tasks['test']: assert int(task.answer) == eval(task.metadata['expression'])

def test_sides_never_meet_whatever_the_seed(tasks):
    test = {t.question for t in tasks['test']}
    for seed in range(5):
        drawn = {t.question for s in SOURCES for t in draw_tasks(s, 4, 200, 'train', seed)}
        assert not drawn & test
    assert all(split_of(t.question) == 'test' for t in tasks['test'])

def test_ids_and_questions_are_unique(tasks):
    everything = tasks['train'] + tasks['test']
    assert len({t.id for t in everything}) == len({t.question for t in everything}) == len(everything)

def test_drawing_is_reproducible_and_depends_on_the_seed():
    assert draw_tasks('chain_sum', 5, 20, 'train', 3) == draw_tasks('chain_sum', 5, 20, 'train', 3)
    assert draw_tasks('chain_sum', 5, 20, 'train', 3) != draw_tasks('chain_sum', 5, 20, 'train', 4)

@pytest.mark.parametrize('expression', ['1 + 2 * 3 * 4 - 5', '2 * 3 - 4 * 5', '9 - 8 - 7 - 6', '1 - 2 + 3'])
def test_steps_end_in_the_value(expression): assert reduce_expression(expression)[-1][-1] == eval(expression)

def test_junk_earns_nothing(tasks):
    for task in tasks['test'][::10]:
        contains = [f'{task.answer} or 12', f'not {task.answer}', f'{task.answer} {task.answer}', f'1{task.answer}']
        for junk in [*JUNK, *contains]:
            if junk != task.answer: assert verify(task, f'<think></think>{junk}').reward == 0, junk

@pytest.mark.parametrize('response,answer', [
    ('<think>a</think>5', '5'), ('<think>a</think> 5 \n', '5'), ('<think>5', ''), ('</think>', ''), ('<think>a</think><think>b</think>7', '7'),
    (r'\boxed{3} and \boxed{4}', '4'), (r'<think>\boxed{3}</think>4', '4'), ('', '')])
def test_final_answer(response, answer): assert final_answer(response) == answer

@pytest.mark.parametrize('row,words', [
    (dict(id='1', question='2 + 2'), "row 2: domain 'math' needs the right answer in 'answer'"),
    (dict(id='1', question='2 + 2', answer=' '), "row 2: domain 'math' needs the right answer in 'answer'"),
    (dict(id='1', question='Double.', domain='code', answer='x'), "row 2: domain 'code' needs tests in metadata['tests']"),
    (dict(id='1', question='Double.', domain='code', metadata='{"tests"'), "row 2: 'metadata' is text, but not JSON"),
    (dict(id='1', question='Hi', domain='instructions', metadata=dict(constraints=['no_comma'])), "needs constraints in metadata['constraints']"),
    (dict(id='1', question='2 + 2', answer='4', domain='mat'), "did you mean 'math'?"),
    (dict(id='1', question='2 + 2', answer='4', metadata='[1]'), "'metadata' is list, expected dict"),
    (dict(id='1', question='2 + 2', answer='4', difficulty='hard'), "'difficulty' is str, expected int"),
    (dict(id='1', questoin='2 + 2', answer='4'), "did you mean 'question'?")])
def test_bad_task_rows_are_named(tmp_path, row, words):
    file = tmp_path/'tasks.jsonl'
    write_rows(file, [dict(id='0', question='1 + 1', answer='2'), row])
    with pytest.raises(UserError) as error: read_tasks(file)
    assert str(file) in str(error.value) and words in str(error.value)
