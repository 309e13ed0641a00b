"The trainer: killed, resumed, sharded or repeated, a job ends in the same numbers."
import os, signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from motif_repro.core.errors import UserError
from motif_repro.core.rows import content_hash
from motif_repro.model.loading import load_model, save_model
from motif_repro.training.launchers import Cluster, run_on
from motif_repro.training.trainer import head_is_linear, run_job
from tiny import tiny_job

PAIR = Cluster(launcher='torchrun', gpus_per_node=2)


@pytest.fixture(scope='module')
def job(tmp_path_factory):
    return tiny_job(tmp_path_factory.mktemp('trainer'), hidden_size=32, steps=16, checkpoint_every=3)

@pytest.fixture(scope='module')
def whole(job): return run_job(job)

def elsewhere(job, name, **changes): return replace(job, out=str(Path(job.out).with_name(name)), **changes)
def losses(metrics): return torch.tensor([row['loss'] for row in metrics])


def test_the_loss_falls_and_a_repetition_is_identical(job, whole):
    assert whole[-1]['loss'] < whole[0]['loss'] - 0.5
    again = elsewhere(job, 'again')
    assert run_job(again) == whole
    assert content_hash(Path(again.out)/'model/model.safetensors') == content_hash(Path(job.out)/'model/model.safetensors')

def test_a_run_after_the_process_group_has_ended(job, whole):
    dist.destroy_process_group()
    assert run_job(elsewhere(job, 'anew', steps=2)) == whole[:2]

def test_another_seed_reads_in_another_order(job, whole): assert run_job(elsewhere(job, 'seed', seed=1, steps=2)) != whole[:2]

@pytest.mark.slow   # test_layouts compares such layouts' gradients
@pytest.mark.parametrize('layout', [dict(zero_stage=2), dict(sequence_parallel=2, micro_rows=3, checkpoint_policy='full')], ids=['zero_2', 'shared_sequences'])
def test_two_processes_give_the_losses_of_one(job, whole, layout):
    two = run_on(PAIR, elsewhere(job, '_'.join(layout), **layout))
    assert [row['num_tokens'] for row in two] == [row['num_tokens'] for row in whole]
    torch.testing.assert_close(losses(two), losses(whole), rtol=0, atol=2e-5)

@pytest.mark.parametrize('stage', [1, 3])
def test_zero_stages_give_the_same_losses_and_a_whole_model(job, whole, stage):
    sharded = elsewhere(job, f'zero{stage}', zero_stage=stage, steps=4)
    torch.testing.assert_close(losses(run_job(sharded)), losses(run_job(elsewhere(job, 'zero0', steps=4))), rtol=0, atol=2e-5)
    assert load_model(Path(sharded.out)/'model')[0].num_parameters() == load_model(job.model)[0].num_parameters()

def test_bf16_follows_fp32_where_fp32_weights_are_kept(job, whole):
    bf16 = run_job(elsewhere(job, 'bf16', bf16=True, zero_stage=1))
    torch.testing.assert_close(losses(bf16), losses(whole), rtol=0, atol=0.02)
    with pytest.raises(UserError, match='bf16 with zero_stage=0 keeps no fp32 weights'): run_job(elsewhere(job, 'bf16-0', bf16=True))

def test_told_to_end_it_saves_and_goes_on_in_more_processes(job, whole):
    moved = elsewhere(job, 'moved', zero_stage=1)
    def tell(row):
        if row['step'] == 6: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit, match='143'): run_job(moved, tell)
    assert (Path(moved.out)/'checkpoints/latest').read_text() == 'step000007', "it lost steps, or went on"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    two = run_on(PAIR, moved)
    torch.testing.assert_close(losses(two), losses(whole), rtol=0, atol=2e-5)
    assert {p.name for p in (Path(moved.out)/'checkpoints').glob('step*')} == {'step000016'}, "a converted checkpoint was left behind"

def test_muon_learns_and_resumes_to_the_digit(job, whole):
    muon = run_job(elsewhere(job, 'muon', optimizer='muon', schedule='wsd'))
    assert muon[-1]['loss'] < whole[0]['loss'] - 0.5 and muon != whole
    def stop(row):
        if row['step'] == 7: raise KeyboardInterrupt
    again = elsewhere(job, 'muon_again', optimizer='muon', schedule='wsd')
    with pytest.raises(KeyboardInterrupt): run_job(again, stop)
    assert run_job(again) == muon
    with pytest.raises(UserError, match='Muon needs whole matrices'): run_job(elsewhere(job, 'muon_1', optimizer='muon', zero_stage=1))

@pytest.mark.parametrize('zero_stage', [0, 3])
def test_activation_checkpointing_gives_the_same_training(job, whole, zero_stage):
    full = run_job(elsewhere(job, f'full{zero_stage}', checkpoint_policy='full', zero_stage=zero_stage, steps=4))
    plain = run_job(elsewhere(job, f'plain{zero_stage}', zero_stage=zero_stage, steps=4))
    for name in ('loss', 'grad_norm'): assert [row[name] for row in full] == pytest.approx([row[name] for row in plain], rel=1e-5)

def test_a_head_that_does_more_than_multiply_keeps_its_logits():
    "Gemma-2 bends its logits; Qwen doesn't."
    from transformers import Gemma2Config, Gemma2ForCausalLM, Qwen2Config, Qwen2ForCausalLM
    sizes = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16)
    bent = Gemma2ForCausalLM(Gemma2Config(**sizes, final_logit_softcapping=0.01, pad_token_id=0, bos_token_id=1, eos_token_id=2))
    assert not head_is_linear(bent) and head_is_linear(Qwen2ForCausalLM(Qwen2Config(**sizes)))

def test_a_loss_that_is_no_number_stops_the_run(job, tmp_path):
    model, tokenizer = load_model(job.model)
    torch.nn.init.constant_(model.lm_head.weight, float('nan'))
    save_model(model, tokenizer, tmp_path/'nan')
    with pytest.raises(UserError, match='step 0: the loss is nan; lower learning_rate'): run_job(elsewhere(job, 'nan', model=str(tmp_path/'nan')))

