"""A vLLM server that this process starts, watches and ends, and that answers nobody else.

It listens on a socket in a folder of mode 0700: whoever can connect could load weights, read
prompts from its log, and have it generate.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from distil_core.config.models import ComputeParams
from distil_core.engines.vllm.launch import require_vllm, server_command, server_environment
from distil_core.engines.vllm.options import Options
from distil_core.errors import EngineError

_LOG_BYTES = 4000
# A socket's path may have 107 characters; vLLM names its own sockets by a UUID.
_LONGEST_FOLDER = 107 - len("/00000000-0000-0000-0000-000000000000")


class ManagedServer:
    """A server that is ready once constructed. Its log is an unnamed file, whose end errors show.

    base_url: for a client that connects to `socket`; the host it names is arbitrary.
    """

    base_url = "http://localhost"

    def __init__(self, options: Options, compute: ComputeParams, policy_dir: Path):
        require_vllm()
        self._folder = _private_folder()
        self.socket = self._folder / "http"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the server
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "distil_core.engines.vllm.guard",
                str(self._folder),
                *server_command(options, compute, policy_dir, self.socket),
            ],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=server_environment(options, compute, self._folder),
            start_new_session=True,
            umask=0o077,
        )
        try:
            self._wait_until_healthy(options.start_timeout_s)
        except BaseException:
            self.close()
            raise

    @property
    def process_group(self) -> int:
        """The process group of the guard, the server and its workers."""
        return self._process.pid

    def ended(self) -> bool:
        """Whether the server has ended."""
        return self._process.poll() is not None

    def log_end(self) -> str:
        """The last lines of the server's log."""
        size = os.fstat(self._log.fileno()).st_size
        start = max(0, size - _LOG_BYTES)
        return os.pread(self._log.fileno(), _LOG_BYTES, start).decode(errors="replace").strip()

    def close(self) -> None:
        """Kill the whole group and wait for its end. May be repeated."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        if not self._log.closed:
            self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def transport(self, limits: httpx.Limits | None = None) -> httpx.HTTPTransport:
        """An HTTP transport that connects to this server only."""
        return httpx.HTTPTransport(uds=str(self.socket), limits=limits or httpx.Limits())

    def _wait_until_healthy(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        with httpx.Client(transport=self.transport(), timeout=5.0) as client:
            while not self._is_healthy(client):
                if self._process.poll() is not None:
                    raise EngineError(f"the vLLM server ended while starting:\n{self.log_end()}")
                if time.monotonic() > deadline:
                    raise EngineError(
                        f"the vLLM server was not ready within {timeout_s:g} s (start_timeout_s):\n"
                        f"{self.log_end()}"
                    )
                time.sleep(0.2)

    def _is_healthy(self, client: httpx.Client) -> bool:
        try:
            return client.get(f"{self.base_url}/health").is_success
        except httpx.TransportError:
            return False


def _private_folder() -> Path:
    """A new folder that only this user can enter, with a path short enough for sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="distil-vllm-"))
    if len(os.fsencode(folder)) > _LONGEST_FOLDER:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="distil-vllm-", dir="/tmp"))
    return folder
