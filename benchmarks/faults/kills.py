"""SIGKILL and SIGINT at a random file operation of a command, before it happens or shortly after:
between a write and its rename, between DVC's digests and dvc.lock, amid the computing."""

import signal

from benchmarks.faults.scene import (
    DOORS,
    STAGES,
    NotInjectedError,
    NotSurvivedError,
    Scene,
)


def kill(scene: Scene) -> str:
    """The process group is gone in an instant, as in an out-of-memory kill or a power cut."""
    where = _strike(scene, signal.SIGKILL)
    scene.require_whole()
    scene.require_mended()
    return where


def interrupt(scene: Scene) -> str:
    """Ctrl-C: the command must end soon, by itself, in words."""
    where = _strike(scene, signal.SIGINT)
    scene.require_whole()
    scene.require_mended()
    return where


def _strike(scene: Scene, number: int) -> str:
    """Have the door's command struck; returns at which operation."""
    nth = scene.random.randint(1, _num_operations(scene))
    longest_s = scene.random.choice((0.0, 0.002, 0.3))
    while nth:
        delay_s = scene.random.uniform(0, longest_s)
        result = scene.run(**scene.trap(nth, delay_s, number))
        where = scene.struck_at()
        if where and result.status:
            if number == signal.SIGINT:
                # DVC ends with 1 or 255 and says it was interrupted; ours with 130.
                scene.require_message(result, "(?i)interrupt")
            return f"{where} + {delay_s * 1e3:.1f} ms"
        if where and number == signal.SIGINT and result.status == 0:
            scene.require_finished()
        scene.reset()
        nth //= 2
    raise NotInjectedError("the command was over before the strike")


def _num_operations(scene: Scene) -> int:
    """How many there are in an undisturbed run of the door's command."""
    known = scene.reference.num_operations
    key = (scene.door, scene.stage)
    if key not in known:
        result = scene.run(**scene.trap(nth=-1))
        if result.status:
            raise NotSurvivedError(f"the undisturbed command failed:\n{result.output}")
        known[key] = scene.counter.stat().st_size
        scene.reset()
    return known[key]


KINDS = {
    "SIGKILL": (kill, DOORS, STAGES),
    "SIGINT": (interrupt, DOORS, STAGES),
}
