"""Does the suite notice? Bugs at random places of the library, one at a time, and what catches each.

    python tests/mutants.py 60           as many bugs; rows go to data/mutants/rows.jsonl, and a killed run goes on
    python tests/mutants.py 60 --again   try those again that nothing caught, after tests were added

A bug is planted in a notebook's cell, in a copy of the checkout, and exported. Then what stands nearest is run first, until something fails: the notebook,
the tests that import its module, the notebooks that do; and in the end, for the bugs that are left, all other tests of `make test`.
"""
import argparse, ast, hashlib, json, os, re, signal, subprocess, sys, sysconfig, tempfile, time, venv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from motif_repro.core.plots import PALETTE, to_svg, use_style
from motif_repro.core.rows import read_rows, write_rows
from motif_repro.core.settings import num_cores
from motif_repro.pipeline.stages import git_commit

ROOT = Path(__file__).parents[1]
ROWS = ROOT/'data'/'mutants'/'rows.jsonl'
LIMITS_S = {'its notebook': 900, 'tests that import it': 1500, 'notebooks that import it': 900, 'all other tests': 1500}   # what then still runs has been caught
SUITE, SINCE = tuple(LIMITS_S), 'a test written since'
COLOURS = dict(zip((*SUITE, SINCE, 'nothing'), (PALETTE[0], PALETTE[2], PALETTE[4], '0.6', PALETTE[3], PALETTE[1])))
SWAPPED = {ast.Lt: '<=', ast.LtE: '<', ast.Gt: '>=', ast.GtE: '>', ast.Eq: '!=', ast.NotEq: '==', ast.In: 'not in', ast.NotIn: 'in', ast.Is: 'is not', ast.IsNot: 'is',
           ast.Add: '-', ast.Sub: '+', ast.Mult: '/', ast.Div: '*', ast.FloorDiv: '*', ast.Mod: '*', ast.Pow: '*', ast.And: 'or', ast.Or: 'and'}


@dataclass(frozen=True)
class Bug:
    notebook: str   # from the checkout
    cell: str = field(compare=False)     # id
    line: str       # of the cell, as it is
    planted: str    # as it becomes
    offset: int = field(compare=False)   # of the line in the cell, in lines


def places(source:str)->Iterator[tuple[ast.AST,ast.AST,str]]:
    "Every (first node, last node, text) such that the text, in place of what lies from one to the other, changes what `source` computes."
    def visit(node):
        match node:
            case ast.Compare(ops=[op]) if type(op) in SWAPPED: yield node.left, node.comparators[0], SWAPPED[type(op)]
            case ast.BinOp() if type(node.op) in SWAPPED: yield node.left, node.right, SWAPPED[type(node.op)]
            case ast.BoolOp(): yield node.values[0], node.values[1], SWAPPED[type(node.op)]
            case ast.UnaryOp(op=ast.Not()): yield node, node, ast.unparse(node.operand)
            case ast.Constant(value=bool()): yield node, node, str(not node.value)
            case ast.Constant(value=int() | float()): yield node, node, repr(node.value + 1)
            case ast.If() | ast.IfExp() | ast.While(): yield node.test, node.test, f'(not ({ast.unparse(node.test)}))'
            case ast.Return(value=ast.expr()) if not (isinstance(node.value, ast.Constant) and node.value.value is None): yield node.value, node.value, 'None'
            case ast.Expr(value=ast.Call()): yield node, node, 'pass'
        for name, value in ast.iter_fields(node):
            if name in ('annotation', 'returns', 'decorator_list') or isinstance(node, ast.JoinedStr | ast.Raise): continue   # what is said, not done
            if isinstance(node, ast.keyword) and node.arg == 'indent': continue   # of a file's lines
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST): yield from visit(child)
    yield from visit(ast.parse(source))

def planted(source:str, first:ast.AST, last:ast.AST, text:str)->str|None:
    "`source` with a bug; None where it would go over a line's end."
    lines = source.encode().splitlines(keepends=True)
    if first is last: start, end = (first.lineno, first.col_offset), (last.end_lineno, last.end_col_offset)
    else: start, end = (first.end_lineno, first.end_col_offset), (last.lineno, last.col_offset)   # an operator, perhaps with brackets beside it
    if start[0] != end[0]: return None
    line = lines[start[0] - 1]
    old = line[start[1]:end[1]].decode()
    new = text if first is last else re.sub(r'not in|is not|\w+|[^\s\w()]+', text, old, count=1)
    lines[start[0] - 1] = line[:start[1]] + new.encode() + line[end[1]:]
    return b''.join(lines).decode()

def all_bugs()->list[Bug]:
    "Every bug that can be planted in the library."
    found = []
    for path in sorted((ROOT/'nbs').glob('[!_]*/*.ipynb')):
        cells = json.loads(path.read_text())['cells']
        if not any('#| default_exp' in ''.join(cell['source']) for cell in cells): continue
        for cell in cells:
            source = ''.join(cell['source'])
            if cell['cell_type'] != 'code' or not source.startswith('#| export'): continue
            for place in places(source):
                if (changed := planted(source, *place)) is None: continue
                before, after = source.splitlines(), changed.splitlines()
                offset = next(i for i, (a, b) in enumerate(zip(before, after)) if a != b)
                found.append(Bug(str(path.relative_to(ROOT)), cell['id'], before[offset], after[offset], offset))
    return found


def sample(bugs:list[Bug], num:int, seed:int)->list[Bug]:
    "`num` of the bugs at random. Each draws its own lot, so a change of the library elsewhere leaves the others drawn."
    lot = lambda bug: hashlib.sha256(f'{seed} {bug.notebook} {bug.line} {bug.planted}'.encode()).digest()
    return sorted(dict.fromkeys(bugs), key=lot)[:num]


def make_copy(copy:Path):
    "A clone of the checkout, with an environment in which the library is the clone's and all else is ours."
    subprocess.run(['git', 'clone', '--quiet', str(ROOT), str(copy)], check=True)
    venv.create(copy/'.venv', symlinks=True)
    [packages] = (copy/'.venv').glob('lib/python*/site-packages')
    (packages/'copy.pth').write_text(f"{copy}\nimport site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")   # the first that is found counts
    ours, theirs = Path(sys.executable).parent, copy/'.venv/bin'
    for program in ours.iterdir():
        if (there := theirs/program.name).exists() or program.is_dir(): continue
        if (code := program.read_bytes()).startswith(b'#!' + str(ours).encode()):
            there.write_bytes(code.replace(str(ours).encode(), str(theirs).encode(), 1))
            there.chmod(0o755)
        else: there.symlink_to(program)

def plant(bug:Bug, copy:Path):
    "Write the bug into the copy's notebook, and export it."
    path = copy/bug.notebook
    nb = json.loads(path.read_text())
    cell = next(cell for cell in nb['cells'] if cell['id'] == bug.cell)
    lines = ''.join(cell['source']).splitlines(keepends=True)
    assert lines[bug.offset].rstrip('\n') == bug.line, f"{bug.notebook} has changed"
    lines[bug.offset] = lines[bug.offset].replace(bug.line, bug.planted)
    path.write_text(json.dumps(nb | dict(cells=[cell | dict(source=lines) if cell is c else c for c in nb['cells']])))
    subprocess.run([tool(copy, 'nbdev-export')], cwd=copy, check=True)

def tool(copy:Path, name:str)->str: return str(copy/'.venv/bin'/name)

def imports(path:Path, module:str, helpers:dict[str,str])->bool:
    "Whether a test or notebook names a module, or a helper of the tests does that it imports."
    text, dotted = path.read_text(), f'motif_repro.{module}'
    room, name = dotted.rsplit('.', 1)
    said = re.compile(rf'{re.escape(dotted)}\b|from {re.escape(room)} import [^\n]*\b{name}\b')
    return bool(said.search(text)) or any(said.search(code) and re.search(rf'\b(from|import) {helper}\b', text) for helper, code in helpers.items())

def commands(bug:Bug, copy:Path)->dict[str,list[list[str]]]:
    "Each part of the suite and the commands that run it, the module's own test file before the others."
    module = bug.notebook.removeprefix('nbs/').removesuffix('.ipynb').replace('/', '.')
    tests, notebooks = sorted(copy.glob('tests/test_*.py')), sorted(p for p in copy.glob('nbs/[!_]*/*.ipynb') if p.parent.name not in ('recipe', 'lessons'))
    helpers = {p.stem: p.read_text() for p in copy.glob('tests/*.py') if p not in tests}
    near = [p for p in tests if imports(p, module, helpers)]
    own = [p for p in near if p.stem == f"test_{module.rpartition('.')[2]}"]
    near_notebooks = [p for p in notebooks if imports(p, module, {}) and str(p.relative_to(copy)) != bug.notebook]
    pytest = [tool(copy, 'pytest'), '-x', '-p', 'no:cacheprovider']
    names = '|'.join(f'{p.parent.name}/{p.stem}' for p in near_notebooks)
    nbdev = lambda pattern: [tool(copy, 'nbdev-test'), '--n-workers', '1', '--path-re', rf'.*({pattern})\.ipynb$', '--skip-folder-re', r'^[_.]|^(recipe|lessons)$']
    def tested(files): return [[*pytest, *map(str, files)]] if files else []
    rest = [p for p in tests if p not in near and p.stem != 'test_repository']
    return dict(zip(SUITE, ([nbdev(module.replace('.', '/'))], tested(own) + tested([p for p in near if p not in own]), [nbdev(names)] if names else [], tested(rest)), strict=True))

def fails(command:list[str], copy:Path, limit_s:float)->str:
    "The last line that a failing command says; '' if it passes."
    process = subprocess.Popen(command, cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
                               env=os.environ | dict(OMP_NUM_THREADS='1'))
    try: said, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f'not done after {limit_s} s'
    lines = [line for line in said.splitlines() if re.search(r'^(FAILED|ERROR) |Error|Exception', line)] or said.splitlines()[-1:] or ['?']
    return next((line for line in lines if line.startswith(('FAILED', 'ERROR'))), lines[-1])[:300].replace(str(copy), '') if process.returncode else ''

def try_bug(bug:Bug, parts:tuple[str,...])->dict:
    "A row: the bug, the part of the suite that caught it ('' for none of `parts`) and what it said."
    with tempfile.TemporaryDirectory(prefix='mutant_') as folder:
        copy, start = Path(folder)/'copy', time.monotonic()
        make_copy(copy)
        commit = git_commit(copy)
        plant(bug, copy)
        run = commands(bug, copy)
        caught = next(((part, said) for part in parts for command in run[part] if (said := fails(command, copy, LIMITS_S[part]))), ('', ''))
    return asdict(bug) | dict(caught_by=caught[0], said=caught[1], tried=parts[-1], seconds=round(time.monotonic() - start), commit=commit)


def draw(rows:list[dict]):
    "A bar a room: what caught its bugs."
    use_style()
    caught = [SINCE if row['caught_by'] and 'missed_at' in row else row['caught_by'] or 'nothing' for row in rows]
    rooms = [row['notebook'].split('/')[1] for row in rows]
    table = pd.crosstab(pd.Categorical(rooms, list(dict.fromkeys(rooms))[::-1]), pd.Categorical(caught, [part for part in COLOURS if part in caught]))
    fig, ax = plt.subplots(figsize=(7, 0.9 + 0.28*len(table)))
    table.plot.barh(stacked=True, ax=ax, width=0.7, color=[COLOURS[part] for part in table.columns])
    ax.legend(title='caught by', loc='center left', bbox_to_anchor=(1, 0.5))
    since = len(caught) - caught.count('nothing')
    first = since - caught.count(SINCE)
    ax.set(xlabel='bugs', ylabel='', title=f"Of {len(rows)} bugs planted at random the suite caught {first}" + f", and {since} with the tests they led to"*(since > first))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ROWS.with_name('caught.svg').write_text(to_svg(fig))

def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument('num', type=int)
    options.add_argument('--seed', type=int, default=0)
    options.add_argument('--again', action='store_true')
    options = options.parse_args()
    bugs = sample(all_bugs(), options.num, options.seed)
    rows = {Bug(*(row[name] for name in Bug.__dataclass_fields__)): row for row in (read_rows(ROWS) if ROWS.is_file() else [])}
    for row in rows.values() if options.again else ():
        if not row['caught_by'] and 'about' not in row: row |= dict(missed_at=row.get('missed_at', row['commit']), tried='')
    for parts in (SUITE[:-1], SUITE[-1:]):   # the long last part only for what the others let through
        def waits(row): return not row['caught_by'] and 'about' not in row and (not row['tried'] or SUITE.index(row['tried']) < SUITE.index(parts[-1]))
        left = [bug for bug in bugs if bug not in rows or waits(rows[bug])]
        with ThreadPoolExecutor(num_cores()) as pool:
            for done in as_completed(running := {pool.submit(try_bug, bug, parts): bug for bug in left}):
                before = rows.get(running[done], {})
                row = rows[running[done]] = done.result() | {name: before[name] for name in ('missed_at', 'about') if name in before}
                write_rows(ROWS, rows.values())
                print(f"{row['caught_by'] or 'nothing yet':26} {row['seconds']:>5} s  {row['notebook']}: {row['planted'].strip()}", flush=True)
    draw([rows[bug] for bug in bugs])   # rows of an earlier library's bugs stay in the file alone

if __name__ == '__main__': main()
