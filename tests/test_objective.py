"The objective against a slow reference, against TRL and Liger, under 500 random changes that must change nothing; and the traps."
import math, random
from collections import defaultdict
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss
from liger_kernel.chunked_loss.grpo_loss import LigerFusedLinearGRPOFunction
from trl.rewards import get_soft_overlong_punishment
from trl.trainer.grpo_trainer import GRPOTrainer, nanstd

from motif_repro.core.errors import UserError
from motif_repro.kernels.linear_logprob import linear_logprob, linear_logprob_reference
from motif_repro.rl.objective import (BEHAVIOUR_MODES, LEVELS, LOSS_TYPES, behaviour_weights, group_advantages, next_entropy_coef,
                                      overlong_penalty, policy_health, policy_loss, second_moment_bound, second_moment_mask)

BOTH = [*product(LOSS_TYPES, LEVELS)]


def clips(loss_type):
    "Settings of the clip that this loss knows."
    if loss_type == 'cispo': return [dict(epsilon_high=1.5), dict(epsilon_high=0.9)]
    return [dict(), dict(epsilon_low=0.1, epsilon_high=1.5), dict(epsilon_high=0.1, delta=1.3)]

def draw(seed, rows=5, width=6, spread=0.6):
    "Random log-probabilities, advantages with zeros, masks with holes; the last row is fully masked."
    g = torch.Generator().manual_seed(seed)
    normal = lambda *size: torch.randn(*size, generator=g, dtype=torch.float64)
    logp = -normal(rows, width).abs() - 0.5
    batch = dict(logp=logp) | {name: logp + spread*normal(rows, width) for name in ('old', 'ref', 'behaviour')}
    mask = torch.rand(rows, width, generator=g) < 0.7
    mask[:, 0], mask[-1] = True, False
    return batch | dict(A=normal(rows).where(torch.rand(rows, generator=g) < 0.8, 0), mask=mask, entropy=normal(rows, width).abs())

def options(seed, loss_type, level):
    "Settings of the loss, all of them on for some seeds."
    rng = random.Random(seed)
    chosen = dict(loss_type=loss_type, importance_sampling_level=level, max_completion_length=7, **rng.choice(clips(loss_type)))
    estimator, corrected = rng.choice([('k1', True), ('k3', True), ('k3', False)])
    bounds = dict(weight_cap=rng.choice([1.5, 2., 5.]), weight_floor=rng.choice([0., 0.6]))
    if rng.random() < 0.5: chosen |= dict(beta=0.05, kl_estimator=estimator, use_bias_correction_kl=corrected)
    if rng.random() < 0.5: chosen |= dict(behaviour_mode=rng.choice(BEHAVIOUR_MODES), **bounds)
    return chosen | dict(entropy_coef=rng.choice([0., 0.03]))

def ours(b, rows=slice(None), **given):
    "Loss, its gradients [B, T, 2] by log-probabilities and entropies, metrics. Reference and behaviour come in with a setting of theirs."
    logp, entropy = (b[name][rows].clone().requires_grad_() for name in ('logp', 'entropy'))
    if 'beta' in given: given['ref_logp'] = b['ref'][rows]
    if 'behaviour_mode' in given: given['behaviour_logp'] = b['behaviour'][rows]
    loss, metrics = policy_loss(logp, b['old'][rows], b['A'][rows], b['mask'][rows], entropy=entropy, **given)
    return loss.detach(), torch.stack(torch.autograd.grad(loss, (logp, entropy)), -1), metrics

def reference(b, *, loss_type, importance_sampling_level, epsilon_low=0.2, epsilon_high=0.28, delta=math.inf, beta=0., kl_estimator='k3',
              use_bias_correction_kl=False, behaviour_mode=None, weight_cap=2., weight_floor=0., entropy_coef=0., max_completion_length=7):
    "The papers' formulas, a token at a time."
    logp, entropy = (b[name].clone().requires_grad_() for name in ('logp', 'entropy'))
    sums, counts, entropies = [], [], []
    for i in range(len(logp)):
        tokens = [t for t in range(logp.shape[1]) if b['mask'][i, t]]
        if not tokens: continue
        losses, A = [], b['A'][i]
        for t in tokens:
            over = tokens if importance_sampling_level == 'sequence' else [t]
            w = torch.exp(sum(logp[i, u] - b['old'][i, u] for u in over)/len(over))
            if loss_type == 'cispo': loss = -min(w.item(), epsilon_high)*A*logp[i, t]
            else:
                free, held = w.clamp(max=delta), w.clamp(1 - epsilon_low, 1 + epsilon_high)
                loss = -min(free*A, held*A)
            if behaviour_mode:
                over = tokens if 'sequence' in behaviour_mode else [t]
                c = math.exp(sum(b['old'][i, u] - b['behaviour'][i, u] for u in over)/len(over))
                inside = weight_floor <= c <= weight_cap
                loss = loss*(min(max(c, weight_floor), weight_cap) if 'truncate' in behaviour_mode else c if inside else 0)
            if beta:
                rho = b['ref'][i, t] - logp[i, t]
                kl = -rho if kl_estimator == 'k1' else torch.exp(rho) - rho - 1
                loss = loss + beta*kl*(w if use_bias_correction_kl else 1)
            losses.append(loss)
            entropies.append(entropy[i, t])
        sums.append(sum(losses))
        counts.append(len(losses))
    loss = dict(grpo=lambda: sum(s/n for s, n in zip(sums, counts))/len(sums), dr_grpo=lambda: sum(sums)/(len(sums)*max_completion_length))\
        .get(loss_type, lambda: sum(sums)/sum(counts))() - entropy_coef*sum(entropies)/len(entropies)
    return loss.detach(), torch.stack(torch.autograd.grad(loss, (logp, entropy)), -1)

@pytest.mark.parametrize('loss_type,level', BOTH)
def test_loss_and_gradient_equal_the_slow_reference(loss_type, level):
    for seed in range(40):
        b, given = draw(seed), options(seed, loss_type, level)
        for found, expected in zip(ours(b, **given), reference(b, **given)): torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)

@pytest.mark.parametrize('loss_type,level', BOTH)
def test_order_padding_and_split_change_nothing(loss_type, level):
    "500 random batches in all: order of rows, length of padding and what it holds, split into micro-batches."
    for seed in range(50):
        b, given = draw(seed, rows=6), options(seed, loss_type, level)
        whole = dict(num_tokens=int(b['mask'].sum()), num_sequences=int(b['mask'].any(1).sum()))
        loss, gradient, metrics = ours(b, **given)
        order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(ours(b, order, **given)[0], loss)
        junk = dict(logp=99., old=-99., ref=0., behaviour=0., entropy=50., mask=False)
        wide = {k: v if k == 'A' else torch.nn.functional.pad(v, (0, 3), value=junk[k]) for k, v in b.items()}
        padded, padded_gradient, padded_metrics = ours(wide, **given)
        torch.testing.assert_close((padded, padded_gradient[:, :6]), (loss, gradient))
        assert not padded_gradient[:, 6:].any() and padded_metrics == pytest.approx(metrics)
        parts = [ours(b, rows, **given, **whole) for rows in (slice(0, 1), slice(1, 4), slice(4, 6))]
        torch.testing.assert_close(sum(p[0] for p in parts), loss)
        torch.testing.assert_close(torch.cat([p[1] for p in parts]), gradient)

def test_adding_to_all_rewards_changes_nothing():
    for seed in range(500):
        g = torch.Generator().manual_seed(seed)
        rewards, shift = (torch.randn(n, generator=g, dtype=torch.float64) for n in (24, 3))
        shift = 10*shift.repeat_interleave(8)
        given = dict(scale_rewards=('group', 'none')[seed % 2], leave_one_out=seed % 3 == 0)
        torch.testing.assert_close(group_advantages(rewards + shift, 8, **given), group_advantages(rewards, 8, **given))   # a shift a group
        for scale in ('batch', 'group'):
            alike = [group_advantages(r, 8, scale_rewards=scale) for r in (rewards, rewards + shift[0])]
            torch.testing.assert_close(*alike)


# Peers

def trl(b, *, num_items=None, accumulation=1, rows=slice(None), loss_type, importance_sampling_level, epsilon_low=0.2, epsilon_high=0.28,
        delta=None, beta=0., use_bias_correction_kl=False, ratio=None, entropy_coef=0., max_completion_length=7):
    "Loss and gradient of TRL's trainer, which is given the log-probabilities instead of a model; and its metrics."
    logp, entropy = (b[name][rows].clone().requires_grad_() for name in ('logp', 'entropy'))
    mask = b['mask'][rows].long()
    args = SimpleNamespace(delta=delta, use_bias_correction_kl=use_bias_correction_kl, steps_per_generation=accumulation)
    one = SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, sync_gradients=True)
    trainer = SimpleNamespace(
        args=args, accelerator=one, model=SimpleNamespace(training=True), loss_type=loss_type,
        importance_sampling_level=importance_sampling_level, epsilon_low=epsilon_low, epsilon_high=epsilon_high, beta=beta,
        max_completion_length=max_completion_length,
        use_vllm=ratio is not None, vllm_importance_sampling_correction=True, off_policy_mask_threshold=None, aux_loss_enabled=False,
        entropy_coef=entropy_coef, _entropy_bonus_enabled=entropy_coef != 0, use_adaptive_entropy=False, top_entropy_quantile=1.0,
        current_gradient_accumulation_steps=accumulation, _metrics=defaultdict(lambda: defaultdict(list)),
        _get_per_token_logps_and_entropies=lambda *args, **kwargs: (logp, entropy, None))
    inputs = dict(prompt_ids=mask[:, :0], prompt_mask=mask[:, :0], completion_ids=mask, completion_mask=mask, advantages=b['A'][rows],
                  old_per_token_logps=b['old'][rows], ref_per_token_logps=b['ref'][rows], importance_sampling_ratio=ratio,
                  num_items_in_batch=mask.sum() if num_items is None else torch.tensor(num_items))
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    gradients = torch.autograd.grad(loss, (logp, entropy), materialize_grads=True)
    return loss.detach(), torch.stack(gradients, -1), {name: values[-1] for name, values in trainer._metrics['train'].items()}

def liger(b, *, loss_type, importance_sampling_level, ratio=None, entropy_coef=0., **given):
    "The same of Liger's, which knows no entropies."
    logp, mask = b['logp'].clone().requires_grad_(), b['mask'].long()
    loss, _ = LigerFusedLinearGRPOFunction.ppo_loss_fn(
        logp, mask, b['A'], mask, ref_per_token_logps=b['ref'], old_per_token_logps=b['old'], vllm_is_ratio=ratio, loss_type=loss_type,
        importance_sampling_level=importance_sampling_level, **dict(beta=0., epsilon_low=0.2, epsilon_high=0.28) | given)
    return loss.detach(), torch.stack([torch.autograd.grad(loss, logp)[0], torch.zeros_like(logp)], -1)

def edges(b):
    "The batch as drawn, without its fully masked row; all advantages zero, one row, one token; nothing moved."
    b = {k: v[:-1] for k, v in b.items()}
    yield b
    yield b | dict(A=0*b['A'])
    yield {k: v[:1] for k, v in b.items()}
    yield {k: v if k == 'A' else v[:, :1] for k, v in b.items()}
    yield b | dict(old=b['logp'])

@pytest.mark.parametrize('loss_type,level', BOTH)
def test_equal_to_trl_and_liger(loss_type, level):
    grid = product(clips(loss_type), (0., 0.04), (False, True), (False, True), (torch.float32, torch.float64))
    for seed, (clip, beta, corrected, weighted, dtype) in enumerate(grid):
        if corrected and not beta: continue
        given = dict(loss_type=loss_type, importance_sampling_level=level, beta=beta, use_bias_correction_kl=corrected, **clip)
        given |= dict(max_completion_length=7)
        mode = BEHAVIOUR_MODES[seed % 4]
        for b in edges(draw(seed)):
            b = {k: v.to(dtype) if v.is_floating_point() else v for k, v in b.items()}
            ratio = behaviour_weights(b['old'], b['behaviour'], b['mask'], mode=mode) if weighted else None
            loss, gradient, _ = ours(b, **given, **dict(behaviour_mode=mode) if weighted else {})
            peers = [trl] if loss_type == 'cispo' and level == 'sequence' else [trl, liger]   # there Liger refuses
            for peer in peers: torch.testing.assert_close((loss, gradient), peer(b, ratio=ratio, **given)[:2], rtol=0, atol=1e-6)

def test_entropy_bonus_and_metrics_equal_trls():
    for seed, loss_type in product(range(10), LOSS_TYPES):
        b = next(edges(draw(seed)))
        given = dict(loss_type=loss_type, importance_sampling_level='token', beta=0.1, entropy_coef=0.2, max_completion_length=7)
        given |= clips(loss_type)[0]
        (loss, gradient, metrics), (theirs, their_gradient, their_metrics) = ours(b, **given), trl(b, **given)
        torch.testing.assert_close((loss, gradient), (theirs, their_gradient), rtol=0, atol=1e-9)
        names = dict(ref_kl='kl', entropy='entropy')
        if loss_type != 'cispo': names |= dict(clip_low='clip_ratio/low_mean', clip_high='clip_ratio/high_mean')
        for name, their_name in names.items(): assert metrics[name] == pytest.approx(their_metrics[their_name], abs=1e-6), name

def test_accumulated_micro_batches_equal_trls():
    for seed, loss_type in product(range(5), ('dapo', 'cispo')):
        b = draw(seed, rows=6)
        whole, given = int(b['mask'].sum()), dict(loss_type=loss_type, importance_sampling_level='token')
        for rows in (slice(0, 2), slice(2, 6)):
            theirs = trl(b, rows=rows, num_items=whole, accumulation=2, **given)
            torch.testing.assert_close(ours(b, rows, num_tokens=whole, **given)[:2], theirs[:2], rtol=0, atol=1e-9)

def test_overlong_penalty_equals_trls():
    for longest, cache in ((20, 5), (20, 0), (20, 20), (100, 30)):
        lengths = torch.arange(1, longest + 4)
        theirs = get_soft_overlong_punishment(longest, cache)(completion_ids=[[0]*n for n in lengths])
        torch.testing.assert_close(overlong_penalty(lengths, longest, cache), torch.tensor(theirs))

def test_advantages_equal_trls_formula():
    for seed in range(50):
        rewards = torch.randn(4, 8, generator=torch.Generator().manual_seed(seed))
        rewards[rewards > 1.5] = math.nan
        centred, grouped = rewards - rewards.nanmean(1, keepdim=True), nanstd(rewards, dim=1)[:, None]
        for scale, spread in dict(group=grouped + 1e-4, batch=nanstd(rewards) + 1e-4, none=1.).items():
            found = group_advantages(rewards.flatten(), 8, scale_rewards=scale)
            torch.testing.assert_close(found, (centred/spread).nan_to_num(0).flatten(), rtol=0, atol=2e-6)

@pytest.mark.parametrize('loss_type', LOSS_TYPES)
def test_from_hidden_states_to_their_gradient_as_in_ligers_fused_loss(loss_type):
    "linear_logprob and the loss on top of it, in one line of ours and one call of theirs."
    g = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(*size, generator=g, dtype=torch.float64).requires_grad_() for size in ((3, 5, 8), (30, 8)))
    tokens, mask = torch.randint(30, (3, 5), generator=g), torch.rand(3, 5, generator=g) < 0.8
    A = torch.randn(3, generator=g, dtype=torch.float64)
    mask[:, 0] = True
    with torch.no_grad(): now = linear_logprob(hidden.flatten(0, 1), weight, tokens.flatten())[0].view(3, 5)
    old, ref = (now + 0.4*torch.randn(3, 5, generator=g, dtype=torch.float64) for _ in range(2))
    clip = clips(loss_type)[0]
    logp = linear_logprob(hidden.flatten(0, 1), weight, tokens.flatten())[0].view(3, 5)
    loss, _ = policy_loss(logp, old, A, mask, loss_type=loss_type, beta=0.04, ref_logp=ref, max_completion_length=7, **clip)
    fused = LigerFusedLinearGRPOLoss(beta=0.04, compiled=False, use_ref_model=True, loss_type=loss_type, max_completion_length=7,
                                     **dict(epsilon_low=0.2, epsilon_high=0.28) | clip)
    theirs = fused(hidden, weight, tokens, mask.long(), A, ref_per_token_logps=ref, old_per_token_logps=old)[0]
    torch.testing.assert_close(loss, theirs, rtol=2e-6, atol=1e-6, check_dtype=False)   # theirs is summed in fp32
    for ours_, theirs_ in zip(torch.autograd.grad(loss, (hidden, weight)), torch.autograd.grad(theirs, (hidden, weight))):
        torch.testing.assert_close(ours_, theirs_, rtol=0, atol=1e-6)

def test_the_entropy_bonus_reaches_the_hidden_states():
    g = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(*size, generator=g, dtype=torch.float64).requires_grad_() for size in ((6, 8), (30, 8)))
    tokens, mask = torch.randint(30, (6,), generator=g), torch.tensor([[True]*3, [True, True, False]])
    found = []
    for function in (linear_logprob, linear_logprob_reference):
        logp, entropy = (x.view(2, 3) for x in function(hidden, weight, tokens))
        loss, metrics = policy_loss(logp, logp.detach(), torch.zeros(2), mask, entropy=entropy, entropy_coef=0.5)
        found.append(torch.autograd.grad(loss, hidden)[0])
    torch.testing.assert_close(*found, rtol=0, atol=1e-9)
    assert found[0][:5].abs().min() > 0 and not found[0][5].any()
    assert loss.item() == pytest.approx(-0.5*metrics['entropy'])   # without advantages there is nothing else


# Traps, each of them met in a peer

@pytest.mark.parametrize('loss_type,level,dtype', [*product(LOSS_TYPES, LEVELS, (torch.float32, torch.float64))])
def test_a_masked_token_makes_no_nan_whatever_it_holds(loss_type, level, dtype):
    b = {k: v.to(dtype) if v.is_floating_point() else v for k, v in draw(0).items()}
    given = dict(loss_type=loss_type, importance_sampling_level=level, beta=0.1, max_completion_length=7, behaviour_mode='sequence_mask',
                 entropy_coef=0.1)
    loss, gradient, metrics = ours(b, **given)
    for junk in (100., 1e30, math.inf, -math.inf, math.nan):
        spoilt = {k: v.where(b['mask'], -junk if k == 'old' else junk) if v.dim() == 2 and k != 'mask' else v for k, v in b.items()}
        again, again_gradient, again_metrics = ours(spoilt, **given)
        assert torch.equal(again, loss) and torch.equal(again_gradient, gradient) and again_metrics == metrics

def test_where_trl_makes_a_nan_of_a_masked_token():
    b = next(edges(draw(0)))
    b = {k: v.float() if v.is_floating_point() else v for k, v in b.items()}
    b['logp'] = b['logp'].where(b['mask'], 100.)
    given = dict(loss_type='dapo', importance_sampling_level='token')
    assert trl(b, **given)[1].isnan().any() and ours(b, **given)[1].isfinite().all()

def test_a_fully_masked_row_contributes_nothing():
    for (loss_type, level), seed in product(BOTH, range(5)):
        b, given = draw(seed), options(seed, loss_type, level)
        loss, gradient, metrics = ours(b, **given)
        without, gradient_without, metrics_without = ours(b, slice(0, -1), **given)
        torch.testing.assert_close((loss, gradient[:-1]), (without, gradient_without))
        assert not gradient[-1].any() and metrics == pytest.approx(metrics_without)
    b, given = draw(0), dict(loss_type='grpo', importance_sampling_level='token')
    torch.testing.assert_close(trl(b, **given)[0], ours(b, **given)[0]*4/5)   # TRL divides by it all the same

def test_a_batch_without_a_token_is_zero():
    b = draw(0) | dict(mask=torch.zeros(5, 6) > 0)
    for loss_type in LOSS_TYPES:
        given = dict(loss_type=loss_type, max_completion_length=7, beta=0.1, behaviour_mode='token_mask', entropy_coef=0.1)
        loss, gradient, metrics = ours(b, **given)
        assert loss == 0 and not gradient.any() and metrics == dict(num_tokens=0)

def test_an_unmasked_token_far_away_doesnt_overflow():
    for A in (1., 0., -1.):
        zero = torch.zeros(1, 1)
        b = dict(logp=zero + 200, old=zero, A=torch.tensor([A]), mask=zero == 0, entropy=zero)
        assert all(t.isfinite().all() for t in ours(b)[:2])

def test_only_num_tokens_frees_bnpo_from_its_split():
    b = draw(0, rows=6)
    halves = slice(0, 2), slice(2, 6)
    whole, _, _ = ours(b, loss_type='bnpo')
    assert abs(sum(ours(b, rows, loss_type='bnpo')[0] for rows in halves)/2 - whole) > 0.01
    torch.testing.assert_close(sum(ours(b, rows, loss_type='bnpo', num_tokens=int(b['mask'].sum()))[0] for rows in halves), whole)

def test_cispos_epsilon_high_is_the_largest_weight_itself():
    logp = torch.tensor([[3.]], requires_grad=True)
    for A in (1., -1.):
        loss, metrics = policy_loss(logp, torch.zeros(1, 1), torch.tensor([A]), torch.ones(1, 1) > 0, loss_type='cispo', epsilon_high=1.28)
        assert torch.autograd.grad(loss, logp)[0].item() == pytest.approx(-1.28*A) and metrics['clip_high'] == 1   # not 2.28, and not 0

def test_a_sequences_weight_is_its_mean_at_any_length():
    for n in (1, 1000, 65_536):
        far = torch.full([1, n], 0.1, dtype=torch.float64)
        _, metrics = policy_loss(far, 0*far, torch.ones(1), far > 0, importance_sampling_level='sequence')
        assert metrics['ratio_p50'] == pytest.approx(math.exp(0.1))    # of the sum: e^6554
        weights = behaviour_weights(-far, 0*far, far > 0, mode='sequence_truncate')
        assert weights[0, 0].item() == pytest.approx(math.exp(-0.1))   # of the sum: 0

def test_advantages_equal_a_reference_by_hand():
    rng = random.Random(0)
    for case in range(200):
        size, scale, loo = rng.choice([1, 2, 4, 8]), rng.choice(['group', 'batch', 'none']), rng.random() < 0.5
        rewards = [rng.choice([0., 0.5, 1., None]) for _ in range(size*rng.randint(1, 4))]
        std = lambda values: (sum((v - sum(values)/len(values))**2 for v in values)/(len(values) - 1))**.5 if len(values) > 1 else 0.
        expected = []
        for i, r in enumerate(rewards):
            group = [x for x in rewards[i//size*size:i//size*size + size] if x is not None]
            rest = list(group)
            if r is not None: rest.remove(r)
            if r is None or len(set(group)) == 1: expected.append(0.); continue
            base = sum(rest)/len(rest) if loo else sum(group)/len(group)
            spread = dict(none=1., group=std(group) + 1e-4, batch=std([x for x in rewards if x is not None]) + 1e-4)[scale]
            expected.append((r - base)/spread)
        found = group_advantages(rewards, size, scale_rewards=scale, leave_one_out=loo)
        torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-5)

@pytest.mark.parametrize('scale', ['group', 'batch', 'none'])
def test_equal_rewards_teach_nothing_whatever_they_are(scale):
    rng = random.Random(0)
    for size in (1, 2, 3, 7, 8, 16):
        for value in [0.7, 0.1, 1/3, 1e-8, 1e6, -0.7] + [rng.random() for _ in range(50)]:
            rewards = torch.cat([torch.full([size], value), torch.linspace(0, 1, size)])   # beside a group that differs
            lacking = rewards.clone()
            lacking[0] = math.nan
            for given, loo in product((rewards, lacking), (False, True)):
                assert not group_advantages(given, size, scale_rewards=scale, leave_one_out=loo)[:size].any()


# Health, and which tokens stay

def test_health_by_hand():
    for seed in range(20):
        b = draw(seed)
        health = policy_health(b['logp'], b['old'], b['A'], b['mask'], delta=1.9)
        w = [(math.exp(b['logp'][i, t] - b['old'][i, t]), b['A'][i].item()) for i, t in b['mask'].nonzero().tolist()]
        n, sorted_w = len(w), sorted(x for x, _ in w)
        expected = dict(num_tokens=n, clip_low=sum(x < 0.8 and A < 0 for x, A in w)/n,
                        clip_high=sum(x > 1.28 and A > 0 or x > 1.9 and A < 0 for x, A in w)/n,
                        ratio_p1=sorted_w[0], ratio_p50=sorted_w[round((n - 1)/2)], ratio_p99=sorted_w[-1],
                        kl=sum(x - 1 - math.log(x) for x, _ in w)/n, ess=sum(sorted_w)**2/sum(x*x for x in sorted_w)/n,
                        zero_advantage=sum(b['A'][:-1] == 0).item()/4)
        assert health == pytest.approx(expected, abs=1e-6)

def test_the_second_moment_is_that_of_the_whole_update_and_no_token_more_is_left_out():
    for seed in range(100):
        g = torch.Generator().manual_seed(seed)
        log_ratio = 0.4*torch.randn(6, 7, generator=g)*(torch.arange(6) % 3)[:, None]   # a third of the rows is fresh
        log_ratio = log_ratio.round(decimals=1) if seed % 2 else log_ratio              # with ties
        mask = torch.rand(6, 7, generator=g) < 0.8
        stays = second_moment_mask(log_ratio, mask)
        for split in ([2, 4], [1]*6, [6]):
            parts = list(zip(log_ratio.split(split), mask.split(split)))
            bound = second_moment_bound(*zip(*parts))
            assert torch.equal(torch.cat([second_moment_mask(r, m, bound=bound) for r, m in parts]), stays)
        squares, out = log_ratio[stays].double().square(), log_ratio[mask & ~stays].double().abs()
        assert squares.mean() <= 0.04 and not (stays & ~mask).any()
        if len(out):
            next_ones = out[out == out.min()].square()
            assert log_ratio[stays].abs().max() < out.min() and torch.cat([squares, next_ones]).mean() > 0.04


@pytest.mark.parametrize('given,said', [
    (dict(loss_type='ppo'), "loss_type='ppo'"), (dict(importance_sampling_level='tokens'), "did you mean 'token'"),
    (dict(epsilon_low=1.2), 'epsilon_low=1.2'), (dict(loss_type='dr_grpo'), 'give it'), (dict(delta=1.2), 'must be above 1'),
    (dict(loss_type='cispo', delta=5.), 'leave delta out'), (dict(kl_estimator='k1'), 'pulls nowhere'),
    (dict(kl_estimator='k2'), "kl_estimator='k2'"), (dict(behaviour_mode='token_mas'), "did you mean 'token_mask'")])
def test_what_cannot_be_meant_is_refused(given, said):
    with pytest.raises(UserError, match=said): ours(draw(0), **given)

def test_a_term_without_its_tensor_is_refused():
    b = draw(0)
    for given, said in ((dict(beta=0.1), 'ref_logp'), (dict(entropy_coef=0.1), 'linear_logprob')):
        with pytest.raises(UserError, match=said): policy_loss(b['logp'], b['old'], b['A'], b['mask'], **given)

@pytest.mark.parametrize('entropy,expected', [(0.5, (0.3, 0.3)), (1., (0.3, 0.3)), (1.5, (0.1, 0.))])
def test_entropy_is_paid_for_up_to_its_target(entropy, expected):
    assert next_entropy_coef(0.2, entropy, 1., step=0.1) == pytest.approx(expected)
