"""Some of the families in vLLM, against transformers: padded heads and several ends (2 min)."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from families import FAMILIES, Family

from distil_core.config.models import Component, ComputeParams, PretrainedBase
from distil_core.engines import build_engine
from distil_core.engines.base import SampleRequest, SamplingSettings, ScoreRequest
from distil_core.engines.vllm.pool import POOL
from distil_core.policy.pretrained import link_pretrained
from distil_core.policy.tokenizer import encode_text, load_tokenizer
from distil_core.progress import no_progress

IN_VLLM = [family for family in FAMILIES if family.in_vllm]
COMPUTE = ComputeParams(device="cpu", dtype="float32", num_threads=1)
OPTIONS = {
    "mode": "in_process",
    "max_logprobs": 500,
    "max_num_sequences": 24,
    "max_batched_tokens": 512,
}


@pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed: `make vllm`")
@pytest.mark.parametrize("family", IN_VLLM, ids=lambda family: family.name)
def test_it_samples_and_scores_as_transformers_does(family: Family, tmp_path: Path) -> None:
    published = family.write(tmp_path / "hf")
    folder = tmp_path / "policy-000"
    link_pretrained(PretrainedBase(kind="pretrained", path_or_id=str(published)), folder)
    tokenizer = load_tokenizer(folder)
    ends = {tokenizer.convert_tokens_to_ids(end) for end in family.ends}
    transformers, in_vllm = (
        build_engine(Component(name=name, options=options), folder, COMPUTE)
        for name, options in (("transformers", {"batch_size": 16}), ("vllm", OPTIONS))
    )
    context = encode_text(tokenizer, "What is 12 and 30?")
    requests = [SampleRequest(context, seed) for seed in range(64)]
    drawn = in_vllm.sample(requests, SamplingSettings(24, 1.0, 1.0), no_progress)
    last = {one.token_ids[-1] for one in drawn if one.finish_reason == "stop"}
    assert last == ends
    scored = [ScoreRequest(context, one.token_ids) for one in drawn[:16]]
    rows, expected = (
        engine.score(scored, 500, 1.0, no_progress) for engine in (in_vllm, transformers)
    )
    for mine, theirs, response in zip(rows, expected, drawn, strict=False):
        np.testing.assert_array_equal(mine.counts_t, theirs.counts_t)
        np.testing.assert_allclose(mine.logprobs, theirs.logprobs, rtol=0, atol=1e-4)
        shape = (len(response.token_ids), -1)
        is_own = theirs.token_ids.reshape(shape) == np.array(response.token_ids)[:, None]
        own = theirs.logprobs.reshape(shape)[is_own]
        np.testing.assert_allclose(response.behaviour_logprobs, own, rtol=0, atol=1e-4)
    POOL.close()
