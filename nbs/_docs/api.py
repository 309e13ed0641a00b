"API cards from source alone: what a cell defines, its signature, and the comment that explains each parameter."
import ast, io, re, tokenize
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Param:
    name: str     # `*` and `**` included
    type: str     # the annotation as written, or ''
    default: str  # source of the default, or ''
    note: str     # the comment on its line


@dataclass(frozen=True)
class Symbol:
    name: str            # `read_rows`, `Stage.finish`
    kind: str            # function or class
    sentence: str        # first paragraph of the docstring
    params: list[Param]  # of a class: its fields, else those of `__init__`
    returns: Param|None  # None where nothing is said about it
    methods: list['Symbol']

    @property
    def signature(self): return f"{self.name}({', '.join(p.name + (f'={p.default}' if p.default else '') for p in self.params)})"


def symbols(
    source:str,  # of a cell or a module
)->list[Symbol]: # its public functions and classes, in order
    "What `source` defines for others to use."
    comments = {t.start[0]: t.string.lstrip('# ') for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT}
    return [symbol(node, comments) for node in ast.parse(source).body if _is_definition(node) and not node.name.startswith('_')]


def _is_definition(node): return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))

def _is_public(node): return _is_definition(node) and not node.name.startswith('_') and ast.get_docstring(node)

def _text(node): return ast.unparse(node) if node else ''


def symbol(
    node:ast.AST,            # a function or class definition
    comments:dict[int,str],  # line → comment
    owner:str='',            # the class, for a method
)->Symbol:
    "One definition as a `Symbol`."
    sentence = (ast.get_docstring(node) or '').split('\n\n')[0]
    if isinstance(node, ast.ClassDef):
        methods = [symbol(m, comments, node.name) for m in node.body if _is_public(m)]
        return Symbol(node.name, 'class', sentence, class_params(node, comments), None, methods)
    params = function_params(node, comments)
    if patched := next((a.annotation for a in node.args.args[:1] if _patches(node) and a.annotation), None): owner = _text(patched)
    if owner: params = [p for p in params if p.name not in ('self', 'cls')]
    return Symbol(f'{owner}.{node.name}' if owner else node.name, 'function', sentence, params, function_returns(node, comments, params), [])


def _patches(node): return any(_text(d).startswith('patch') for d in node.decorator_list)


def function_params(node, comments)->list[Param]:
    a = node.args
    plain = [*a.posonlyargs, *a.args]
    defaults = [None]*(len(plain) - len(a.defaults)) + a.defaults
    pairs = [*zip(plain, defaults), *([(a.vararg, None)] if a.vararg else []), *zip(a.kwonlyargs, a.kw_defaults), *([(a.kwarg, None)] if a.kwarg else [])]
    star = {id(a.vararg): '*', id(a.kwarg): '**'}
    last_line = {(default or arg).end_lineno: arg for arg, default in pairs}  # of several on one line, the last owns the comment
    return [Param(star.get(id(arg), '') + arg.arg, _text(arg.annotation), _text(default),
                  comments.get(line, '') if last_line[line := (default or arg).end_lineno] is arg else '') for arg, default in pairs]


def function_returns(node, comments, params)->Param|None:
    if not node.returns or _text(node.returns) == 'None': return None
    note = comments.get(node.returns.end_lineno, '')
    return Param('returns', _text(node.returns), '', '' if any(note == p.note for p in params) else note)


def class_params(node, comments)->list[Param]:
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and not _text(n.target).startswith('_')]
    if fields: return [Param(_text(n.target), _text(n.annotation), _text(n.value), comments.get(n.end_lineno, '')) for n in fields]
    init = next((n for n in node.body if _is_definition(n) and n.name == '__init__'), None)
    return [p for p in function_params(init, comments) if p.name != 'self'] if init else []


def _code(text): return f'<code>{escape(text)}</code>' if text else ''

def prose(text:str)->str:
    "HTML of a docstring or comment: `code` and *emphasis*, nothing else is markup."
    text = re.sub(r'`([^`]+)`', r'<code>\1</code>', escape(text))
    return re.sub(r'(?<![\w*])\*([\w ]+)\*(?![\w*])', r'<em>\1</em>', text)


def table(params:list[Param])->str:
    "A row a parameter; a column that would be empty is left out."
    columns = dict(type=lambda p: _code(p.type), default=lambda p: _code(p.default), meaning=lambda p: prose(p.note))
    columns = {head: cell for head, cell in columns.items() if any(map(cell, params))}
    rows = [f"<tr><th>{escape(p.name)}</th>{''.join(f'<td>{cell(p)}</td>' for cell in columns.values())}</tr>" for p in params]
    return f"<table><tr><th></th>{''.join(f'<th>{head}</th>' for head in columns)}</tr>{''.join(rows)}</table>" if rows else ''


def card(s:Symbol)->str:
    "A closed box under the code: name and sentence; opened, a table of parameters and the methods."
    rows = table([*s.params, *([s.returns] if s.returns else [])])
    methods = ''.join(f"<li>{_code('.' + m.signature.split('.', 1)[1])}<br>{prose(m.sentence)}</li>" for m in s.methods)
    return (f'<details class="api" id="{escape(s.name)}"><summary>{_code(s.name)} <span>{prose(s.sentence)}</span></summary>'
            f"{rows}{f'<ul>{methods}</ul>' if methods else ''}</details>")
