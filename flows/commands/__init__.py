"""The `distil` commands, one module each, with two functions.

`add_arguments(command)` says what it takes; `run(workspace, arguments)` does it and returns the
exit status. flows/cli.py names them; nothing of a command is imported before it is asked for.
"""

from pathlib import Path


def path_from_here(text: str) -> Path:
    """A path of the command line, for argparse: it means what it does in the folder where the
    command was given, which need not be the workspace's root."""
    return Path(text).absolute()
