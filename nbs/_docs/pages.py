"The pages that are no notebooks: front page, verdicts, paper and kit, glossary, parameters, API; made from what the repository says elsewhere."
import ast, json, os, re
from functools import cache
from html import escape
from itertools import groupby
from pathlib import Path
from typing import get_args

import yaml
from api import Param, entry, explained, line_comments, prose, symbols, table
from fastcore.nbio import read_nb
from house import ROOMS

from motif_repro.core.errors import UserError, nearest
from motif_repro.pipeline.claims import NOT_RUN, VERDICTS, Claim, Evidence, load_claims
from motif_repro.pipeline.profiles import code_cells, is_parameters
from motif_repro.pipeline.report import CLAIM_FIGURES, badge, with_interval
from motif_repro.pipeline.stages import STAGES

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KEPT = ROOT/'data'/'reference_run'/'claims.json'
MARKS = get_args(Evidence.model_fields['mark'].annotation)
PAPER, ARXIV = 'Motif-2-12.7B-Reasoning', '[arXiv 2512.11463](https://arxiv.org/abs/2512.11463)'


def link(page:Path, target:str, inner:str)->str:
    "HTML link from `page` to `target`, both relative to the site; MyST would want a heading where our anchors are boxes."
    return f'<a href="{os.path.relpath(target, page.parent)}">{inner}</a>'

def toctree(entries, caption:str)->str:
    return f'```{{toctree}}\n:hidden:\n:caption: {caption}\n\n' + '\n'.join(map(str, entries)) + '\n```\n'

def opening(nb)->tuple[str,str]:
    "Title and one-sentence summary."
    first = nb.cells[0].source
    return re.match(r'# (.+)', first)[1], re.search(r'^> (.+)', first, re.M)[1]

def exported(nb)->list:
    "Every symbol of a notebook's exported cells."
    return [s for cell in nb.cells if cell.cell_type == 'code' and 'export' in cell.directives for s in symbols(cell.source)]


# Verdicts

def read_verdicts(
    file:Path=KEPT,   # claims.json of a run
)->dict[str,dict]:    # claim → its row; {} where no such run is kept
    "What a kept run says of every claim."
    if not file.is_file(): return {}
    rows, claims = {row['id']: row for row in json.loads(file.read_text(encoding='utf-8'))}, load_claims()
    if rows.keys() != claims.keys(): raise UserError(f"{file}: has the claims {', '.join(rows)}; claims.yaml has {', '.join(claims)}. Keep a new run")
    for id, row in rows.items():
        if row['verdict'] not in VERDICTS: raise UserError(f"{file}, {id}: no such verdict: '{row['verdict']}'; {nearest(row['verdict'], VERDICTS)}")
    return rows

def claims_of(page:Path)->list[str]:
    "The claims whose experiment a lesson's notebook holds."
    return [id for id, place in CLAIM_FIGURES.items() if STAGES[place.split('/')[0]].notebook == str(page)]

def badge_html(verdict:str)->str:
    view = badge(verdict)
    return f'<span class="verdict {view["kind"]}"><b aria-hidden="true">{view["sign"]}</b> {escape(view["text"])}</span>'

KINDS = dict(difference='difference', bound='worst row', correlation='rank correlation, or its lead over a rival')

def effect(claim:Claim, row:dict)->str:
    "'difference +0.190 [+0.170, +0.210], 5 seeds'."
    if row['effect'] is None: return ''
    unit, kind = claim.rule[0].unit, KINDS[claim.rule[0].kind]
    return f"{kind} {with_interval(row['effect'], row['ci95'], sign=unit == 'seeds')}, {row['seeds']} {unit if row['seeds'] != 1 else unit[:-1]}"

def verdict_table(ids:list[str], verdicts:dict[str,dict])->str:
    "A row a claim: what it says, how it was judged, and by how much."
    claims = load_claims()
    row = lambda id: verdicts.get(id, dict(verdict=NOT_RUN, effect=None))
    lines = [f'<tr><th>{id}</th><td>{escape(claims[id].claim)}</td><td>{badge_html(row(id)["verdict"])}<br>'
             f'<small>{escape(effect(claims[id], row(id)))}</small></td></tr>' for id in ids]
    return f'<table class="verdicts">{"".join(lines)}</table>\n'

def origin(verdicts:dict[str,dict])->str:
    "Where the verdicts come from."
    rule = 'by the rule that stands in [claims.yaml](nbs/profiles/claims.yaml) since before the run'
    if verdicts: return f'Each verdict was computed from the rows of one kept run, `data/reference_run`, {rule}.'
    return f'No run is kept in `data/reference_run` here, so there is no verdict to show; `make reproduce PROFILE=mini` computes them, {rule}.'

def lessons_page(lessons:dict[Path,dict], verdicts:dict[str,dict])->str:
    parts = [f'## [{opening(nb)[0]}](nbs/{page})\n\n{opening(nb)[1]}\n\n{verdict_table(claims_of(page), verdicts)}' for page, nb in lessons.items()]
    head = f'# The lessons and their verdicts\n\n> {len(lessons)} lessons, {len(load_claims())} claims, each with a rule that was fixed before the run.\n\n'
    return head + '\n'.join(parts) + f'\n{origin(verdicts)}\n'


# What README says, too

def readme_section(heading:str)->str:
    readme = (ROOT/'README.md').read_text(encoding='utf-8')
    if found := re.search(rf'(?ms)^## {re.escape(heading)}\n(.*?)(?=^## |\Z)', readme): return found[1].strip()
    raise UserError(f"README.md has no section '{heading}' any more; the site shows it: name its successor in nbs/_docs/pages.py")

def run_page()->str:
    commands, limits = map(readme_section, ('Two commands', 'Known limits'))
    return f'# Run it\n\n> Two commands on a laptop, one page as their result.\n\n{commands}\n\n## Known limits\n\n{limits}\n'

def own_page(guide:bool)->str:
    "From the question that costs nothing to the whole recipe; `guide`: there is a notebook that goes through all of it."
    asked = {heading: readme_section(heading) for heading in ('Will these traces fit my model?', 'What fits on my GPUs?', 'Use it on your own')}
    first = 'Step by step, with a model and data of your own: [the guide](nbs/recipe/your_own_model.ipynb).\n\n' if guide else ''
    head = '# Use it on my model\n\n> Your model, your traces, your problems: from a question that needs no training to the whole recipe.\n\n'
    return head + first + ''.join(f'## {heading}\n\n{text}\n\n' for heading, text in asked.items())


# The front page

def door(target:str, name:str, words:str)->str: return f'<a class="door" href="{target}"><b>{name}</b><span>{words}</span></a>'

def front_page(tour, lessons:dict[Path,dict], verdicts:dict[str,dict])->str:
    doors = [door('run.html', 'Run it', 'Two commands on a laptop: the recipe from problems to a report, claim by claim.'),
             door('tour.html', 'Read it', 'The tour: four lessons and the spine of the recipe in miniature, in under a minute.'),
             door('own.html', 'Use it on my model', 'Will these traces fit? What fits on my GPUs? The recipe on your own data.')]
    parts = [f'### [{opening(nb)[0]}](nbs/{page})\n\n{verdict_table(claims_of(page), verdicts)}' for page, nb in lessons.items()]
    return (f'# motif_repro\n\n> {opening(tour)[1]}\n\n<div class="doors">{"".join(doors)}</div>\n\n'
            f'In December 2025 Motif Technologies published {PAPER} with its training recipe ({ARXIV}). Here each of its four lessons is code to '
            'call on a model of your own, and claims with a rule that was fixed before anything ran. <a href="paper.html">Paper and kit</a> says '
            'what is published, what is not, and what we chose.\n\n'
            '## What came out\n\n' + '\n'.join(parts) + '\n' + origin(verdicts) + '\n')


# The paper and this kit

def mark_html(mark:str)->str: return f'<span class="said {mark.split()[0].strip(",")}">{escape(mark)}</span>'

def checked_mark(mark:str, where:str)->str:
    if mark not in MARKS: raise UserError(f"{where}: no such mark: '{mark}'; {nearest(mark, MARKS)}")
    return mark

def published_section(section:dict)->str:
    "What is known of one part of the recipe beside what the kit does about it."
    rows = [f"| {row['subject']} | {mark_html(checked_mark(row['mark'], row['subject']))} {row['paper']} | {row['kit']} |" for row in section['rows']]
    return f"## {section['title']}\n\n| | the paper | this kit |\n|---|---|---|\n" + '\n'.join(rows) + '\n'

def claim_section(claim:Claim)->str:
    reasons = ''.join(f'- {part.reason}\n' for part in claim.rule)
    return (f"### {claim.id}\n\n**{claim.claim}**\n\n{mark_html(claim.paper.mark)} {claim.paper.evidence}\n\n**Ours.** Measured: {claim.metric}. "
            f"Why the rule asks for what it asks for:\n\n{reasons}\n")

LINE = re.compile(r'^( *)(?:- )?([\w.]+):(.*?)(?:\s#\s*(?:(paper|secondary source):|(ours), because)\s+(\S.*))?$')

def marked_values(profile:Path)->list[tuple[str,...]]:
    "Dotted name, value, mark and source or reason of every marked value of a profile."
    found, above = [], []   # above: indents and names of what a line belongs to
    for line in filter(None, map(LINE.match, profile.read_text(encoding='utf-8').splitlines())):
        indent, name, value, paper, ours, why = line.groups()
        above = [(depth, key) for depth, key in above if depth < len(indent)] + [(len(indent), name)]
        if why: found.append(('.'.join(key for _, key in above).removeprefix('stages.'), value.strip(), paper or ours, why))
    return found

def values_section(profile:Path)->str:
    "Every marked value of a profile; '' where none is."
    rows = [f'<tr><th>{escape(name)}</th><td><code>{escape(value)}</code></td><td>{mark_html(mark)} {prose(why)}</td></tr>'
            for name, value, mark, why in marked_values(profile)]
    return f'### Profile {profile.stem}\n\n<table class="values">{"".join(rows)}</table>\n' if rows else ''

def paper_page(profiles:list[Path])->str:
    published = yaml.safe_load((HERE/'published.yaml').read_text(encoding='utf-8'))
    values = ''.join(map(values_section, profiles))
    return (f"# Paper and kit\n\n> {published['summary']}\n\n{published['intro']}\n\n" + '\n'.join(map(published_section, published['sections'])) +
            '\n## Claim by claim\n\n' + ''.join(map(claim_section, load_claims().values())) +
            (f'## Value by value\n\n{values}' if values else ''))


# Glossary

def check_term(term:str, about:dict, nbs:Path):
    "A term has to occur in the notebook that is said to explain it."
    where = f"glossary.yaml, '{term}'"
    if not {'means', 'page'} <= set(about) <= {'means', 'page', 'also'}:
        raise UserError(f"{where}: has {', '.join(about)}; write means, page and perhaps also")
    if not (file := nbs/about['page']).is_file(): raise UserError(f"{where}: there is no {about['page']}; name the notebook that explains it")
    text = '\n'.join(cell.source for cell in read_nb(file).cells)
    forms = '|'.join(map(re.escape, [term, *about.get('also', [])]))
    if not re.search(rf'(?i)(?<![a-z])(?:{forms})(?![a-z])', text):
        raise UserError(f"{where}: does not occur in {about['page']}; name the notebook that explains it, or another form of the word (also: [...])")

def glossary_page(glossary:dict[str,dict], nbs:Path)->str:
    for term, about in glossary.items(): check_term(term, about, nbs)
    title = lambda about: opening(read_nb(nbs/about['page']))[0]
    terms = ''.join(f"{term}\n  {about['means']} → [{title(about)}]({about['page']})\n\n"
                    for term, about in sorted(glossary.items(), key=lambda item: item[0].lower()))
    return f'# Glossary\n\n> {len(glossary)} terms, each with the notebook that explains it.\n\n```{{glossary}}\n{terms}```\n'

def read_glossary()->dict[str,dict]: return yaml.safe_load((HERE/'glossary.yaml').read_text(encoding='utf-8'))


# Reference

@cache
def usual_meanings()->dict[str,str]: return yaml.safe_load((HERE/'parameters.yaml').read_text(encoding='utf-8'))

def stage_parameters(notebook:Path)->list[Param]:
    "The lines of a notebook's parameters cell: name, default and comment."
    source = next(cell['source'] for cell in code_cells(notebook) if is_parameters(cell))
    comments, usual = line_comments(source), usual_meanings()
    return [Param(name := node.targets[0].id, '', ast.unparse(node.value), comments.get(node.end_lineno) or usual.get(name, ''))
            for node in ast.parse(source).body]

def parameters_page(nbs:Path)->str:
    parts = [f'## {name}\n\n[{opening(read_nb(nbs/spec.notebook))[0]}](nbs/{spec.notebook})\n\n{table(stage_parameters(nbs/spec.notebook))}\n'
             for name, spec in STAGES.items() if (nbs/spec.notebook).is_file()]
    summary = 'What `--set stage.name=value` and the files in [profiles](nbs/profiles/smoke.yaml) change; defaults are those of the notebooks.'
    return f'# Stage parameters\n\n> {summary}\n\n' + '\n'.join(parts)

def api_module(page:Path, nb, found:list)->str:
    "A module's page: every symbol with its table, and the way to the cell that defines it."
    name = '.'.join(page.with_suffix('').parts)
    parts = [f'## {s.name}\n\n<div class="api-entry" id="{s.name}">{entry(s)}\n'
             f'<p>{link(Path("api")/page, str(page.with_suffix(".html")) + "#" + s.name, "code and example")}</p></div>\n' for s in found]
    return f'# {name}\n\n> {opening(nb)[1]}\n\nFrom the notebook [{opening(nb)[0]}](nbs/{page}).\n\n' + '\n'.join(parts)

def library(notebooks:dict[Path,dict])->dict[Path,list]:
    "Notebook → what it exports for others: whatever has a docstring."
    found = {page: symbols for page, nb in notebooks.items() if (symbols := [s for s in exported(nb) if s.sentence])}
    kinds = {s.name: s.sentence for each in found.values() for s in each if s.kind == 'class'}
    return {page: explained(symbols, kinds, usual_meanings()) for page, symbols in found.items()}

def api_index(notebooks:dict[Path,dict], found:dict[Path,list])->str:
    "Every exported name, room by room."
    lines = ['# API', '', '> Every exported function and class; a name leads to its parameters, and from there to its code and an example.', '']
    for room, pages in groupby(found, key=lambda page: page.parts[0]):
        lines += [f'## {room}', '', ROOMS[room], '']
        for page in pages:
            target = page.with_suffix('.html')
            lines += [f"### {link(Path('api/index.md'), f'api/{target}', '.'.join(page.with_suffix('').parts))}", '', opening(notebooks[page])[1], '']
            lines += [f"- {link(Path('api/index.md'), f'api/{target}#{s.name}', f'<code>{s.name}</code>')} {prose(s.sentence)}" for s in found[page]] + ['']
    return '\n'.join(lines) + toctree((page.with_suffix('') for page in found), 'Modules')
