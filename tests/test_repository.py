"What holds for the repository as a whole: library equals notebooks, notebooks are clean, rooms import in order."
import filecmp, json, re, shutil, subprocess, sys
from pathlib import Path

import pytest
from fastcore.nbio import read_nb
from house import ROOMS, imported_modules, next_notebooks, reading_order

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(p for p in (ROOT/'nbs').rglob('*.ipynb') if not any(part[0] in '._' for part in p.relative_to(ROOT).parts))
named = lambda path: str(path.relative_to(ROOT/'nbs').with_suffix(''))


def copy_sources(root:Path)->Path:
    "What nbdev reads of a checkout, and the library without anything it generates."
    ignore = shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', '_*')
    shutil.copytree(ROOT/'nbs', root/'nbs', ignore=ignore)
    (root/'motif_repro').mkdir()
    for file in ('pyproject.toml', 'README.md', 'motif_repro/__init__.py'): shutil.copy(ROOT/file, root/file)
    return root

def nbdev(command:str, root:Path): subprocess.run([Path(sys.executable).with_name(f'nbdev-{command}')], cwd=root, check=True)

def differences(library:Path, fresh:Path)->set[str]:
    "Modules that are in one folder only, or differ."
    here, there = ({str(p.relative_to(folder)) for p in folder.rglob('*.py')} for folder in (library, fresh))
    return (here ^ there) | {name for name in here & there if not filecmp.cmp(library/name, fresh/name, shallow=False)}

def edit_cell(notebook:Path, old:str, new:str):
    text = notebook.read_text()
    assert old in text
    notebook.write_text(text.replace(old, new))


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    "A copy of the sources, exported and cleaned by nbdev."
    root = copy_sources(tmp_path_factory.mktemp('exported'))
    nbdev('export', root)
    nbdev('clean', root)
    return root


def test_library_equals_notebooks(exported):
    assert not differences(ROOT/'motif_repro', exported/'motif_repro'), "edit the notebook, not the module, then run nbdev-export"

def test_drift_is_found_both_ways(exported, tmp_path):
    root = copy_sources(tmp_path/'notebooks')
    edit_cell(root/'nbs/core/errors.ipynb', 'cutoff=0.5', 'cutoff=0.6')  # a notebook edited and not exported
    nbdev('export', root)
    library = shutil.copytree(exported/'motif_repro', tmp_path/'library')
    (library/'core/stray.py').write_text('x = 1\n')                      # a module without a notebook
    with (library/'core/rows.py').open('a') as f: f.write('# by hand\n') # a module edited by hand
    assert differences(library, root/'motif_repro') == {'core/errors.py', 'core/stray.py', 'core/rows.py'}


def test_notebooks_are_clean(exported):
    dirty = [named(p) for p in NOTEBOOKS if p.read_bytes() != (exported/p.relative_to(ROOT)).read_bytes()]
    assert not dirty, "run nbdev-clean"

def test_cleaning_finds_dirt_and_keeps_the_parameters_tag(tmp_path):
    root = copy_sources(tmp_path/'dirty')
    dirty = root/'nbs/core/errors.ipynb'
    nb = json.loads(dirty.read_text())
    nb['cells'][1] |= dict(execution_count=7, metadata=dict(tags=['parameters'], scrolled=True))
    dirty.write_text(json.dumps(nb))
    nbdev('clean', root)
    cell = json.loads(dirty.read_text())['cells'][1]
    assert (cell['execution_count'], cell['metadata']) == (None, dict(tags=['parameters']))


def test_nothing_is_imported_or_named_in_vain(tmp_path):
    ruff = [Path(sys.executable).with_name('ruff'), 'check', '--quiet', '--no-cache', '--output-format', 'concise']
    assert not subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True).stdout
    (tmp_path/'vain.py').write_text('import json\n')
    assert 'F401' in subprocess.run([*ruff, '--config', ROOT/'pyproject.toml', tmp_path/'vain.py'], capture_output=True, text=True).stdout


def violations(package:Path)->list[str]:
    "Imports of a room from one below it in `ROOMS`."
    rank = {room: i for i, room in enumerate(ROOMS)}
    modules = [p for p in sorted(package.rglob('*.py')) if p.parent != package]
    return [f"{p.relative_to(package)} imports {name}" for p in modules for name in sorted(imported_modules(p, package))
            if rank.get(name.split('.')[0], -1) > rank[p.relative_to(package).parts[0]]]

def test_rooms_import_in_order():
    assert not violations(ROOT/'motif_repro')

@pytest.mark.parametrize('room', ROOMS)
def test_a_room_is_one_path(room):
    "Each notebook sends its reader to the one that the site shows next; the last one leads out."
    order = reading_order([*(ROOT/'nbs'/room).glob('*.ipynb')], ROOT/'motif_repro')
    assert [b.stem for a, b in zip(order, order[1:]) if b.stem not in next_notebooks(a)] == []
    assert re.search(r'Next:[^.]*\]\(\.\./', ''.join(json.loads(order[-1].read_text())['cells'][-1]['source']))

@pytest.mark.parametrize('line', [
    'from motif_repro.training.sft import train',
    'import motif_repro.training.sft as sft',
    'from ..training import sft',
    'from .. import training',
    'def lazy():\n    from motif_repro.training.sft import train',
    'import importlib; sft = importlib.import_module("motif_repro.training.sft")',
])
def test_an_import_from_a_later_room_is_found(tmp_path, line):
    package = tmp_path/'motif_repro'
    for room, text in dict(tasks=line, training='from motif_repro.tasks.math import verify').items():
        (package/room).mkdir(parents=True)
        (package/room/'math.py').write_text(text)
    assert violations(package) and all(v.startswith('tasks/math.py imports training') for v in violations(package))


@pytest.mark.parametrize('path', NOTEBOOKS, ids=named)
def test_a_notebook_opens_with_its_question(path):
    first = read_nb(path).cells[0]
    assert first.cell_type == 'markdown'
    for what, pattern in dict(title=r'\A# \S', summary=r'^> \S', question=r'Question', answer=r'Answer',
                              time=r'(?i)\b(second|minute)s?\b', origin=r'(?i)\bours\b|\bpaper\b').items():
        assert re.search(pattern, first.source, re.M if what == 'summary' else re.S), f"{what} is missing"

@pytest.mark.parametrize('path', NOTEBOOKS, ids=named)
def test_outputs_are_worth_committing(path):
    nb = read_nb(path)
    outputs = [o for c in nb.cells for o in c.get('outputs', [])]
    assert not [o.evalue for o in outputs if o.output_type == 'error']
    assert not [o.text for o in outputs if o.get('name') == 'stderr'], "a warning or a progress bar was committed"
    text = ''.join(o.get('text') or o.get('data', {}).get('text/plain', '') for o in outputs)
    assert not re.search(r'/tmp/\w', text), "an output names a temporary folder: it changes with every run"
    assert '[WARNING]' not in text, "a library's warning was committed, with its time of day"

@pytest.mark.parametrize('path', NOTEBOOKS, ids=named)
def test_links_of_a_notebook_lead_somewhere(path):
    prose = '\n'.join(c.source for c in read_nb(path).cells if c.cell_type == 'markdown')
    dead = dead_links(prose, path.parent)
    assert not dead


def dead_links(markdown:str, folder:Path)->list[str]:
    targets = re.findall(r'\]\(([^)\s]+)\)|<img[^>]* src="([^"]+)"', markdown)
    targets = [(a or b).split('#')[0] for a, b in targets if not re.match(r'\w+:', a or b)]
    return [t for t in targets if t and not (folder/t).exists()]

def test_links_of_the_readme_lead_somewhere():
    assert not dead_links((ROOT/'README.md').read_text(), ROOT)
    assert dead_links('[a](nowhere.md#x) [b](https://example.org) [c](#here)', ROOT) == ['nowhere.md']


@pytest.fixture(scope='module')
def tracked():
    listing = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode: pytest.skip("not a git checkout")
    return [p for name in listing.stdout.split('\0') if name and (p := ROOT/name).is_file()]

def test_no_large_file_is_committed(tracked):
    limit = lambda p: 1_000_000 if p.name == 'report.html' else 500_000   # the kept report is one page with its figures
    assert not {str(p.relative_to(ROOT)): p.stat().st_size for p in tracked if p.stat().st_size > limit(p)}

def test_no_path_of_one_machine_is_committed(tracked):
    "A home folder, say. Notebooks' images and other binary files are left out."
    text = {p: '\n'.join(l for l in p.read_text(errors='ignore').splitlines() if len(l) < 1000) for p in tracked}
    assert not [str(p.relative_to(ROOT)) for p, t in text.items() if re.search(r'(?<![\w.])/(home|root|Users|work)/\w', t)]

def test_nothing_is_left_unfinished(tracked):
    words = re.compile(r'\b(TO' r'DO|FIX' r'ME)\b|NotImplemented' r'Error')
    assert not [str(p.relative_to(ROOT)) for p in tracked if p.suffix in ('.ipynb', '.py', '.md') and words.search(p.read_text())]
