"""A proxy in the environment, as company machines have it, is no way to this machine itself."""

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
ASK = """
import sys, urllib.request
import distil_core
import httpx, requests
from distil_flows.api_server import answering
for host in ("127.0.0.1", "localhost"):
    url = f"http://{host}:{sys.argv[1]}"
    print(urllib.request.urlopen(url, timeout=10).read())
    print(httpx.get(url, timeout=10).content)
    print(requests.get(url, timeout=10).content)
    print(answering(url))
"""


@pytest.mark.parametrize(
    "variables",
    [
        {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "example.org"},
        {"ALL_PROXY": "http://127.0.0.1:9"},
        {"http_proxy": "http://127.0.0.1:9", "no_proxy": "", "NO_PROXY": "127.0.0.2"},
    ],
)
def test_every_client_reaches_a_server_on_this_machine(variables: dict[str, str]) -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"true")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    kept = {name: value for name, value in os.environ.items() if name.lower() not in PROXIES}
    try:
        done = subprocess.run(
            [sys.executable, "-c", ASK, str(server.server_port)],
            cwd=PROJECT,
            env=kept | {"PYTHONPATH": str(PROJECT)} | variables,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        server.shutdown()
        server.server_close()
    assert done.stdout.splitlines() == [*["b'true'"] * 3, "prefect"] * 2, done.stderr


def test_other_hosts_and_an_environment_without_proxy_stay_as_they_are() -> None:
    show = "import os, distil_core; print(os.environ.get('no_proxy'), os.environ.get('NO_PROXY'))"
    kept = {name: value for name, value in os.environ.items() if name.lower() not in PROXIES}
    for variables, expected in (
        ({}, "None None"),
        ({"NO_PROXY": "example.org"}, "None example.org"),
        (
            {"https_proxy": "http://proxy:3128", "NO_PROXY": "example.org"},
            " ".join(["example.org,127.0.0.1,localhost,::1"] * 2),
        ),
        ({"https_proxy": "http://proxy:3128", "NO_PROXY": "*"}, "None *"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", show],
            cwd=PROJECT,
            env=kept | {"PYTHONPATH": str(PROJECT)} | variables,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == expected
