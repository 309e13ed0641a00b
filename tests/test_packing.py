"Packing: every token once, no neighbour seen, no state."
import pytest
import torch

from motif_repro.core.errors import UserError
from motif_repro.training.packing import IGNORE, Example, PackedBatches, lay_out, pack_best_fit


@pytest.mark.parametrize('lengths,capacity', [([], 8), ([8], 8), ([8, 8], 8), ([1]*20, 8), ([5, 3, 5, 3], 8), ([7, 2, 6, 1, 1], 8)])
def test_every_example_once_and_no_row_too_long(lengths, capacity):
    rows = pack_best_fit(lengths, capacity)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= capacity for row in rows)

def test_learned_tokens_are_the_completions_each_once_an_epoch():
    examples = [Example(list(range(100*i, 100*i + 3 + i % 5)), num_prompt=i % 3) for i in range(1, 40)]
    batches = PackedBatches(examples, seq_len=16, rows_per_step=1, pad_id=0)
    epoch = [batches[step] for step in range(len(batches.epoch(0)))]
    learned = sorted(t for b in epoch for t in b.labels[b.labels != IGNORE].tolist())
    assert learned == sorted(t for e in examples for t in e.ids[max(e.num_prompt, 1):])
    for b in epoch:   # a label is always the token that follows in the same document
        follows = torch.roll(b.input_ids, -1, 1)
        inside = torch.roll(b.position_ids, -1, 1) == b.position_ids + 1
        assert ((b.labels == IGNORE) | ((b.labels == follows) & inside)).all()

def test_a_step_depends_on_seed_and_number_alone():
    examples = [Example(list(range(1, 2 + n % 7))) for n in range(50)]
    make = lambda seed=0: PackedBatches(examples, seq_len=16, rows_per_step=3, pad_id=0, seed=seed)
    walked = make()
    for step in range(40): last = walked[step]
    assert torch.equal(make()[39].input_ids, last.input_ids)
    assert not torch.equal(make(1)[39].input_ids, last.input_ids)

def test_a_row_of_one_document_and_padding():
    batch = lay_out([[Example([5])], [Example([1, 2], num_prompt=2)]], seq_len=3, pad_id=9)
    assert (batch.labels == IGNORE).all()   # a single token and a mere prompt teach nothing
    assert batch.input_ids.tolist() == [[5, 9, 9], [1, 2, 9]]

def test_an_example_may_fill_its_row():
    batch = PackedBatches([Example(list(range(8)))], seq_len=8, rows_per_step=1, pad_id=0)[0]
    assert batch.input_ids.tolist() == [list(range(8))]

def test_refusals():
    with pytest.raises(UserError, match='nothing to train on'): PackedBatches([], seq_len=8, rows_per_step=1, pad_id=0)
    with pytest.raises(UserError, match='seq_len=8 is shorter than the longest example, 9 tokens; raise seq_len'):
        PackedBatches([Example([1]*9)], seq_len=8, rows_per_step=1, pad_id=0)
