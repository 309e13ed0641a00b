"Rows and traces: nothing is lost without a word, nothing is half written."
import json

import pytest

from motif_repro.alignment.traces import read_traces
from motif_repro.core.errors import UserError
from motif_repro.core.rows import content_hash, read_rows, write_rows

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
