"lm-evaluation-harness on a tiny model, with tasks of its own, offline; where the extra is installed."
import json, sys

import pytest
import torch

from motif_repro.core.rows import read_rows, write_rows
from motif_repro.model.loading import save_model
from motif_repro.model.motif import MotifForCausalLM, tiny_motif_config
from motif_repro.model.tokenizer import train_tokenizer
from motif_repro.pipeline.cli import main

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{question}}}}"
{rest}
metadata: {{version: 1.0}}
"""
KINDS = dict(local_sums=('generate_until', 'doc_to_target: "{{answer}}"\ngeneration_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}\n'
                         'metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]'),
             local_choice=('multiple_choice', 'doc_to_choice: ["3", "5"]\ndoc_to_target: "{{label}}"\nmetric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]'))

def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, 'argv', ['motif-repro', *map(str, arguments)])
    with pytest.raises(SystemExit) as end: main()
    return end.value.code or 0, capsys.readouterr()

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('harness')
    tokenizer = train_tokenizer(['Calculate 2 + 3.']*10)
    torch.manual_seed(0)
    save_model(MotifForCausalLM(tiny_motif_config(len(tokenizer), hidden_size=32, num_layers=2)), tokenizer, folder/'model')
    write_rows(folder/'sums.jsonl', [dict(question=f'{a} + {b} =', answer=str(a + b), label=int(a + b == 5)) for a, b in ((1, 2), (2, 3), (4, 1), (3, 0))])
    (folder/'tasks').mkdir()
    for name, (kind, rest) in KINDS.items(): (folder/f'tasks/{name}.yaml').write_text(TASK.format(name=name, kind=kind, rest=rest, file=folder/'sums.jsonl'))
    return folder

def test_the_command(folder, monkeypatch, capsys):
    "Scores, rows that can be compared, and a second start that asks nothing."
    pytest.importorskip('lm_eval')
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    arguments = ('evaluate', '--model', folder/'model', '--include-path', folder/'tasks', '--out', folder/'out')
    code, said = run(monkeypatch, capsys, *arguments, '--suite', 'lm-eval:local_sums,local_choice')
    assert code == 0, said.err
    summary, rows = json.loads((folder/'out/summary.json').read_text()), read_rows(folder/'out/rows.jsonl')
    scores = {m['task']: m['value'] for m in summary['metrics'] if m['metric'] in ('exact_match', 'acc')}
    for name in KINDS: assert scores[name] == pytest.approx(sum(row['num_correct'] for row in rows if row['source'] == name)/4) == summary['by_subject'][name]['pass_at_1']['value']
    assert len(rows) == 8 and '<|user|>1 + 2 =<|end|><|assistant|>' in {row['question'] for row in rows} and 'pass@1' in said.out
    written = (folder/'out/summary.json').read_bytes()
    assert run(monkeypatch, capsys, *arguments, '--suite', 'lm-eval:local_sums,local_choice')[0] == 0 and (folder/'out/summary.json').read_bytes() == written
    code, said = run(monkeypatch, capsys, 'compare', folder/'out', folder/'out', '--out', folder/'compared')
    assert code == 0 and 'B − A = +0.0 points' in said.out
    code, said = run(monkeypatch, capsys, *arguments, '--suite', 'lm-eval:local_sums')
    assert code == 2 and 'holds answers sampled with suite=' in said.err

def test_unknown_tasks_and_folders(folder, monkeypatch, capsys):
    pytest.importorskip('lm_eval')
    code, said = run(monkeypatch, capsys, 'evaluate', '--model', folder/'model', '--suite', 'lm-eval:helaswag', '--out', folder/'none')
    assert code == 2 and "did you mean 'hellaswag'?" in said.err
    code, said = run(monkeypatch, capsys, 'evaluate', '--model', folder/'model', '--suite', 'lm-eval:x', '--include-path', folder/'nowhere')
    assert code == 2 and 'no such folder' in said.err

def test_without_the_harness(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'lm_eval', None)
    code, said = run(monkeypatch, capsys, 'evaluate', '--model', folder/'model', '--suite', 'lm-eval:hellaswag', '--out', folder/'none')
    assert code == 2 and "pip install --constraint constraints.txt -e '.[harness]'" in said.err and not (folder/'none').exists()
