"Layouts: several processes, sharded and recomputed, give the gradients of one; and the comparison sees what losses don't."
import copy
from dataclasses import asdict
from pathlib import Path

import pytest

from motif_repro.core.errors import UserError
from motif_repro.core.rows import read_rows
from motif_repro.training import layouts
from motif_repro.training.layouts import MODELS, Layout, distance, grid, run_layout, run_layouts

STEPS = 6
SLICE = {2: [Layout(model='motif', zero_stage=2, micro_rows=1, packed=True), Layout(model='llama', zero_stage=1),
             Layout(model='motif', zero_stage=3, sequence_parallel=2, checkpoint='full', packed=True),
             Layout(model='llama', zero_stage=3, sequence_parallel=2, checkpoint='selective', packed=True)],
         4: [Layout(model='motif', zero_stage=1, sequence_parallel=2, checkpoint='selective', packed=True),
             Layout(model='motif', sequence_parallel=4, micro_rows=3), Layout(model='llama', zero_stage=2, sequence_parallel=4, packed=True)]}


@pytest.fixture(scope='module')
def alone(): return {model: run_layout(Layout(model=model), STEPS) for model in MODELS}

@pytest.mark.parametrize('num_processes', SLICE)
def test_several_processes_give_the_gradients_of_one(num_processes, tmp_path, monkeypatch):
    rows = run_layouts(SLICE[num_processes], num_processes, tmp_path/'rows.jsonl', STEPS)
    for row in rows: assert row['value'] < 1e-6 and row['lambda_grad'] < 1e-5 and row['loss'] < 1e-5, row
    monkeypatch.setattr(layouts, 'torchrun', lambda *args: pytest.fail("what is known is not computed again"))
    assert run_layouts(SLICE[num_processes][::-1], num_processes, tmp_path/'rows.jsonl', STEPS) == rows[::-1]

def test_a_wrong_gradient_is_seen_where_the_loss_is_not(alone):
    wrong = copy.deepcopy(alone['motif'])
    name = next(name for name in wrong['gradients'] if 'down_proj' in name)
    wrong['gradients'][name] *= 1.01
    d = distance(wrong, alone['motif'])
    assert d['value'] == pytest.approx(0.01, rel=1e-3) and d['loss'] == 0 == d['lambda_grad']

def test_lambda_vectors_are_judged_apart(alone):
    wrong = copy.deepcopy(alone['motif'])
    for name in wrong['gradients']:
        if '.lambda_' in name: wrong['gradients'][name] *= 2
    d = distance(wrong, alone['motif'])
    assert d['lambda_grad'] == pytest.approx(1) and d['value'] == 0

def test_different_models_are_not_compared(alone):
    with pytest.raises(UserError, match='not of the same model'): distance(alone['motif'], alone['llama'])
    with pytest.raises(UserError, match="did you mean 'motif'"): run_layout(Layout(model='motiv'), 1)

def test_the_committed_grid_is_whole_and_within_its_limits():
    "Where it isn't: `make grid`."
    rows = read_rows(Path(__file__).parents[1]/'data/layouts/rows.jsonl')
    cell = lambda row: (row['processes'], *(row[name] for name in asdict(Layout())))
    assert sorted(map(cell, rows)) == sorted(cell(asdict(layout) | dict(processes=n)) for n in (2, 4) for layout in grid(n))
    for row in rows: assert row['value'] <= 1e-6 and row['lambda_grad'] <= 1e-5 and row['loss'] <= 1e-5 and row['steps'] == 20, row
