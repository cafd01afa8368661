"""What is said where the library verifiers is asked for and not installed."""

import importlib.metadata

import pytest

from distil_core.config.models import EnvironmentParams
from distil_core.environments import build_environment
from distil_core.errors import ConfigError
from distil_core.problems import PROBLEM_SOURCES

OPTIONS = {"taskset": "gsm8k", "versions": {"verifiers": "0.4.0"}}

pytestmark = pytest.mark.skipif(
    any(importlib.metadata.distributions(name="verifiers")),
    reason="the extra verifiers is installed",
)


def test_how_to_install_it_is_said() -> None:
    message = r"verifiers is not installed: `pip install 'distil\[verifiers\]'`"
    with pytest.raises(ConfigError, match=message):
        next(PROBLEM_SOURCES.build("verifiers", OPTIONS).problems("train", 0))
    params = EnvironmentParams(
        name="verifiers", options=OPTIONS, max_turns=2, max_observation_tokens=8
    )
    with pytest.raises(ConfigError, match=message):
        build_environment(params)
