"Generation on models of several kinds: greedy decoding is the library's own, log-probabilities are those of one forward over the whole."
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen3Config

from motif_repro.model.generation import generate, sample
from motif_repro.model.motif import tiny_motif_config
from motif_repro.model.tokenizer import train_tokenizer

TOKENIZER = train_tokenizer(['Calculate 2 + 3.', 'What is 17 + 25 + 8?'])
PROMPTS = ['Calculate 2 + 3.', 'What is', 'What is 17 + 25 + 8 + 9 + 10 + 11?', '7', 'Calculate 1.']
SIZES = dict(vocab_size=len(TOKENIZER), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
CONFIGS = dict(motif=tiny_motif_config(len(TOKENIZER), hidden_size=32, num_layers=2), llama=LlamaConfig(**SIZES), qwen3=Qwen3Config(**SIZES, head_dim=16),
               mistral=MistralConfig(**SIZES, sliding_window=8))   # a window shorter than most of these texts
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
    for batch_size in (3, 7): assert ids(PROMPTS, batch_size=batch_size) == whole
    assert ids(PROMPTS[:2]) == whole[:2]

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

def test_no_prompts_no_completions(model): assert sample(model, TOKENIZER, []) == []
