"settings.ini and its environment: what is refused, and in what words."
from pathlib import Path

import pytest

from motif_repro.core.errors import UserError
from motif_repro.core.settings import find_root, load_settings

ROOT = Path(__file__).parents[1]
INI = (ROOT/'settings.ini').read_text()

@pytest.fixture
def checkout(tmp_path):
    "Writes settings.ini of a checkout of its own."
    (tmp_path/'nbs').mkdir()
    def write(text:str):
        (tmp_path/'settings.ini').write_bytes(text.encode('latin-1'))
        return tmp_path
    return write

def refusal(root:Path, environ:dict={})->str:
    with pytest.raises(UserError) as e: load_settings(root, environ)
    return str(e.value)


def test_the_file_that_is_shipped(checkout):
    assert INI.startswith('# nbdev is configured in pyproject.toml')
    settings = load_settings(ROOT, {})
    assert settings.runs_dir == ROOT/'runs' and settings.workers is None and settings.environ() == {}

def test_hub_for_kernels(checkout):
    root = checkout(INI.replace('hub_cache =', 'hub_cache = cache').replace('hub_mirror =', 'hub_mirror = https://hub.example/'))
    assert load_settings(root, {}).environ() == dict(HF_HUB_CACHE=str(root/'cache'), HF_ENDPOINT='https://hub.example')

def test_endpoints(checkout):
    root = checkout(INI.replace('endpoints =', 'endpoints =\n  teacher = http://localhost:8000/v1\n  judge = http://localhost:8001/v1?a=b'))
    assert load_settings(root, {}).endpoints == dict(teacher='http://localhost:8000/v1', judge='http://localhost:8001/v1?a=b')

@pytest.mark.parametrize('old, new, words', [
    ('workers', 'workesr', ["unknown key 'workesr'", "did you mean 'workers'?"]),
    ('launcher = single', '', ["key 'launcher' is missing"]),
    ('workers =', 'workers = 0', ["workers = '0'", 'greater than or equal to 1']),
    ('launcher = single', 'launcher = torhcrun', ["launcher = 'torhcrun'", "did you mean 'torchrun'?"]),
    ('hub_mirror =', 'hub_mirror = hub.example', ["hub_mirror = 'hub.example'", 'begins with http']),
    ('endpoints =', 'endpoints =\n    teacher', ['one `name = address` a line']),
    ('runs_dir = runs', 'runs_dir =', ['runs_dir = None']),
    ('[motif_repro]', '[DEFAULT]', ['it takes one, [motif_repro]']),
    ('[motif_repro]', '', ['no section headers', 'line:']),
    ('launcher = single', 'launcher = single\nlauncher = slurm', ["option 'launcher'", 'already exists', 'line']),
    ('runs_dir = runs', 'runs_dir = r\xff', ["can't decode"]),
])
def test_mistakes_in_the_file(checkout, old, new, words):
    root = checkout(INI.replace(old, new, 1))
    message = refusal(root)
    for word in [str(root/'settings.ini'), *words]: assert word in message

def test_mistakes_in_the_environment():
    message = refusal(ROOT, dict(MOTIF_REPRO_RUN_DIR='x'))
    assert message == "environment, MOTIF_REPRO_RUN_DIR: unknown key 'run_dir'; did you mean 'runs_dir'?"
    assert 'environment, MOTIF_REPRO_WORKERS: workers' in refusal(ROOT, dict(MOTIF_REPRO_WORKERS='two'))

def test_the_environment_overrides(checkout):
    root = checkout(INI)
    settings = load_settings(root, dict(MOTIF_REPRO_RUNS_DIR='/scratch/runs', MOTIF_REPRO_WORKERS='3', OTHER='x'))
    assert (settings.runs_dir, settings.workers) == (Path('/scratch/runs'), 3)
    assert load_settings(root, dict(MOTIF_REPRO_RUNS_DIR='elsewhere')).runs_dir == root/'elsewhere'

def test_root_from_any_folder(checkout, tmp_path):
    root = checkout(INI)
    (root/'nbs'/'recipe').mkdir()
    assert find_root(root/'nbs'/'recipe') == find_root(root) == root
    assert find_root('/') == ROOT   # elsewhere: the checkout that the library lies in
