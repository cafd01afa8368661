"""DistIL: distributional DAgger from rich feedback. Importing it turns telemetry off.

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
}
for _name, _value in _TELEMETRY_OFF.items():
    os.environ.setdefault(_name, _value)
