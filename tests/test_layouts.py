"Layouts: two processes, sharded and recomputed, give the gradients of one; and the comparison sees what losses don't."
import copy

import pytest

from motif_repro.core.errors import UserError
from motif_repro.training.layouts import MODELS, Layout, distance, run_layout, run_layouts

STEPS = 6
SLICE = [Layout(model='motif', zero_stage=3, checkpoint='full'), Layout(model='motif', zero_stage=2), Layout(model='llama', zero_stage=1),
         Layout(model='llama', zero_stage=3, checkpoint='full')]
GRID = [Layout(model=model, zero_stage=zero, checkpoint=policy) for model in MODELS for zero in range(4) for policy in ('none', 'full')]


@pytest.fixture(scope='module')
def alone(): return {model: run_layout(Layout(model=model), STEPS) for model in MODELS}

def check(layouts, alone, folder):
    for layout, found in zip(layouts, run_layouts(layouts, 2, folder, STEPS), strict=True):
        d = distance(found, alone[layout.model])
        assert d['value'] < 1e-6 and d['lambda_grad'] < 1e-5 and d['loss'] < 1e-5, (layout.name, d)

def test_two_processes_give_the_gradients_of_one(alone, tmp_path): check(SLICE, alone, tmp_path)

@pytest.mark.slow
def test_the_whole_grid(alone, tmp_path): check(GRID, alone, tmp_path)

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
