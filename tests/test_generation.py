"Generation on models of several kinds: greedy decoding is the library's own, log-probabilities are those of one forward over the whole."
import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, LlamaConfig, MambaConfig, MistralConfig, Qwen3Config

from motif_repro.core.errors import UserError
from motif_repro.model.generation import SlotCache, Slots, encode_prompts, end_ids, evaluating, generate, sample
from motif_repro.model.motif import tiny_motif_config
from motif_repro.model.tokenizer import train_tokenizer

TOKENIZER = train_tokenizer(['Calculate 2 + 3.', 'What is 17 + 25 + 8?'])
PROMPTS = ['Calculate 2 + 3.', 'What is', 'What is 17 + 25 + 8 + 9 + 10 + 11?', '7', 'Calculate 1.']
SIZES = dict(vocab_size=len(TOKENIZER), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
CONFIGS = dict(motif=tiny_motif_config(len(TOKENIZER), hidden_size=32, num_layers=2), llama=LlamaConfig(**SIZES), qwen3=Qwen3Config(**SIZES, head_dim=16),
               mistral=MistralConfig(**SIZES, sliding_window=8),   # a window shorter than most of these texts
               gemma2=Gemma2Config(**SIZES, head_dim=16, sliding_window=8, attn_implementation='eager'),   # two kinds of layers, softcaps
               gpt2=GPT2Config(vocab_size=len(TOKENIZER), n_embd=32, n_layer=2, n_head=2, n_positions=48))   # learned positions: none to spare
ENDS = {TOKENIZER.eos_token_id, *range(50, 70)}


@pytest.fixture(scope='module', params=CONFIGS)
def model(request):
    "A model whose weights are large enough to make up its mind, and many of whose tokens are end tokens, so that texts do end."
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[request.param]).eval()
    for p in model.parameters():
        if p.dim() == 2: torch.nn.init.normal_(p, std=0.2)
    model.generation_config.eos_token_id = list(ENDS)
    return model

def one_forward(model, prompt, completion, temperature):
    ids = TOKENIZER(prompt).input_ids
    with torch.no_grad(): logits = model(torch.tensor([ids + completion.ids])).logits[0, len(ids) - 1:-1]
    return (logits/temperature).log_softmax(-1)[range(len(completion.ids)), completion.ids]


def test_greedy_is_the_librarys(model):
    inputs = TOKENIZER(PROMPTS, padding=True, padding_side='left', return_tensors='pt')
    ids = model.generate(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=24, do_sample=False,
                         pad_token_id=TOKENIZER.pad_token_id)
    for ours, theirs in zip(sample(model, TOKENIZER, PROMPTS, max_new_tokens=24, temperature=0), ids[:, inputs.input_ids.shape[1]:].tolist()):
        assert theirs[:len(ours[0].ids)] == ours[0].ids
        assert set(theirs[len(ours[0].ids):]) <= {TOKENIZER.pad_token_id}

@pytest.mark.parametrize('temperature', [1., 0.6])
def test_log_probabilities_are_those_of_one_forward(model, temperature):
    rows = sample(model, TOKENIZER, PROMPTS, num_samples=6, max_new_tokens=24, temperature=temperature, batch_size=20)
    for prompt, completions in zip(PROMPTS, rows):
        for c in completions: torch.testing.assert_close(torch.tensor(c.logps), one_forward(model, prompt, c, temperature), rtol=0, atol=1e-5)
    assert 0 < sum(c.finished for row in rows for c in row) < 6*len(PROMPTS), "both kinds must occur for this to be a test"

def test_a_completion_ends_at_its_first_end_token(model):
    for c in (c for row in sample(model, TOKENIZER, PROMPTS, num_samples=8, max_new_tokens=24) for c in row):
        ends = [i for i, token in enumerate(c.ids) if token in ENDS]
        assert ends == ([len(c.ids) - 1] if c.finished else [])
        assert len(c.logps) == len(c.ids) <= 24 and (c.finished or len(c.ids) == 24)
        assert c.text == TOKENIZER.decode(c.ids[:-1] if c.finished else c.ids)

def test_neither_batches_nor_other_prompts_matter(model):
    def ids(prompts, **settings):
        return [[c.ids for c in row] for row in sample(model, TOKENIZER, prompts, num_samples=4, max_new_tokens=16, **settings)]
    whole = ids(PROMPTS)
    for batch_size in (1, 3, 7, 19): assert ids(PROMPTS, batch_size=batch_size) == whole
    assert ids(PROMPTS[:2]) == whole[:2]

@pytest.mark.parametrize('num_slots, check_every', [(4, 1), (4, 5), (1, 3), (9, 8)])
def test_slots_are_refilled(model, num_slots, check_every):
    "More jobs than slots, and the end is noticed late: the same completions, and no slot stands idle while a job waits."
    prompts = encode_prompts(PROMPTS*4, TOKENIZER)
    uniform = torch.rand(20, 2, 16, generator=torch.Generator().manual_seed(3))
    def run(num_slots, check_every):
        with evaluating(model):
            slots = Slots(model, prompts, uniform, ends=end_ids(model, TOKENIZER), temperature=1., top_p=1., num_slots=num_slots, pad_id=0, check_every=check_every)
            stores, refill = [], slots.refill
            def watched():
                refill()
                assert None not in slots.jobs and len(slots.jobs) == min(num_slots, 40 - len(slots.done))
                assert all(job.first >= slots.cache.start for job in slots.jobs)
                stores.append(slots.cache.layers[0].keys.data_ptr())
            slots.refill = watched
            jobs = slots.run()
        return {(job.prompt, job.sample): job.ids for job in jobs}, stores
    ours, stores = run(num_slots, check_every)
    assert ours == run(40, 1)[0] and len(ours) == 40
    assert len(stores) > 40/num_slots/2 and len(set(stores)) <= 2      # many refills, one growth of the table at most

def test_the_table_is_written_in_place(model):
    "A long run with few columns: keys stay where they are in memory until the table has to grow, which it does by doubling."
    prompts = encode_prompts(PROMPTS[:2]*10, TOKENIZER)
    limit = 48 - max(map(len, prompts)) if model.config.model_type == 'gpt2' else 100
    with evaluating(model):
        slots = Slots(model, prompts, torch.rand(20, 1, limit), ends=[], temperature=1., top_p=1., num_slots=6, pad_id=0, check_every=1)
        slots.cache.capacity = 24
        capacities, places, step = [], [], slots.step
        def watched():
            step()
            capacities.append(slots.cache.capacity)
            places.append(slots.cache.layers[-1].keys.data_ptr())
        slots.step = watched
        assert {len(job.ids) for job in slots.run()} == {limit}
    growths = sorted(set(capacities))
    assert growths[0] == 24 and all(b <= 2*a for a, b in zip(growths, growths[1:])) and growths[-1] <= slots.cache.limit
    assert len(set(places)) <= len(growths) and len(capacities) > 3*limit    # columns are used again and again

def test_training_goes_on_after_sampling(model):
    model.train()
    generate(model, TOKENIZER, PROMPTS, max_new_tokens=2)
    assert model.training and torch.is_grad_enabled()
    model.eval()

def test_tokens_come_at_their_rate():
    "4,000 draws of a token against the distribution itself, by a chi-squared test."
    from scipy.stats import chisquare
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS['llama']).eval()
    torch.nn.init.normal_(model.lm_head.weight, std=0.3)
    [rows] = sample(model, TOKENIZER, PROMPTS[:1], num_samples=4000, max_new_tokens=1, batch_size=1000)
    expected = model(torch.tensor([TOKENIZER(PROMPTS[0]).input_ids])).logits[0, -1].softmax(-1).double()*4000
    counts = torch.tensor([c.ids[0] for c in rows]).bincount(minlength=len(expected)).double()
    often = expected > 20
    assert often.sum() > 30
    pool = lambda x: torch.cat([x[often], x[~often].sum()[None]]).detach().numpy()
    assert chisquare(pool(counts), pool(expected)/pool(expected).sum()*4000).pvalue > 1e-3

def test_layers_that_keep_something_else_are_refused():
    config = MambaConfig(vocab_size=len(TOKENIZER), hidden_size=16, num_hidden_layers=1)
    with pytest.raises(UserError, match="model_type 'mamba' has a layer that keeps a LinearAttentionLayer"): SlotCache(config, 2, 4, 8)

def test_what_comes_to_nothing_is_refused(model):
    with pytest.raises(UserError, match='prompt 1 has no tokens'): sample(model, TOKENIZER, ['7', ''])
    with pytest.raises(UserError, match='max_new_tokens=0'): sample(model, TOKENIZER, ['7'], max_new_tokens=0)
    with pytest.raises(UserError, match='batch_size=0'): sample(model, TOKENIZER, ['7'], batch_size=0)

@pytest.mark.parametrize('sampling', [dict(temperature=0), dict(), dict(top_p=0.9)])
def test_a_model_that_has_diverged_writes_nothing(sampling):
    model = AutoModelForCausalLM.from_config(CONFIGS['motif']).eval()
    torch.nn.init.constant_(model.lm_head.weight, float('nan'))
    with pytest.raises(UserError, match='logits are no numbers'): sample(model, TOKENIZER, PROMPTS, max_new_tokens=3, **sampling)

def test_no_prompts_no_completions(model): assert sample(model, TOKENIZER, []) == []
