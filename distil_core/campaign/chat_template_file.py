"""The chat template that `context.expert_chat.chat_template_file` names, read into the settings.

So the frozen settings have its text, and depend on no file that may change.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distil_core.errors import ConfigError

_SETTING = "chat_template_file"


def with_chat_template_text(values: Any, where: str) -> Any:
    """The settings with the file's text as chat_template; as they are where they name no file.
    Raises `ConfigError` where it cannot be read."""
    context = values.get("context") if isinstance(values, Mapping) else None
    own = context.get("expert_chat") if isinstance(context, Mapping) else None
    # A template beside a file, and a name that is no text, are refused by the settings' types.
    if not isinstance(own, Mapping) or own.get("chat_template") is not None:
        return values
    name = own.get(_SETTING)
    if not isinstance(name, str):
        return values
    try:
        text = Path(name).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{where}: context.expert_chat.{_SETTING}: {name} cannot be read ({error}): expected "
            "a chat template (Jinja), by its path from the workspace's root"
        ) from error
    read = {key: value for key, value in own.items() if key != _SETTING} | {"chat_template": text}
    return {**values, "context": {**values["context"], "expert_chat": read}}
