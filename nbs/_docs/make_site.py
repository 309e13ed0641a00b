"Notebooks → pages → site: `python nbs/_docs/make_site.py` writes _site/, which opens from a file and asks the network for nothing."
import ast, os, re, shutil, subprocess, sys
from itertools import zip_longest
from importlib.metadata import files
from pathlib import Path

from api import card, symbols, words
from fastcore.nbio import mk_cell, read_nb, write_nb
from house import ROOMS, reading_order
from pages import (api_index, api_module, claims_of, exported, front_page, glossary_page, lessons_page, library, link, opening, own_page, paper_page,
                   parameters_page, read_glossary, read_verdicts, run_page, toctree, verdict_table)

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SECTIONS = dict(recipe='The recipe', lessons='The lessons')  # notebooks that run; all other folders are rooms of the library
GUIDE = 'recipe/your_own_model.ipynb'


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


def on_site(file:Path)->Path:
    "Where a file of the repository lies on the site: nbs/ is its root, and what else is linked comes along below files/."
    if file == Path('nbs/index.ipynb'): return Path('tour.ipynb')
    return file.relative_to('nbs') if file.parts[0] == 'nbs' else Path('files')/file


def relink(text:str, folder:Path, page:Path, linked:set[Path])->str:
    "Relative links of a text in `folder` of the repository, as they have to read on `page`; files outside of nbs/ are added to `linked`."
    def one(match):
        file = Path(os.path.normpath(folder/match[1]))
        if file.parts[0] != 'nbs': linked.add(file)
        return f"]({os.path.relpath(on_site(file), page.parent)}{match[2]})"
    prose = re.split(r'(^```.*?^```)', text, flags=re.M|re.S)
    return ''.join(part if i % 2 else re.sub(r'\]\(([^)\s#:]+)(#[^)\s]*|)\)', one, part) for i, part in enumerate(prose))


def bring(linked:set[Path], folder:Path):
    "The linked files that are no notebooks: Markdown as pages of the site, which may link to further ones; all others as they are."
    brought = set()
    while todo := linked - brought:
        for file in sorted(todo):
            page = folder/on_site(file)
            page.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix != '.md': shutil.copy(ROOT/file, page)
            else: page.write_text('---\norphan: true\n---\n\n' + relink((ROOT/file).read_text(), file.parent, on_site(file), linked))
        brought |= todo


def is_setup(source:str)->bool:
    "Imports, and calls such as `use_style()` after them."
    first, *rest = ast.parse(source).body
    return isinstance(first, (ast.Import, ast.ImportFrom)) and all(isinstance(node, (ast.Import, ast.ImportFrom, ast.Expr)) for node in rest)


def folded(cell)->bool: return 'hide-input' in cell.metadata.get('tags', [])


def figure_alt(
    source:str,   # of the cell that draws it
    above:str,    # the heading of its section, and what the text says just before
)->str:
    "A figure in words: its titles, as far as the source tells them, else what stands above it and what its axes are."
    calls = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)]
    named = lambda key: [words(k.value) for call in calls for k in call.keywords if k.arg == key]
    placed = [words(call.args[-1]) for call in calls if getattr(call.func, 'attr', '') in ('set_title', 'suptitle', 'figure') and call.args]
    titles = [t for t in named('title') + placed if len(re.findall(r'\w{2,}', t)) > 1]
    axes = [' against '.join(filter(None, pair)) for pair in zip_longest(named('ylabel'), named('xlabel'))]
    return re.sub(r'\s+', ' ', '; '.join(dict.fromkeys(titles or [above, *axes])))


def describe_figures(cells):
    "Give every picture its words; MyST-NB takes them from the cell's metadata."
    heading = sentence = ''
    for cell in cells:
        if cell.cell_type == 'markdown':
            heading = next(iter(reversed(re.findall(r'^#+ (.+)', cell.source, re.M))), heading)
            sentence = re.split(r'(?<=[.:])\s', cell.source.strip().split('\n\n')[-1].replace('\n', ' '))[0]
        elif any(mime.startswith('image/') for o in cell.outputs for mime in o.get('data', {})):
            above = f"{heading}: {cell.source.splitlines()[-1] if sentence.startswith(('#', '<', '```', '|')) else sentence}"
            cell.metadata.mystnb = dict(image=dict(alt=figure_alt(cell.source, re.sub(r'[`*$]|\]\([^)]*\)|\[', '', above))))


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
            cells += [mk_cell(card(s), 'markdown') for s in symbols(cell.source)]
    return cells


def write_page(nb, page:Path, folder:Path, book:dict[str,str], linked:set[Path]):
    source = 'index.ipynb' if page == Path('tour.ipynb') else page
    api = Path('api')/page.with_suffix('.html')
    module = f' → `motif_repro/{page.with_suffix(".py")}` · {link(page, api, "API")}' if exported(nb) else ''
    nb.cells = page_cells(nb, page, book)
    describe_figures(nb.cells)
    for cell in nb.cells:
        if cell.cell_type == 'markdown': cell.source = relink(cell.source, Path('nbs')/page.parent, page, linked)
    nb.cells[0].source += f'\n\n```{{container}} where\n`nbs/{source}`{module}\n```'
    nb.metadata.language_info = dict(name='python', pygments_lexer='ipython3')  # nbdev-clean drops it, and with it the colours of code
    nb.metadata.pop('widgets', None)  # bars of finished downloads, for which a page would ask the network for scripts
    target = folder/page
    target.parent.mkdir(parents=True, exist_ok=True)
    write_nb(nb, target)


def write_room(room:str, notebooks:dict[Path,dict], folder:Path):
    "A room's own page: what it is for, and its notebooks with their summaries."
    rows = ''.join(f'[{opening(nb)[0]}]({page.name})\n: {opening(nb)[1]}\n\n' for page, nb in notebooks.items())
    title = room.upper() if len(room) < 3 else room.capitalize()
    (folder/room/'index.md').write_text(f'# {title}\n\n> {ROOMS[room]}\n\n{rows}\n' + toctree((page.stem for page in notebooks), 'Notebooks'))


def write_text_pages(texts:dict[str,str], folder:Path, linked:set[Path]):
    "Pages that are no notebooks; their links are written as seen from the top of the repository."
    for name, text in texts.items():
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_text(relink(text, Path(), Path(name), linked))


def contents(groups:dict[str,dict[Path,dict]])->str:
    "The site's tables of contents, as they stand in the margin."
    trees = [toctree(['run', 'tour', 'own'], 'Start')]
    for name in filter(groups.__contains__, SECTIONS):
        overview = ['lessons/index'] if name == 'lessons' else []
        trees.append(toctree([*overview, *(page.with_suffix('') for page in groups[name])], SECTIONS[name]))
    trees += [toctree((f'{room}/index' for room in ROOMS if room in groups), 'The library')]
    return '\n'.join([*trees, toctree(['paper', 'glossary', 'parameters', 'api/index'], 'Reference')])


def write_sources(nbs:Path, folder:Path, verdicts:dict[str,dict], glossary:dict[str,dict]):
    "All pages of the site as Sphinx sources in `folder`."
    paths = list(nbs.glob('[!_.]*/[!_.]*.ipynb'))
    groups = {name: reading_order([p for p in paths if p.parent.name == name], ROOT/'motif_repro') for name in [*SECTIONS, *ROOMS]}
    groups = {name: {p.relative_to(nbs): read_nb(p) for p in group} for name, group in groups.items() if group}
    rooms = {page: nb for room in ROOMS for page, nb in groups.get(room, {}).items()}
    tour, lessons, found, linked = read_nb(nbs/'index.ipynb'), groups.get('lessons', {}), library(rooms), set()
    profiles = sorted((nbs/'profiles').glob('*.yaml'))
    texts = {'index.md': front_page(tour, lessons, verdicts) + contents(groups), 'run.md': run_page(), 'own.md': own_page((nbs/GUIDE).is_file()),
             'lessons/index.md': lessons_page(lessons, verdicts), 'paper.md': paper_page(profiles), 'glossary.md': glossary_page(glossary, nbs),
             'parameters.md': parameters_page(nbs), 'api/index.md': api_index(rooms, found)}
    texts |= {f"api/{page.with_suffix('.md')}": api_module(page, rooms[page], symbols) for page, symbols in found.items()}
    for page in lessons: lessons[page].cells.insert(1, mk_cell(verdict_table(claims_of(page), verdicts), 'markdown'))
    book = address_book(rooms)
    for name, group in groups.items():
        (folder/name).mkdir(parents=True, exist_ok=True)
        if name in ROOMS: write_room(name, group, folder)
    write_text_pages(texts, folder, linked)
    for page, nb in [(Path('tour.ipynb'), tour), *((page, nb) for group in groups.values() for page, nb in group.items())]:
        write_page(nb, page, folder, book, linked)
    bring(linked, folder)


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


def make_site(
    nbs:Path, site:Path,                       # from, to
    work:Path,                                 # a folder for what lies between
    verdicts:dict[str,dict]|None=None,         # claim → row; None: of the run that is kept
    glossary:dict[str,dict]|None=None,         # term → means, page, also; None: the one that is kept
)->int:                                        # 0 unless Sphinx warned, and then an older site stays as it was
    "Write the site."
    write_sources(nbs, work/'source', read_verdicts() if verdicts is None else verdicts, read_glossary() if glossary is None else glossary)
    copy_linked_files(nbs, work/'source')
    vendor_mathjax(work/'static')
    options = ['--quiet', '--fail-on-warning', '--keep-going', '--conf-dir', HERE, f"--define=html_static_path={HERE/'static'},{work/'static'}"]
    failed = subprocess.run([sys.executable, '-m', 'sphinx', *options, work/'source', work/'site']).returncode
    if not failed:
        for template in (work/'site'/'_static').glob('*macros.html'): template.unlink()   # of the theme; no pages
        shutil.rmtree(site, ignore_errors=True)
        os.replace(work/'site', site)
    return failed


if __name__ == '__main__':
    shutil.rmtree(ROOT/'_proc', ignore_errors=True)
    sys.exit(make_site(ROOT/'nbs', ROOT/'_site', ROOT/'_proc'))
