"What holds on a CUDA device too: `make test-gpu`."
from dataclasses import asdict, replace

import pytest
import torch

from motif_repro.alignment.teachers import solve
from motif_repro.core.rows import write_rows
from motif_repro.model.generation import chat_prompt, generate
from motif_repro.model.loading import load_model, save_model
from motif_repro.model.motif import MotifForCausalLM, tiny_motif_config
from motif_repro.model.tokenizer import train_tokenizer
from motif_repro.tasks.math import draw_tasks
from motif_repro.training.trainer import TrainJob, run_job

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')]


@pytest.fixture(scope='module')
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp('gpu')
    traces = [solve(task, 'stepwise') for task in draw_tasks('chain_sum', 3, 64, 'train')]
    write_rows(folder/'traces.jsonl', [asdict(t) for t in traces])
    tokenizer = train_tokenizer([text for t in traces for text in (t.question, t.response)])
    torch.manual_seed(0)
    save_model(MotifForCausalLM(tiny_motif_config(len(tokenizer), hidden_size=64, num_layers=2)), tokenizer, folder/'start')
    return TrainJob(model=str(folder/'start'), traces=str(folder/'traces.jsonl'), out=str(folder/'fp32'), steps=8, seq_len=128, rows_per_step=4,
                    learning_rate=3e-3, checkpoint_every=8)

def test_logits_are_those_of_the_cpu(job):
    model, tokenizer = load_model(job.model)
    ids = tokenizer('Calculate 1 + 2 - 3.', return_tensors='pt').input_ids
    expected = model(ids).logits
    torch.testing.assert_close(model.cuda()(ids.cuda()).logits.cpu(), expected, rtol=1e-3, atol=1e-3)

def test_greedy_answers_are_those_of_the_cpu(job):
    model, tokenizer = load_model(job.model)
    prompts = [chat_prompt(q, tokenizer) for q in ('Calculate 1 + 2.', 'Calculate 1 + 2 - 3 + 4.')]
    here = generate(model, tokenizer, prompts, temperature=0, max_new_tokens=8)
    assert generate(model.cuda(), tokenizer, prompts, temperature=0, max_new_tokens=8) == here

@pytest.mark.parametrize('zero_stage', [1, 2])
def test_bf16_training_follows_fp32(job, zero_stage):
    losses = [[row['loss'] for row in run_job(replace(job, out=f'{job.out}-{zero_stage}-{bf16}', bf16=bf16, zero_stage=zero_stage))] for bf16 in (False, True)]
    torch.testing.assert_close(torch.tensor(losses[1]), torch.tensor(losses[0]), rtol=0.02, atol=0.02)
