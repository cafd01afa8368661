"""A vLLM server that this process starts, watches and ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
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


class ManagedServer:
    """Ready when made. Its log is a file without a name, of which errors show the end."""

    def __init__(self, options: Options, compute: ComputeParams, policy_dir: Path):
        require_vllm()
        port = _free_port()
        self.base_url = f"http://127.0.0.1:{port}"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the server
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "distil_core.engines.vllm.guard",
                *server_command(options, compute, policy_dir, port),
            ],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=server_environment(options, compute),
            start_new_session=True,
        )
        try:
            self._wait_until_healthy(options.start_timeout_s)
        except BaseException:
            self.close()
            raise

    @property
    def process_group(self) -> int:
        """Of the guard, the server and its workers."""
        return self._process.pid

    def ended(self) -> bool:
        """Whether the server is gone."""
        return self._process.poll() is not None

    def log_end(self) -> str:
        """The last lines of what the server wrote."""
        size = os.fstat(self._log.fileno()).st_size
        start = max(0, size - _LOG_BYTES)
        return os.pread(self._log.fileno(), _LOG_BYTES, start).decode(errors="replace").strip()

    def close(self) -> None:
        """Kill the whole group and wait for it. Safe to repeat."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        if not self._log.closed:
            self._log.close()

    def _wait_until_healthy(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            if self._process.poll() is not None:
                raise EngineError(f"the vLLM server ended while starting:\n{self.log_end()}")
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.base_url}/health", timeout=5.0).is_success:
                    return
            if time.monotonic() > deadline:
                raise EngineError(
                    f"the vLLM server was not ready within {timeout_s:g} s (start_timeout_s):\n"
                    f"{self.log_end()}"
                )
            time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
