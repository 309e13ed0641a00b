"What holds on a CUDA device too: `make test-gpu`."
from dataclasses import replace

import pytest
import torch

from motif_repro.model.generation import chat_prompt, generate
from motif_repro.model.loading import load_model
from motif_repro.training.trainer import run_job
from tiny import tiny_job

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')]


@pytest.fixture(scope='module')
def job(tmp_path_factory):
    return tiny_job(tmp_path_factory.mktemp('gpu'), hidden_size=64, steps=8, checkpoint_every=8)

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
