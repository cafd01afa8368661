"""vLLM's OpenAI-compatible server: which model it has, whether its tokens are ours, and what it
lists of a prompt's tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from distil_core.credentials import is_loopback
from distil_core.errors import ExpertError, ExpertUnavailableError
from distil_core.experts._bounded import Deadline, bounded_content
from distil_core.experts._endpoint import Budget, Endpoint
from distil_core.experts._served_answers import read_listed, read_written
from distil_core.experts._served_options import Options
from distil_core.experts.response_record import Completion, Request
from distil_core.policy.tokenizer import encode_text, vocabulary_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = 'The 3 quick foxes:\n    jump("over", 12+30=42)\n\n\u00c4rger, \u65e5\u672c \U0001f98a!'
_IDS_AT_ONCE = 4096
_MAX_CARD_BYTES = 2**24


class Prompt(NamedTuple):
    """What is asked about: the tokens from position `start` on, after those before."""

    token_ids: list[int]
    start: int


class ScoringServer:
    """One server, for as long as it is asked. tokenizer: the one that it must have. top_p: what is
    listed of a distribution is kept until it holds this mass."""

    def __init__(self, options: Options, tokenizer: PreTrainedTokenizerBase, top_p: float):
        self._options = options
        self._top_p = top_p
        self._tokenizer = tokenizer
        self._key = options.api_key()
        limits = options.limits()
        self._endpoint = Endpoint(
            options.base_url, limits, Budget(limits), self._key, options.concurrency
        )
        self._root = options.base_url.rstrip("/").removesuffix("/v1")
        self._card: dict[str, Any] = {}
        self._max_model_len: int | None = None

    def stop(self) -> None:
        """Start no further request; those under way still get their answer."""
        self._endpoint.stop()

    def close(self) -> None:
        """When no request is under way."""
        self._endpoint.close()

    def check(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """Which model this is. Raises `ExpertError` where the server does not know the model, or
        has another tokenizer. known: what it was when it was checked before, if it was."""
        models = self._get(f"{self._options.base_url}/models")
        try:
            cards = {str(card["id"]): card for card in (models or {})["data"]}
        except (KeyError, TypeError) as error:
            raise ExpertError(
                f"{self._options.base_url}/models names no models "
                f"({type(error).__name__}: {error}): base_url must be an OpenAI-compatible server's"
            ) from error
        if (card := cards.get(self._options.model)) is None:
            raise ExpertError(
                f"the server at {self._options.base_url} has no model {self._options.model!r}, it "
                f"has {', '.join(sorted(cards)) or 'none'}: correct tabulate.expert.options.model"
            )
        length = card.get("max_model_len")
        self._max_model_len = length if isinstance(length, int) else None
        version = self._get(f"{self._root}/version") or {}
        self._card = {
            "model": self._options.model,
            "root": card.get("root"),
            "max_model_len": self._max_model_len,
            "vllm": version.get("version") if isinstance(version, dict) else None,
            "vocabulary": vocabulary_digest(self._tokenizer),
        }
        if self._card != known:
            self._require_same_tokens()
        return self._card

    def ask(self, request: Request, prompt: Prompt) -> Completion:
        """The server's answer as it is recorded. Call `check` first. request: `scoring_request` of
        the prompt, or `sampling_request`."""
        prompt_ids, top_k = prompt.token_ids, request.body.get("prompt_logprobs")
        needed = len(prompt_ids) + int(request.body["max_tokens"])
        if self._max_model_len is not None and needed > self._max_model_len:
            raise ExpertError(
                f"a context and response of {len(prompt_ids)} tokens, and "
                f"{needed - len(prompt_ids)} more, do not fit into the server's --max-model-len "
                f"{self._max_model_len}: raise it there, or lower context.max_context_tokens or "
                "sample.max_new_tokens"
            )

        def read(answer: dict[str, Any]) -> Completion:
            if top_k is None:
                said = {"token_ids": read_written(answer)}
            else:
                listed = read_listed(answer, prompt_ids, prompt.start, top_k, self._top_p)
                said = listed.packed()
            tokens = (answer.get("usage") or {}).get("total_tokens")
            known = tokens if type(tokens) is int and tokens >= 0 else None
            text = json.dumps({"server": self._card, **said}, sort_keys=True)
            return Completion(text, "stop", known)

        try:
            return self._endpoint.complete(request, read)
        except ExpertError as error:
            if "greater than max allowed" not in str(error):
                raise
            raise ExpertError(
                f"tabulate.top_k {top_k} is more than the server lists: start it with "
                f"--max-logprobs {top_k} (its default is 20), or lower tabulate.top_k. It says: "
                f"{error}"
            ) from error

    def _require_same_tokens(self) -> None:
        """Compare every id's text, by way of all ids' in a row, and the tokens of a text."""
        local, model = self._tokenizer, self._options.model
        ids = sorted(set(local.get_vocab().values()))
        for place in range(0, len(ids), _IDS_AT_ONCE):
            some = ids[place : place + _IDS_AT_ONCE]
            question: dict[str, Any] = {"model": model, "tokens": some}
            found = self._post("detokenize", question, lambda answer: _text(answer["prompt"]))
            if _bare(found) != _bare(str(local.decode(some))):
                raise self._other_tokens(f"ids {some[0]} to {some[-1]} are other texts there")
        question = {"model": model, "prompt": _PROBE, "add_special_tokens": False}
        tokens = self._post("tokenize", question, lambda answer: json.dumps(answer["tokens"]))
        if json.loads(tokens) != encode_text(local, _PROBE):
            raise self._other_tokens(f"a text has other tokens there: {_PROBE!r}")

    def _other_tokens(self, how: str) -> ExpertError:
        if self._options.tokenizer is None:
            return ExpertError(
                f"the server at {self._options.base_url} has another tokenizer than the student "
                f"({how}): its distributions are over other tokens. Name the folder of its "
                "tokenizer as tabulate.expert.options.tokenizer and what it reads as template, so "
                "that they are mapped onto the student's tokens, or ask it for text (expert "
                "'black_box')"
            )
        return ExpertError(
            f"the tokenizer in {self._options.tokenizer} is not the one of the server at "
            f"{self._options.base_url} ({how}): name the folder of the model that it serves"
        )

    def _post(self, path: str, body: dict[str, Any], read: Callable[[Any], str]) -> str:
        def read_completion(answer: Any) -> Completion:
            try:
                return Completion(read(answer), "stop", None)
            except (KeyError, TypeError) as error:
                raise ValueError(f"{type(error).__name__}: {error}") from error

        try:
            found = self._endpoint.complete(Request(f"{self._root}/{path}", body), read_completion)
        except ExpertUnavailableError:
            raise
        except ExpertError as error:
            raise ExpertError(
                f"the server's tokenizer cannot be compared with ours: vLLM's has {self._root}"
                f"/tokenize and /detokenize , but not with --skip-tokenizer-init. {error}"
            ) from error
        return str(found.text)

    def _get(self, url: str) -> Any:
        """The JSON at an address; None where there is none."""
        deadline = Deadline()
        headers = {"Accept-Encoding": "identity"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        with deadline.bind(
            httpx.Client(
                headers=headers,
                timeout=self._options.timeout_s,
                follow_redirects=False,
                trust_env=not is_loopback(self._options.base_url),
            )
        ) as client:
            try:
                with (
                    deadline.within(self._options.timeout_s),
                    client.stream("GET", url) as response,
                ):
                    content = bounded_content(response, _MAX_CARD_BYTES)
            except httpx.RequestError as error:
                raise ExpertUnavailableError(
                    f"{url} gave no answer ({type(error).__name__}: {error}): start the server, "
                    "and run again; answers so far are recorded"
                ) from error
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise ExpertUnavailableError(f"{url} failed: HTTP {response.status_code}")
        if response.status_code != httpx.codes.OK:
            raise ExpertError(
                f"{url} refused: HTTP {response.status_code}. Check base_url and api_key_variable "
                "of tabulate.expert.options"
            )
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ExpertError(
                f"{url} is no JSON ({type(error).__name__}): base_url must be an "
                "OpenAI-compatible server's"
            ) from error


def scoring_request(options: Options, prompt: Prompt, top_k: int, top_p: float) -> Request:
    """The question about a prompt. vLLM must sample a token, which is not looked at. The address'
    fragment, which is not sent, tells questions apart of whose answers other parts are kept."""
    body = {
        "model": options.model,
        "prompt": prompt.token_ids,
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": top_k,
        "return_token_ids": True,
    }
    return Request(f"{options.base_url}/completions#from={prompt.start}&top_p={top_p!r}", body)


def sampling_request(options: Options, prompt_ids: Sequence[int], seed: int) -> Request:
    """How the expert goes on from a prompt, sampled from its whole distribution, whatever its
    generation_config says."""
    body = {
        "model": options.model,
        "prompt": list(prompt_ids),
        "max_tokens": options.max_new_tokens,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "seed": seed,
        "return_token_ids": True,
    }
    return Request(f"{options.base_url}/completions", body)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, found {value!r:.40}")
    return value


def _bare(text: str) -> str:
    """Without white space, which versions of transformers clean up differently."""
    return "".join(text.split())
