"README shows the runs that are kept in data/reference_run, and nothing else; what is kept can be computed again."
import json

import nbformat
import pytest
from nbclient import NotebookClient

from motif_repro.pipeline.claims import judge_all, load_claims, read_claim_rows
from motif_repro.pipeline.profiles import code_cells, is_parameters
from motif_repro.pipeline.stages import STAGES
from reference import KEPT, MARKS, ROOT, claim_lines, generated, with_part


def kept(name): return json.loads((KEPT/name).read_text())

@pytest.fixture(scope='module')
def rows(): return read_claim_rows([KEPT])


def test_readme_says_what_is_kept():
    readme = (ROOT/'README.md').read_text()
    assert all(mark in readme for mark in MARKS) and readme == with_part(readme, generated()), "run nbs/_docs/reference.py"

def test_a_row_changed_by_hand_would_show(rows):
    forged = [rows[0] | dict(value=rows[0]['value'] + 0.5, low=None, high=None), *rows[1:]]
    assert claim_lines(forged) != claim_lines(rows)

def test_the_kept_verdicts_follow_from_the_kept_rows(rows):
    assert judge_all(rows) == kept('claims.json')

def test_the_kept_run_is_whole(rows):
    "All stages, clean commits, a row of every claim, five seeds where a rule counts them."
    stages = kept('run.json')['stages']
    assert [r['stage'] for r in stages] == list(STAGES) and not any(r['commit'].endswith('-dirty') for r in stages)
    assert {row['claim'] for row in rows} == set(load_claims())
    assert all(verdict['seeds'] >= min(part.least for part in load_claims()[verdict['id']].rule) for verdict in kept('claims.json'))

def test_the_kept_report_is_small_and_shows_the_kept_verdicts():
    page = (KEPT/'report.html').read_text()
    assert len(page) <= 1_000_000 and all(f'id="{verdict["id"]}"' in page for verdict in kept('claims.json'))

def test_each_timed_command_ran_from_a_commit():
    times = kept('times.json')
    assert times.keys() == {'make test', 'make reproduce', 'make reproduce PROFILE=mini'}
    assert all(t['seconds'] > 0 and not t['commit'].endswith('-dirty') for t in times.values())


ONLY = """
_all_arms = run_arms
def run_arms(fn, arms, *rest): return _all_arms(fn, {name: arms[name] for name in ('base', 'baseline') if name in arms}, *rest)
"""

@pytest.mark.slow
def test_an_arm_of_the_kept_run_comes_out_again(rows, tmp_path):
    "Lesson 3's baseline of the first seed, by the lesson's own cells."
    notebook, record = ROOT/'nbs'/STAGES['lesson_3'].notebook, next(r for r in kept('run.json')['stages'] if r['stage'] == 'lesson_3')
    [parameters], cells = ([c['source'] for c in code_cells(notebook) if is_parameters(c) == which] for which in (True, False))
    end = next(i for i, source in enumerate(cells) if 'rows = run_arms(learner, arms' in source)
    changed = record['params'] | dict(num_seeds=1, run_dir=str(tmp_path))
    dump = f"import json; json.dump({{row['arm']: row['measured'][-1]['trained']['math'] for row in rows}}, open({str(tmp_path/'found.json')!r}, 'w'))"
    sources = [parameters, '\n'.join(f'{name} = {value!r}' for name, value in changed.items()), cells[0], ONLY, *cells[1:end + 1], dump]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(nb, timeout=None, kernel_name='python3', resources=dict(metadata=dict(path=str(notebook.parent)))).execute()
    found = json.loads((tmp_path/'found.json').read_text())
    [value] = [row['value'] for row in rows if (row['claim'], row['arm'], row['seed']) == ('R1', 'band', record['params']['seed'])]
    assert found['baseline'] == pytest.approx(value, abs=1e-9) and found['base'] != found['baseline']
