"""One whole iteration of DistIL beside the same work by TRL's SDPO trainer."""
