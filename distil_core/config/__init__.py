"""Settings as typed models. How they are read and checked is `distil_core.campaign`'s."""
