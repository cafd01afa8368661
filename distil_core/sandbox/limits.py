"""What a program may use, and how it is isolated from the host."""

from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from distil_core.validation import StrictModel

Isolation = Literal["bubblewrap_zygote", "bubblewrap_cold", "rlimits_only"]
"""bubblewrap_zygote: one warm interpreter in bubblewrap forks each program into namespaces of its
own. bubblewrap_cold: the same with one bubblewrap a program. rlimits_only: NO isolation, only
resource limits: the program reads the host's files and reaches its network."""


class Limits(StrictModel):
    """Limits of one program. A verdict goes by CPU time: wall time is a loose backstop against
    programs that sleep, since on a busy machine an honest program waits too.
    """

    cpu_time_s: PositiveFloat = 4.0
    """Of loading the program, and of each call."""
    wall_time_s: PositiveFloat = 30.0
    """Likewise."""
    memory_mb: PositiveInt = 512
    """Address space of the process, its libraries included (an empty one has about 30)."""
    disk_mb: PositiveInt = 16
    """Files under the working folder, in memory."""
    output_kb: PositiveInt = 256
    """Standard output and error, each."""
    answer_kb: PositiveInt = 1024
    """One call's answer in the protocol's encoding."""
