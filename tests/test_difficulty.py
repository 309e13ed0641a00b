"Measuring difficulty: a killed run ends in the bytes of an unbroken one, and nothing unknown becomes a pass rate."
import os, signal, subprocess, sys, time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from motif_repro.core.errors import UserError
from motif_repro.core.rows import content_hash, read_rows
from motif_repro.model.loading import save_model
from motif_repro.model.motif import MotifForCausalLM, tiny_motif_config
from motif_repro.model.tokenizer import train_tokenizer
from motif_repro.pipeline.cli import main
from motif_repro.rl import measuring
from motif_repro.rl.difficulty import PassRates, band_probability, kind_of, with_fitted_strength
from motif_repro.rl.measuring import DifficultyJob, run_difficulty
from motif_repro.tasks.schema import Task, Verdict, read_tasks, write_tasks

ROOT = Path(__file__).parents[1]
RESULTS = ('answers.jsonl', 'difficulty.jsonl', 'kept.jsonl', 'pass_rates.json', 'summary.json', 'difficulty.png', 'job.json')

@pytest.fixture(scope='module')
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp('difficulty')
    tokenizer = train_tokenizer(['Calculate 2 + 3.']*10)
    torch.manual_seed(0)
    save_model(MotifForCausalLM(tiny_motif_config(len(tokenizer), hidden_size=32, num_layers=2)), tokenizer, folder/'model')
    write_tasks(folder/'tasks.jsonl', [Task(id=f't{i}', question=f'Calculate {i} + 3.', answer=str(i + 3), difficulty=i % 3) for i in range(100)])
    return DifficultyJob(tasks=str(folder/'tasks.jsonl'), model=str(folder/'model'), out=str(folder/'whole'), k=3, max_new_tokens=32)

@pytest.fixture(scope='module')
def whole(job): return run_difficulty(job)

def elsewhere(job, name, **changes): return replace(job, out=str(Path(job.out).with_name(name)), **changes)
def results(job): return {name: content_hash(Path(job.out)/name) for name in RESULTS}
def judge_all(tasks, responses): return [Verdict('correct' if response[:1].isdigit() else 'wrong') for response in responses]
def refuse(*_): raise AssertionError("nothing is to be sampled or judged")

def command(monkeypatch, *arguments)->int:
    "motif-repro in this process; its exit code."
    monkeypatch.setattr(sys, 'argv', ['motif-repro', *map(str, arguments)])
    with pytest.raises(SystemExit) as end: main()
    return end.value.code or 0


def test_kill_9_ends_in_the_same_bytes(job, whole, monkeypatch, capsys):
    killed = elsewhere(job, 'killed')
    arguments = ('difficulty', job.tasks, '--model', job.model, '--k', '3', '--max-new-tokens', '32', '--out', killed.out)
    code = 'from motif_repro.pipeline.cli import main; main()'
    process = subprocess.Popen([sys.executable, '-c', code, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=os.environ | dict(PYTHONPATH=os.pathsep.join(sys.path)))
    log, deadline = Path(killed.out)/'answers.jsonl', time.time() + 120
    while time.time() < deadline and process.poll() is None and not (log.is_file() and log.stat().st_size): time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (Path(killed.out)/'summary.json').exists(), "it ended before it was killed"
    assert 0 < len(read_rows(log)) < 100
    assert command(monkeypatch, *arguments) == 0
    assert results(killed) == results(job)
    assert f"{whole['kept']:,} of 100 tasks kept" in capsys.readouterr().out

@pytest.mark.parametrize('share', [0.02, 0.33, 0.5, 0.99])
def test_a_log_that_ends_anywhere_is_continued(job, whole, share):
    "Between parts, within a part, within a line."
    torn = elsewhere(job, f'torn-{share}')
    Path(torn.out).mkdir()
    log = (Path(job.out)/'answers.jsonl').read_bytes()
    (Path(torn.out)/'answers.jsonl').write_bytes(log[:int(share*len(log))])
    assert run_difficulty(torn) == whole and results(torn) == results(job)

def test_what_is_done_is_not_done_again(job, whole, monkeypatch):
    monkeypatch.setattr(measuring, 'sample', refuse)
    assert run_difficulty(job, verify_all=refuse) == whole
    wider = run_difficulty(replace(job, band=(0., 1.)), verify_all=refuse)
    assert wider['kept'] == 100 == len(read_tasks(Path(job.out)/'kept.jsonl'))
    assert run_difficulty(job, verify_all=refuse) == whole

def test_other_answers_are_refused(job, whole, tmp_path):
    for said, changes in {'k=3 (k is now 4)': dict(k=4), 'temperature=1.0': dict(temperature=0.7), 'seed=0': dict(seed=1)}.items():
        with pytest.raises(UserError) as error: run_difficulty(replace(job, **changes), verify_all=refuse)
        assert said in str(error.value)
    write_tasks(tmp_path/'tasks.jsonl', read_tasks(job.tasks)[:-1])
    with pytest.raises(UserError, match='sampled with other content'): run_difficulty(replace(job, tasks=str(tmp_path/'tasks.jsonl')))

def test_what_is_counted(job):
    "Only what was checked is; a failed verifier and a doubtful program are neither right nor wrong."
    words = dict(t0='correct', t1='wrong', t2='verifier_error', t3='timeout', t4='no_answer', t5='invalid_row')
    judge = lambda tasks, responses: [Verdict(words.get(task.id, 'correct'), reduced_assurance=task.id == 't6') for task in tasks]
    summary = run_difficulty(elsewhere(job, 'judged', min_probability=0.), verify_all=judge)   # whatever is known is kept
    rows = read_rows(Path(job.out).with_name('judged')/'difficulty.jsonl')
    assert [(r['right'], r['wrong'], r['no_reward']) for r in rows[:8]] == [(3, 0, 0), (0, 3, 0), (0, 0, 3), (0, 3, 0), (0, 3, 0), (0, 0, 3), (0, 0, 3), (3, 0, 0)]
    assert (summary['unknown'], summary['no_reward'], summary['none_right']) == (3, 9, 3)
    assert [r['id'] for r in rows if not r['keep']] == ['t2', 't5', 't6']
    counts = PassRates.load(Path(job.out).with_name('judged')/'pass_rates.json').counts
    assert counts['t2'] == [0, 0, 0] and counts['t1'] == [0, 3, 0]
    doubtful = run_difficulty(elsewhere(job, 'doubtful', allow_reduced_assurance=True), verify_all=judge)
    assert doubtful['unknown'] == 2

def test_public_data_sets_are_measured_as_they_are(job, tmp_path):
    summary = run_difficulty(replace(job, tasks=str(ROOT/'data/hub_tasks/math'), out=str(tmp_path)), verify_all=judge_all)
    assert (summary['tasks'], summary['set_aside'], len(read_rows(tmp_path/'set_aside.jsonl'))) == (2, 1, 1)
    with pytest.raises(UserError, match='say which one'): run_difficulty(replace(job, tasks=str(ROOT/'data/hub_tasks/gsm8k'), out=str(tmp_path/'b')))

def test_rl_starts_from_what_was_measured(job, whole):
    tasks = read_tasks(job.tasks)
    rates, rows = PassRates.load(Path(job.out)/'pass_rates.json', tasks), read_rows(Path(job.out)/'difficulty.jsonl')
    a, b = rates.posterior(tasks, 0)
    assert np.allclose(a/(a + b), [row['mean'] for row in rows], atol=1e-4)
    assert np.allclose(band_probability(a, b), [row['band_probability'] for row in rows], atol=1e-4)

def test_what_cannot_work_is_refused_before_the_model_is_loaded(job, tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, 'load_here', refuse)
    write_tasks(tmp_path/'none.jsonl', [])
    with pytest.raises(UserError, match='none.jsonl: holds no task'): run_difficulty(replace(job, tasks=str(tmp_path/'none.jsonl')))
    with pytest.raises(UserError, match='no such file'): run_difficulty(replace(job, tasks=str(tmp_path/'nowhere.jsonl')))
    write_tasks(tmp_path/'code.jsonl', [Task(id='c', question='Write f.', domain='code', metadata=dict(tests=['assert f(1)']))])
    with pytest.raises(UserError, match='sandbox'): run_difficulty(replace(job, tasks=str(tmp_path/'code.jsonl'), sandbox='nsjail'))

def test_mistakes_on_the_command_line(job, monkeypatch, capsys):
    for arguments, said in {('--band', '0.9', '0.1'): 'the lower one first', ('--k', '0'): 'k', ('--temperature', '0'): 'all the same'}.items():
        assert command(monkeypatch, 'difficulty', job.tasks, '--model', job.model, *arguments) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize('text', ['', '[]', '{}', 'null', '{"counts": {}}', '{"forgetting": 0.9, "strength": 2, "counts": [1]}',
                                  '{"forgetting": 0.9, "strength": 2, "counts": {"t0": [1, 2]}}', '{"forgetting": 0.9, "strength": 2, "counts": {"t0": [1, -2, 0]}}',
                                  '{"forgetting": 0.9, "strength": 2, "counts": {"t0": [1, NaN, 0]}}', '{"forgetting": "0.9", "strength": 2, "counts": {}}',
                                  '{"forgetting": 0.9, "strength": 2, "counts": {}, "extra": 1}', '{"forgetting": 2, "strength": 2, "counts": {}}', '['*100_000])
def test_a_file_that_holds_no_pass_rates(tmp_path, text):
    (tmp_path/'rates.json').write_text(text)
    with pytest.raises(UserError): PassRates.load(tmp_path/'rates.json')

def test_a_rates_file_of_other_tasks_is_refused(job, whole, tmp_path):
    with pytest.raises(UserError, match='knows none of the 1 tasks'): PassRates.load(Path(job.out)/'pass_rates.json', [Task(id='x', question='?', answer='1')])
    with pytest.raises(UserError, match='cannot be read'): PassRates.load(tmp_path/'nowhere.json')

def test_rates_survive_saving_to_the_last_bit(tmp_path):
    rates, task = PassRates(forgetting=0.93), Task(id='ü', question='?', answer='1')
    for step in range(30): rates.update(task, step % 5, 2, step)
    rates.save(tmp_path/'rates.json')
    assert PassRates.load(tmp_path/'rates.json') == rates and PassRates.load(tmp_path/'rates.json', forgetting=1.).forgetting == 1

def test_what_an_earlier_run_left_at_its_last_step_does_not_grow():
    rates, task = PassRates(forgetting=0.9), Task(id='t', question='?', answer='1')
    rates.update(task, 6, 2, step=60)
    assert rates.faded('t', 0) == (6, 2) and rates.faded('t', 61) == pytest.approx((5.4, 1.8))
    rates.update(task, 1, 0, step=0)
    assert rates.counts['t'] == [7, 2, 0]

@pytest.mark.parametrize('spread', [0.5, 2, 16])
def test_fitted_strength_is_that_of_the_answers(spread):
    rng = np.random.default_rng(3)
    centre = np.repeat(rng.uniform(0, 1, 40), 50)
    tasks, rates = [Task(id=str(i), question='?', answer='1', difficulty=i//50) for i in range(2000)], PassRates()
    for task, right in zip(tasks, rng.binomial(8, rng.beta(spread*centre, spread*(1 - centre)))): rates.update(task, int(right), int(8 - right), 0)
    assert with_fitted_strength(rates, tasks, 0).strength == spread
    assert rates.counts[kind_of(tasks[0])][0] == sum(rates.counts[str(i)][0] for i in range(50))
