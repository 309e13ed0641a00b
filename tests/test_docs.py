"The documentation site: API cards from source, the order of pages, links between them; the whole site where time allows."
import json, re
from pathlib import Path

import pytest
from api import Param, card, prose, symbols
from house import ROOMS, reading_order
from make_site import linkify, make_site

ROOT = Path(__file__).parents[1]


def test_a_function_is_documented_as_it_was_written():
    [f] = symbols('''
@decorated
def pack(
    lengths:list[int], # tokens of each `example`
    *rows,
    capacity:int=8,    # tokens of a row
    **options,
)->list[list[int]]:    # indices
    "Lay examples *into* rows.\\n\\nMore of it."
    inner = 3          # not a parameter
''')
    assert (f.name, f.sentence, f.signature) == ('pack', 'Lay examples *into* rows.', 'pack(lengths, *rows, capacity=8, **options)')
    assert f.params == [Param('lengths', 'list[int]', '', 'tokens of each `example`'), Param('*rows', '', '', ''),
                        Param('capacity', 'int', '8', 'tokens of a row'), Param('**options', '', '', '')]
    assert f.returns == Param('returns', 'list[list[int]]', '', 'indices')

def test_a_comment_behind_a_one_line_signature_belongs_to_its_parameter():
    [f] = symbols('def size(path:str)->int:  # a file\n    "Bytes."')
    assert (f.params[0].note, f.returns.note) == ('a file', '')

def test_classes_show_fields_or_init_and_public_methods():
    record, layer = symbols('''
class Record(BaseModel):
    "One row."
    answer: str = ''  # as written
    _hidden: int = 0
    def check(self, strict=True): "Whether it is right."
    def undocumented(self): pass
class Layer(Module):
    "A layer."
    def __init__(self, width:int): pass  # units
''')
    assert record.params == [Param('answer', 'str', "''", 'as written')]
    assert [m.signature for m in record.methods] == ['Record.check(strict=True)']
    assert layer.params == [Param('width', 'int', '', 'units')]

def test_what_is_private_or_no_definition_is_left_out(): assert symbols('x = 1\ndef _f(): pass') == []

def test_cards_escape_what_is_not_markup():
    [f] = symbols('def f(x:"a<b"): "Is `x` < *one*? 2*3*4."')
    assert prose(f.sentence) == 'Is <code>x</code> &lt; <em>one</em>? 2*3*4.'
    assert 'a<b' not in card(f) and 'id="f"' in card(f)


def write_notebook(path:Path, *sources:str)->Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(cells=[dict(cell_type='markdown', source=s, metadata={}) for s in sources], metadata={}, nbformat=4, nbformat_minor=5)))
    return path

def test_pages_follow_imports_and_the_authors_next(tmp_path):
    library = tmp_path/'motif_repro'
    (library/'core').mkdir(parents=True)
    (library/'core/basis.py').write_text('def lazy():\n    from motif_repro.core.apex import x')
    (library/'core/apex.py').write_text('from motif_repro.core.basis import y')
    pages = [write_notebook(tmp_path/f'nbs/core/{name}.ipynb', f'# {name}', last) for name, last in
             dict(apex='the end', basis='next: [what follows](story.ipynb)', aside='', story='').items()]
    assert [p.stem for p in reading_order(pages, library)] == ['aside', 'basis', 'story', 'apex']

def test_names_in_prose_become_links():
    book = dict(read_rows='core/rows.html#read_rows')
    text = '# `read_rows`\nCall `read_rows()`, not `other` and not [`read_rows`](x).\n```\n`read_rows`\n```\n'
    linked = linkify(text, Path('tasks/math.ipynb'), book)
    assert linked == text.replace('Call `read_rows()`', 'Call <a href="../core/rows.html#read_rows"><code>read_rows()</code></a>')
    assert linkify(text, Path('core/rows.ipynb'), book) == text  # no link to the page itself


@pytest.mark.slow
def test_the_site_builds_and_asks_the_network_for_nothing(tmp_path):
    assert make_site(ROOT/'nbs', tmp_path/'site', tmp_path/'work') == 0
    pages = {p: p.read_text() for p in (tmp_path/'site').rglob('*.html')}
    assert {f'{room}/index.html' for room in ROOMS if any((ROOT/'nbs'/room).glob('*.ipynb'))} < {str(p.relative_to(tmp_path/'site')) for p in pages}
    loads = [(p.name, url) for p, html in pages.items() for url in re.findall(r'<(?:script|img|link|iframe)[^>]*(?:src|href)="(\w+://[^"]+)"', html)]
    assert not loads
    for href in re.findall(r'href="([^"#]+)#(\w+)"', (api := pages[tmp_path/'site/api.html'])):
        if (target := tmp_path/'site'/href[0]) in pages: assert f'id="{href[1]}"' in pages[target], href
    assert 'read_rows' in api
