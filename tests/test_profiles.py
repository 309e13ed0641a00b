"Profiles: what is refused, in what words, and that notebooks and schemas agree."
import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from toys import TOYS, make_checkout, write_notebook

from motif_repro.core.errors import UserError
from motif_repro.pipeline.profiles import load_profile, notebook_parameters, parse_value, profile_names
from motif_repro.pipeline.stages import STAGES

ROOT = Path(__file__).parents[1]

@pytest.fixture
def checkout(tmp_path): return make_checkout(tmp_path/'toys')

def refusal(root:Path, text:str|None=None, *, name:str='mine', sets:tuple=())->str:
    if text is not None: (root/'nbs/profiles/mine.yaml').write_bytes(text.encode('latin-1'))
    with pytest.raises(UserError) as e: load_profile(name, TOYS, root, sets)
    return str(e.value)


# The profiles that are shipped

@pytest.mark.parametrize('stage', STAGES)
def test_notebook_and_schema_agree(stage):
    spec = STAGES[stage]
    defaults = notebook_parameters(ROOT/'nbs'/spec.notebook)
    assert set(defaults) == set(spec.params.model_fields)
    spec.params.model_validate(defaults)

@pytest.mark.parametrize('name', profile_names(ROOT/'nbs/profiles'))
def test_shipped_profiles(name):
    profile = load_profile(name, STAGES, ROOT)
    assert set(profile.params) == set(STAGES)
    assert {params['seed'] for params in profile.params.values() if 'seed' in params} == {profile.keys.seed}


# What a profile means

def test_differences_only(checkout):
    (checkout/'nbs/profiles/large.yaml').write_text('extends: smoke\nseed: 4\nstages:\n  left: {size: 100}\n  right: {seed: 7}\n')
    params = load_profile('large', TOYS, checkout, ['right.pause_s=1e-1']).params
    assert params['left']  == dict(seed=4, size=100, pause_s=0.5, crash=False)
    assert params['right'] == dict(seed=7, size=3, pause_s=0.1, crash=False)
    assert params['join']  == {}

def test_a_profile_from_anywhere(checkout, tmp_path):
    (path := tmp_path/'own.yaml').write_text('extends: smoke\nstages: {left: {size: 5}}\n')
    assert load_profile(str(path), TOYS, checkout).params['left']['size'] == 5
    assert 'no such file' in refusal(checkout, name=str(tmp_path/'other.yaml'))

@pytest.mark.parametrize('text, value', [('20', 20), ('1e-4', 1e-4), ('1E5', 1e5), ('.5e1', 5.0), ('1.5e+3', 1500.0), ('true', True),
                                         ('1e-4x', '1e-4x'), ('e5', 'e5'), ('org/model', 'org/model'), ('', None)])
def test_values(text, value):
    assert parse_value(text) == value and type(parse_value(text)) is type(value)


# What is refused

HEAD = 'description: mine\ndisk_mb: 0\n'

@pytest.mark.parametrize('text, words', [
    (HEAD + 'sed: 1', ["line 3", "unknown key 'sed'", "did you mean 'seed'?"]),
    (HEAD + 'stage:\n  left: {size: 2}', ["line 3", "unknown key 'stage'", "did you mean 'stages'?"]),
    (HEAD + 'stages:\n  lfet:\n    size: 2', ["line 5", "unknown stage 'lfet'", "did you mean 'left'?"]),
    (HEAD + 'stages:\n  left:\n    sise: 2', ["line 5", "stage left", "unknown key 'sise'", "did you mean 'size'?"]),
    (HEAD + 'stages:\n  left:\n    size: many', ["line 5", "size = 'many'", 'valid integer']),
    (HEAD + 'stages:\n  left:\n    size: 2.5', ["line 5", 'size = 2.5', 'valid integer']),
    (HEAD + 'stages:\n  left:\n    size: true', ["line 5", 'size = True', 'valid integer']),
    (HEAD + 'stages:\n  left:\n    size: 0', ["line 5", 'size = 0', 'greater than or equal to 1']),
    (HEAD + 'stages:\n  left:\n    size:', ["line 5", 'size = None', 'valid integer']),
    (HEAD + 'stages:\n  left:', ["line 4", 'stage left takes `key: value` lines']),
    (HEAD + 'stages: [left]', ["line 3", 'stages takes `key: value` lines']),
    (HEAD + 'seed: -1', ["line 3", 'seed = -1']),
    (HEAD + 'workers: 0', ["line 3", 'workers = 0']),
    (HEAD + 'seed: 1\nseed: 2', ["line 4", "'seed' stands here twice"]),
    (HEAD + 'extends: smkoe', ["line 3", "unknown profile 'smkoe'", "did you mean 'smoke'?"]),
    (HEAD + 'extends: mine', ["line 3", 'extends itself']),
    (HEAD + 'stages: {left: {size: 2}', ['not YAML', "expected ',' or '}'"]),
    (HEAD + 'seed:\t1\n\tx: 2', ['not YAML', 'line']),
    ('disk_mb: 0', ["'description' is missing"]),
    ('just words', ['a profile is a mapping']),
    ('', ['a profile is a mapping']),
    ('description: m\xffine', ['not YAML', 'UTF-8']),
])
def test_mistakes_in_a_profile(checkout, text, words):
    message = refusal(checkout, text)
    for word in ['mine', *words]: assert word in message

def test_every_mistake_at_once(checkout):
    message = refusal(checkout, HEAD + 'stages:\n  left:\n    sise: 2\n    seed: -1\n')
    assert "line 5" in message and "line 6" in message and len(message.splitlines()) == 2

@pytest.mark.parametrize('text, words', [
    ('left.sise=2', ["--set left.sise=2", "unknown key 'sise'", "did you mean 'size'?"]),
    ('lfet.size=2', ["--set lfet.size=2", "unknown stage 'lfet'", "did you mean 'left'?"]),
    ('left.size=0', ["--set left.size=0", 'greater than or equal to 1']),
    ('left.size', ['write stage.parameter=value']),
    ('=2', ['write stage.parameter=value']),
    ('left.size=[2', ['not YAML']),
    ('left.run_dir=x', ["unknown key 'run_dir'"]),
])
def test_mistakes_after_set(checkout, text, words):
    message = refusal(checkout, name='smoke', sets=[text])
    for word in words: assert word in message

def test_unknown_profile(checkout):
    assert "--profile: unknown profile 'smkoe'; did you mean 'smoke'?" == refusal(checkout, name='smkoe')
    (checkout/'nbs/profiles/claims.yaml').write_text('A1: {}\n')
    assert "unknown profile 'claims'" in refusal(checkout, name='claims')

@pytest.mark.parametrize('parameters, words', [
    ('seed = 0\nsize = 3\npause_s = 0.5', ["LetterParams differ in ['crash']", 'give both the same names']),
    ('seed = 0\nsize = 1 + 2', ['name = literal']),
    ('seed =', ['name = literal']),
    ('seed = size = 0', ['name = literal']),
    ('import os', ['name = literal']),
    ('seed = 0\nsize = 0\npause_s = 0.5\ncrash = False', ['left.ipynb, parameters', 'size = 0']),
])
def test_mistakes_in_a_parameters_cell(checkout, parameters, words):
    write_notebook(checkout/'nbs/left.ipynb', f'run_dir = ""\n{parameters}')
    message = refusal(checkout, name='smoke')
    for word in ['left.ipynb', *words]: assert word in message

def test_notebook_missing_or_broken(checkout):
    notebook = checkout/'nbs/left.ipynb'
    notebook.write_text(notebook.read_text().replace('"parameters"', '"other"'))
    assert "no cell is tagged 'parameters'" in refusal(checkout, name='smoke')
    notebook.write_text('{"cells": ')
    assert 'not a Jupyter notebook' in refusal(checkout, name='smoke')
    notebook.unlink()
    assert 'no such notebook' in refusal(checkout, name='smoke')


SHARES = [(spec.params, name) for spec in STAGES.values() for name in spec.params.model_fields if re.search('(share|rate)$', name) and 'learning' not in name]

@pytest.mark.parametrize('params, name', SHARES, ids=lambda x: getattr(x, '__name__', x))
def test_no_share_is_beyond_all_or_below_nothing(params, name):
    for value in (1.01, -0.01):
        with pytest.raises(ValidationError, match=name): params.__pydantic_validator__.validate_assignment(params.model_construct(), name, value)
