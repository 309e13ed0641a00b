"Rows and traces: nothing is lost without a word, nothing is half written."
import json, os

import pytest

from motif_repro.alignment.traces import read_traces
from motif_repro.core.errors import UserError
from motif_repro.core.pools import iter_file
from motif_repro.core.rows import content_hash, open_log, read_rows, write_rows

GOOD = dict(task_id='t', teacher='me', question='1 + 1', reasoning='', answer='2')


def traces_file(folder, *lines):
    file = folder/'traces.jsonl'
    file.write_bytes(b''.join(line if isinstance(line, bytes) else json.dumps(line).encode() + b'\n' for line in lines))
    return file

@pytest.mark.parametrize('line,words', [
    (b'{"task_id": "\xff\xfe"}\n', 'row 2: not UTF-8 (byte 13 of the line); save the file as UTF-8'),
    (b'{"task_id": \n', 'row 2: not JSON'),
    (b'[1, 2]\n', 'row 2: not an object'),
    (GOOD | dict(answer=None), "row 2: 'answer' is NoneType, expected str"),
    (GOOD | dict(teachr='x'), "did you mean 'teacher'?")])
def test_bad_traces_are_named_or_quarantined(tmp_path, line, words):
    file = traces_file(tmp_path, GOOD, line, GOOD)
    with pytest.raises(UserError) as error: read_traces(file)
    assert str(file) in str(error.value) and words in str(error.value)
    kept, bad = read_traces(file, quarantine=tmp_path/'bad.jsonl'), read_rows(tmp_path/'bad.jsonl')
    assert (len(kept), len(bad), bad[0]['row']) == (2, 1, 2) and words.removeprefix('row 2: ') in bad[0]['reason']

@pytest.mark.parametrize('name', ['rows.jsonl', 'rows.parquet'])
def test_round_trip(tmp_path, name):
    rows = [dict(id=i, text='zwölf ✓', nested=dict(x=[1, 2])) for i in range(3)]
    assert write_rows(tmp_path/name, rows) == 3 and read_rows(tmp_path/name) == rows

def test_a_parquet_file_has_the_keys_of_all_rows(tmp_path):
    write_rows(tmp_path/'rows.parquet', [dict(x=1), dict(x=2, y=3)])
    assert read_rows(tmp_path/'rows.parquet') == [dict(x=1, y=None), dict(x=2, y=3)]
    with pytest.raises(UserError, match='make no Parquet table'): write_rows(tmp_path/'rows.parquet', [dict(x=1), dict(x='a')])

@pytest.mark.parametrize('line, content', [(b'{"x": NaN}', dict(x='NaN')), (b'{"x": "\\ud800"}', dict(x='\ud800'))])
def test_whatever_a_bad_row_holds_it_is_quarantined(tmp_path, line, content):
    (tmp_path/'rows.jsonl').write_bytes(line + b'\n')
    def refuse(row): raise ValueError          # without a word
    assert read_rows(tmp_path/'rows.jsonl', refuse, quarantine=tmp_path/'bad.jsonl') == []
    [bad] = read_rows(tmp_path/'bad.jsonl')
    assert (bad['reason'], bad['content']) == ('ValueError', content)

def test_a_log_whose_disk_takes_a_part_is_whole(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, 'write', lambda descriptor, lines: write(descriptor, lines[:5]))
    with open_log(tmp_path/'log.jsonl') as log: log.add(dict(x=1), dict(x='\ud800'))
    with open_log(tmp_path/'log.jsonl') as log: assert log.rows == [dict(x=1), dict(x='\ud800')]

def test_a_damaged_archive_is_named(tmp_path):
    (tmp_path/'rows.jsonl.gz').write_bytes(b'\x1f\x8b\x08\0\0\0\0\0\0\xff\xff\xff')      # a header, then no deflate stream
    with pytest.raises(UserError, match='damaged'): list(iter_file(tmp_path/'rows.jsonl.gz'))

@pytest.mark.parametrize('name,words', [('rows.csv', 'use .jsonl or .parquet'), ('none.jsonl', 'no such file'), ('broken.parquet', 'not a Parquet file')])
def test_unreadable_files(tmp_path, name, words):
    (tmp_path/'broken.parquet').write_bytes(b'PAR')
    with pytest.raises(UserError, match=words): read_rows(tmp_path/name)

def test_not_a_number_is_not_written(tmp_path):
    write_rows(tmp_path/'rows.jsonl', [dict(x=1)])
    with pytest.raises(ValueError): write_rows(tmp_path/'rows.jsonl', [dict(x=float('nan'))])
    assert read_rows(tmp_path/'rows.jsonl') == [dict(x=1)] and len(list(tmp_path.iterdir())) == 1

def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path/'file').write_text('')
    with pytest.raises(UserError, match='cannot be written'): write_rows(tmp_path/'file/rows.jsonl', [])

def test_content_hash_sees_names_and_contents(tmp_path):
    for folder, name, x in (('a', 'r', 1), ('b', 'r', 1), ('c', 's', 1), ('d', 'r', 2)): write_rows(tmp_path/folder/f'{name}.jsonl', [dict(x=x)])
    a, b, c, d = (content_hash(tmp_path/f) for f in 'abcd')
    assert a == b and len({a, c, d}) == 3
