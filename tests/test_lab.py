"JupyterLab as its user has it: a browser opens the tour and each lesson, and Shift+Enter steps through all cells."
import json, os, re, secrets, shutil, socket, subprocess, sys, time, urllib.request
from pathlib import Path

import pytest
from test_recipe import REDUCED

from motif_repro.pipeline.stages import STAGES

ROOT = Path(__file__).parents[1]
CHROMIUM = Path('/usr/bin/chromium')
CELL_S = 600           # the longest that a cell may take
IDLE = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'
SETTINGS = {'@jupyterlab/notebook-extension/tracker.jupyterlab-settings': dict(windowingMode='none'),   # all cells are on the page, not only those in view
            '@jupyterlab/apputils-extension/notification.jupyterlab-settings': dict(fetchNews='false', checkForUpdates=False, doNotDisturbMode=True)}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason=f'{CHROMIUM} is missing: make system')]


def shrink(notebook:Path, values:dict):
    "Put smaller values into the parameters cell."
    nb = json.loads(notebook.read_text())
    [cell] = [c for c in nb['cells'] if 'parameters' in c['metadata'].get('tags', [])]
    source = ''.join(cell['source'])
    for name, value in values.items():
        source, found = re.subn(rf'(?m)^{name} = [^#\n]*', f'{name} = {value} ', source)
        assert found == 1, f"{notebook}: no parameter {name}"
    cell['source'] = source
    notebook.write_text(json.dumps(nb))


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    "What a reader has before them, with lessons small enough to wait for; runs are kept in here, too."
    root = tmp_path_factory.mktemp('lab')/'checkout'
    for name in ('nbs', 'data', 'kernels'): shutil.copytree(ROOT/name, root/name, ignore=shutil.ignore_patterns('.ipynb_checkpoints', '__pycache__'))
    shutil.copy(ROOT/'settings.ini', root)
    for stage, spec in STAGES.items():
        small = {key.partition('.')[2]: value for key, value in REDUCED.items() if key.startswith(f'{stage}.')}
        if spec.notebook.startswith('lessons/'): shrink(root/'nbs'/spec.notebook, small)
    return root


@pytest.fixture(scope='module')
def lab(checkout):
    "Address and token of a JupyterLab whose root is the checkout, with settings and home of its own."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    token, home = secrets.token_hex(16), checkout.parent
    for name, settings in SETTINGS.items():
        (file := home/'settings'/name).parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    environ = os.environ | dict(JUPYTERLAB_SETTINGS_DIR=str(home/'settings'), JUPYTER_CONFIG_DIR=str(home/'config'), JUPYTER_RUNTIME_DIR=str(home/'runtime'),
                                OMP_NUM_THREADS='1', PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')])))
    command = [Path(sys.executable).with_name('jupyter'), 'lab', '--no-browser', f'--port={port}', '--ServerApp.port_retries=0', f'--IdentityProvider.token={token}',
               f'--ServerApp.root_dir={checkout}', *(['--allow-root'] if os.geteuid() == 0 else [])]
    with (home/'lab.log').open('w') as log: server = subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=checkout)
    address = f'http://127.0.0.1:{port}'
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f'{address}/api/status?token={token}', timeout=5)
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, (home/'lab.log').read_text()[-2000:]
                time.sleep(0.5)
        yield address, token
    finally:
        server.terminate()   # it ends its kernels first
        try: server.wait(60)
        except subprocess.TimeoutExpired: server.kill()


def errors_on(tab)->str:
    "Tracebacks among the outputs on the page."
    outputs = tab.locator('.jp-OutputArea-output:is([data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"])')
    return '\n'.join(text for text in outputs.all_inner_texts() if 'Traceback' in text)


def step_through(tab, num_cells:int):
    "Shift+Enter on every cell, each once the one before has finished."
    from playwright.sync_api import Error
    cells = tab.locator('.jp-Notebook .jp-Cell')
    tab.wait_for_function('n => document.querySelectorAll(".jp-Notebook .jp-Cell").length === n', arg=num_cells, timeout=60_000)
    tab.wait_for_selector(IDLE, timeout=120_000)   # keys pressed before the kernel is there are lost
    cells.nth(0).click()
    tab.keyboard.press('Escape')
    for i in range(num_cells):
        cell = cells.nth(i)
        tab.wait_for_function('cell => cell.classList.contains("jp-mod-active")', arg=cell.element_handle(), timeout=10_000)
        tab.keyboard.press('Shift+Enter')
        if 'jp-CodeCell' in cell.get_attribute('class'):
            try:
                tab.wait_for_function('cell => /\\[\\d+\\]/.test(cell.querySelector(".jp-InputPrompt").textContent)', arg=cell.element_handle(), timeout=CELL_S*1000)
                tab.wait_for_selector(IDLE, timeout=60_000)
            except Error as e:   # of playwright
                kernel = tab.locator('.jp-Notebook-ExecutionIndicator').get_attribute('data-status')
                raise AssertionError(f"cell {i} shows {cell.locator('.jp-InputPrompt').inner_text()!r}, the kernel {kernel!r}: {e}") from e
        assert not (said := errors_on(tab)), f"cell {i}: {said[-3000:]}"


def open_in_a_browser(playwright, lab, notebook:str):
    address, token = lab
    tab = playwright.chromium.launch(executable_path=str(CHROMIUM), args=['--no-sandbox']).new_page(viewport=dict(width=1400, height=900))
    tab.goto(f'{address}/lab/tree/nbs/{notebook}?reset&token={token}')
    tab.wait_for_selector('.jp-Notebook .jp-Cell', timeout=120_000)
    return tab


@pytest.mark.parametrize('notebook', ['index.ipynb', *(spec.notebook for spec in STAGES.values() if spec.notebook.startswith('lessons/'))])
def test_shift_enter_leads_through_all_cells(checkout, lab, notebook):
    sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is missing: make install')
    file = checkout/'nbs'/notebook
    before = json.loads(file.read_text())['cells']
    with sync_api.sync_playwright() as p:
        tab = open_in_a_browser(p, lab, notebook)
        step_through(tab, len(before))
        tab.keyboard.press('Control+s')
        tab.wait_for_function('!document.querySelector(".jp-mod-dirty")', timeout=60_000)
    deadline = time.monotonic() + 30
    while not (code := [c for c in json.loads(file.read_text())['cells'] if c['cell_type'] == 'code' and c['source']])[-1]['execution_count']:
        assert time.monotonic() < deadline, "what ran was not saved"
        time.sleep(0.5)
    assert [c['execution_count'] for c in code] == list(range(1, len(code) + 1))   # each cell once, in order
    assert len(code) == sum(c['cell_type'] == 'code' for c in before)
    assert not [o for c in code for o in c['outputs'] if o['output_type'] == 'error']


def test_an_error_is_seen(checkout, lab):
    sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is missing: make install')
    nb = json.loads((checkout/'nbs/index.ipynb').read_text())
    cell = dict(cell_type='code', id='planted', metadata={}, execution_count=None, outputs=[], source='1/0')
    (checkout/'nbs/broken.ipynb').write_text(json.dumps(nb | dict(cells=[nb['cells'][0], cell])))
    with sync_api.sync_playwright() as p:
        tab = open_in_a_browser(p, lab, 'broken.ipynb')
        with pytest.raises(AssertionError, match='(?s)cell 1: .*ZeroDivisionError'): step_through(tab, 2)
