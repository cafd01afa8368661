"""A tiny model behind a real vLLM server on this machine, and a relay in front of it that can be
made to fail."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

MODEL = "tiny"
END, PAD = "<|end|>", "<|pad|>"
_CORPUS = ["the sum of 12 and 30 is 42", "12+30=42\n120+300=420\n", "then there were three sums"]
_START_TIMEOUT_S = 600.0


def byte_tokenizer(end: str = END) -> Any:
    """Byte-level BPE, as most checkpoints have it. end: its end of sequence."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[PAD, END, "<|turn|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS * 20, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end, pad_token=PAD, clean_up_tokenization_spaces=False
    )


def save_checkpoint(tokenizer: Any, folder: Path, seed: int) -> Path:
    """A model whose distributions are far from even. vLLM's kernels need heads of 32 numbers."""
    import torch

    from distil_core.config.models import ArchitectureParams
    from distil_core.policy.model import save_policy
    from distil_core.policy.new_model import new_model

    architecture = ArchitectureParams(
        hidden_size=64, num_layers=2, num_heads=2, intermediate_size=64, max_positions=128
    )
    model = new_model(architecture, tokenizer, seed)
    with torch.no_grad():
        model.get_input_embeddings().weight *= 3
    save_policy(model, tokenizer, folder)
    return folder


@contextlib.contextmanager
def vllm_server(folder: Path, max_logprobs: int) -> Iterator[str]:
    """The address, with /v1, of a server that was started as docs/experts.md says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--max-logprobs", str(max_logprobs), "--dtype", "float32", "--enforce-eager"]
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_CI_ENV": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }
    log = folder.parent / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, start_new_session=True
        )
    try:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not _is_well(port):
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        # Its workers are in the same group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _is_well(port: int) -> bool:
    try:
        url = f"http://127.0.0.1:{port}/health"
        return httpx.get(url, timeout=5.0, trust_env=False).is_success
    except httpx.TransportError:
        return False


class Relay:
    """seen: paths and bodies of all requests, with their headers. change_body, change_answer: what
    becomes of a completion's. faults: what the next completions meet instead of an answer, a status
    or 'half'."""

    def __init__(self, target: str):
        self.seen: list[tuple[str, Any, dict[str, str]]] = []
        self.faults: list[int | str] = []
        self.change_body: Callable[[dict[str, Any]], Any] = lambda body: body
        self.change_answer: Callable[[dict[str, Any]], Any] = lambda answer: answer
        self.missing: set[str] = set()
        relay, lock = self, threading.Lock()
        client = httpx.Client(base_url=target.removesuffix("/v1"), timeout=120, trust_env=False)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._relay("GET", None)

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._relay("POST", json.loads(content))

            def _relay(self, method: str, body: Any) -> None:
                completes = self.path.endswith("/completions")
                with lock:
                    relay.seen.append((self.path, body, dict(self.headers)))
                    fault = relay.faults.pop(0) if completes and relay.faults else None
                if self.path in relay.missing:
                    self.send_error(404)
                    return
                if isinstance(fault, int):
                    self.send_error(fault)
                    return
                sent = relay.change_body(body) if completes else body
                answer = client.request(method, self.path, json=sent)
                content = answer.content
                if completes and answer.is_success:
                    content = json.dumps(relay.change_answer(answer.json())).encode()
                self.send_response(answer.status_code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if fault == "half":
                    self.wfile.write(content[: len(content) // 2])
                    self.close_connection = True
                    return
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Nothing: the tests look at `seen`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self._client = client
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def completions(self) -> list[dict[str, Any]]:
        """The bodies of what was asked."""
        return [body for path, body, _ in self.seen if path.endswith("/completions")]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._client.close()
