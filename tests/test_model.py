"What the model notebooks would bore a reader with: a literal transcription of the equations, grids, and broken checkpoints."
import math
import shutil

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, DynamicCache, LlamaConfig, LlamaForCausalLM, T5Config

from motif_repro.core.errors import UserError
from motif_repro.kernels.polynorm import polynorm, polynorm_reference
from motif_repro.model import loading
from motif_repro.model.loading import load_model, save_model
from motif_repro.model.motif import (MotifConfig, MotifForCausalLM, MotifModel, count_parameters, motif_12_7b_config,
                                     tiny_motif_config)
from motif_repro.model.rope import rope_base_for
from motif_repro.model.tokenizer import train_tokenizer

VOCAB = 64

def tiny(**kwargs):
    "A small model whose λ, norms and polynomials are all away from their initial values, so that none of them can be forgotten unnoticed."
    torch.manual_seed(0)
    model = MotifForCausalLM(tiny_motif_config(VOCAB, **dict(hidden_size=32, num_layers=3) | kwargs)).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1: p.add_(0.3*torch.randn_like(p))
            else: p.mul_(5)
    return model

@pytest.fixture(scope='module')
def model(): return tiny()

def random_ids(*shape, seed=1): return torch.randint(VOCAB, shape, generator=torch.Generator().manual_seed(seed))

def assert_close(a, b, atol=2e-5): torch.testing.assert_close(a, b, atol=atol, rtol=1e-5)

# PolyNorm

def outputs_and_gradients(fn, inputs, upstream):
    inputs = [t.detach().clone().requires_grad_() for t in inputs]
    out = fn(*inputs)
    return [out, *torch.autograd.grad(out, inputs, upstream.to(out.dtype))]

@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('shape', [(1, 1), (7, 5), (2, 3, 47), (4, 256)])
@pytest.mark.parametrize('scale', [1e-3, 1., 30.])
def test_polynorm_is_as_near_the_truth_as_autograd(shape, dtype, scale):
    torch.manual_seed(0)
    inputs = [scale*torch.randn(shape), torch.randn(3), torch.randn(1)]
    inputs, upstream = [t.to(dtype) for t in inputs], torch.randn(shape)
    truth = outputs_and_gradients(polynorm_reference, [t.double() for t in inputs], upstream.to(dtype))
    plain, ours = (outputs_and_gradients(fn, inputs, upstream) for fn in (polynorm_reference, polynorm))
    for t, p, o in zip(truth, plain, ours):
        error, allowed = ((x.double() - t).abs().max() for x in (o, p))
        assert o.dtype == dtype
        assert error <= 3*allowed + 16*torch.finfo(dtype).eps*t.abs().max()

def test_polynorm_of_zeros_and_of_a_strided_gradient():
    x, weight, bias = torch.zeros(2, 8, requires_grad=True), torch.ones(3), torch.full((1,), 0.5)
    out = polynorm(x, weight, bias)
    assert (out == 0.5).all()
    out.sum().backward()            # the gradient arrives as an expanded scalar
    assert_close(x.grad, torch.full((2, 8), 1e3))   # only the linear term has a slope at 0: ε^(-1/2)

# The equations, written out once more: no reshape, no kernel, one head, one token, one number at a time.

def literal_logits(w, ids, c):
    "Logits [T, V] of one sequence from a dict of weights, by recipe and formula."
    T, d, n, G = len(ids), c.head_dim, c.num_attention_heads//c.num_noise_heads, c.num_noise_heads
    theta = c.rope_parameters['rope_theta']

    def rms_norm(x, weight, eps): return x/torch.sqrt((x*x).sum()/len(x) + eps)*weight
    def turn(x, t):         # NeoX layout: element i is paired with element i + d/2
        out = [None]*d
        for i in range(d//2):
            angle = t*theta**(-2*i/d)
            out[i] = x[i]*math.cos(angle) - x[i + d//2]*math.sin(angle)
            out[i + d//2] = x[i]*math.sin(angle) + x[i + d//2]*math.cos(angle)
        return torch.stack(out)
    def softmax(scores):
        e = [torch.exp(s) for s in scores]
        return [x/sum(e) for x in e]
    def poly_norm(x, weight, bias):
        y = bias
        for power, v in ((3, weight[0]), (2, weight[1]), (1, weight[2])):
            z = x**power
            y = y + v*z/torch.sqrt((z*z).sum()/len(z) + 1e-6)
        return y

    x = [w['model.embed_tokens.weight'][i] for i in ids]
    for l in range(c.num_hidden_layers):
        p = {name.removeprefix(f'model.layers.{l}.'): t for name, t in w.items() if name.startswith(f'model.layers.{l}.')}
        start = 0.8 - 0.6*math.exp(-0.3*(l - 1))
        lam = (torch.exp((p['self_attn.lambda_q1']*p['self_attn.lambda_k1']).sum())
               - torch.exp((p['self_attn.lambda_q2']*p['self_attn.lambda_k2']).sum()) + start)
        normed = [rms_norm(row, p['input_layernorm.weight'], c.rms_norm_eps) for row in x]
        def head(name, i, rotated):
            rows = [p[f'self_attn.{name}.weight'][i*d:(i + 1)*d] @ row for row in normed]
            return [turn(row, t) for t, row in enumerate(rows)] if rotated else rows
        Q, K = [head('q_proj', i, True) for i in range(G*n)], [head('k_proj', i, True) for i in range(2*G)]
        V = [head('v_proj', i, False) for i in range(2*G)]
        def attend(q, k, v1, v2, t):
            weights = softmax([q[t] @ k[s]/math.sqrt(d) for s in range(t + 1)])
            return torch.cat([sum(a*v1[s] for s, a in enumerate(weights)), sum(a*v2[s] for s, a in enumerate(weights))])
        attended = []
        for t in range(T):
            heads = []
            for h in range(G*(n - 1)):          # signal heads
                g = h//(n - 1)
                q1, q2 = Q[g*n + h%(n - 1)], Q[g*n + n - 1]
                k1, k2, v1, v2 = K[2*g], K[2*g + 1], V[2*g], V[2*g + 1]
                o = attend(q1, k1, v1, v2, t) - lam*attend(q2, k2, v1, v2, t)
                heads.append((1 - start)*rms_norm(o, p['self_attn.subln.weight'], c.attn_rms_norm_eps))
            attended.append(p['self_attn.o_proj.weight'] @ torch.cat(heads))
        x = [row + a for row, a in zip(x, attended)]
        for t in range(T):
            z = rms_norm(x[t], p['post_attention_layernorm.weight'], c.rms_norm_eps)
            gate = poly_norm(p['mlp.gate_proj.weight'] @ z, p['mlp.act_fn.weight'], p['mlp.act_fn.bias'])
            x[t] = x[t] + p['mlp.down_proj.weight'] @ (gate*(p['mlp.up_proj.weight'] @ z))
    return torch.stack([w['lm_head.weight'] @ rms_norm(row, w['model.norm.weight'], c.rms_norm_eps) for row in x])

@pytest.mark.parametrize('groups, signals', [(2, 3), (3, 1)])
def test_gradients_equal_a_literal_transcription(groups, signals):
    model = tiny(hidden_size=20, num_layers=3, num_groups=groups, signals_per_noise=signals, head_dim=6, intermediate_size=28,
                 rms_norm_eps=1e-5, attn_rms_norm_eps=1e-4, rope_theta=100.).double()
    ids = random_ids(7)
    literal = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    logits = literal_logits(literal, ids.tolist(), model.config)
    out = model(ids[None], labels=ids[None])
    torch.testing.assert_close(out.logits[0], logits, atol=1e-10, rtol=0)
    loss = -sum(torch.log_softmax(logits[t], -1)[ids[t + 1]] for t in range(len(ids) - 1))/(len(ids) - 1)
    loss.backward()
    with torch.no_grad(): assert abs(out.loss - loss) < 1e-6    # Transformers computes the loss in fp32; ours for the gradients:
    F.cross_entropy(out.logits[0, :-1], ids[1:]).backward()
    for name, p in model.named_parameters(): torch.testing.assert_close(p.grad, literal[name].grad, atol=1e-10, rtol=1e-10, msg=name)

# One sequence, computed in several ways

@pytest.mark.parametrize('chunks', [[1]*12, [5, 1, 4, 2], [11, 1]])
def test_cached_equals_uncached(model, chunks):
    ids, cache = random_ids(3, 12), DynamicCache()
    with torch.no_grad():
        logits = torch.cat([model(chunk, past_key_values=cache).logits for chunk in ids.split(chunks, dim=1)], dim=1)
        assert_close(logits, model(ids, use_cache=False).logits)
    assert cache.get_seq_length() == 12
    c = model.config
    assert cache.layers[0].keys.numel() == cache.layers[0].values.numel() == 3*12*c.num_key_value_heads*c.head_dim

@pytest.mark.parametrize('implementation', ['sdpa', 'eager'])
def test_padded_equals_alone(implementation):
    model, lengths = tiny(attn_implementation=implementation), [1, 4, 9]
    rows = [random_ids(1, n, seed=n) for n in lengths]
    ids = torch.cat([F.pad(row, (9 - row.shape[1], 0), value=3) for row in rows])
    mask = torch.tensor([[0]*(9 - n) + [1]*n for n in lengths])
    logits = model(ids, attention_mask=mask).logits
    for row, n, out in zip(rows, lengths, logits): assert_close(out[9 - n:], model(row).logits[0])
    logits[mask.bool()].sum().backward()          # rows of nothing but padding must not make gradients NaN
    assert all(p.grad.isfinite().all() for p in model.parameters())

def test_padded_and_cached_equals_alone(model):
    prompt, rest = random_ids(1, 4), random_ids(1, 3, seed=2)
    mask, cache = torch.tensor([[0]*5 + [1]*4]), DynamicCache()
    with torch.no_grad():
        model(F.pad(prompt, (5, 0)), attention_mask=mask, position_ids=torch.tensor([[0]*5 + [*range(4)]]), past_key_values=cache)
        logits = model(rest, attention_mask=F.pad(mask, (0, 3), value=1), position_ids=torch.arange(4, 7)[None],
                       past_key_values=cache).logits
        assert_close(logits, model(torch.cat([prompt, rest], 1)).logits[:, 4:])

@pytest.mark.parametrize('use_cache', [None, False])
def test_packed_equals_alone(model, use_cache):
    "Two rows with different boundaries; `use_cache=None` is what a caller forgets, and what makes Llama's documents see each other."
    lengths = [[5, 1, 6], [2, 10]]
    documents = [[random_ids(1, n, seed=10*r + n) for n in row] for r, row in enumerate(lengths)]
    ids = torch.cat([torch.cat(row, dim=1) for row in documents])
    positions = torch.stack([torch.cat([torch.arange(n) for n in row]) for row in lengths])
    with torch.no_grad():
        packed = model(ids, position_ids=positions, use_cache=use_cache).logits
        for row, out in zip(documents, packed): assert_close(out, torch.cat([model(d).logits[0] for d in row]))

def test_kept_logits_and_labels(model):
    ids = random_ids(2, 6)
    labels = ids.masked_fill(torch.arange(6) < 3, -100)
    out = model(ids, labels=labels)
    assert_close(model(ids, logits_to_keep=2).logits, out.logits[:, -2:])
    assert_close(out.loss, F.cross_entropy(out.logits[:, 2:-1].flatten(0, 1), ids[:, 3:].flatten()))
    assert_close(model(inputs_embeds=model.get_input_embeddings()(ids)).logits, out.logits)
    with pytest.raises(ValueError, match='either input_ids or inputs_embeds'): model()

def test_generate_equals_a_loop_of_argmax(model):
    prompts = [random_ids(1, n, seed=n) for n in (2, 5)]
    ids, mask = torch.cat([F.pad(p, (5 - p.shape[1], 0)) for p in prompts]), torch.tensor([[0, 0, 0, 1, 1], [1]*5])
    generated = model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False, pad_token_id=0)[:, 5:]
    for prompt, ours in zip(prompts, generated):
        with torch.no_grad():
            for _ in range(6): prompt = torch.cat([prompt, model(prompt, use_cache=False).logits[:, -1:].argmax(-1)], 1)
        assert prompt[0, -6:].tolist() == ours.tolist()

@pytest.mark.parametrize('use_reentrant', [False, True])
def test_checkpointing_leaves_gradients_as_they_are(use_reentrant):
    ids, gradients = random_ids(2, 8), []
    for checkpointing in (False, True):
        model = tiny().train()
        if checkpointing: model.activation_checkpointing_enable(dict(use_reentrant=use_reentrant))
        model(ids, labels=ids, use_cache=False).loss.backward()   # keys from a cache lie elsewhere in memory, which alters the rounding
        gradients.append([p.grad for p in model.parameters()])
    for plain, checkpointed in zip(*gradients): torch.testing.assert_close(plain, checkpointed, atol=1e-7, rtol=1e-6)

# Sizes, names, files

def test_released_names_and_shapes():
    D, H, V, d = 4096, 16_384, 219_520, 128
    of_a_layer = {
        'input_layernorm.weight': (D,), 'post_attention_layernorm.weight': (D,),
        'self_attn.q_proj.weight': (40*d, D), 'self_attn.k_proj.weight': (16*d, D), 'self_attn.v_proj.weight': (16*d, D),
        'self_attn.o_proj.weight': (D, 8192), 'self_attn.subln.weight': (2*d,),
        'self_attn.lambda_q1': (d,), 'self_attn.lambda_k1': (d,), 'self_attn.lambda_q2': (d,), 'self_attn.lambda_k2': (d,),
        'mlp.gate_proj.weight': (H, D), 'mlp.up_proj.weight': (H, D), 'mlp.down_proj.weight': (D, H),
        'mlp.act_fn.weight': (3,), 'mlp.act_fn.bias': (1,),
    }
    expected = {f'model.layers.{l}.{name}': shape for l in range(40) for name, shape in of_a_layer.items()}
    expected |= {'model.embed_tokens.weight': (V, D), 'model.norm.weight': (D,), 'lm_head.weight': (V, D)}
    with torch.device('meta'): model = MotifForCausalLM(motif_12_7b_config())
    assert {name: tuple(t.shape) for name, t in model.state_dict().items()} == expected
    assert count_parameters(model) == sum(math.prod(shape) for shape in expected.values())
    assert round(count_parameters(model)/1e9, 2) == 12.70

@pytest.mark.parametrize('tied', [False, True])
def test_saved_and_loaded_through_auto_classes(tmp_path, tied):
    model, ids = tiny(tie_word_embeddings=tied), random_ids(2, 6)
    model.save_pretrained(tmp_path)
    assert [p.name for p in tmp_path.glob('*.safetensors')] == ['model.safetensors']
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is MotifForCausalLM and type(config) is MotifConfig
    for field in MotifConfig.__annotations__: assert getattr(config, field) == getattr(model.config, field)
    assert type(AutoModel.from_pretrained(tmp_path)) is MotifModel
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == tied
    assert ('lm_head.weight' in load_file(tmp_path/'model.safetensors')) != tied

def test_bf16_keeps_lambda_in_fp32(tmp_path):
    model, ids = tiny(), random_ids(2, 6)
    model.save_pretrained(tmp_path)
    half = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for n, p in half.named_parameters() if 'lambda' in n} == {torch.float32}
    assert {p.dtype for n, p in half.named_parameters() if 'lambda' not in n} == {torch.bfloat16}
    logits = half(ids).logits
    assert logits.dtype == torch.bfloat16 and F.cosine_similarity(logits.float(), model(ids).logits, dim=-1).min() > 0.995

def test_initial_weights():
    torch.manual_seed(0)
    model = MotifForCausalLM(tiny_motif_config(VOCAB, hidden_size=128, num_layers=4))
    for name, p in model.named_parameters():
        if 'lambda' in name: continue
        if 'act_fn' in name: assert torch.equal(p, torch.full_like(p, 0. if 'bias' in name else 1/3)), name
        elif p.ndim == 1: assert (p == 1).all(), name
        else: assert 0.019 < p.std() < 0.021, name
    lambdas = torch.cat([p for n, p in model.named_parameters() if 'lambda' in n])
    assert 0.085 < lambdas.std() < 0.115

@pytest.mark.parametrize('field, said', [
    (dict(num_attention_heads=8), 'num_attention_heads=8 must be a multiple of num_noise_heads=8 and larger'),
    (dict(num_noise_heads=0), 'num_noise_heads=0 must be at least 1'), (dict(num_key_value_heads=8), 'num_key_value_heads=8 must be 16'), (dict(head_dim=127), 'head_dim=127 must be even'),
    (dict(hidden_act='silu'), "hidden_act='silu' must be 'poly_norm'"),
    (dict(rope_parameters=dict(rope_type='linear', factor=2., rope_theta=1e6)), "must be of rope_type 'default'")])
def test_a_config_that_is_no_motif_is_refused(field, said):
    with pytest.raises(UserError) as error: MotifConfig(**field)
    assert said in str(error.value)

# Broken checkpoints

@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp('saved')/'model', train_tokenizer(['12 + 7 = 19'], vocab_size=480)
    torch.manual_seed(0)
    save_model(MotifForCausalLM(tiny_motif_config(len(tokenizer), hidden_size=16, num_layers=1)), tokenizer, folder)
    return folder

@pytest.fixture
def broken(saved, tmp_path):
    "A copy to be broken."
    return shutil.copytree(saved, tmp_path/'model')

def edit_weights(folder, edit):
    weights = load_file(folder/'model.safetensors')
    edit(weights)
    save_file(weights, folder/'model.safetensors', metadata=dict(format='pt'))

def refusal(path, **kwargs):
    with pytest.raises(UserError) as error: load_model(path, **kwargs)
    return str(error.value)

def test_load_model_round_trip(saved, tmp_path):
    model, tokenizer = load_model(saved)
    save_model(model, tokenizer, tmp_path/'a')
    save_model(model, tokenizer, tmp_path/'a')       # replaces
    assert [p.name for p in tmp_path.iterdir()] == ['a']
    again, _ = load_model(str(tmp_path/'a'), attn_implementation='eager', dtype='bfloat16')
    assert again.config._attn_implementation == 'eager' and again.dtype == torch.bfloat16 and not again.training
    assert torch.equal(again.lm_head.weight, model.lm_head.weight.bfloat16())

def test_any_causal_model_loads(saved, tmp_path):
    tokenizer = load_model(saved)[1]
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                         num_attention_heads=2))
    save_model(llama, tokenizer, tmp_path/'llama')
    assert type(load_model(tmp_path/'llama')[0]) is LlamaForCausalLM

def test_shards_load_and_a_missing_one_is_named(saved, tmp_path):
    model, tokenizer = load_model(saved)
    model.save_pretrained(tmp_path/'sharded', max_shard_size='20KB')
    tokenizer.save_pretrained(tmp_path/'sharded')
    shards = loading.weight_files(tmp_path/'sharded')
    assert len(shards) > 1 and torch.equal(load_model(tmp_path/'sharded')[0].lm_head.weight, model.lm_head.weight)
    shards[1].unlink()
    assert f"{shards[1]}: is named in the index, but missing" in refusal(tmp_path/'sharded')
    index = tmp_path/'sharded/model.safetensors.index.json'
    for text in (index.read_text()[:100], '{}', '[]'):
        index.write_text(text)
        assert f'{index}: is no index of weights' in refusal(tmp_path/'sharded')

def test_a_missing_path_names_its_neighbour(saved):
    assert f"'modle' is not in {saved.parent}; did you mean 'model'?" in refusal(saved.with_name('modle'))
    assert "did you mean 'model'?" in refusal(saved.with_name('modle')/'further'/'down')
    assert 'is a file' in refusal(saved/'config.json')

def test_a_folder_above_the_model_says_so(saved):
    assert f"holds no config.json, so it is not a saved model; try {saved}" in refusal(saved.parent)

def test_no_weights_or_only_pickled_ones(broken):
    (broken/'model.safetensors').unlink()
    assert 'holds no weights (model.safetensors)' in refusal(broken)
    (broken/'pytorch_model.bin').touch()
    assert 'only pickled weights (pytorch_model.bin)' in refusal(broken)

@pytest.mark.parametrize('content', [lambda b: b[:len(b)//2], lambda b: b[:-1], lambda b: b'', lambda b: b'\xff'*len(b)])
def test_corrupted_weights(broken, content):
    file = broken/'model.safetensors'
    file.write_bytes(content(file.read_bytes()))
    assert f'{file}: is corrupted or cut off' in refusal(broken)

@pytest.mark.parametrize('edit, said', [
    (lambda w: w.pop('model.norm.weight'), 'model.norm.weight is missing'),
    (lambda w: w.update(extra=torch.zeros(1)), 'extra is unknown to the model'),
    (lambda w: w.update({'model.norm.weight': torch.ones(17)}), 'model.norm.weight ([17], the model has [16]) has another shape'),
    (lambda w: [w.pop(n) for n in list(w) if 'lambda' in n], 'model.layers.0.self_attn.lambda_k1 is missing, and 3 more')])
def test_weights_that_do_not_fit(broken, edit, said):
    edit_weights(broken, edit)
    assert said in refusal(broken)

@pytest.mark.parametrize('config, said', [
    ('{"model_type":', 'not a valid JSON'), ('{"model_type": "unheard_of"}', 'unheard_of'),
    ('{"model_type": "x", "auto_map": {"AutoConfig": "code.X"}}', 'custom code'),
    ('{"model_type": "motif", "num_attention_heads": 42}', 'num_attention_heads=42 must be a multiple'),
    ('{"model_type": "motif", "head_dim": "wide"}', 'head_dim')])
def test_a_config_that_does_not_load(broken, config, said):
    (broken/'config.json').write_text(config)
    message = refusal(broken)
    assert f'{broken}/config.json' in message and said in message

def test_a_model_that_is_no_causal_one(broken):
    T5Config().save_pretrained(broken)
    assert f'{broken}/config.json' in refusal(broken)

def test_tokenizer_missing_or_too_large(broken):
    edit_weights(broken, lambda w: w.update({n: w[n][:100].clone() for n in ('model.embed_tokens.weight', 'lm_head.weight')}))
    config = AutoConfig.from_pretrained(broken)
    config.vocab_size = 100
    config.save_pretrained(broken)
    assert "but the model's vocabulary has only 100 rows" in refusal(broken)
    (broken/'tokenizer.json').unlink()
    assert 'holds no tokenizer' in refusal(broken)

def test_the_hub_out_of_reach_or_closed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'Motif-2').mkdir()
    def offline(*args, **kwargs): return snapshot_download(*args, **kwargs, local_files_only=True)
    monkeypatch.setattr(loading, 'snapshot_download', offline)
    monkeypatch.setenv('HF_HUB_CACHE', str(tmp_path))
    assert "some/model: no folder of this name here, and the hub can't be reached" in refusal('some/model')
    assert "there is no such folder; 'x' is not in" in refusal('Motif-2/x')      # never looked for on the hub
    assert "there is no such folder; 'some' is not in" in refusal('./some/model')

def test_an_unwritable_place_is_a_user_error(saved, tmp_path):
    (tmp_path/'file').touch()
    with pytest.raises(UserError, match='cannot be written'): save_model(*load_model(saved), tmp_path/'file'/'model')

def test_a_full_disk_is_a_user_error(saved, tmp_path, monkeypatch):
    model, tokenizer = load_model(saved)
    def full(*args, **kwargs): raise SafetensorError('Error while serializing: I/O error: No space left on device (os error 28)')
    monkeypatch.setattr(model, 'save_pretrained', full)
    with pytest.raises(UserError, match='the disk is full'): save_model(model, tokenizer, tmp_path/'model')
    assert not list(tmp_path.iterdir())

def test_two_pairs_are_enough_for_another_base():
    "Of a head of four: the slow one turns as much slower as the text gets longer."
    assert rope_base_for(100., 3., 4) == pytest.approx(900.)
