"""What runs inside the sandbox. Only the standard library, and imports relative to this package:
inside there is no distil_core. The host uses `values` too, to speak the same encoding."""
