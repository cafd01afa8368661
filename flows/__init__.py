"""The front doors: Prefect's flows and deployments, `make run`, and the `distil` command."""

import os

# For its effect: telemetry is off before anything here imports a library that has some.
import distil_core as distil_core

# The front doors draw their own progress; bars of libraries would tear it apart.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
