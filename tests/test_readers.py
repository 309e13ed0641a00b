"Files of traces as other people write them, broken ones included: every row is read or set aside, and the counts add up."
import gzip, json, os
from dataclasses import asdict

import pytest

from motif_repro.alignment.readers import MAX_CHARACTERS, read_pool, split_response, to_trace
from motif_repro.core.errors import UserError
from motif_repro.core.pools import Counts, Quarantine, iter_file, pool_files
from motif_repro.core.rows import read_rows, write_rows

QUESTION, THOUGHT, ANSWER = 'Was ist 2 + 3? ✓', '2 + 3 = 5\nSo it is 5.', '5'
ROW = dict(question=QUESTION, answer=f'{THOUGHT}\n#### {ANSWER}')


def read(path, folder=None):
    counts = Counts()
    with Quarantine(folder and folder/'quarantine.jsonl') as quarantine: traces = list(read_pool(path, quarantine=quarantine, counts=counts))
    assert counts.rows == counts.read + counts.set_aside and counts.read == len(traces)
    return traces, counts


@pytest.mark.parametrize('name, write', {
    'rows.jsonl': lambda path, rows: write_rows(path, rows),
    'rows.parquet': lambda path, rows: write_rows(path, rows),
    'rows.json': lambda path, rows: path.write_text(json.dumps(rows, indent=1)),
    'nested.json': lambda path, rows: path.write_text(json.dumps(dict(version=1, data=rows))),
    'lines.json': lambda path, rows: path.write_text('\n'.join(map(json.dumps, rows))),
    'rows.jsonl.gz': lambda path, rows: path.write_bytes(gzip.compress('\n'.join(map(json.dumps, rows)).encode())),
    'rows.json.gz': lambda path, rows: path.write_bytes(gzip.compress(json.dumps(rows).encode())),
    'bom.jsonl': lambda path, rows: path.write_bytes(b'\xef\xbb\xbf' + '\n\n'.join(map(json.dumps, rows)).encode()),
}.items())
def test_every_kind_of_file(tmp_path, name, write):
    write(tmp_path/name, [ROW | dict(teacher=f't{i}') for i in range(3)])
    traces, counts = read(tmp_path/name)
    assert [(t.teacher, t.question, t.reasoning, t.answer) for t in traces] == [(f't{i}', QUESTION, THOUGHT, ANSWER) for i in range(3)]
    assert counts.set_aside == 0

def test_a_single_conversation_as_json(tmp_path):
    "Its list of messages is no list of rows."
    (tmp_path/'one.json').write_text(json.dumps(dict(messages=[dict(role='user', content=QUESTION), dict(role='assistant', content=f'<think>{THOUGHT}</think>5')])))
    assert [t.reasoning for t in read(tmp_path/'one.json')[0]] == [THOUGHT]

def test_a_folder_is_one_pool(tmp_path):
    for i in range(3): write_rows(tmp_path/f'part-{i}.parquet', [ROW]*(i + 1))
    (tmp_path/'README.md').write_text('cards are no rows')
    assert len(pool_files(tmp_path)) == 3 and len(read(tmp_path)[0]) == 6


BAD = {   # line → words of its reason
    b'{"question": "\xff\xfe"}': 'UTF-8', b'{"question": ': 'not JSON', b'[1, 2]': 'not an object', b'null': 'not an object', b'[' * 100_000: 'JSON',
    b'{"question": "?"}': 'no response', b'{"question": "?", "answer": null}': 'no response', b'{"question": "?", "answer": "  "}': 'no response',
    b'{"question": "?", "answer": ["5"]}': "'answer' is list", b'{"question": {"a": 1}, "answer": "5"}': "'question' is dict",
    b'{"question": "?", "answer": true}': "'answer' is bool", b'{"question": "?", "answer": NaN}': 'no number', b'{"messages": "hello"}': "'messages' is str", b'{"messages": []}': 'no message',
    b'{"messages": [5]}': 'messages[0] is int', b'{"messages": [{"role": "user", "content": "?"}]}': 'no message of an assistant',
    b'{"messages": [{"role": "wizard", "content": "?"}]}': "unknown role 'wizard'", b'{"messages": [{"role": "assistant", "content": 5}]}': 'content is int',
    b'{"conversations": [{"from": "gpt"}]}': 'no response', b'{"question": "?", "answer": "\\ud800"}': 'lone surrogate',
    b'{"question": "?", "answer": "%s"}' % (b'a' * (MAX_CHARACTERS + 1)): 'characters; at most', b'{}': 'no response',
}

def test_bad_rows_are_set_aside_with_their_reason(tmp_path):
    good = json.dumps(ROW).encode()
    (tmp_path/'rows.jsonl').write_bytes(b'\n'.join(line for bad in BAD for line in (good, bad)))
    traces, counts = read(tmp_path/'rows.jsonl', tmp_path)
    assert (len(traces), counts.rows, counts.set_aside) == (len(BAD), 2*len(BAD), len(BAD))
    bad = read_rows(tmp_path/'quarantine.jsonl')
    assert [row['row'] for row in bad] == list(range(2, 2*len(BAD) + 1, 2))
    for row, words in zip(bad, BAD.values()): assert words in row['reason'], row
    assert (tmp_path/'quarantine.jsonl').stat().st_size < 20_000   # a giant row isn't stored again

def test_a_quarantine_tells_of_this_run_alone(tmp_path):
    (tmp_path/'rows.jsonl').write_text('{}\n')
    assert read(tmp_path/'rows.jsonl', tmp_path)[1].set_aside == 1
    write_rows(tmp_path/'rows.jsonl', [ROW])
    assert read(tmp_path/'rows.jsonl', tmp_path)[1].set_aside == 0 and not (tmp_path/'quarantine.jsonl').exists()

def test_a_quarantine_removes_files_and_nothing_else(tmp_path):
    "Whoever doesn't want the rows may well say /dev/null, and may be root."
    os.mkfifo(tmp_path/'pipe')
    Quarantine(tmp_path/'pipe')
    assert (tmp_path/'pipe').exists()

@pytest.mark.parametrize('name, content, words', [('rows.xlsx', b'a,b', 'unknown kind of file'), ('rows.jsonl.gz', b'not gzip', 'damaged'),
                                                  ('rows.parquet', b'PAR', 'not a Parquet file')])
def test_files_that_are_none(tmp_path, name, content, words):
    (tmp_path/name).write_bytes(content)
    with pytest.raises(UserError, match=words): read(tmp_path/name)
    with pytest.raises(UserError, match='no such file'): read(tmp_path/f'other_{name}')

def test_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match='in this folder'): pool_files(tmp_path)

def test_fields_beside_the_text():
    row = ROW | dict(id=7, domain='code', difficulty=3, sampling=dict(temperature=0.6), verdict='correct', provenance=dict(url='x'), unknown=object())
    trace = to_trace(row, 'me', 'row 1')
    assert (trace.task_id, trace.teacher, trace.domain, trace.difficulty, trace.sampling, trace.verdict) == ('7', 'me', 'code', 3, dict(temperature=0.6), 'correct')
    assert to_trace(asdict(trace), 'you', 'row 2') == trace   # our own rows come back as they are
    assert to_trace(ROW, 'me', 'a').task_id == to_trace(ROW | dict(answer='other'), 'you', 'b').task_id   # one question, one id
    assert to_trace(ROW | dict(question=''), 'me', 'a').task_id == 'a'
    assert to_trace(dict(question='?', answer=10**400), 'me', 'a').answer == '1' + '0'*400   # beyond any float

def test_the_last_answered_turn_counts():
    turns = [dict(role='user', content='first'), dict(role='assistant', content='one'), dict(role='user', content='second'), dict(role='assistant', content='two'),
             dict(role='user', content='third')]
    trace = to_trace(dict(messages=turns), 'me', 'row 1')
    assert (trace.question, trace.answer) == ('second', 'two')

@pytest.mark.parametrize('text, parts', [
    ('</think>5', ('', '5')), ('<think></think>', ('', '')), ('<think>never closed', ('', '<think>never closed')), ('a </think> b </think> c', ('a', 'b </think> c')),
    ('#### 5', ('', '5')), ('a\n####5', ('a', '5')), ('# Title\n#### Part\ntext', ('', '# Title\n#### Part\ntext')), ('a #### 5', ('', 'a #### 5')),
    ('a\r\n#### 5\r\n', ('a', '5')),
])
def test_where_thinking_ends(text, parts): assert split_response(text) == parts

def test_rows_are_read_one_at_a_time(tmp_path):
    "The first row comes before the last is looked at."
    write_rows(tmp_path/'rows.jsonl', [ROW]*5)
    rows = iter_file(tmp_path/'rows.jsonl')
    assert next(rows)[0] == 1
    (tmp_path/'rows.jsonl').write_text('')
    rows.close()
