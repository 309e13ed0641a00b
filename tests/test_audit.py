"`motif-repro audit` on real and on broken files: verdicts, counts, memory, and what a page must not do with other people's text."
import json, os, random, re, subprocess, sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_cli import motif_repro

from motif_repro.alignment.audit import Sample, _names, ask_model, run_audit
from motif_repro.alignment.audit_page import audit_page
from motif_repro.alignment.readers import read_pool
from motif_repro.alignment.score import beyond_chance, score_of
from motif_repro.alignment.style import FAMILIES, FAMILY, FEATURES, Reading, StyleModel, ks_distance, style_table
from motif_repro.alignment.traces import Trace
from motif_repro.core.rows import write_rows

DATA = Path(__file__).parents[1]/'data/real_text'
rows_of = lambda name: [json.loads(line) for line in (DATA/f'{name}.jsonl').read_text('utf-8').splitlines()]

def summaries(*arguments)->list[dict]:
    answer = motif_repro('audit', *map(str, arguments), '--json')
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count('\n') == 1
    return json.loads(answer.stdout)['pools']


# ---- what it says about real text

def test_published_styles_are_told_apart_and_halves_are_not(tmp_path):
    words = rows_of('hints_words')
    random.Random(1).shuffle(words)
    write_rows(tmp_path/'half.jsonl', words[:250])
    write_rows(tmp_path/'reference.jsonl', words[250:])
    half, formulas = summaries(tmp_path/'half.jsonl', DATA/'hints_formulas.jsonl', '--target', tmp_path/'reference.jsonl')
    assert set(half) == {'teacher', 'n', 'score', 'ci95', 'verdict', 'top_features'}
    assert (half['teacher'], half['n'], half['verdict'], half['top_features']) == ('half', 250, 'aligned', [])
    assert (formulas['teacher'], formulas['n'], formulas['verdict']) == ('hints_formulas', 500, 'misaligned')
    for found in (half, formulas): assert 0 <= found['ci95'][0] <= found['score'] <= found['ci95'][1] <= 1

def test_few_rows_are_insufficient_and_a_tiny_reference_is_refused(tmp_path):
    rows = rows_of('gsm8k_main')
    write_rows(tmp_path/'few.jsonl', rows[:99])
    write_rows(tmp_path/'tiny.jsonl', rows[:49])
    assert summaries(tmp_path/'few.jsonl', '--target', DATA/'gsm8k_main.jsonl')[0]['verdict'] == 'insufficient'
    answer = motif_repro('audit', str(tmp_path/'few.jsonl'), '--target', str(tmp_path/'tiny.jsonl'), '--json')
    assert (answer.returncode, answer.stdout) == (2, '') and 'fewer than 50 traces' in answer.stderr and '49 read' in answer.stderr

def test_the_shape_of_a_file_changes_nothing(tmp_path):
    "One text as question and answer, as chat, as ShareGPT and as rows of ours: no byte of the score may differ."
    traces = list(read_pool(DATA/'gsm8k_socratic.jsonl'))
    write_rows(tmp_path/'a.jsonl', [asdict(t) | dict(teacher='a') for t in traces])
    write_rows(tmp_path/'b.jsonl', [dict(messages=t.messages) for t in traces])
    write_rows(tmp_path/'c.parquet', [{'conversations': [{'from': 'human', 'value': t.question}, {'from': 'gpt', 'value': t.response}]} for t in traces])
    found = run_audit([DATA/'gsm8k_socratic.jsonl', *(tmp_path/name for name in ('a.jsonl', 'b.jsonl', 'c.parquet'))], DATA/'gsm8k_main.jsonl').findings
    assert [f.teacher for f in found] == ['gsm8k_socratic', 'a', 'b', 'c']
    assert len({(f.score, f.num_pairs/f.n) for f in found}) == 1


# ---- the score by hand

def test_the_score_is_what_its_documentation_says():
    "Recomputed from feature values with scipy, following the text of the notebook and none of its code."
    from scipy.stats import ks_2samp
    pool, reference = ([Reading(t) for t in read_pool(DATA/f'gsm8k_{name}.jsonl')] for name in ('socratic', 'main'))
    model = StyleModel(reference)
    ours, theirs = style_table(pool, model), style_table(reference, model)
    chance = 1.36*(1/110 + 1/110)**0.5
    parts = {name: max(0, (ks_2samp(x, y, method='asymp').statistic - chance)/(1 - chance)) for name, x, y in zip(FAMILY, ours.T, theirs.T)}
    families = [np.mean([part for name, part in parts.items() if FAMILY[name] == family]) for family in FAMILIES]
    by_hand = 1 - 0.7*max(parts.values()) - 0.3*np.mean(families)
    assert abs(by_hand - score_of(beyond_chance(ks_distance(ours, theirs), 110, 110))) < 1e-6

PLAIN    = dict(question='Apples: 2 + 3?', reasoning='We add 2 + 3 = 5.\nSo there are 5 apples, total 5!', answer='5')
MARKDOWN = dict(question='', reasoning='', answer='# Plan\n\n- **Add** `2`: \\boxed{2}\n- <b> | x |')
THINKING = dict(question='', reasoning='', answer='Wait. Check it. Suppose so. First, then, next I find it?')
BY_HAND  = [(PLAIN, dict(characters=51, words=13, num_lines=3, num_steps=2, longest_step=30, step_length=13/2, steps_per_line=2/3, words_per_operation=13/3,
                         operations_per_step=1, equations=1/2, restatement=100/13, word_length=2, digits=600/51, capitals=200/26, capital_starts=1, symbols=10,
                         punctuation=15, connectives_per_step=1, diversity=16/20, first_person=100/13, concluding=100/13, thinks_apart=1, result_use=1,
                         answer_position=6/20, opens_with_reference=0, closes_with_conclusion=1, repeated_steps=0, repeated_phrases=0)),
            (MARKDOWN, dict(headings=1/3, list_items=2/3, emphasis=2/3, code=2/3, latex=1/3, boxed=1, tags=1/3, tables=2/3, blank_lines=1/3, thinks_apart=0,
                            num_steps=3, capital_starts=0)),
            (THINKING, dict(words=11, backtracking=100/11, checking=100/11, branching=100/11, planning=200/11, sequencing=200/11, concluding=100/11,
                            first_person=100/11, filler=0, questions=1/4, connectives_per_step=1, punctuation=500/17, diversity=13/17, num_steps=4))]

@pytest.mark.parametrize('trace,counted', BY_HAND)
def test_features_are_what_one_counts_by_hand(trace, counted):
    trace = Trace(task_id='t', teacher='me', **trace)
    assert {name: FEATURES[name](trace) for name in counted} == pytest.approx(counted)

def test_features_never_fail():
    "On text of any kind each is a finite number."
    texts = ['', ' ', '\n\n', '.', '5', '=', '= 5', '5 = ', '….!?', '１２３', '2²', 'ß\u2028x', '\x00', '🙂'*50, '####', '1.\n2.\n', '= = 5 5 = 5', '$5 = -$5', 'ﷺ', 'a'*50_000]
    for text in texts:
        for reasoning, answer in ((text, ''), ('', text), (text, text)):
            trace = Trace(task_id='t', teacher='me', question=text, reasoning=reasoning, answer=answer)
            assert all(np.isfinite(feature(trace)) for feature in FEATURES.values()), (text, reasoning)
            reading = Reading(trace)
            assert np.isfinite(StyleModel([reading]).measure(reading)).all()

def test_the_reference_is_not_judged_by_itself():
    "Ten random halves of one style: *surprise* must not be higher in the half that the model has not seen."
    traces, rng, ahead = list(read_pool(DATA/'gsm8k_main.jsonl')), random.Random(0), 0
    for _ in range(10):
        rng.shuffle(traces)
        first, second = ([Reading(t) for t in half] for half in (traces[:55], traces[55:]))
        model = StyleModel(second)
        column = list(FAMILY).index('surprise')
        ahead += style_table(first, model)[:, column].mean() > style_table(second, model)[:, column].mean()
    assert 1 <= ahead <= 9


# ---- files and counts

def test_counts_add_up_and_every_read_row_has_a_score(tmp_path):
    lines = [json.dumps(row | dict(teacher=f't{i % 2}', domain='math' if i % 3 else 'code')) for i, row in enumerate(rows_of('gsm8k_main')*2)]
    lines[7], lines[50], lines[219] = '{"question"', '{"question": "?"}', '"\ud800"'.encode('utf-8', 'surrogatepass').decode('latin1')
    (tmp_path/'pool.jsonl').write_text('\n'.join(lines), encoding='latin1', errors='replace')
    answer = motif_repro('audit', str(tmp_path/'pool.jsonl'), '--target', str(DATA/'gsm8k_main.jsonl'), '--out', str(tmp_path/'out'), '--json')
    found = json.loads(answer.stdout)['pools']
    counted = re.search(r'220 rows = (\d+) read \+ (\d+) set aside', answer.stderr)
    read, aside = int(counted[1]), int(counted[2])
    scores, bad = pd.read_parquet(tmp_path/'out/scores.parquet'), pd.read_json(tmp_path/'out/quarantine.jsonl', lines=True)
    assert read + aside == 220 and aside >= 3 and {8, 51, 220} <= set(bad.row)
    assert (len(scores), len(bad), sum(f['n'] for f in found)) == (read, aside, read)
    assert sorted([*scores.row, *bad.row]) == list(range(1, 221))
    assert {f['teacher'] for f in found} == {'t0', 't1'} and scores.score.between(0, 1).all() and set(scores.advice) <= {'keep', 'rewrite', 'drop'}
    assert (tmp_path/'out/report.html').stat().st_size > 10_000

@pytest.mark.parametrize('name, content, words', [('empty.jsonl', '', 'no trace in it (0 rows'), ('blank.jsonl', '\n\n', 'no trace in it (0 rows'),
                                                  ('bad.jsonl', '{}\n', 'no trace in it (1 rows = 0 read + 1 set aside (first: row 1'),
                                                  ('pool.xlsx', 'a,b', 'unknown kind of file'), (None, '', 'no such file')])
def test_mistakes_are_one_message(tmp_path, name, content, words):
    pool = tmp_path/(name or 'nowhere.jsonl')
    if name: pool.write_text(content)
    for arguments in ((pool, '--target', DATA/'gsm8k_main.jsonl'), (DATA/'gsm8k_main.jsonl', '--target', pool)):
        answer = motif_repro('audit', *map(str, arguments), '--json')
        assert (answer.returncode, answer.stdout) == (2, '') and 'Traceback' not in answer.stderr
        if arguments[0] == pool: assert words in answer.stderr

def test_without_a_reference():
    answer = motif_repro('audit', str(DATA/'gsm8k_main.jsonl'))
    assert (answer.returncode, answer.stdout) == (2, '') and '--target' in answer.stderr

def test_files_of_one_name_stay_apart_and_shards_stay_together(tmp_path):
    rows = rows_of('gsm8k_main')
    for folder in ('one', 'two'): write_rows(tmp_path/folder/'train.jsonl', rows[:60])
    for i in range(2): write_rows(tmp_path/f'shards/{i}.jsonl', [row | dict(teacher='big') for row in rows[50*i:50*i + 50]])
    found = run_audit([tmp_path/'one/train.jsonl', tmp_path/'two/train.jsonl', tmp_path/'shards'], DATA/'gsm8k_main.jsonl').findings
    assert [(f.teacher, f.n) for f in found] == [('one/train', 60), ('two/train', 60), ('big', 100)]

def test_names_go_as_far_back_as_they_must(tmp_path, monkeypatch):
    "Two pools of one name would be judged as one."
    monkeypatch.chdir(tmp_path)
    pools = [Path(name) for name in ('x/a/train.jsonl', 'y/a/train.jsonl', 'b/train.jsonl', 'other.jsonl', '.')]
    assert [name for name, _ in _names(pools)] == ['x/a/train', 'y/a/train', 'b/train', 'other', tmp_path.name]
    assert len({name for name, _ in _names([Path('a.jsonl'), Path('a.parquet')])}) == 2

def test_a_domain_is_judged_by_the_rows_that_were_kept_of_it(tmp_path, monkeypatch):
    "110 traces would do for a verdict, the third of them in the sample doesn't; of a row that isn't in it nothing is known."
    monkeypatch.setattr('motif_repro.alignment.audit.MAX_SAMPLED', 100)
    sample = Sample(100)
    for i in range(330): sample.add(i)
    lost = next(i for i in range(330) if i not in sample.items)
    domains = ['lost' if i == lost else 'rare' if i % 3 == 0 else 'usual' for i in range(330)]
    write_rows(tmp_path/'pool.jsonl', [row | dict(domain=domain) for row, domain in zip(rows_of('gsm8k_main')*3, domains)])
    found = run_audit([tmp_path/'pool.jsonl'], DATA/'gsm8k_main.jsonl').findings[0]
    assert found.verdict == 'aligned' and set(found.domains) == {'usual', 'rare'}
    assert (found.domains['rare']['n'] >= 100, found.domains['rare']['verdict']) == (True, 'insufficient')

def test_processes_find_the_same(tmp_path):
    pools = [DATA/'gsm8k_socratic.jsonl', DATA/'hints_words.jsonl']
    alone, together = (run_audit(pools, DATA/'gsm8k_main.jsonl', tmp_path/str(n), workers=n, batch_size=64) for n in (1, 2))
    assert [f.summary for f in alone.findings] == [f.summary for f in together.findings]
    pd.testing.assert_frame_equal(*(pd.read_parquet(tmp_path/f'{n}/scores.parquet') for n in (1, 2)))


# ---- memory

MEASURE = """
import sys
from motif_repro.alignment import audit
audit.MAX_SAMPLED, audit.MAX_EXAMPLES, audit.ROW_GROUP = 500, 50, 500
audit.run_audit([sys.argv[1]], sys.argv[2], sys.argv[3], batch_size=250)
print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))
"""

def test_memory_does_not_grow_with_the_pool(tmp_path):
    rows, peaks = rows_of('hints_words'), {}
    for times in (1, 4, 16):
        write_rows(tmp_path/f'{times}.jsonl', [row | dict(answer=row['answer']*2) for row in rows]*(2*times))
        answer = subprocess.run([sys.executable, '-c', MEASURE, tmp_path/f'{times}.jsonl', DATA/'hints_words.jsonl', tmp_path/f'out{times}'],
                                capture_output=True, text=True, env=os.environ | dict(OMP_NUM_THREADS='1', MALLOC_ARENA_MAX='1'))
        peaks[times] = int(answer.stdout)/1024
    assert peaks[16] - peaks[1] < 4, peaks   # MiB; features and texts of all rows would be 15 more


# ---- the page

HOSTILE = '</pre><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}'

def test_other_peoples_text_stays_text(tmp_path):
    rows = [dict(question=f'{HOSTILE} {i}', answer=f'{HOSTILE}\nStep {i}.', teacher=HOSTILE, domain=HOSTILE if i % 2 else 'b') for i in range(120)]
    write_rows(tmp_path/'pool.jsonl', rows)
    page = audit_page(run_audit([tmp_path/'pool.jsonl'], DATA/'gsm8k_main.jsonl'))
    assert '<script' not in page and '<img' not in page and '49' not in re.findall(r'alert\(1\)&gt;(..)', page) and '{{ 7*7 }}' in page
    assert not re.findall(r'(?:src|href)="(?!#)[^"]+"', page)

def test_a_teacher_of_one_row_has_a_page(tmp_path):
    write_rows(tmp_path/'pool.jsonl', [row | dict(teacher='lonely' if i == 0 else 'usual') for i, row in enumerate(rows_of('gsm8k_main'))])
    found = run_audit([tmp_path/'pool.jsonl'], DATA/'gsm8k_main.jsonl')
    assert [f.verdict for f in found.findings] == ['insufficient', 'aligned'] and 'lonely' in audit_page(found)


# ---- with a model

@pytest.fixture(scope='module')
def itself(): return run_audit([DATA/'gsm8k_main.jsonl'], DATA/'gsm8k_main.jsonl')

def test_a_trace_is_as_long_as_the_chat_template_makes_it(tmp_path, itself):
    from families import save_family
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(save_family(tmp_path/'model', 'llama'))
    tokenizer.chat_template = "{{- 'Be brief. '*40 }}" + tokenizer.chat_template
    tokenizer.save_pretrained(tmp_path/'model')
    shown = [trace for trace, _, _ in itself.entries[0].examples.items[:3]]
    longest = max(len(tokenizer(trace.question + trace.response).input_ids) for trace in shown)
    ask_model(itself, tmp_path/'model', num_traces=3, max_tokens=longest + 40)
    assert itself.findings[0].likelihood['n'] < 3

def test_the_page_says_that_a_model_could_read_nothing(itself, monkeypatch):
    monkeypatch.setattr(itself.findings[0], 'likelihood', dict(likelihood=-1., rsr=2., n=3, target_n=0))
    assert 'It reads no trace of the target to its end' in audit_page(itself)

def test_a_model_is_asked(tmp_path):
    "Its likelihood reaches the page, and nothing but the JSON reaches standard output."
    from motif_repro.alignment.teachers import solve
    from motif_repro.model.loading import save_model
    from motif_repro.model.motif import MotifForCausalLM, tiny_motif_config
    from motif_repro.model.tokenizer import train_tokenizer
    from motif_repro.tasks.math import draw_tasks
    traces = [solve(task, 'stepwise') for task in draw_tasks('chain_sum', 3, 60, 'train')]
    tokenizer = train_tokenizer([text for t in traces for text in (t.question, t.response)])
    save_model(MotifForCausalLM(tiny_motif_config(len(tokenizer), hidden_size=32, num_layers=1)), tokenizer, tmp_path/'model')
    write_rows(tmp_path/'traces.jsonl', map(asdict, traces))
    found = summaries(tmp_path/'traces.jsonl', '--target', tmp_path/'traces.jsonl', '--model', tmp_path/'model', '--out', tmp_path/'out')
    assert found[0]['score'] == 1
    page = (tmp_path/'out/report.html').read_text()
    assert 'Rank-surprisal ratio' in page and 'Over 60 traces here and 60 of the target' in page
