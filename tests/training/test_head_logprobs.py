import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from distil_core.training import head_logprobs as module
from distil_core.training.head_logprobs import head_logprobs, token_logprobs
from distil_core.training.student_logprobs import bucket_logprobs


@pytest.fixture(autouse=True)
def deterministic():
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def _inputs(tokens, vocabulary, top_k, *, hidden=8, scale=3.0, dtype=torch.float64, seed=0):
    """Hidden states, weight, bias, ids of which some are padding, sampled ids."""
    random = torch.Generator().manual_seed(seed)
    hidden_nd = torch.randn(tokens, hidden, generator=random, dtype=torch.float64) * scale
    weight_vd = torch.randn(vocabulary, hidden, generator=random, dtype=torch.float64)
    bias_v = torch.randn(vocabulary, generator=random, dtype=torch.float64)
    ids_nk = torch.rand(tokens, vocabulary, generator=random).argsort(-1)[:, :top_k]
    counts_n1 = torch.randint(0, top_k + 1, (tokens, 1), generator=random)
    counts_n1[0] = top_k
    ids_nk = torch.where(torch.arange(top_k) < counts_n1, ids_nk, vocabulary)
    sampled_n = torch.randint(0, vocabulary, (tokens,), generator=random)
    floats = [one.to(dtype).requires_grad_() for one in (hidden_nd, weight_vd, bias_v)]
    return *floats, ids_nk, sampled_n


def _materialised(hidden_nd, weight_vd, bias_v, ids_nk, sampled_n, softcap):
    logits_nv = hidden_nd @ weight_vd.t()
    if bias_v is not None:
        logits_nv = logits_nv + bias_v
    if softcap is not None:
        logits_nv = softcap * torch.tanh(logits_nv / softcap)
    logprobs_nv = torch.log_softmax(logits_nv, -1)
    return (
        bucket_logprobs(logprobs_nv[None], ids_nk[None])[0],
        logprobs_nv.gather(-1, sampled_n[:, None])[:, 0],
    )


def _read(ids_nk, vocabulary):
    """Which buckets mean something: neither padding nor an empty tail."""
    stored_nk = ids_nk < vocabulary
    return torch.cat([stored_nk, stored_nk.sum(-1, keepdim=True) < vocabulary], -1)


def _gradients(outputs: tuple[Tensor, Tensor], inputs, read_nk):
    random = torch.Generator().manual_seed(1)
    weights_nk = torch.randn(read_nk.shape, generator=random, dtype=torch.float64) * read_nk
    weights_n = torch.randn(len(read_nk), generator=random, dtype=torch.float64)
    total = (outputs[0] * weights_nk).sum() + (outputs[1] * weights_n).sum()
    return torch.autograd.grad(total, inputs)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_equals_the_materialised_way_in_float64(data):
    vocabulary = data.draw(st.integers(2, 40))
    top_k = data.draw(st.one_of(st.integers(1, vocabulary), st.just(vocabulary)))
    tokens = data.draw(st.sampled_from([1, 5, 64, 130]))
    softcap = data.draw(st.sampled_from([None, 2.0, 30.0]))
    hidden_nd, weight_vd, bias_v, ids_nk, sampled_n = _inputs(
        tokens, vocabulary, top_k, seed=data.draw(st.integers(0, 1000))
    )
    bias_v = bias_v if data.draw(st.booleans()) else None
    read_nk = _read(ids_nk, vocabulary)
    expected = _materialised(hidden_nd, weight_vd, bias_v, ids_nk, sampled_n, softcap)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_VOCABULARY_TILE", data.draw(st.sampled_from([3, 7, 4096])))
        found = head_logprobs(
            hidden_nd,
            weight_vd,
            ids_nk,
            sampled_n,
            bias_v=bias_v,
            softcap=softcap,
            chunk_tokens=64,
        )
        inputs = [one for one in (hidden_nd, weight_vd, bias_v) if one is not None]
        gradients = _gradients(found, inputs, read_nk)
    torch.testing.assert_close(found[0][read_nk], expected[0][read_nk], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-12, atol=1e-12)
    assert torch.isfinite(found[0]).all()
    for one, other in zip(gradients, _gradients(expected, inputs, read_nk), strict=True):
        assert (one - other).abs().max() <= 1e-12 * (1 + other.abs().max())


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_gradcheck(softcap):
    hidden_nd, weight_vd, bias_v, ids_nk, sampled_n = _inputs(3, 7, 3, hidden=2, scale=1.0)
    read_nk = _read(ids_nk, 7)

    def outputs(hidden_nd, weight_vd, bias_v):
        buckets_nk, sampled = head_logprobs(
            hidden_nd, weight_vd, ids_nk, sampled_n, bias_v=bias_v, softcap=softcap
        )
        return buckets_nk[read_nk], sampled

    assert torch.autograd.gradcheck(outputs, (hidden_nd, weight_vd, bias_v))


def test_a_token_does_not_depend_on_the_chunk():
    *floats, ids_nk, sampled_n = _inputs(300, 500, 20, hidden=32, scale=0.3, dtype=torch.float32)
    hidden_nd, weight_vd, bias_v = floats
    read_nk = _read(ids_nk, 500)
    results = []
    for chunk_tokens in (64, 128, 1024):
        found = head_logprobs(
            hidden_nd, weight_vd, ids_nk, sampled_n, bias_v=bias_v, chunk_tokens=chunk_tokens
        )
        results.append((*found, *_gradients(found, floats, read_nk)))
    for other in results[1:]:
        for one, same in zip(results[0][:3], other[:3], strict=True):
            assert torch.equal(one, same)
        for one, close in zip(results[0][3:], other[3:], strict=True):
            torch.testing.assert_close(one, close, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_a_tiny_tail_is_exact(dtype, rounding):
    """One token of 8 at logit 0, the others 69 below it: a mass of 7e-30 or so. Its gradient has
    the rounding of the tail's logarithm, which is near -67."""
    hidden_nd = torch.ones(1, 1, dtype=dtype, requires_grad=True)
    weight_vd = torch.full((8, 1), -69.0, dtype=dtype)
    weight_vd[2] = 0.0
    buckets_nk, _ = head_logprobs(hidden_nd, weight_vd, torch.tensor([[2]]), torch.tensor([2]))
    expected = -69.0 + torch.tensor(7.0, dtype=dtype).log()
    torch.testing.assert_close(buckets_nk[0, 1], expected, rtol=rounding, atol=0)
    (gradient,) = torch.autograd.grad(buckets_nk[0, 1], hidden_nd)
    torch.testing.assert_close(gradient.item(), -69.0, rtol=rounding, atol=0)


def test_bfloat16_is_near_float32():
    *floats, ids_nk, sampled_n = _inputs(70, 90, 5, scale=0.5, dtype=torch.bfloat16)
    wide = [one.detach().float() for one in floats]
    found = head_logprobs(floats[0], floats[1], ids_nk, sampled_n, bias_v=floats[2])
    expected = head_logprobs(wide[0], wide[1], ids_nk, sampled_n, bias_v=wide[2])
    assert found[0].dtype == torch.float32
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


class _LargestTensor(TorchDispatchMode):
    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else [result]:
            if isinstance(one, Tensor):
                self.elements = max(self.elements, one.numel())
        return result


def test_no_tensor_of_tokens_by_vocabulary_is_made():
    tokens, vocabulary = 512, 20_000
    *floats, ids_nk, sampled_n = _inputs(tokens, vocabulary, 5, hidden=4, dtype=torch.float32)
    with _LargestTensor() as largest:
        found = head_logprobs(floats[0], floats[1], ids_nk, sampled_n, chunk_tokens=64)
        (found[0].sum() * 0 + found[1].sum()).backward()
    assert 0 < largest.elements <= 64 * 4096 + 1
    assert largest.elements * 30 < tokens * vocabulary


@pytest.mark.parametrize(
    ("ids", "sampled", "chunk_tokens", "message"),
    [
        ([[1, 2]], [3], 100, "chunk_tokens must be a multiple of 64, not 100"),
        ([[1, 2]], [3], 0, "chunk_tokens must be"),
        ([[1, 2]], [4], 64, r"sampled ids must be in \[0, 4\)"),
        ([[1, 5]], [3], 64, r"expert ids must be in \[0, 4\]"),
        ([[-1, 2]], [3], 64, "expert ids must be in"),
        ([[2, 2]], [3], 64, "distinct at each position, found one twice at position 0"),
    ],
)
def test_refuses(ids, sampled, chunk_tokens, message):
    with pytest.raises(ValueError, match=message):
        head_logprobs(
            torch.zeros(1, 2),
            torch.zeros(4, 2),
            torch.tensor(ids),
            torch.tensor(sampled),
            chunk_tokens=chunk_tokens,
        )


@pytest.mark.parametrize("vocabulary", [5, 4096, 9001])
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_one_id_at_a_temperature(vocabulary, softcap, temperature):
    hidden_nd, weight_vd, bias_v, _, ids_n = _inputs(70, vocabulary, 2)
    for bias in (bias_v.detach(), None):
        logits_nv = hidden_nd.detach() @ weight_vd.detach().t()
        logits_nv = logits_nv if bias is None else logits_nv + bias
        logits_nv = logits_nv if softcap is None else softcap * torch.tanh(logits_nv / softcap)
        expected_n = torch.log_softmax(logits_nv / temperature, -1).gather(-1, ids_n[:, None])[:, 0]
        found_n = token_logprobs(
            hidden_nd.detach(),
            weight_vd.detach(),
            ids_n,
            temperature=temperature,
            bias_v=bias,
            softcap=softcap,
            chunk_tokens=64,
        )
        assert found_n.dtype == torch.float64
        torch.testing.assert_close(found_n, expected_n, rtol=1e-12, atol=1e-12)
