"""DistIL: distributional DAgger from rich feedback. Importing it turns telemetry off, and keeps
what is asked of this machine from a proxy.

The settings are defaults: a user who wants a library's telemetry sets its variable before.
"""

import os

_TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "VLLM_NO_USAGE_STATS": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "WANDB_ERROR_REPORTING": "false",
}
for _name, _value in _TELEMETRY_OFF.items():
    os.environ.setdefault(_name, _value)

# Where a proxy is set, all clients (of Prefect, MLflow, vLLM, an expert) send it what is meant for
# servers on this machine as well, which it cannot reach. Processes that we start inherit this.
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
if any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ):
    # Most libraries read the lower-case one first, and only that one then.
    _without = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    _hosts = [host.strip() for host in _without.split(",") if host.strip()]
    if "*" not in _hosts:
        _hosts += [host for host in _LOOPBACK if host not in _hosts]
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(_hosts)
