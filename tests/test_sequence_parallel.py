"Sequence parallelism: no token twice, no gradient lost where groups are divided, and nothing that would hang or be wrong is begun."
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from motif_repro.core.errors import UserError
from motif_repro.kernels.differential_attention import differential_attention
from motif_repro.model.motif import MotifForCausalLM, tiny_motif_config
from motif_repro.training import launchers, sequence_parallel, trainer
from motif_repro.training.packing import Example, lay_out
from motif_repro.training.sequence_parallel import check_sequence_parallel, divide_groups, documents, own_part, possible_degrees, set_sequence_parallel
from tiny import tiny_job


@pytest.fixture(scope='module')
def job(tmp_path_factory): return tiny_job(tmp_path_factory.mktemp('shared'), hidden_size=32, steps=1)

def a_batch(rows=8, seq_len=16):
    lengths = [[5, 7, 4], [16], [1, 1, 14], [9]]
    return lay_out([[Example(list(range(100*r + 20*i, 100*r + 20*i + n))) for i, n in enumerate(lengths[r % 4])] for r in range(rows)], seq_len, pad_id=0)

@pytest.mark.parametrize('world,degree', [(1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 1), (8, 4), (16, 16)])
def test_every_token_has_one_process(world, degree):
    batch = a_batch()
    parts = [own_part(batch, rank, world, degree) for rank in range(world)]
    for name in ('input_ids', 'position_ids', 'labels'):
        rows = [torch.cat([getattr(part, name) for part in parts[g:g + degree]], dim=1) for g in range(0, world, degree)]   # of each group
        whole = torch.stack(rows, dim=1).flatten(0, 1)
        assert torch.equal(whole, getattr(batch, name)), name

def test_documents_of_all_kinds():
    assert documents(a_batch(4).position_ids) == [[(0, 5), (5, 12), (12, 16)], [(0, 16)], [(0, 1), (1, 2), (2, 16)], [(0, 9), (9, 16)]]
    assert documents(torch.tensor([[7, 8, 9]])) == [[(0, 3)]], "a row that begins in the middle of a document"

@pytest.mark.parametrize('groups,signal,parts', [(1, 4, 4), (2, 4, 2), (3, 2, 2), (2, 6, 3)])
def test_divided_groups_keep_their_gradients(groups, signal, parts):
    torch.manual_seed(0)
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 7, groups, signal + 1, 4), (2, groups, 7, 8), (2, groups, 7, 8), ())]
    weight = torch.randn(2, 7, groups*signal, 8, dtype=torch.float64)
    def gradients(parts):
        q, k, v, lam = inputs
        return torch.autograd.grad((differential_attention(*divide_groups(q, k, v, parts), lam).flatten(2, 3)*weight).sum(), inputs)
    for found, expected in zip(gradients(parts), gradients(1)): torch.testing.assert_close(found, expected)

def test_degrees_of_common_models():
    llama = lambda heads, kv: LlamaConfig(hidden_size=64*heads, num_attention_heads=heads, num_key_value_heads=kv)
    assert possible_degrees(llama(32, 8)) == [1, 2, 4, 8, 16, 32]
    assert possible_degrees(llama(28, 4)) == [1, 2, 4, 28]
    assert possible_degrees(llama(8, 1)) == [1, 2, 4, 8]
    assert possible_degrees(tiny_motif_config(64, head_dim=8, num_groups=3, signals_per_noise=4)) == [1, 3, 6, 12]

def test_layers_that_see_a_window_are_refused():
    windowed = Qwen2Config(use_sliding_window=True, sliding_window=64, max_window_layers=2)
    with pytest.raises(UserError, match='see only a window'): check_sequence_parallel(windowed, 2, num_processes=2, seq_len=64)
    check_sequence_parallel(Qwen2Config(), 2, num_processes=2, seq_len=64)
    check_sequence_parallel(windowed, 1, num_processes=2, seq_len=64)

def test_attention_that_needs_a_mask_is_refused():
    sizes = dict(vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2)
    model = LlamaForCausalLM._from_config(LlamaConfig(**sizes), attn_implementation='eager')
    with pytest.raises(UserError, match="attention by 'eager' is causal only with a mask"): set_sequence_parallel(model, 2)

@pytest.mark.parametrize('kind', ['llama', 'motif'])
def test_flash_attention_is_called_by_its_name(kind, monkeypatch):
    "Transformers loads its kernel by the name in the config."
    names = []
    def flash(module, *args, **kwargs):
        names.append(module.config._attn_implementation)
        return sdpa_attention_forward(module, *args, **kwargs)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, 'flash_attention_2', flash)
    monkeypatch.setattr(sequence_parallel, 'sequence_group', lambda degree: dist.group.WORLD)   # of this process alone
    torch.manual_seed(0)
    if kind == 'motif': model = MotifForCausalLM(tiny_motif_config(64))
    else: model = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2))
    tokens = torch.randint(64, (1, 12))
    model.config._attn_implementation = 'sdpa'
    expected = model(tokens, use_cache=False).logits
    model.config._attn_implementation = 'flash_attention_2'
    trainer.start_process_group()
    set_sequence_parallel(model, 2)
    found = model(tokens, position_ids=torch.arange(12)[None], use_cache=False).logits
    torch.testing.assert_close(found, expected)
    assert set(names) == {'flash_attention_2'} and model.config._attn_implementation == 'ulysses2_flash_attention_2'

@pytest.mark.parametrize('change,said', [
    (dict(sequence_parallel=3), r'sequence_parallel=3: the heads of this motif can be spread over 1, 2, 4 processes'),
    (dict(sequence_parallel=4, seq_len=126), r'seq_len=126 can.t be cut into 4 equal parts; try 128'),
    (dict(sequence_parallel=2, rows_per_step=3), r'rows_per_step=3 can.t be spread over 2 groups of 2 processes; try 4'),
    (dict(rows_per_step=6), r'rows_per_step=6 can.t be spread over 4 processes; try 8')])
def test_nothing_starts_that_would_hang(job, change, said, monkeypatch):
    def started(*args, **kwargs): raise AssertionError("it has started")
    monkeypatch.setattr(launchers.subprocess, 'run', started)
    with pytest.raises(UserError, match=said): launchers.run_on(launchers.Cluster(launcher='torchrun', gpus_per_node=4), replace(job, **change))
    monkeypatch.setattr(trainer, 'start_process_group', started)   # and the same where a cluster's launcher has started us
    monkeypatch.setattr(trainer.dist, 'is_initialized', lambda: False)
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
    monkeypatch.setenv('WORLD_SIZE', '4')
    with pytest.raises(UserError, match=said): trainer.run_job(replace(job, **change))

def test_a_model_with_an_attention_of_its_own_is_refused():
    class Closed(LlamaForCausalLM): _supports_attention_backend = False
    sizes = dict(vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2)
    with pytest.raises(UserError, match="Closed doesn't take its attention from Transformers' table"): set_sequence_parallel(Closed(LlamaConfig(**sizes)), 2)
