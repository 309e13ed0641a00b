"The report of hand-made runs: what it says, what it must not do, and how it looks in a browser."
import json, re, shlex
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from families import write_lines

from motif_repro.core.errors import UserError
from motif_repro.core.settings import find_root
from motif_repro.pipeline.claims import load_claims
from motif_repro.pipeline.profiles import code_cells, own_sets
from motif_repro.pipeline.report import CLAIM_FIGURES, MAX_FIGURE_BYTES, again, build_report, clock, interval_sketch, metric_lines, number, slim, with_interval
from motif_repro.pipeline.stages import STAGES

SVG = ('<svg xmlns="http://www.w3.org/2000/svg" width="432pt" height="216pt" viewBox="0 0 432 216">'
       '<rect width="432" height="216" fill="#14365c"/></svg>')
HOSTILE = '</title><script>alert("x")</script><img src=x onerror=alert(1)> & "quoted" {{ 7*7 }}'
VOID = {'meta', 'link', 'img', 'br', 'rect', 'line', 'col'}


class Page(HTMLParser):
    "Checks that tags nest, and keeps what the tests ask for."
    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ''
        self.feed(text)
        assert not self.open, f'never closed: {self.open}'

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID: self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID: assert self.open.pop() == tag, f'{tag} closes another tag'

    def handle_startendtag(self, tag, attrs): self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.open[-1:] not in (['style'], ['title']): self.text += data

    def all(self, tag): return [attrs for name, attrs in self.tags if name == tag]


def write_stage(run, name, headline='All went well', title='A finding', figures=1, rows=(), svg=SVG, **record):
    folder = run/name
    (folder/'figures').mkdir(parents=True)
    listed = [dict(file=f'figures/{i}.svg', title=title) for i in range(figures)]
    for figure in listed: (folder/figure['file']).write_text(svg)
    (folder/'stage.json').write_text(json.dumps(dict(
        stage=name, headline=headline, figures=listed, metrics=dict(num_rows=12345, moved=0.3, moved_low=0.2, moved_high=0.4),
        outputs={}, params=dict(seed=3, lr=1e-4), version='0.1.0', versions=dict(python='3.11.7', torch='2.13.0'), commit='0a1b2c3',
        device='cpu', seconds=12.3, started='2026-01-01T10:00:00+00:00', finished='2026-01-01T10:02:00+00:00') | record))
    if rows: (folder/'claim_rows.jsonl').write_text('\n'.join(map(json.dumps, rows)))


CHANGES = dict(single=[-0.21, -0.17, -0.20, -0.15, -0.19], balanced=[0.01, -0.01, 0.02, 0.00, 0.01])
ROWS = [dict(claim='R4', arm=arm, seed=seed, value=value) for arm, values in CHANGES.items() for seed, value in enumerate(values)]
ROWS += [dict(claim='A1', arm=arm, seed=0, value=value) for arm, value in (('no_sft', 0.4), ('aligned', 0.6))]

@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "A run of all stages but sft, with rows for two claims and a hostile headline."
    run = tmp_path_factory.mktemp('runs')/'smoke'
    headlines, titles = dict(traces=HOSTILE), dict(base=HOSTILE)
    for name in STAGES.keys() - {'sft', 'report'}:
        write_stage(run, name, headlines.get(name, f'What {name} found'), titles.get(name, f'Figure of {name}'),
                    rows=ROWS if name == 'evaluate' else ())
    (run/'notebooks').mkdir()
    (run/'notebooks'/'40_sft.ipynb').write_text('{}')
    settings = dict(workers=2, profile='smoke', hub_cache=None, endpoints=dict(judge='http://localhost:8000'))
    (run/'run.json').write_text(json.dumps(dict(profile='mini', description='A made run', settings=settings)))
    return run

@pytest.fixture(scope='module')
def text(run): return build_report(run)

@pytest.fixture(scope='module')
def page(text): return Page(text)


def test_claims_come_first_then_the_result_then_the_stages(text):
    marks  = ('<h1', 'id="claims"', 'id="findings"', 'id="A1"', 'id="M2"', 'id="result"', 'Figure of evaluate', 'id="story"', '1 · tasks', '4 · sft', 'id="run"', 'id="again"')
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    assert re.findall(r'<th scope="row"><a href="#(\w+)"', text) == re.findall(r'<h3 id="(\w+)"', text) == list(load_claims())


def test_each_claim_shows_both_sides_and_its_verdict(page):
    for claim in load_claims().values():
        assert claim.claim in page.text and claim.paper.evidence in page.text and claim.paper.mark in page.text
        assert all(part.reason in page.text for part in claim.rule)
    assert '+0.190 [' in page.text and 'reproduced at this scale' in page.text     # R4: mean of the five differences
    assert '1 of 5 seeds' in page.text                                              # A1
    assert '11 not run' in re.sub(r'\s+', ' ', page.text)


def test_a_run_has_one_profile(text):
    "The machine's default, here smoke, is no setting of a run that another was chosen for."
    shown = dict(re.findall(r'<tr><th scope="row">([^<]*)</th><td>([^<]*)</td></tr>', text[text.index('id="run"'):]))
    assert (shown['profile'], shown['workers']) == ('mini', '2') and text.count('<th scope="row">profile</th>') == 1


def test_each_claim_is_told_in_three_sentences(text):
    told = dict(re.findall(r'<h3 id="(\w+)">.*?<div>\n(.*?)<details>', text, re.DOTALL))
    assert all(told[id].count('<p>') == (3 if id in ('R4', 'A1') else 1) for id in load_claims())
    assert 'balanced − single came to +0.190 [' in told['R4'] and '≥ +0.03 is asked for' in told['R4'] and 'The rule holds in every part' in told['R4']
    assert 'leaves the claim open: 1 of 5 seeds' in told['A1']


@pytest.mark.parametrize('values, words', (([-0.21, -0.17, -0.20, -0.15, -0.19], 'The rule fails, since balanced is not ≥ −0.03'),
                                           ([-0.2, 0.2, -0.1, 0.1, 0.], 'the interval of balanced holds the limit')))
def test_what_follows_depends_on_the_rows(tmp_path, values, words):
    rows = [dict(claim='R4', arm=arm, seed=seed, value=value) for arm, values in dict(single=[-0.9]*4 + [-0.8], balanced=values).items()
            for seed, value in enumerate(values)]
    write_stage(tmp_path, 'evaluate', rows=rows)
    assert words in Page(build_report(tmp_path)).text


def test_a_claims_figure_stands_with_the_claim_and_nowhere_else(tmp_path):
    write_stage(tmp_path, 'lesson_3', figures=0)
    record = json.loads((tmp_path/'lesson_3'/'stage.json').read_text())
    for name in ('r4', 'spread'): (tmp_path/'lesson_3'/'figures'/f'{name}.svg').write_text(SVG)
    record['figures'] = [dict(file=f'figures/{name}.svg', title=f'What {name} shows') for name in ('r4', 'spread')]
    (tmp_path/'lesson_3'/'stage.json').write_text(json.dumps(record))
    text = build_report(tmp_path)
    places = [text.index(mark) for mark in ('id="R4"', 'What r4 shows', 'id="M1"', 'id="story"', 'What spread shows')]
    assert places == sorted(places) and text.count('<figcaption>') == 2


def test_drawings_are_slimmed_but_no_word_of_them():
    drawn = b'<svg>\n  <metadata>\n x </metadata>\n <path d="M 1.23456 -0.001\n  L 3 4.5"/><text x="1.23456">0.12345</text></svg>'
    assert slim(drawn) == b'<svg>\n<path d="M 1.23 -0.00\nL 3 4.5"/><text x="1.23456">0.12345</text></svg>'


def test_every_claims_figure_is_one_that_its_lesson_draws():
    for place in CLAIM_FIGURES.values():
        stage, name = place.split('/')
        code = '\n'.join(cell['source'] for cell in code_cells(find_root()/'nbs'/STAGES[stage].notebook))
        assert f"'{name}'" in code and 'stage.figure(' in code, place


def test_the_paper_and_we_are_set_apart(page):
    cells = [attrs for tag, attrs in page.tags if tag == 'td' and 'paper' in attrs.get('class', '')]
    assert len(cells) == len(load_claims()) and all(attrs['data-label'] == 'In the paper' for attrs in cells)


def test_verdicts_survive_greyscale(text):
    "Every badge carries its word and a sign of its own."
    signs = dict(re.findall(r'<span class="badge ([\w-]+)"><b aria-hidden="true">(.)</b>', text))
    assert {'reproduced', 'inconclusive', 'not-run'} <= signs.keys() and len(set(signs.values())) == len(signs)


def test_nothing_is_fetched_from_elsewhere(text, page):
    assert 'http' not in text and '//' not in re.sub(r'data:image/svg\+xml;base64,[\w+/=]*', '', text)
    for tag, attrs in page.tags:
        assert tag not in ('script', 'iframe', 'object') and not any(name.startswith('on') for name in attrs)
        assert attrs.get('src', 'data:image/svg+xml').startswith('data:image/svg+xml')
    assert 'url(' not in text and '@import' not in text and len(text) < 1_000_000


def test_hostile_text_stays_text(text, page):
    assert '<script' not in text and '<img src=x' not in text
    assert HOSTILE in page.text and '{{ 7*7 }}' in page.text
    assert any(attrs.get('alt') == HOSTILE for attrs in page.all('img'))


def test_figures_have_words_and_headings_their_order(page):
    assert len(page.all('img')) == len(STAGES.keys() - {'sft', 'report'}) and all(attrs['alt'] for attrs in page.all('img'))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch('h[1-6]', tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:]))
    assert page.all('html') == [dict(lang='en')] and len(page.all('main')) == 1
    ids = [attrs['id'] for _, attrs in page.tags if 'id' in attrs]
    assert len(ids) == len(set(ids))


def test_a_stage_that_is_not_finished_is_shown_as_such(text, page):
    assert 'Not finished in this run: its notebook shows how far it came' in page.text
    assert [attrs['href'] for attrs in page.all('a') if not attrs['href'].startswith('#')] == ['notebooks/40_sft.ipynb']


def test_all_that_is_needed_to_do_it_again(page):
    assert 'hub_cache' not in page.text      # a setting that nobody made
    worked = 12.3*len(STAGES.keys() - {'sft', 'report'})
    for words in ('git checkout 0a1b2c3\n', 'make reproduce PROFILE=mini', '3.11.7', '2.13.0', f'{worked//60:.0f} min {worked % 60:02.0f} s', '2026-01-01 10:02', 'judge'):
        assert words in page.text


def test_a_run_with_files_of_ones_own_names_them(tmp_path):
    given = own_sets(model='someone/tiny', tasks=write_lines(tmp_path/"it's mine.jsonl", []))
    *_, command = again(dict(profile='own', sets=given)).split('\n')
    words = shlex.split(command)
    assert words[1:4] == ['run', '--profile', 'own'] and words[5::2] == given and set(words[4::2]) == {'--set'}


@pytest.mark.parametrize('commit, command, words', (('0a1b2c3-dirty', 'git checkout 0a1b2c3\n', 'not committed'),
                                                    (None, None, 'make reproduce')))
def test_commits_that_do_not_tell_all(tmp_path, commit, command, words):
    write_stage(tmp_path/'mine', 'tasks', commit=commit)
    page = Page(build_report(tmp_path/'mine'))
    assert (command in page.text if command else 'git checkout' not in page.text) and words in page.text


def test_an_empty_run_still_has_thirteen_claims(tmp_path):
    page = Page(build_report(tmp_path))
    assert '13 not run' in re.sub(r'\s+', ' ', page.text) and page.text.count('Not finished in this run') == len(STAGES) - 1


def test_figures_that_are_missing_or_huge_are_named_not_dropped(tmp_path):
    write_stage(tmp_path, 'tasks', figures=2, svg=SVG + ' '*MAX_FIGURE_BYTES)
    (tmp_path/'tasks'/'figures'/'0.svg').unlink()
    page = Page(build_report(tmp_path))
    assert 'figures/0.svg is missing' in page.text and 'figures/1.svg: 150 kB, too large' in page.text and not page.all('img')


def test_stages_may_lie_elsewhere(tmp_path):
    write_stage(tmp_path/'other', 'evaluate', 'Found elsewhere')
    folders = {name: tmp_path/'other'/name for name in STAGES if name != 'report'}
    assert 'Found elsewhere' in build_report(tmp_path/'manual', folders) and 'Found elsewhere' not in build_report(tmp_path/'manual')


def test_a_bad_claim_row_stops_the_report(tmp_path):
    write_stage(tmp_path, 'evaluate', rows=[ROWS[0], ROWS[0] | dict(arm='balnced')])
    with pytest.raises(UserError, match="claim_rows.jsonl, row 2: .*did you mean 'balanced'"): build_report(tmp_path)


@pytest.mark.parametrize('value, words', ((0, '0'), (1234567, '1,234,567'), (-1e-7, '−1e−07'), (2.5e6, '2,500,000'), (True, 'True'),
                                          ('adamw', 'adamw'), (None, '–')))
def test_numbers(value, words): assert number(value) == words


@pytest.mark.parametrize('value, ci95, words', (
    (0.15, [0.146, 0.154], '+0.150 [+0.146, +0.154]'), (-0.002, [-0.005, 0.001], '−0.00200 [−0.00500, +0.00100]'), (0.15, None, '+0.15'),
    (9e4, [8e4, 1e5], '+90,000 [+80,000, +100,000]'), (0, [0, 0], '+0 [+0, +0]'), (31.4, [30, 33], '+31.4 [+30.0, +33.0]')))
def test_intervals(value, ci95, words): assert with_interval(value, ci95, sign=True) == words


def test_metrics_and_times():
    assert metric_lines(dict(a_low=1, b=2, b_low=1)) == [('a low', '1'), ('b', '2'), ('b low', '1')]
    assert [clock(s) for s in (0, 9.96, 59.7, 3599.9, 86400)] == ['0.0 s', '10.0 s', '1 min 00 s', '1 h 00 min', '24 h 00 min']


CHROMIUM = Path('/usr/bin/chromium')

@pytest.mark.skipif(not CHROMIUM.exists(), reason=f'{CHROMIUM} is missing: make system')
def test_in_a_browser(run, text, tmp_path):
    sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is missing: make install')
    (path := tmp_path/'report.html').write_text(text)
    said = []
    with sync_api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=str(CHROMIUM), args=['--no-sandbox'])
        for width in (1280, 390):
            tab = browser.new_page(viewport=dict(width=width, height=800))
            tab.on('console', lambda message: said.append(message.text))
            tab.on('pageerror', lambda error: said.append(str(error)))
            tab.on('dialog', lambda dialog: said.append(dialog.message))
            tab.on('request', lambda request: None if request.url.startswith(('file:', 'data:')) else said.append(request.url))
            tab.goto(path.as_uri())
            assert tab.evaluate('document.documentElement.scrollWidth') <= width
            assert tab.evaluate('[...document.images].every(image => image.complete && image.naturalWidth > 0)')
            tab.get_by_text('How R4 is judged').click()
            assert tab.get_by_text('Prevented means that no domain falls by more than that.').is_visible()
            assert len(tab.screenshot()) > 10_000
        browser.close()
    assert not said

@pytest.mark.parametrize('sign', [1, -1])
def test_a_sketch_by_hand(sign):
    "Limit, zero, interval and value on a line of 6.5: five from limit to zero, and 15 % of that on both sides."
    part, effect = SimpleNamespace(unit='seeds', limit=5.*sign, higher=sign > 0), SimpleNamespace(value=2.*sign, ci95=sorted([1.*sign, 3.*sign]))
    at = lambda x: round(100*(x + 0.75 + 5*(sign < 0))/6.5, 1)
    assert interval_sketch(part, effect) == dict(limit=at(5*sign), shade=[at(5), 100] if sign > 0 else [0, at(-5)], zero=at(0), low=at(effect.ci95[0]), high=at(effect.ci95[1]),
                                                 value=at(2*sign))
