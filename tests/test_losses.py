"The losses over linear_logprob: as exact as plain torch in bf16 too, and alive where nothing is learned."
import pytest
import torch
import torch.nn.functional as F

from motif_repro.core.errors import UserError
from motif_repro.kernels.losses import distillation_kl, linear_cross_entropy


def inputs(N=37, D=48, V=500, seed=0):
    random = torch.Generator().manual_seed(seed)
    h, w = (torch.randn(*s, generator=random) for s in ((N, D), (V, D)))
    return h, w*D**-0.5, torch.randint(V, (N,), generator=random).where(torch.rand(N, generator=random) > 0.2, -100)

def result(fn, *tensors, dtype):
    tensors = [t.to(dtype).requires_grad_() for t in tensors]
    loss = fn(*tensors)
    return [loss.detach().double(), *(g.double() for g in torch.autograd.grad(loss.sum(), tensors))]

def plain_cross_entropy(h, w, y, label_smoothing, z_loss):
    z = (h @ w.T).to(torch.promote_types(h.dtype, torch.float32))
    return F.cross_entropy(z, y, label_smoothing=label_smoothing) + z_loss*z.logsumexp(-1)[y != -100].square().mean()

def plain_distillation(h, w, ids, logq):
    logp = (h @ w.T).to(torch.promote_types(h.dtype, torch.float32)).log_softmax(-1).gather(1, ids)
    return (logq.exp()*(logq - logp)).sum(-1)

def assert_near_truth(ours, plain, tensors, dtype):
    truth = result(plain, *tensors, dtype=torch.float64)
    for t, p, o in zip(truth, result(plain, *tensors, dtype=dtype), result(ours, *tensors, dtype=dtype)):
        assert (o - t).abs().max() <= 2*(p - t).abs().max() + 8*torch.finfo(dtype).eps*t.abs().max()

@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('extras', [(0., 0.), (0.1, 0.), (0.3, 1e-2)], ids=str)
def test_cross_entropy_errs_as_plain_torch(dtype, extras):
    for seed in range(20):
        h, w, y = inputs(seed=seed)
        tensors = [x.to(dtype).double() for x in (h, w)]    # the truth starts from the same rounded numbers
        ours = lambda h, w: linear_cross_entropy(h, w, y, label_smoothing=extras[0], z_loss=extras[1])
        assert_near_truth(ours, lambda h, w: plain_cross_entropy(h, w, y, *extras), tensors, dtype)

@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_distillation_errs_as_plain_torch(dtype):
    for seed in range(20):
        h, w, _ = inputs(seed=seed)
        top = torch.randn(37, 500, generator=torch.Generator().manual_seed(seed)).log_softmax(-1).topk(8)
        tensors = [x.to(dtype).double() for x in (h, w)]
        ours = lambda h, w: distillation_kl(h, w, top.indices, top.values)
        assert_near_truth(ours, lambda h, w: plain_distillation(h, w, top.indices, top.values), tensors, dtype)

@pytest.mark.parametrize('mode', ['recompute', 'one_pass'])
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_modes_and_reductions_agree_with_torch(mode, reduction):
    h, w, y = inputs()
    ours, theirs = (result(fn, h, w, dtype=torch.float64) for fn in (
        lambda h, w: linear_cross_entropy(h, w, y, mode=mode, reduction=reduction, label_smoothing=0.2),
        lambda h, w: F.cross_entropy(h @ w.T, y, reduction=reduction, label_smoothing=0.2)))
    for o, t in zip(ours, theirs): torch.testing.assert_close(o, t)

@pytest.mark.parametrize('mode', ['recompute', 'one_pass'])
def test_all_ignored_is_zero_with_a_gradient(mode):
    h, w, y = inputs()
    loss, *grads = result(lambda h, w: linear_cross_entropy(h, w, torch.full_like(y, -100), mode=mode), h, w, dtype=torch.float32)
    assert loss == 0 and not any(g.any() for g in grads)

@pytest.mark.parametrize('change, words', [(dict(label_smoothing=2.), 'label_smoothing=2.0'), (dict(z_loss=-1.), 'z_loss=-1.0'),
                                           (dict(softcap=3., z_loss=1.), 'logits that are linear'), (dict(mode='one_pass', reduction='none'), 'reduction=none')])
def test_refusals(change, words):
    with pytest.raises(UserError) as e: linear_cross_entropy(*inputs(), **change)
    assert words in str(e.value)
