"README shows the run that is kept in data/smoke_run, and nothing else."
import json

from reference import KEPT, MARKS, ROOT, table, with_table


def test_readme_says_what_the_kept_run_says():
    readme, run = (ROOT/'README.md').read_text(), json.loads((KEPT/'run.json').read_text())
    assert all(mark in readme for mark in MARKS) and readme == with_table(readme, table(run)), "run `make reference`"

def test_a_number_changed_by_hand_would_show():
    readme, run = (ROOT/'README.md').read_text(), json.loads((KEPT/'run.json').read_text())
    seconds = f"{run['stages'][0]['seconds']:.0f} s"
    assert (forged := readme.replace(seconds, '1 s', 1)) != readme and forged != with_table(forged, table(run))

def test_sft_moved_the_kept_run_on_harder_problems():
    metrics = {r['stage']: r['metrics'] for r in json.loads((KEPT/'run.json').read_text())['stages']}['evaluate']
    assert metrics['moved_harder_low'] > 0

def test_the_kept_run_is_whole():
    run = json.loads((KEPT/'run.json').read_text())
    assert [r['stage'] for r in run['stages']] == ['tasks', 'traces', 'base', 'sft', 'evaluate', 'report']
    assert not any(r['commit'].endswith('-dirty') for r in run['stages'])
