"""The bubblewrap command line that starts the zygote, and the error message where it does not
start."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from distil_core.errors import SandboxError
from distil_core.sandbox._packages import MOUNTED_PACKAGES, package_mounts, package_paths
from distil_core.sandbox.inside.confine import DEVICES, NOBODY, WORKING_FOLDER
from distil_core.sandbox.inside.frames import STDIN_FILE

_INSIDE = Path(__file__).parent / "inside"
_MOUNTED_INSIDE = "/distil"
_LIBRARY_FOLDERS = ("/lib", "/lib64", "/lib32", "/libx32")
INSTALL = "apt install bubblewrap"


def zygote_command(
    isolated: bool, packages: Sequence[str] = (), user_map: Sequence[str] = ()
) -> list[str]:
    """The command line of the zygote.

    packages: top-level packages that programs may import. user_map: the map of users that
    bubblewrap waits for (see `UserMap`), in which the zygote finds its own user; without one the
    zygote runs as the host's user. Raises `SandboxError` where bubblewrap is not installed.
    """
    python = os.path.realpath(sys.executable)
    if not isolated:
        folders = {str(path.parent) for path in package_paths(packages)}
        return [python, *_run_inside(str(_INSIDE.parent), *sorted(folders))]
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is None:
        raise SandboxError(
            f"code that a model wrote runs in bubblewrap only, which is not installed: {INSTALL}. "
            "(isolation: rlimits_only runs it unprotected, with all that you may read and write.)"
        )
    return [
        bubblewrap,
        *("--unshare-user", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"),
        *("--setenv", "PYTHONHASHSEED", "0", "--setenv", "LANG", "C.UTF-8"),
        *_mounts(),
        *package_mounts(packages),
        *(user_map or ("--uid", str(NOBODY), "--gid", str(NOBODY))),
        # Only the zygote may make namespaces; a child gives that up before it reads the program.
        *("--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN"),
        # The zygote gives these up itself, once it is another user.
        *(("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID") if user_map else ()),
        *("--remount-ro", "/", "--chdir", "/"),
        *(python, *_run_inside(_MOUNTED_INSIDE, MOUNTED_PACKAGES)),
    ]


def _run_inside(folder: str, *packages: str) -> list[str]:
    paths = f"sys.path.insert(0, {folder!r}); sys.path += {list(packages)!r}"
    start = f"import sys; {paths}; from inside.zygote import main; main()"
    # Not -I, which would ignore the fixed hash seed; the environment is ours alone.
    return ["-s", "-P", "-S", "-B", "-c", start]


def _mounts() -> list[str]:
    """What the sandbox sees, read only: the system's libraries, this Python, and `inside/`. No
    /proc, /etc, /home or /tmp, and of /dev only the devices that give bytes."""
    mounts = ["--ro-bind", "/usr", "/usr"]
    for folder in _LIBRARY_FOLDERS:
        if os.path.islink(folder):
            mounts += ["--symlink", os.readlink(folder).lstrip("/"), folder]
        elif os.path.isdir(folder):
            mounts += ["--ro-bind", folder, folder]
    prefix = os.path.realpath(sys.base_prefix)
    if not Path(prefix).is_relative_to("/usr"):
        # The parent folders, which bubblewrap would otherwise make readable for root only.
        for parent in reversed(Path(prefix).parents[:-1]):
            mounts += ["--dir", str(parent)]
        mounts += ["--ro-bind", prefix, prefix]
    mounts += ["--dir", _MOUNTED_INSIDE, "--ro-bind", str(_INSIDE), f"{_MOUNTED_INSIDE}/inside"]
    mounts += ["--dir", MOUNTED_PACKAGES, "--dir", WORKING_FOLDER, "--dir", "/dev"]
    for device in DEVICES:
        # The zygote makes them read only: bubblewrap's option leaves none that can be opened.
        mounts += ["--dev-bind", device, device]
    mounts += ["--symlink", STDIN_FILE, "/dev/stdin"]
    return mounts


def start_failure(stderr: str) -> str:
    """The message for a sandbox that did not start, with what to do about it."""
    lines = " / ".join(stderr.strip().splitlines()[-3:]) or "no message"
    return (
        f"the sandbox does not start: {lines}. It needs unprivileged user namespaces and "
        "Linux 5.9 or later: look at `sysctl kernel.unprivileged_userns_clone` (must be 1), "
        "`sysctl kernel.apparmor_restrict_unprivileged_userns` (must be 0) and "
        "`sysctl user.max_user_namespaces` (not 0); in a container, allow them there"
    )
