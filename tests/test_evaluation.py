"Benchmarks end to end: who answers right scores 1 and who doesn't 0, nothing is asked twice, nothing unknown becomes a score, leaks are found where they were planted."
import gzip, json, os, re, signal, subprocess, sys, time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_client import Handler, Server, address, serving

from motif_repro.alignment.client import Caller, Endpoint
from motif_repro.core.errors import UserError
from motif_repro.core.rows import read_rows, write_rows
from motif_repro.evaluation import running
from motif_repro.evaluation.comparison import compare_evaluations, read_evaluation
from motif_repro.evaluation.decontamination import find_leaks
from motif_repro.evaluation.passk import compare, difference_ci, evaluate, evaluate_checkpoint
from motif_repro.evaluation.running import Answer, EvaluationJob, run_suite
from motif_repro.evaluation.suites import BOX, SUITES, find_suite, suite_tasks
from motif_repro.model.generation import Completion
from motif_repro.model.loading import load_model, save_model
from motif_repro.model.motif import MotifForCausalLM, tiny_motif_config
from motif_repro.model.tokenizer import train_tokenizer
from motif_repro.pipeline import evaluating
from motif_repro.pipeline.cli import main
from motif_repro.pipeline.evaluating import compare_models, endpoint_of, evaluate_model, server_answers, served_model, style_features
from motif_repro.tasks.sandbox import sandbox_problem
from motif_repro.tasks.schema import Task, write_tasks

SAMPLES = Path(__file__).parents[1]/'data/hub_tasks'
FOLDERS = dict(aime24='aime_2024', aime25='aime_2025')
PROBLEMS = dict(aime24=2, aime25=2, math500=2, gsm8k=2, gpqa=3, livecodebench=2, ifeval=2)
needs_sandbox = pytest.mark.skipif(bool(sandbox_problem()), reason=sandbox_problem())
ALL = [pytest.param(name, marks=needs_sandbox if name == 'livecodebench' else ()) for name in SUITES]

@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    "The folder of the one model that all tests here ask."
    folder = tmp_path_factory.mktemp('evaluation')/'model'
    tokenizer = train_tokenizer(['Calculate 2 + 3.']*10)
    torch.manual_seed(0)
    save_model(MotifForCausalLM(tiny_motif_config(len(tokenizer), hidden_size=32, num_layers=2)), tokenizer, folder)
    return folder

def test_a_checkpoint_as_an_arm(tiny, tmp_path):
    "By paths as by objects."
    tasks = [Task(id=str(n), question=f'Calculate {n} + 1.', answer=str(n + 1), domain='math') for n in range(3)]
    write_tasks(tmp_path/'tasks.jsonl', tasks)
    sampling = dict(num_samples=2, max_new_tokens=4, seed=1)
    assert evaluate_checkpoint(model=str(tiny), tasks=str(tmp_path/'tasks.jsonl'), **sampling) == dict(rows=evaluate(*load_model(tiny), tasks, **sampling))

def job_for(name, out, **changes): return EvaluationJob(**dict(suite=name, model='scripted', out=str(out), data=str(SAMPLES/FOLDERS.get(name, name))) | changes)

def saying(texts):
    "Answers by a table: task → texts."
    def answers(parts):
        for _, tasks in parts: yield [[text if text is None else Answer(text, 3, True) for text in texts(task)] for task in tasks]
    return answers

def refuse(parts): yield from ([] for _ in parts if pytest.fail("nobody is to be asked"))

def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, 'argv', ['motif-repro', *map(str, arguments)])
    with pytest.raises(SystemExit) as end: main()
    return end.value.code or 0, capsys.readouterr()


@pytest.mark.parametrize('name', ALL)
def test_a_suite_with_a_tiny_model(name, tiny, tmp_path):
    "Rows of the published layout in, everything that is to be kept out."
    repeats = 1 if SUITES[name].temperature == 0 else 2
    summary, text = evaluate_model(job_for(name, tmp_path, model=str(tiny), max_new_tokens=12, num_samples=repeats))
    rows = read_rows(tmp_path/'rows.jsonl')
    assert summary['asked'] == summary['problems'] == len(rows) == PROBLEMS[name] and summary['answers'] == repeats*len(rows) and summary['unknown'] == 0
    assert summary['rows']['set_aside'] == (name != 'gsm8k') == (tmp_path/'set_aside.jsonl').exists()
    assert summary['sampling'] == {key: getattr(SUITES[name], key) for key in ('temperature', 'top_p')} | dict(num_samples=repeats, max_new_tokens=12, seed=0)
    for row in rows:
        assert len(row['rewards']) == len(row['answers']) == repeats == row['num_graded'] and set(row['rewards']) <= {0., 1.}
        assert all(0 < answer['num_tokens'] <= 12 and answer['verdict'] and answer['style']['words'] >= 1 for answer in row['answers'])
    assert json.loads((tmp_path/'summary.json').read_text()) == json.loads(json.dumps(summary)) and {'torch', 'transformers', 'motif_repro'} <= set(summary['versions'])
    page = (tmp_path/'report.html').read_text()
    assert f'on {name}: pass@1' in text and f'on {name}: pass@1' in page and SUITES[name].source.split(';')[0].replace("'", '&#39;') in page and 'http' not in re.sub(r'http://www.w3.org\S+|example.org', '', page)


PROGRAMS = {'livecodebench-made_a': 'a, b = map(int, input().split())\nprint({} (a, b))',
            'livecodebench-3001': 'class Solution:\n    def equalPairs(self, nums):\n        return sum(a == b for i, a in enumerate(nums) for b in nums[{}:i])'}
TEXTS = {'ifeval-1': ('The sea is a wide blue plain.', 'The sea, a wide blue plain.'), 'ifeval-2': ('soft fur and long whiskers', 'Soft fur and long whiskers')}

def forms(task, right:bool):
    "An answer as models write it."
    if task.domain == 'code':
        program = PROGRAMS[task.id].format(*([['max'], ['0']] if right else [['min'], ['1']])[task.id.endswith('3001')])
        return [f'<think>A loop?\n```python\nprint(0)\n```</think>Here it is:\n```python\n{program}\n```\nIt works.']
    if task.domain == 'instructions': return [text for text in (TEXTS[task.id][not right],) for text in (text, f'<think>HOW, then?</think>{text}')]
    if task.domain == 'puzzle':
        letter = task.answer if right else 'ABCD'['ABCD'.index(task.answer) - 1]
        option = next(line for line in task.question.splitlines() if line.startswith(f'{letter})'))
        return [f'So it is this.\n\nAnswer: {letter}', f'**Answer: {letter}**', f'Answer: {option}', rf'<think>Answer: X</think>\boxed{{\text{{{letter}}}}}', f'The correct answer is ({letter}).']
    value = task.answer if right else '1' + task.answer.strip('0')
    return [rf'<think>Perhaps \boxed{{3.5}}?</think>So it is $\boxed{{{value}}}$.', rf'First \boxed{{3.5}}, no: $$\boxed{{ {value} }}$$', f'It follows.\n\n**Answer:** ${value}$', f'<think>Hm.</think>The answer is {value}.']

@pytest.mark.parametrize('right', [True, False])
@pytest.mark.parametrize('name', ALL)
def test_right_answers_score_1_and_wrong_ones_0(name, right, tmp_path):
    "Extraction and check both ways, over the ways in which models write."
    num = len(forms(suite_tasks(find_suite(name), SAMPLES/FOLDERS.get(name, name), tmp_path/'aside.jsonl')[0][0], right))
    summary, rows = run_suite(job_for(name, tmp_path, num_samples=num, temperature=1.), 'x', saying(lambda task: forms(task, right)))
    assert summary['pass_at_1']['value'] == right, [(row['task_id'], a['text'], a['detail']) for row in rows for a in row['answers'] if (a['verdict'] == 'correct') != right]
    assert summary['answers'] == num*PROBLEMS[name] and (not right or summary['verdicts'] == dict(correct=num*PROBLEMS[name]))

@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('junk', ['', ' ', '<think>never ends', '<think></think>', r'\boxed{}', 'I cannot answer this, sorry', 'A, B, C or D', '0 1 2 3 4 5 6 7 8 9', '```python\n```'])
def test_junk_scores_nothing(name, junk, tmp_path):
    summary, _ = run_suite(job_for(name, tmp_path, num_samples=1), 'x', saying(lambda task: [junk]))
    honest = name == 'ifeval' and junk.strip() and not junk.startswith(('<', '\\'))    # words that happen to meet the demands are an answer there
    assert summary['unknown'] == 0 and (honest or summary['pass_at_1']['value'] == 0)

def test_what_is_asked_is_what_the_suite_states(tiny, tmp_path, monkeypatch):
    "The template around the prompt, the prompt around the question, nothing else; no solved example."
    seen = []
    def sample(model, tokenizer, prompts, num_samples, **how):
        seen.append((prompts, how))
        return [[Completion('', [1], [0.], True)]*num_samples for _ in prompts]
    monkeypatch.setattr(running, 'sample', sample)
    with pytest.raises(UserError, match='32,768 new ones exceed its context of 1,024; give --max-new-tokens'): evaluate_model(job_for('aime24', tmp_path/'long', model=str(tiny), limit=1))
    assert not seen
    evaluate_model(job_for('aime24', tmp_path, model=str(tiny), limit=1, max_new_tokens=500))
    (prompt,), how = seen[0]
    question = suite_tasks(find_suite('aime24'), SAMPLES/'aime_2024', tmp_path/'aside.jsonl')[0][0].question
    assert prompt == f'<|user|>{question}{BOX}<|end|><|assistant|>'
    assert (how['temperature'], how['top_p'], how['max_new_tokens']) == (0.6, 0.95, 500)

@pytest.mark.parametrize('rows, words', [
    (['not JSON', '[1]', json.dumps(dict(problem='?', answer='x')), json.dumps(dict(problem='?', answer='7')), json.dumps(dict(problem='?', answer='7')), json.dumps(dict(answer='7'))],
     ['not JSON', 'not an object', 'no whole number', 'was read before', "'question' holds no text"])])
def test_broken_rows_are_set_aside(rows, words, tmp_path):
    with gzip.open(tmp_path/'rows.jsonl.gz', 'wt') as file: file.write('\n'.join(rows))
    summary, kept = run_suite(job_for('aime24', tmp_path/'out', data=str(tmp_path/'rows.jsonl.gz'), num_samples=1), 'x', saying(lambda task: [r'\boxed{7}']))
    aside = read_rows(tmp_path/'out/set_aside.jsonl')
    assert (summary['rows']['read'], summary['rows']['set_aside'], len(kept), summary['pass_at_1']['value']) == (1, 5, 1, 1)
    assert all(any(word in row['reason'] for row in aside) for word in words) and 'not JSON' in evaluating.cautions(summary)[0]

def test_data_that_hold_no_problem(tmp_path):
    (tmp_path/'x.jsonl').write_text('{"a": 1}\n')
    with pytest.raises(UserError, match='holds no task'): run_suite(job_for('gsm8k', tmp_path/'out', data=str(tmp_path/'x.jsonl')), 'x', refuse)

def test_livecodebench_over_several_files(tmp_path):
    "The releases lie side by side, test.jsonl, test2.jsonl, and one may be named alone."
    a, b, _ = read_rows(SAMPLES/'livecodebench/test.jsonl')
    write_rows(tmp_path/'lcb/test.jsonl', [a])
    write_rows(tmp_path/'lcb/test2.jsonl', [b | dict(contest_date='2026-12-24T00:00:00')])
    tasks = lambda path, **how: [task.id for task in suite_tasks(find_suite('livecodebench'), path, **how)[0]]
    assert tasks(tmp_path/'lcb') == ['livecodebench-made_a', 'livecodebench-3001'] and tasks(tmp_path/'lcb/test2.jsonl') == ['livecodebench-3001']
    assert tasks(tmp_path/'lcb', since='2026-12-01') == ['livecodebench-3001']

def test_a_suite_without_data_says_what_to_do(monkeypatch):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    with pytest.raises(UserError, match="HuggingFaceH4/MATH-500 is not in the Hub's cache.*--data PATH"): suite_tasks(find_suite('math500'))


# Going on where a run was killed

@pytest.fixture(scope='module')
def whole(tiny, tmp_path_factory):
    "An unbroken run over 60 problems."
    folder = tmp_path_factory.mktemp('whole')
    write_rows(folder/'rows.jsonl', [dict(question=f'What is {i} + 3?', answer=f'So\n#### {i + 3}') for i in range(60)])
    job = EvaluationJob(suite='gsm8k', model=str(tiny), out=str(folder/'whole'), data=str(folder/'rows.jsonl'), num_samples=2, temperature=1., max_new_tokens=24)
    return job, evaluate_model(job)[0]

def summary_of(out): return {key: value for key, value in json.loads((Path(out)/'summary.json').read_text()).items() if key not in ('finished', 'commit')}
def same(a, b): return (Path(a)/'rows.jsonl').read_bytes() == (Path(b)/'rows.jsonl').read_bytes() and summary_of(a) == summary_of(b)

@pytest.mark.slow
def test_kill_9_ends_in_the_same_bytes(whole):
    job, _ = whole
    killed = Path(job.out).with_name('killed')
    program = 'from motif_repro.pipeline.cli import main; main()'
    arguments = ['evaluate', '--model', job.model, '--suite', 'gsm8k', '--data', job.data, '--repeats', '2', '--temperature', '1', '--max-new-tokens', '24', '--out', str(killed)]
    process = subprocess.Popen([sys.executable, '-c', program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | dict(PYTHONPATH=os.pathsep.join(sys.path)))
    log, deadline = killed/'rows.jsonl', time.time() + 120
    while time.time() < deadline and process.poll() is None and not (log.is_file() and log.stat().st_size): time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed/'summary.json').exists() and 0 < len(read_rows(log)) < 60, "it ended before it was killed"
    with pytest.raises(UserError, match="isn't finished"): read_evaluation(killed)
    evaluate_model(replace(job, out=str(killed)))
    assert same(killed, job.out)

@pytest.mark.parametrize('share', [0.02, 0.4, 0.99])
def test_a_log_that_ends_anywhere_is_continued(whole, share):
    job, _ = whole
    torn = Path(job.out).with_name(f'torn-{share}')
    torn.mkdir()
    log = (Path(job.out)/'rows.jsonl').read_bytes()
    (torn/'rows.jsonl').write_bytes(log[:int(share*len(log))])
    evaluate_model(replace(job, out=str(torn)))
    assert same(torn, job.out)

def test_what_is_done_is_not_done_again(whole, monkeypatch):
    job, summary = whole
    monkeypatch.setattr(evaluating, 'load_here', lambda model: pytest.fail("the model isn't needed"))
    assert evaluate_model(job)[0]['pass_at_1'] == summary['pass_at_1']
    fewer, _ = evaluate_model(replace(job, limit=20))
    assert (fewer['problems'], fewer['asked']) == (20, 20)
    evaluate_model(job)

def test_more_problems_later_are_the_same_problems(whole, tiny):
    "A limit that is raised ends where a run without one does, though it ends within a part."
    job, _ = whole
    grown = replace(job, out=str(Path(job.out).with_name('grown')), limit=21)
    evaluate_model(grown)
    evaluate_model(replace(grown, limit=None))
    assert same(grown.out, job.out)

@pytest.mark.parametrize('changes, words', [(dict(temperature=0.5), 'temperature=1.0'), (dict(max_new_tokens=25), 'max_new_tokens=24'), (dict(seed=1), 'seed=0'), (dict(num_samples=1), 'num_samples=2'),
                                            (dict(suite='aime24'), "suite=gsm8k")])
def test_other_settings_need_another_folder(whole, changes, words):
    job, _ = whole
    job = replace(job, **changes)
    if job.suite == 'aime24': job = replace(job, data=str(SAMPLES/'aime_2024'))
    with pytest.raises(UserError, match=words): evaluate_model(job)

def test_other_problems_need_another_folder(whole, tmp_path):
    job, _ = whole
    write_rows(tmp_path/'rows.jsonl', [dict(question='?', answer='#### 1')])
    with pytest.raises(UserError, match='other content .problems is now'): evaluate_model(replace(job, data=str(tmp_path/'rows.jsonl')))


# A server

class Exam(Server):
    "Knows the answers: question → answer; lists its models."
    knows, models = {}, ['m']
    def __init__(self, fault):
        super().__init__(fault)
        self.RequestHandlerClass = type('Listing', (Handler,), dict(do_GET=lambda call: self.list(call)))
    def list(self, call):
        call.send_response(200)
        call.send_header('Content-Type', 'application/json')
        call.end_headers()
        call.wfile.write(json.dumps(dict(object='list', data=[dict(id=name, object='model', created=0, owned_by='x') for name in self.models])).encode())
    def reply(self, body): return self.knows.get(body['messages'][-1]['content'].removesuffix(BOX), 'No idea')

TASKS = suite_tasks(find_suite('aime25'), SAMPLES/'aime_2025', '/dev/null')[0]
KNOWS = {task.question: rf'So $\boxed{{{task.answer}}}$.' for task in TASKS}

def exam(fault=lambda question, before: None, knows=KNOWS, models=['m']): return serving(fault, type('Knowing', (Exam,), dict(knows=knows, models=models)))

def at(server, out, **changes): return job_for('aime25', out, **dict(model=address(server), num_samples=3) | changes)

def test_a_server_answers(tmp_path):
    with exam() as server:
        summary, text = evaluate_model(at(server, tmp_path))
        assert summary['pass_at_1']['value'] == 1 and summary['answers'] == 6 and 'm at http' in summary['fingerprint']
        assert sorted(body['seed'] for body in server.bodies) == [0, 0, 1, 1, 2, 2]    # repeats are different answers
        assert {(body['temperature'], body['top_p'], body['max_tokens'], body['model'], len(body['messages'])) for body in server.bodies} == {(0.6, 0.95, 32_768, 'm', 1)}
        assert all(body['messages'][0]['content'].endswith(BOX) for body in server.bodies)
        before = len(server.bodies)
        assert evaluate_model(at(server, tmp_path))[0]['pass_at_1'] == summary['pass_at_1'] and len(server.bodies) == before
    row = read_rows(tmp_path/'rows.jsonl')[0]
    assert row['answers'][0]['text'].startswith('<think>I think</think>So') and row['answers'][0]['num_tokens'] == 5

def test_a_server_that_knows_half(tmp_path):
    with exam(knows=dict(list(KNOWS.items())[:1]), fault=lambda question, before: 'long' if before == 0 else None) as server: summary, text = evaluate_model(at(server, tmp_path))
    assert summary['pass_at_1']['value'] == 0.5 and summary['cut'] == 2 and 'answers were cut' in text
    assert {key: of['pass_at_1']['value'] for key, of in summary['by_difficulty'].items()} == {1: 1, 3: 0}

def test_what_a_server_never_answered_is_no_score(tmp_path):
    failing = lambda question, before: (400, {}, 'too long') if question.startswith(TASKS[1].question) and before == 0 else None
    with exam(fault=failing) as server, pytest.raises(UserError, match='1 of 2 problems lack answers'): evaluate_model(at(server, tmp_path), concurrency=1)
    assert not (tmp_path/'summary.json').exists() and [row['task_id'] for row in read_rows(tmp_path/'rows.jsonl')] == [TASKS[0].id]
    assert len(read_rows(tmp_path/'failures.jsonl')) == 1
    with exam() as server:
        job = at(server, tmp_path)
        later = server_answers(Caller(endpoint=Endpoint('x', address(server))), 'm', job)
        summary, _ = run_suite(job, json.loads((tmp_path/'job.json').read_text())['model'], later)     # the same server, another port
        assert summary['pass_at_1']['value'] == 1 and len(server.bodies) == 1                           # one of six was lacking

def test_scoring_without_what_is_missing_says_so(tmp_path):
    failing = lambda question, before: (400, {}, 'too long') if question.startswith(TASKS[1].question) and before == 0 else None
    with exam(fault=failing) as server: summary, text = evaluate_model(at(server, tmp_path, allow_missing=True), concurrency=1)
    assert (summary['missing'], summary['answers'], summary['pass_at_1']['value']) == (1, 5, 1) and '1 answers are missing' in text
    assert read_rows(tmp_path/'rows.jsonl')[1]['rewards'].count(None) == 1

def test_a_server_is_asked_for_its_model(tmp_path):
    with exam(models=['a', 'b']) as server:
        endpoint = endpoint_of(address(server))
        with pytest.raises(UserError, match='serves a, b; choose with --served-as'): served_model(endpoint)
        assert served_model(endpoint, 'b') == 'b'
    with exam(models=[]) as server, pytest.raises(UserError, match='serves no model'): served_model(endpoint_of(address(server)))
    with pytest.raises(UserError, match='is no server'): evaluate_model(job_for('aime25', tmp_path, model='somewhere'), served_as='x')


# Training data

LONG = 'Four friends walk along the river for three hours before lunch and rest for forty minutes under the old bridge near the mill'

def test_planted_leaks_are_found_and_nothing_else(tmp_path):
    tasks = [Task(id=f't{i}', question=f'{LONG.replace("Four", number)}, then go on. {end}', answer='1') for i, (number, end) in enumerate(
        [('Nine', 'How far do they get by evening if they walk at an even speed all day long?'), ('Six', 'Who of them is the first to see the mill again on the way home that night?')])]
    tasks += [Task(id='short', question='What is $2^{10}$?', answer='1024'), Task(id='safe', question='Seven boxes hold nine pens each, and two of the boxes are lost. How many pens are left?', answer='45')]
    write_rows(tmp_path/'chat.jsonl', [dict(messages=[dict(role='user', content='hello there'), dict(role='assistant', content=f'An example. {tasks[0].question} And so on.')]),
                                       dict(deep=dict(er=[dict(text=r'what is \(2^10\)')])), dict(text='What is 2^10 + 1?'), dict(text='Eight boxes hold nine pens each, and two of these are lost')])
    with gzip.open(tmp_path/'more.json.gz', 'wt') as file: json.dump([dict(prompt=tasks[1].question[:90] + ' and who sees it'), dict(x=[1, None])], file)
    (tmp_path/'bad.jsonl').write_text('oops\n{"text": "fine"}\n')
    hits, counts = find_leaks(tasks, [tmp_path/'chat.jsonl', tmp_path/'more.json.gz', tmp_path/'bad.jsonl'])
    assert (counts.rows, counts.read, counts.set_aside) == (8, 7, 1)
    assert [(hit['task_id'], hit['exact'], hit['share'] == 1) for hit in hits] == [('t0', False, True), ('t1', False, False), ('short', True, True)]
    where = {hit['task_id']: {(Path(row['file']).name, row['row']) for row in hit['rows']} for hit in hits}
    assert where == dict(t0={('chat.jsonl', 1), ('more.json.gz', 1)}, t1={('chat.jsonl', 1), ('more.json.gz', 1)}, short={('chat.jsonl', 2)})   # t0 and t1 have a long beginning in common
    strict, _ = find_leaks(tasks, [tmp_path], min_share=0.9)
    assert [hit['task_id'] for hit in strict] == ['t0', 'short']
    assert find_leaks(tasks, [tmp_path], size=40)[0][0]['task_id'] == 't0'

def test_a_shuffled_option_doesn_t_hide_a_leak(tmp_path):
    "GPQA's question in training data, its options in the published order, and LiveCodeBench's without our instruction."
    for name in ('gpqa', 'livecodebench'):
        tasks, _ = suite_tasks(find_suite(name), SAMPLES/name, tmp_path/'aside.jsonl')
        write_rows(tmp_path/f'{name}.jsonl', [dict(question=tasks[0].metadata['stem'])])
        hits, _ = find_leaks(tasks, [tmp_path/f'{name}.jsonl'])
        assert [(hit['task_id'], hit['exact']) for hit in hits] == [(tasks[0].id, True)]

def test_scores_with_and_without(tmp_path, monkeypatch, capsys):
    "The model knows by heart what it was trained on, and little else; answers are not asked for again."
    write_rows(tmp_path/'rows.jsonl', [dict(problem=f'The {word} of this tale counts {i} ships and {i + 7} boats. How many vessels is that?', answer=str(2*i + 7), year=1, url='') for i, word in
                                       enumerate('hero king queen miller smith baker sailor farmer'.split())])
    write_rows(tmp_path/'train.jsonl', [dict(text=f"Exam: {row['problem']} Answer: {row['answer']}") for row in read_rows(tmp_path/'rows.jsonl')[:3]])
    held = {f'The {word} ' for word in ('hero', 'king', 'queen', 'sailor')}
    knows = saying(lambda task: [rf'\boxed{{{task.answer if any(task.question.startswith(start) for start in held) else 1000}}}'])
    job = job_for('aime24', tmp_path/'out', data=str(tmp_path/'rows.jsonl'), num_samples=1)
    first, _ = run_suite(job, 'x', knows)
    assert 'contamination' not in first
    summary, _ = run_suite(replace(job, train=(str(tmp_path/'train.jsonl'),)), 'x', refuse)
    found = summary['contamination']
    assert (found['marked'], found['exact'], found['contaminated']['value'], found['clean']['value'], found['all']['value'], found['rows_read']) == (3, 0, 1, 0.2, 0.5, 3)
    marks = read_rows(tmp_path/'out/contaminated.jsonl')
    assert [(mark['rows'][0]['row'], mark['rows'][0]['file']) for mark in marks] == [(i, str(tmp_path/'train.jsonl')) for i in (1, 2, 3)] and 'ships and' in marks[0]['rows'][0]['run']
    tables = {title: rows for title, _, rows in evaluating.evaluation_tables(summary)}
    assert [row[1] for row in tables[next(title for title in tables if title.startswith('Training data'))]] == [8, 5, 3]


# Two evaluations

def evaluated(folder, name, right, **changes):
    "An evaluation of 40 problems by a script: problem number → how many of four answers are right."
    write_rows(folder/'rows.jsonl', [dict(problem=f'Problem {i}?', answer=str(i), url=f'Problem_{1 + i % 15}', year=1, id=i) for i in range(40)])
    texts = lambda task: [rf'<think>Let me see, {name}.</think>It is $\boxed{{{int(task.answer) if k < right(int(task.answer)) else 777}}}$.' for k in range(4)]
    job = EvaluationJob(suite='aime24', model=name, out=str(folder/name), data=str(folder/'rows.jsonl'), num_samples=4, **changes)
    run_suite(job, name, saying(texts), style=style_features)
    return folder/name

def test_two_evaluations_by_the_command(tmp_path, monkeypatch, capsys):
    a, b = evaluated(tmp_path, 'a', lambda i: 1 + i % 3), evaluated(tmp_path, 'b', lambda i: 4 if i % 15 > 9 else 1 + i % 3, temperature=1.)
    code, said = command(monkeypatch, capsys, 'compare', a, b, '--out', tmp_path/'c')
    found = json.loads((tmp_path/'c/comparison.json').read_text())
    assert code == 0 and found['difference']['value'] == 0.1125 and found['unlike'] == ['temperature: 0.6 and 1.0']
    assert {key: of['difference']['value'] for key, of in found['by_difficulty'].items()} == {'1': 0, '2': 0, '3': 0.45}
    assert len(found['movers']) == 10 and found['movers'][0]['before'] == 0.25 and found['movers'][0]['after'] == 1
    assert found['style']['n'] == 160 and 'they differ in temperature: 0.6 and 1.0' in said.out and 'B − A = +11.2 points' in said.out
    back = compare_evaluations(read_evaluation(b), read_evaluation(a))
    assert back['difference']['value'] == -0.1125 and back['difference']['ci95'] == [-bound for bound in reversed(found['difference']['ci95'])]
    write_rows(b/'rows.jsonl', read_rows(b/'rows.jsonl')[::-1])      # rows are paired by their problem, whatever their order
    assert [compare_evaluations(*map(read_evaluation, (a, b)))[name] for name in ('movers', 'difference')] == [found[name] for name in ('movers', 'difference')]
    again, _ = compare_models(a, a, tmp_path/'same')
    assert again['difference']['value'] == 0 and again['difference']['ci95'][0] < -0.005 and again['style']['score'] > 0.95 and not again['unlike'] and not again['movers']

def test_what_can_t_be_compared(tmp_path):
    a = evaluated(tmp_path, 'a', lambda i: 2)
    with pytest.raises(UserError, match='not of the same problems .*with the same --limit'): compare_models(a, evaluated(tmp_path, 'b', lambda i: 2, limit=20), tmp_path/'c')
    with pytest.raises(UserError, match='holds no evaluation'): compare_models(a, tmp_path/'nothing', tmp_path/'c')

@pytest.mark.parametrize('n, k', [(10, 1), (30, 16), (100, 2)])
def test_the_interval_keeps_its_promise(n, k):
    "Simulated checkpoints of a known difference: the interval of `compare` holds it in 95 of 100 cases, and isn't absurdly wide."
    rng = np.random.default_rng(n + k)
    skill = rng.beta(0.2, 0.2, 20_000)
    better = np.clip(skill + 0.15*(rng.random(20_000) < 0.5), 0, 1)
    truth, held, widths = (better - skill).mean(), 0, []
    rows = lambda rights: [dict(task_id=i, num_graded=k, num_correct=int(c)) for i, c in enumerate(rights)]
    for _ in range(300):
        some = rng.integers(20_000, size=n)
        found = compare(rows(rng.binomial(k, better[some])), rows(rng.binomial(k, skill[some])))
        held, widths = held + (found.low <= truth <= found.high), [*widths, found.high - found.low]
    assert held/300 >= 0.92
    assert np.mean(widths) < 1.5*2*1.96*np.sqrt(((better - skill).var() + 2*(skill*(1 - skill)).mean()/k)/n) + 1/n

def test_no_difference_is_never_certain():
    for n in (1, 5, 1000): assert difference_ci([0.]*n).low < 0 < difference_ci([0.]*n).high
    assert difference_ci([0.]*1000).high < 0.01


# The command

@pytest.mark.parametrize('arguments, words', [
    (('--suite', 'gsmk8'), "unknown suite 'gsmk8'; did you mean 'gsm8k'?"), (('--suite', 'gsm8k', '--model', 'nowhere/at/all'), 'there is no such folder'),
    (('--suite', 'gsm8k', '--repeats', '4'), 'at temperature 0 are all the same'), (('--suite', 'lm-eval:x', '--temperature', '1'), '--temperature: tasks of lm-eval say this themselves'),
    (('--suite', 'gsm8k', '--include-path', 'x'), 'is for tasks of lm-eval'), (('--suite', 'gsm8k', '--split', 'main/tset'), "'main/tset' is none, did you mean 'main/test'?"),
    (('--suite', 'gsm8k', '--top-p', '0'), 'top_p=0.0 must lie in'), (('--suite', 'gsm8k', '--train', 'nowhere.jsonl', '--max-new-tokens', '2'), 'nowhere.jsonl: no such file')])
def test_mistakes(arguments, words, tiny, tmp_path, monkeypatch, capsys):
    base = dict(zip(('--model', '--data'), (str(tiny), str(SAMPLES/'gsm8k'))))
    if arguments[1].startswith('lm-eval'): base.pop('--data')
    given = base | dict(zip(arguments[::2], arguments[1::2]))
    code, said = command(monkeypatch, capsys, 'evaluate', *(part for pair in given.items() for part in pair), '--out', tmp_path/'out')
    assert code == 2 and words in said.err and 'Traceback' not in said.err

def test_rows_of_training_data_that_cannot_be_read_are_counted(tmp_path):
    (tmp_path/'train.jsonl').write_text('{"text": "one"}\n{"text"\n[1]\n{"text": "two"}\n')
    _, counts = find_leaks([Task(id='a', question='What is one and one?', answer='2', domain='math')], [tmp_path/'train.jsonl'])
    assert (counts.rows, counts.read, counts.set_aside) == (4, 2, 2) and counts.first_reason.startswith('first: train.jsonl, row 2, not JSON')

@pytest.mark.parametrize('suite,expected', [('livecodebench', 'none'), ('math500', 'bubblewrap')])
def test_programs_run_in_what_the_settings_say(suite, expected, tmp_path, monkeypatch, capsys):
    jobs = []
    monkeypatch.setattr('motif_repro.core.settings.load_settings', lambda: SimpleNamespace(sandbox='none'))
    monkeypatch.setattr(evaluating, 'evaluate_model', lambda job, **_: (jobs.append(job), 'said'))
    code, _ = command(monkeypatch, capsys, 'evaluate', '--model', 'x', '--suite', suite, '--out', tmp_path)
    assert code == 0 and [job.sandbox for job in jobs] == [expected]

def test_the_command(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, said = command(monkeypatch, capsys, 'evaluate', '--model', tiny, '--suite', 'math500', '--data', SAMPLES/'math500', '--repeats', '2', '--max-new-tokens', '8', '--train', SAMPLES/'math500')
    assert code == 0 and 'pass@1 0.0%' in said.out and '2 of 2 problems stand in' in said.out and (tmp_path/'evaluations/model-math500/report.html').is_file()
    assert '1 of 3 rows of the data make no task here' in said.out and '4 of 4 answers were cut at 8 tokens' in said.out
