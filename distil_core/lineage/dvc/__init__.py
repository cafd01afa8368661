"""DVC: what it recorded, what is stale, and running a stage so that DVC knows about it."""
