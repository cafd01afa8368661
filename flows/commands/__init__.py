"""The `distil` commands, one module each, with two functions.

`add_arguments(command)` says what it takes; `run(workspace, arguments)` does it and returns the
exit status. flows/cli.py names them; nothing of a command is imported before it is asked for.
"""
