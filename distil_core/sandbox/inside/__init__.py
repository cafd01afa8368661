"""The code that runs inside the sandbox. distil_core does not exist there, so this package imports
only the standard library and its own modules. The host imports `values` too, for the encoding."""
