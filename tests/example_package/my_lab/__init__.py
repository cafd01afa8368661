"""Components for DistIL that live in a package of their own (docs/components.md)."""
