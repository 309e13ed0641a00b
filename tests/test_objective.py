"The objective against a slow reference, token by token in doubles, over all settings; and the traps that peers fall into."
import math, random
from itertools import product

import pytest
import torch

from motif_repro.core.errors import UserError
from motif_repro.rl.objective import LEVELS, LOSS_TYPES, group_advantages, policy_loss

CLIPS = [dict(), dict(epsilon_low=0.1, epsilon_high=1.5), dict(epsilon_high=0.1, delta=1.3)]
EXTRAS = [(), ('ref',), ('behaviour',), ('ref', 'behaviour')]


def draw(seed, rows=5, width=6, spread=0.6):
    "Random log-probabilities, advantages with zeros, masks with holes; the last row is fully masked."
    g = torch.Generator().manual_seed(seed)
    normal = lambda *size: torch.randn(*size, generator=g, dtype=torch.float64)
    logp = -normal(rows, width).abs() - 0.5
    batch = dict(logp=logp) | {name: logp + spread*normal(rows, width) for name in ('old', 'ref', 'behaviour')}
    mask = torch.rand(rows, width, generator=g) < 0.7
    mask[:, 0], mask[-1] = True, False
    return batch | dict(A=normal(rows).where(torch.rand(rows, generator=g) < 0.8, 0), mask=mask)

def ours(b, rows=slice(None), **options):
    "Loss and its gradient."
    logp = b['logp'][rows].clone().requires_grad_()
    options = {k: v[rows] if isinstance(v, torch.Tensor) else v for k, v in options.items()}
    loss, metrics = policy_loss(logp, b['old'][rows], b['A'][rows], b['mask'][rows], **options)
    return loss.detach(), torch.autograd.grad(loss, logp)[0], metrics

def reference(b, *, loss_type, level, epsilon_low=0.2, epsilon_high=0.28, delta=math.inf, beta=0., extras=(), max_completion_length=7):
    "The papers' formulas, a token at a time."
    logp = b['logp'].clone().requires_grad_()
    sums, counts = [], []
    for i in range(len(logp)):
        tokens = [t for t in range(logp.shape[1]) if b['mask'][i, t]]
        if not tokens: continue
        losses, A = [], b['A'][i]
        for t in tokens:
            over = tokens if level == 'sequence' else [t]
            w = torch.exp(sum(logp[i, u] - b['old'][i, u] for u in over)/len(over))
            if loss_type == 'cispo': loss = -min(w.item(), epsilon_high)*A*logp[i, t]
            else:
                free, held = w.clamp(max=delta), w.clamp(1 - epsilon_low, 1 + epsilon_high)
                loss = -min(free*A, held*A)
            if 'behaviour' in extras: loss = loss*min(math.exp(b['old'][i, t] - b['behaviour'][i, t]), 2.)
            if 'ref' in extras: loss = loss + beta*(torch.exp(b['ref'][i, t] - logp[i, t]) - (b['ref'][i, t] - logp[i, t]) - 1)
            losses.append(loss)
        sums.append(sum(losses))
        counts.append(len(losses))
    loss = dict(grpo=lambda: sum(s/n for s, n in zip(sums, counts))/len(sums), dr_grpo=lambda: sum(sums)/(len(sums)*max_completion_length))\
        .get(loss_type, lambda: sum(sums)/sum(counts))()
    return loss.detach(), torch.autograd.grad(loss, logp)[0]


@pytest.mark.parametrize('loss_type', LOSS_TYPES)
def test_loss_and_gradient_equal_the_slow_reference(loss_type):
    for seed, (level, clip, extras) in enumerate(product(LEVELS, CLIPS, EXTRAS)):
        b, beta = draw(seed), 0.05*('ref' in extras)
        theirs, their_gradient = reference(b, loss_type=loss_type, level=level, beta=beta, extras=extras, **clip)
        given = {f'{name}_logp': b[name] for name in extras}
        loss, gradient, _ = ours(b, loss_type=loss_type, importance_sampling_level=level, beta=beta, max_completion_length=7, **given, **clip)
        torch.testing.assert_close(loss, theirs, rtol=0, atol=1e-7)
        torch.testing.assert_close(gradient, their_gradient, rtol=0, atol=1e-7)

@pytest.mark.parametrize('loss_type,level', [*product(LOSS_TYPES, LEVELS)])
def test_properties(loss_type, level):
    "Order of rows, length of padding and split into micro-batches change nothing."
    options = dict(loss_type=loss_type, importance_sampling_level=level, max_completion_length=7)
    for seed in range(50):
        b = draw(seed, rows=6)
        whole = dict(num_tokens=int(b['mask'].sum()), num_sequences=int(b['mask'].any(1).sum()))
        loss, gradient, metrics = ours(b, **options)
        order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(ours(b, order, **options)[0], loss)
        junk = dict(logp=99., old=-99., ref=0., behaviour=0., mask=False)
        wide = {k: v if k == 'A' else torch.nn.functional.pad(v, (0, 3), value=junk[k]) for k, v in b.items()}
        padded, padded_gradient, padded_metrics = ours(wide, **options)
        torch.testing.assert_close((padded, padded_gradient[:, :6]), (loss, gradient))
        assert not padded_gradient[:, 6:].any() and padded_metrics == pytest.approx(metrics)
        parts = [ours(b, rows, **options, **whole) for rows in (slice(0, 1), slice(1, 4), slice(4, 6))]
        torch.testing.assert_close(sum(p[0] for p in parts), loss)
        torch.testing.assert_close(torch.cat([p[1] for p in parts]), gradient)

@pytest.mark.parametrize('loss_type,level,dtype', [*product(LOSS_TYPES, LEVELS, (torch.float32, torch.float64))])
def test_a_masked_token_makes_no_nan_whatever_it_holds(loss_type, level, dtype):
    b = {k: v.to(dtype) if v.is_floating_point() else v for k, v in draw(0).items()}
    options = dict(loss_type=loss_type, importance_sampling_level=level, beta=0.1, max_completion_length=7)
    loss, gradient, metrics = ours(b, ref_logp=b['ref'], behaviour_logp=b['behaviour'], **options)
    for junk in (100., 1e30, math.inf, -math.inf, math.nan):
        spoilt = {k: v.where(b['mask'], -junk if k == 'old' else junk) if v.dim() == 2 and k != 'mask' else v for k, v in b.items()}
        again, again_gradient, again_metrics = ours(spoilt, ref_logp=spoilt['ref'], behaviour_logp=spoilt['behaviour'], **options)
        assert torch.equal(again, loss) and torch.equal(again_gradient, gradient) and again_metrics == metrics

def test_a_batch_without_a_token_is_zero():
    b = draw(0) | dict(mask=torch.zeros(5, 6) > 0)
    for loss_type in LOSS_TYPES:
        loss, gradient, metrics = ours(b, loss_type=loss_type, max_completion_length=7)
        assert loss == 0 and not gradient.any() and metrics == dict(num_tokens=0)

def test_an_unmasked_token_far_away_doesnt_overflow():
    for A in (1., 0., -1.):
        b = dict(logp=torch.tensor([[200.]]), old=torch.zeros(1, 1), A=torch.tensor([A]), mask=torch.ones(1, 1) > 0)
        assert all(t.isfinite().all() for t in ours(b)[:2])


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
    for size in (2, 3, 7, 8, 16):
        for value in [0.7, 0.1, 1/3, 1e-8, 1e6, -0.7] + [rng.random() for _ in range(50)]:
            rewards = torch.cat([torch.full([size], value), torch.linspace(0, 1, size)])   # beside a group that differs
            lacking = rewards.clone()
            lacking[0] = math.nan
            for given, loo in product((rewards, lacking), (False, True)):
                assert not group_advantages(given, size, scale_rewards=scale, leave_one_out=loo)[:size].any()

def test_adding_to_all_rewards_changes_nothing():
    rewards = torch.randn(64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for scale in ('group', 'batch', 'none'):
        torch.testing.assert_close(group_advantages(rewards + 5, 8, scale_rewards=scale), group_advantages(rewards, 8, scale_rewards=scale))

@pytest.mark.parametrize('options,said', [
    (dict(loss_type='ppo'), "loss_type='ppo'"), (dict(importance_sampling_level='tokens'), "did you mean 'token'"),
    (dict(epsilon_low=1.2), 'epsilon_low=1.2'), (dict(beta=0.1), 'ref_logp'), (dict(loss_type='dr_grpo'), 'give it')])
def test_what_cannot_be_meant_is_refused(options, said):
    with pytest.raises(UserError, match=said): ours(draw(0), **options)
