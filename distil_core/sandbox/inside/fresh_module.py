"""Where code from outside runs: a module with builtins of its own."""

import builtins
import sys
import types


def new_module(name: str) -> types.ModuleType:
    """An empty module that classes of its code can name as theirs. Its builtins are a copy, so
    that `builtins.len = ..` or a patched `open` changes what that code calls and nothing else."""
    own = types.ModuleType("builtins")
    own.__dict__.update(builtins.__dict__)
    # These come from `site`, which is left out for its time.
    own.__dict__.update(exit=sys.exit, quit=sys.exit)
    sys.modules["builtins"] = own
    module = types.ModuleType(name)
    module.__dict__["__builtins__"] = own
    sys.modules[name] = module
    return module
