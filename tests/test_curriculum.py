"The length curriculum: budgets to the token, RoPE's base through a training job, refusals, and the problems that need the length."
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

from motif_repro.core.errors import UserError
from motif_repro.model.loading import load_model
from motif_repro.model.rope import rope_base, set_rope_base
from motif_repro.tasks.math import JUNK
from motif_repro.tasks.retrieval import draw_aggregation, draw_retrieval, recall, running_sum
from motif_repro.tasks.verify import verify
from motif_repro.training.curriculum import Stage, bolted_on, curriculum_steps, designed_in
from motif_repro.training.packing import Example
from motif_repro.training.trainer import run_job
from tiny import tiny_job

BASES = dict(short_base=1e4, rope_base=4e4)
POOL = [Example([7]*n, 2) for n in range(5, 97)]

def curricula(tokens:int):
    return [designed_in(tokens, 96, rope_base=4e4)] + [bolted_on(tokens, 96, late=late, short_tokens=24, **BASES) for late in (0.05, 0.1, 0.2)]


@pytest.mark.parametrize('tokens', [997, 10_000])
@pytest.mark.parametrize('seed', [0, 1])
def test_every_curriculum_reads_its_budget_to_the_token(tokens, seed):
    for stages in curricula(tokens):
        read = {}
        for stage, batch in curriculum_steps(POOL, stages, seq_len=96, rows_per_step=3, pad_id=0, seed=seed):
            read[id(stage)] = read.get(id(stage), 0) + (batch.input_ids != 0).sum().item()
            ends = torch.cat([batch.position_ids[:, 1:] == 0, torch.ones(len(batch.position_ids), 1, dtype=torch.bool)], 1)
            assert batch.position_ids[ends & (batch.input_ids != 0)].max() < stage.max_tokens   # no example beyond the stage's longest
        assert list(read.values()) == [stage.tokens for stage in stages] and sum(read.values()) == tokens

def test_steps_depend_on_the_seed_alone():
    def ids(seed): return torch.cat([b.position_ids for _, b in curriculum_steps(POOL, curricula(5000)[2], seq_len=96, rows_per_step=3, pad_id=0, seed=seed)])
    assert ids(0).equal(ids(0)) and not (ids(0).shape == ids(1).shape and ids(0).equal(ids(1)))

@pytest.mark.parametrize('wrong, said', [
    (lambda: Stage(tokens=0, max_tokens=8, rope_base=1e4), 'a stage of 0 tokens'),
    (lambda: Stage(tokens=9, max_tokens=8, short_tokens=8, rope_base=1e4), 'short_tokens=8 must lie in'),
    (lambda: Stage(tokens=9, max_tokens=8, short_tokens=4, replay=1., rope_base=1e4), 'replay=1.0 must lie in'),
    (lambda: Stage(tokens=9, max_tokens=8, replay=0.5, rope_base=1e4), 'needs short_tokens'),
    (lambda: bolted_on(100, 96, late=0, short_tokens=24, **BASES), 'late=0 must lie between'),
    (lambda: bolted_on(100, 96, late=0.1, short_tokens=96, **BASES), 'short_tokens=96 must lie in'),
    (lambda: bolted_on(4, 96, late=0.05, short_tokens=24, **BASES), 'a stage of 0 tokens'),
    (lambda: designed_in(100, 96, rope_base=1e4, caps=(0.5, 1), shares=(1,)), '2 caps and 1 shares'),
    (lambda: designed_in(100, 96, rope_base=1e4, shares=(0.4, 0.4, 0.4)), 'add up to 1'),
    (lambda: curriculum_steps(POOL, [], seq_len=96, rows_per_step=3, pad_id=0), 'has no stage'),
    (lambda: curriculum_steps(POOL, curricula(5000)[2][::-1], seq_len=96, rows_per_step=3, pad_id=0), 'in order of length'),
    (lambda: curriculum_steps(POOL, curricula(5000)[2], seq_len=64, rows_per_step=3, pad_id=0), 'seq_len=64 is shorter'),
    (lambda: curriculum_steps(POOL[40:], curricula(5000)[2], seq_len=96, rows_per_step=3, pad_id=0), 'no example for a stage of max_tokens=24'),
])
def test_what_is_no_curriculum_is_refused(wrong, said):
    with pytest.raises(UserError, match=said): wrong()


SIZES = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8)

def test_the_base_of_another_family_is_what_its_config_says_when_it_is_loaded(tmp_path):
    torch.manual_seed(0)
    model, ids = Qwen3ForCausalLM(Qwen3Config(**SIZES, max_position_embeddings=64, initializer_range=0.3)).eval(), torch.arange(40)[None]
    before = model(ids).logits
    set_rope_base(model, 3e5, max_tokens=256)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert (rope_base(loaded), loaded.config.max_position_embeddings) == (3e5, 256)
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits)
    assert (model(ids).logits - before).abs().max() > 1e-2

@pytest.mark.parametrize('model', [lambda: GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=16)),
                                   lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SIZES))], ids=['no_rotation', 'one_base_a_kind_of_layer'])
def test_models_without_one_base_are_refused(model):
    with pytest.raises(UserError, match='its config has no single rope_theta'): set_rope_base(model(), 1e6)

def test_two_stages_of_sft_carry_the_base(tmp_path):
    first = tiny_job(tmp_path, hidden_size=16, steps=2, checkpoint_every=2)
    second = replace(first, model=str(tmp_path/'whole/model'), out=str(tmp_path/'longer'), seq_len=2048, rows_per_step=1, rope_base=5e5)
    for job in (first, second): run_job(job)
    configs = [AutoConfig.from_pretrained(Path(job.out)/'model') for job in (first, second)]
    assert [c.rope_parameters['rope_theta'] for c in configs] == [1e4, 5e5]
    assert [c.max_position_embeddings for c in configs] == [1024, 2048]
    assert rope_base(load_model(Path(second.out)/'model')[0]) == 5e5
    with pytest.raises(UserError, match='RoPE base 0.5 must be above 1'): run_job(replace(second, out=str(tmp_path/'wrong'), rope_base=0.5))


TASKS = dict(one=(lambda n, num, split, seed=0: draw_retrieval(n, num, split, seed), recall), two=(lambda n, num, split, seed=0: draw_retrieval(n, num, split, seed, num_asked=2), recall),
             aggregation=(draw_aggregation, running_sum))

def answer_of(question:str)->str:
    "What a reader of the question alone answers."
    *lines, last = question.splitlines()
    value = dict(line.split() for line in lines)
    if last == 'sum<5?': return str(sum(int(v) for v in value.values() if int(v) < 5))
    found = [value[key] for key in last.split()[1:]]
    return found[0] if len(found) == 1 else f"({', '.join(found)})"

@pytest.mark.parametrize('kind', TASKS)
def test_solutions_are_right_and_junk_earns_nothing(kind):
    draw, think = TASKS[kind]
    for n in (2, 9, 40):
        for task in draw(n, 10, 'test'):
            assert task.answer == answer_of(task.question)
            assert verify(task, f'<think>{think(task)}</think>{task.answer}').verdict == 'correct'
            wrong = [f'<think>{think(task)}</think>', think(task).splitlines()[0], f'{task.answer} or 3', f'1{task.answer}', task.question, *(j for j in JUNK if j != task.answer)]
            assert [junk for junk in wrong if verify(task, junk).reward] == []

@pytest.mark.parametrize('kind', TASKS)
def test_no_list_is_on_both_sides(kind):
    draw, _ = TASKS[kind]
    train, test = ({t.question for seed in range(3) for n in (2, 3, 12) for t in draw(n, 100, split, seed)} for split in ('train', 'test'))
    assert train and test and not train & test

def test_the_thought_marks_what_is_asked_for_and_stops_there():
    for task in draw_retrieval(9, 20, 'train', num_asked=4):
        lines = recall(task).splitlines()
        assert [line[0] for line in lines if '*' in line] == task.question.splitlines()[-1].split()[1:] and '*' in lines[-1]
        assert [line.replace(' *', '') for line in lines] == task.question.splitlines()[:len(lines)]

def test_lists_ask_for_what_they_hold():
    with pytest.raises(UserError, match='num_asked=3 must lie in'): draw_retrieval(2, 1, 'train', num_asked=3)
    with pytest.raises(UserError, match='num_pairs=1: a sum needs at least 2'): draw_aggregation(1, 1, 'train')
    with pytest.raises(UserError, match='num_pairs=53'): draw_aggregation(53, 1, 'train')
