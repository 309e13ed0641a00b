"Adapters under the engine: what is trained, kept, resumed and merged, in SFT and in RL, for each family of models."
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tiny import tiny_job
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from motif_repro.core.errors import UserError
from motif_repro.model.loading import load_model, save_model
from motif_repro.rl.trainer import RLJob, run_rl
from motif_repro.tasks.math import draw_tasks
from motif_repro.tasks.schema import Verdict, write_tasks
from motif_repro.training.launchers import Cluster, run_on
from motif_repro.training.lora import add_adapters
from motif_repro.training.trainer import make_engine, run_job, start_process_group

pytestmark = pytest.mark.filterwarnings('ignore:.*is_gradient_checkpointing:FutureWarning')   # what peft's loading asks Transformers for
LORA = dict(lora_rank=4, lora_alpha=8., checkpoint_every=2)

def family_job(folder, family, **job):
    "The tiny job of the other tests, from a model of another family."
    job = tiny_job(folder, 32, **(LORA | dict(steps=5) | job))
    tokenizer = load_model(job.model)[1]
    sizes = dict(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                 num_key_value_heads=1, head_dim=16, eos_token_id=tokenizer.eos_token_id)
    torch.manual_seed(0)
    if family == 'llama': save_model(LlamaForCausalLM(LlamaConfig(**sizes)), tokenizer, folder/'start')
    if family == 'qwen': save_model(Qwen3ForCausalLM(Qwen3Config(**sizes, tie_word_embeddings=True)), tokenizer, folder/'start')
    return job

def weights(folder): return {name: tensor for file in folder.glob('*.safetensors') for name, tensor in load_file(file).items()}

@torch.no_grad()
def logits(model): return model(input_ids=torch.arange(40)[None]).logits

def check_outputs(out, start):
    "The adapter on the base gives what model/ gives, which is a plain model that differs from the base in its linear layers alone."
    merged, base = load_model(out/'model')[0], load_model(start)[0]
    before = logits(base)
    on_base = PeftModel.from_pretrained(base, out/'adapter')
    assert (logits(merged) - before).abs().max() > 1e-3
    torch.testing.assert_close(logits(on_base), logits(merged), atol=1e-5, rtol=0)
    old, new = weights(start), weights(out/'model')
    assert set(old) == set(new)
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {name for name in old if name.endswith('_proj.weight')}

@pytest.mark.parametrize('family', ['motif', 'llama', 'qwen'])
def test_sft_trains_adapters_resumes_and_merges(tmp_path, family):
    job = family_job(tmp_path, family)
    whole = run_job(job)
    assert whole[-1]['loss'] < whole[0]['loss']
    check_outputs(tmp_path/'whole', tmp_path/'start')
    broken = replace(job, out=str(tmp_path/'broken'))
    def stop(row):
        if row['step'] == 2: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): run_job(broken, stop)
    assert run_job(broken) == whole
    old, new = (weights(tmp_path/name/'model') for name in ('whole', 'broken'))
    assert all(torch.equal(old[name], new[name]) for name in old)

@pytest.mark.parametrize('zero_stage', [0, 2])
def test_only_adapters_have_states_and_lie_in_checkpoints(tmp_path, zero_stage):
    job = family_job(tmp_path, 'llama', zero_stage=zero_stage)
    run_job(job)
    model, _ = load_model(job.model)
    add_adapters(model, job.lora_rank, job.lora_alpha)
    num_adapters, num_all = sum(p.numel() for p in model.parameters() if p.requires_grad), sum(p.numel() for p in model.parameters())
    start_process_group()
    engine = make_engine(model.train(), job)
    groups = engine.optimizer.single_partition_of_fp32_groups if zero_stage else [p for group in engine.optimizer.param_groups for p in group['params']]
    assert sum(p.numel() for p in groups) == num_adapters < num_all/4
    engine.destroy()
    [states] = (tmp_path/'whole/checkpoints').glob('step*/*model_states.pt')
    assert sum(p.numel() for p in torch.load(states, weights_only=False)['module'].values()) == num_adapters

def test_a_bf16_checkpoint_is_trained_in_fp32_or_frozen(tmp_path):
    "Without fp32 weights somewhere, small updates would round to nothing."
    job = family_job(tmp_path, 'llama', steps=2)
    model, tokenizer = load_model(job.model)
    save_model(model.to(torch.bfloat16), tokenizer, job.model)
    run_job(job)
    assert {w.dtype for w in weights(tmp_path/'whole/model').values()} == {torch.bfloat16}
    assert {w.dtype for w in weights(tmp_path/'whole/adapter').values()} == {torch.float32}
    run_job(replace(job, lora_rank=0, out=str(tmp_path/'all')))
    assert {w.dtype for w in weights(tmp_path/'all/model').values()} == {torch.float32}

def test_muon_is_refused(tmp_path):
    with pytest.raises(UserError, match="optimizer='adamw'"): replace(family_job(tmp_path, 'motif'), optimizer='muon')

def even_lengths(tasks, responses):
    "Rewards without any skill: a right answer has an even number of characters."
    return [Verdict('correct' if len(response) % 2 == 0 else 'wrong') for response in responses]

def rl_job(folder, family, **more):
    job = family_job(folder, family)
    write_tasks(folder/'tasks.jsonl', draw_tasks('chain_sum', 2, 12, 'train'))
    return RLJob(model=job.model, tasks=str(folder/'tasks.jsonl'), out=str(folder/'rl'), steps=3, prompts_per_step=4, group_size=4, max_new_tokens=8,
                 learning_rate=1e-2, beta=0.1, min_probability=0., **(LORA | more))

@pytest.mark.parametrize('family', ['motif', 'qwen'])
def test_rl_with_adapters_takes_the_bare_weights_for_reference(tmp_path, family):
    "The same numbers as with a copy of the model it started from, and a divergence that begins at 0 and grows."
    job = rl_job(tmp_path, family)
    metrics = run_rl(job, verify_all=even_lengths)
    assert metrics[0]['ref_kl'] == pytest.approx(0, abs=1e-9) and metrics[-1]['ref_kl'] > 1e-6
    check_outputs(tmp_path/'rl', tmp_path/'start')
    copy = run_rl(replace(job, reference=job.model, out=str(tmp_path/'copy')), verify_all=even_lengths)
    for ours, theirs in zip(metrics, copy, strict=True):
        for name in ('loss', 'ref_kl', 'grad_norm', 'reward'): assert ours[name] == pytest.approx(theirs[name], abs=1e-6), name

@pytest.mark.slow
@pytest.mark.parametrize('zero_stage', [2, 3])
def test_two_processes_as_one(tmp_path, zero_stage):
    job = family_job(tmp_path, 'qwen')
    one, two = run_job(job), run_on(Cluster(launcher='torchrun', gpus_per_node=2), replace(job, zero_stage=zero_stage, out=str(tmp_path/'two')))
    for a, b in zip(one, two, strict=True): assert a['loss'] == pytest.approx(b['loss'], rel=1e-5)
    check_outputs(tmp_path/'two', tmp_path/'start')
    torch.testing.assert_close(logits(load_model(tmp_path/'two/model')[0]), logits(load_model(tmp_path/'whole/model')[0]), atol=1e-4, rtol=0)
