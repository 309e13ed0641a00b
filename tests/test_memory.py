"The memory estimate: against torch's bookkeeping at many points, against DeepSpeed's real shards, and what it refuses."
from dataclasses import replace

import pytest
from transformers import LlamaConfig, Qwen2Config, Qwen3Config

from motif_repro.core.errors import UserError
from motif_repro.model.motif import motif_12_7b_config, tiny_motif_config
from motif_repro.training.memory import StepMemory, estimate, longest_context, shape_of, simulated_peak, simulated_peaks, step_peaks

SIZES = dict(num_hidden_layers=12, hidden_size=1024, intermediate_size=4096, num_attention_heads=16, num_key_value_heads=4, vocab_size=32_000)
CONFIGS = dict(motif=lambda: tiny_motif_config(32_000, hidden_size=1024, num_layers=12, num_groups=4, signals_per_noise=3, head_dim=64),
               llama=lambda: LlamaConfig(**SIZES), qwen2=lambda: Qwen2Config(**SIZES), qwen3=lambda: Qwen3Config(**SIZES, head_dim=128))
STEP = StepMemory(seq_len=8192, state_bytes=4)

total = lambda config, step: sum(estimate(config, step).values())


slow = lambda **changes: pytest.param(changes, marks=pytest.mark.slow)

@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('changes', [dict(checkpoint='full'), slow(itemsize=4, state_bytes=8, checkpoint='full', seq_len=32_768), slow(),
                                     slow(checkpoint='selective'), slow(checkpoint='full', offload='activations', loss='tiled', seq_len=65_536),
                                     slow(loss='naive', checkpoint='full', seq_len=2048), slow(seq_len=1_048_576, checkpoint='full')], ids=str)
def test_estimate_against_simulation(name, changes):
    config, step = CONFIGS[name](), replace(STEP, **changes)
    assert total(config, step) == pytest.approx(simulated_peak(config, step), rel=0.02)

def test_a_measured_step_is_the_simulated_one():
    step = StepMemory(seq_len=64, rows=2, itemsize=4, state_bytes=8, checkpoint='full')
    for make in (CONFIGS['motif'], CONFIGS['qwen3']):
        c = make().to_dict() | dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, vocab_size=500)
        config = type(make())(**{k: v for k, v in c.items() if k != 'layer_types'})
        assert step_peaks(config, step) == pytest.approx(step_peaks(config, step, simulate=False), rel=1e-6)

def test_extrapolation_is_what_all_layers_give():
    config, step = tiny_motif_config(32_000, hidden_size=1024, num_layers=7), replace(STEP, checkpoint='full')
    assert simulated_peaks(config, step) == pytest.approx(step_peaks(config, step), rel=1e-6)

def test_every_reduction_reduces_and_the_context_grows():
    config, step = motif_12_7b_config(), StepMemory(seq_len=65_536, loss='naive', gpus=8)
    sizes = [total(config, step)]
    for change in (dict(loss='fused'), dict(checkpoint='full'), dict(zero_stage=1), dict(zero_stage=2), dict(zero_stage=3), dict(sequence_parallel=8)):
        step = replace(step, **change)
        sizes.append(total(config, step))
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(sizes)
    longest = longest_context(config, step, 74)
    assert total(config, replace(step, seq_len=longest)) <= 74 < total(config, replace(step, seq_len=longest + 1024))
    assert longest_context(config, step, 1) == 0

def test_tied_embeddings_count_once():
    tied, untied = (shape_of(Qwen3Config(**SIZES, head_dim=64, tie_word_embeddings=tie)).params for tie in (True, False))
    assert untied - tied == 32_000*1024

@pytest.mark.parametrize('change, words', [(dict(checkpoint='ful'), "did you mean 'full'"), (dict(loss='fussed'), "did you mean 'fused'"),
                                           (dict(offload='optimiser'), "did you mean 'optimizer'"), (dict(zero_stage=4), 'zero_stage=4'),
                                           (dict(gpus=8, sequence_parallel=3), 'choose a divisor')])
def test_refusals(change, words):
    with pytest.raises(UserError, match=words): replace(STEP, **change)

def test_an_unknown_family_and_a_simulation_of_many_gpus_are_refused():
    from transformers import GPT2Config
    with pytest.raises(UserError, match="no memory formula for model_type 'gpt2'"): shape_of(GPT2Config())
    with pytest.raises(UserError, match='gpus=2: a simulation sees one process'): simulated_peak(CONFIGS['llama'](), replace(STEP, gpus=2))
