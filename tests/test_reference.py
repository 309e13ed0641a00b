"README shows the run that is kept in data/smoke_run, and nothing else."
import json

from motif_repro.pipeline.stages import STAGES
from reference import KEPT, MARKS, ROOT, table, with_table


def test_readme_says_what_the_kept_run_says():
    readme, run = (ROOT/'README.md').read_text(), json.loads((KEPT/'run.json').read_text())
    assert all(mark in readme for mark in MARKS) and readme == with_table(readme, table(run)), "run `make reference`"

def test_a_number_changed_by_hand_would_show():
    readme, run = (ROOT/'README.md').read_text(), json.loads((KEPT/'run.json').read_text())
    seconds = f"{run['stages'][0]['seconds']:.0f} s"
    assert (forged := readme.replace(seconds, '1 s', 1)) != readme and forged != with_table(forged, table(run))

def test_the_kept_run_learned_and_forgot_nothing_in_rl():
    metrics = {r['stage']: r['metrics'] for r in json.loads((KEPT/'run.json').read_text())['stages']}
    assert all(metrics['evaluate'][f'sft_minus_base_{domain}_new_low'] > 0 for domain in ('math', 'code', 'instructions'))
    moved = {domain: (metrics['rl'][f'moved_{domain}_low'], metrics['rl'][f'moved_{domain}_high']) for domain in ('math', 'code', 'instructions')}
    assert any(low > 0 for low, _ in moved.values()) and all(high > 0 for _, high in moved.values())

def test_the_kept_run_is_whole():
    run = json.loads((KEPT/'run.json').read_text())
    assert [r['stage'] for r in run['stages']] == list(STAGES)
    assert not any(r['commit'].endswith('-dirty') for r in run['stages'])
