"Notebooks → pages → site: `python nbs/_docs/make_site.py` writes _site/, which opens from a file and asks the network for nothing."
import ast, os, re, shutil, subprocess, sys
from importlib.metadata import files
from pathlib import Path

from api import card, prose, symbols
from fastcore.nbio import mk_cell, read_nb, write_nb
from house import ROOMS, reading_order

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SECTIONS = dict(recipe='The recipe', lessons='The lessons')  # notebooks that run; all other folders are rooms of the library


def link(page:Path, target:str, inner:str)->str:
    "HTML link from `page` to `target`, both relative to the site; MyST would want a heading where our anchors are boxes."
    return f'<a href="{os.path.relpath(target, page.parent)}">{inner}</a>'


def exported(nb)->list:
    "Every symbol of a notebook's exported cells."
    return [s for cell in nb.cells if cell.cell_type == 'code' and 'export' in cell.directives for s in symbols(cell.source)]


def address_book(notebooks:dict[Path,dict])->dict[str,str]:
    "Exported name → page and anchor; a name that two modules export stays out."
    found = [(s.name, f"{page.with_suffix('.html')}#{s.name}") for page, nb in notebooks.items() for s in exported(nb)]
    return {name: url for name, url in found if sum(name == other for other, _ in found) == 1}


def linkify(text:str, page:Path, book:dict[str,str])->str:
    "Turn `name` and `name()` in prose into links; headings and fenced code stay as they are."
    def one(match):
        url = book.get(match[1].removesuffix('()'))
        return match[0] if url is None or url.startswith(f"{page.with_suffix('.html')}#") else link(page, url, f'<code>{match[1]}</code>')
    prose = re.split(r'(^```.*?^```|^#.*?$|\[[^\]]*\]\([^)]*\))', text, flags=re.M|re.S)
    return ''.join(part if i % 2 else re.sub(r'(?<!`)`([\w.]+(?:\(\))?)`(?!`)', one, part) for i, part in enumerate(prose))


def is_setup(source:str)->bool:
    "Imports, and calls such as `use_style()` after them."
    first, *rest = ast.parse(source).body
    return isinstance(first, (ast.Import, ast.ImportFrom)) and all(isinstance(node, (ast.Import, ast.ImportFrom, ast.Expr)) for node in rest)


def folded(cell)->bool: return 'hide-input' in cell.metadata.get('tags', [])


def page_cells(nb, page:Path, book:dict[str,str])->list:
    "The cells a reader sees: no hidden ones, no directives, imports folded into one, an API card under each definition."
    cells = []
    for cell in nb.cells:
        directives = cell.directives
        cell.remove_directives()
        if 'hide' in directives or not cell.source.strip(): continue
        if cell.cell_type == 'markdown': cell.source = linkify(cell.source, page, book)
        elif is_setup(cell.source):
            if cells and folded(cells[-1]) and not cells[-1].outputs: cell.source = f'{cells.pop().source}\n\n{cell.source}'
            cell.metadata.tags = ['hide-input']
        cells.append(cell)
        if 'export' in directives:
            cells += [mk_cell(f'```{{index}} {s.name}\n```\n\n{card(s)}', 'markdown') for s in symbols(cell.source)]
    return cells


def opening(nb)->tuple[str,str]:
    "Title and one-sentence summary."
    first = nb.cells[0].source
    return re.match(r'# (.+)', first)[1], re.search(r'^> (.+)', first, re.M)[1]


def write_page(nb, page:Path, folder:Path, book:dict[str,str]):
    module = f' → `motif_repro/{page.with_suffix(".py")}`' if exported(nb) else ''
    nb.cells = page_cells(nb, page, book)
    nb.cells[0].source += f'\n\n```{{container}} where\n`nbs/{page}`{module}\n```'
    nb.metadata.language_info = dict(name='python', pygments_lexer='ipython3')  # nbdev-clean drops it, and with it the colours of code
    target = folder/page
    target.parent.mkdir(parents=True, exist_ok=True)
    write_nb(nb, target)


def toctree(entries, caption:str)->str:
    return f'```{{toctree}}\n:hidden:\n:caption: {caption}\n\n' + '\n'.join(map(str, entries)) + '\n```\n'


def write_room(room:str, notebooks:dict[Path,dict], folder:Path):
    "A room's own page: what it is for, and its notebooks with their summaries."
    rows = ''.join(f'[{opening(nb)[0]}]({page.name})\n: {opening(nb)[1]}\n\n' for page, nb in notebooks.items())
    title = room.upper() if len(room) < 3 else room.capitalize()
    (folder/room/'index.md').write_text(f'# {title}\n\n> {ROOMS[room]}\n\n{rows}\n' + toctree((page.stem for page in notebooks), 'Notebooks'))


def write_api(notebooks:dict[Path,dict], folder:Path):
    "Every exported name on one page, room by room."
    lines = ['# API index', '', '> Every exported function and class; a name leads to its code, its parameters and the example that checks it.', '']
    for page, nb in notebooks.items():
        if not (found := exported(nb)): continue
        lines += [f"## {'.'.join(page.with_suffix('').parts)}", '', f'[{opening(nb)[0]}]({page}): {opening(nb)[1]}', '']
        lines += [f"- {link(Path('api.md'), str(page.with_suffix('.html')) + '#' + s.name, f'<code>{s.name}</code>')} {prose(s.sentence)}" for s in found]
        lines += ['']
    (folder/'api.md').write_text('\n'.join(lines))


def write_sources(nbs:Path, folder:Path):
    "All pages of the site as Sphinx sources in `folder`."
    paths = list(nbs.glob('[!_.]*/[!_.]*.ipynb'))
    groups = {name: reading_order([p for p in paths if p.parent.name == name], ROOT/'motif_repro') for name in [*SECTIONS, *ROOMS]}
    groups = {name: {p.relative_to(nbs): read_nb(p) for p in group} for name, group in groups.items() if group}
    library = {page: nb for room in ROOMS for page, nb in groups.get(room, {}).items()}
    book = address_book(library)
    tour = read_nb(nbs/'index.ipynb')
    for name, group in groups.items():
        (folder/name).mkdir(parents=True, exist_ok=True)
        if name in ROOMS: write_room(name, group, folder)
    write_api(library, folder)
    trees = [toctree((p.with_suffix('') for p in groups[name]), caption) for name, caption in SECTIONS.items() if name in groups]
    trees += [toctree((f'{room}/index' for room in ROOMS if room in groups), 'The library'), toctree(['api'], 'Reference')]
    tour.cells.append(mk_cell('\n'.join(trees), 'markdown'))
    for page, nb in [(Path('index.ipynb'), tour), *((page, nb) for group in groups.values() for page, nb in group.items())]:
        write_page(nb, page, folder, book)


def copy_linked_files(nbs:Path, folder:Path):
    "Profiles and pictures, which pages link to."
    for file in nbs.glob('[!_.]*/*'):
        if file.suffix in ('.yaml', '.png', '.svg'):
            (folder/file.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder/file.relative_to(nbs))


def vendor_mathjax(static:Path):
    "MathJax 3.2.2 as one file, out of the Python package that carries it."
    carried = next(f for f in files('sphinx-mathjax-offline') if f.name == 'tex-svg.js')
    static.mkdir(parents=True, exist_ok=True)
    shutil.copy(carried.locate(), static)


def make_site(nbs:Path, site:Path, work:Path)->int:
    "Write the site by way of the folder `work`; 0 unless Sphinx warned, and then an older site stays as it was."
    write_sources(nbs, work/'source')
    copy_linked_files(nbs, work/'source')
    vendor_mathjax(work/'static')
    options = ['--quiet', '--fail-on-warning', '--keep-going', '--conf-dir', HERE, f"--define=html_static_path={HERE/'static'},{work/'static'}"]
    failed = subprocess.run([sys.executable, '-m', 'sphinx', *options, work/'source', work/'site']).returncode
    if not failed:
        shutil.rmtree(site, ignore_errors=True)
        os.replace(work/'site', site)
    return failed


if __name__ == '__main__':
    shutil.rmtree(ROOT/'_proc', ignore_errors=True)
    sys.exit(make_site(ROOT/'nbs', ROOT/'_site', ROOT/'_proc'))
