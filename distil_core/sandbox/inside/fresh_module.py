"""An empty module with its own builtins, for code from outside to run in."""

import builtins
import sys
import types


def new_module(name: str) -> types.ModuleType:
    """An empty module that classes defined in it name as theirs. It has a copy of the builtins, so
    that `builtins.len = ..` or a patched `open` changes only what its own code calls."""
    own = types.ModuleType("builtins")
    own.__dict__.update(builtins.__dict__)
    # These come from `site`, which is not imported because it takes time.
    own.__dict__.update(exit=sys.exit, quit=sys.exit)
    sys.modules["builtins"] = own
    module = types.ModuleType(name)
    module.__dict__["__builtins__"] = own
    sys.modules[name] = module
    return module
