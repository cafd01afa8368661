"""The front doors: Prefect's flows and deployments, `make run`, and the `distil` command."""

import os

# Imported for its effect: telemetry is off before a library that has some is imported.
import distil_core as distil_core

# The front doors draw their own progress, which libraries' bars would break up.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
