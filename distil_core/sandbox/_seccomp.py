"""The system calls that a program may make, as a filter for the kernel.

It is an allow list: what one Python process needs to compute, read its files, write to its folder
and use threads. Everything else fails with EPERM: new processes and programs, sockets that reach
anything, signals to others, tracing, namespaces, mounts, keys, shared memory, and any call that
later kernels add. Also refused are calls that take kernel memory which no limit counts: locks and
leases on files, notifications, larger buffers of pipes and sockets. The kernel memory that remains
is bounded by the number of descriptors: 64 with buffers of the usual size take about 16 MB. Call
numbers come from the kernel's tables for x86_64 and aarch64.
"""

import errno
import platform
import struct

from distil_core.errors import SandboxError

# name x86_64 aarch64; '-' where the architecture has no such call.
_ALLOWED = """
read 0 63; write 1 64; readv 19 65; writev 20 66; pread64 17 67; pwrite64 18 68; open 2 -
openat 257 56; close 3 57; fstat 5 80; stat 4 -; lstat 6 -; newfstatat 262 79; statx 332 291
statfs 137 43; fstatfs 138 44; lseek 8 62; access 21 -; faccessat 269 48; faccessat2 439 439
mmap 9 222; mprotect 10 226; munmap 11 215; brk 12 214; mremap 25 216; madvise 28 233
mincore 27 232; rt_sigaction 13 134; rt_sigprocmask 14 135; rt_sigreturn 15 139
rt_sigtimedwait 128 137; rt_sigpending 127 136; rt_sigsuspend 130 133; sigaltstack 131 132
setitimer 38 103; getitimer 36 102; alarm 37 -; pause 34 -; pipe 22 -; pipe2 293 59
select 23 -; pselect6 270 72; poll 7 -; ppoll 271 73; epoll_create1 291 20; epoll_ctl 233 21
epoll_wait 232 -; epoll_pwait 281 22; eventfd2 290 19; sched_yield 24 124; dup 32 23; dup2 33 -
dup3 292 24; nanosleep 35 101; clock_nanosleep 230 115; clock_gettime 228 113
clock_getres 229 114; gettimeofday 96 169; time 201 -; times 100 153; getrusage 98 165
getpid 39 172; gettid 186 178; getppid 110 173; getuid 102 174; geteuid 107 175; getgid 104 176
getegid 108 177; getgroups 115 158; getpgrp 111 -; getpgid 121 155; getsid 124 156; uname 63 160
sysinfo 99 179; fsync 74 82; fdatasync 75 83; truncate 76 45
ftruncate 77 46; getdents 78 -; getdents64 217 61; getcwd 79 17; chdir 80 49; fchdir 81 50
rename 82 -; renameat 264 38; renameat2 316 276; mkdir 83 -; mkdirat 258 34; rmdir 84 -
unlink 87 -; unlinkat 263 35; symlink 88 -; symlinkat 266 36; link 86 -; linkat 265 37
readlink 89 -; readlinkat 267 78; chmod 90 -; fchmod 91 52; fchmodat 268 53; utimensat 280 88
umask 95 166; getrlimit 97 163; setrlimit 160 164; prlimit64 302 261; futex 202 98
set_robust_list 273 99; get_robust_list 274 100; rseq 334 293; exit 60 93; exit_group 231 94
sched_getaffinity 204 123; getrandom 318 278; restart_syscall 219 128; arch_prctl 158 -
membarrier 324 283; sendfile 40 71; copy_file_range 326 285; recvfrom 45 207; shutdown 48 210
getsockopt 55 209; getsockname 51 204
"""
# Allowed only with certain arguments.
_CLONE = (56, 220)
_CLONE3 = (435, 435)
_IOCTL = (16, 29)
_SOCKETPAIR = (53, 199)
_FCNTL = (72, 25)
_SENDTO = (44, 206)

_CLONE_THREAD = 0x10000
_CLONE_NAMESPACES = 0x7E020000 | 0x80
_TCGETS, _FIONBIO, _FIOCLEX, _FIONCLEX = 0x5401, 0x5421, 0x5451, 0x5450
_AF_UNIX = 1
_SOCK_STREAM = 1
# With and without O_CLOEXEC and O_NONBLOCK. Datagrams take more kernel memory for each byte.
_STREAMS = tuple(_SOCK_STREAM | flags for flags in (0, 0x80000, 0x800, 0x80800))
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC, F_GETPIPE_SZ, F_GET_SEALS.
_FCNTL_COMMANDS = (0, 1, 2, 3, 1030, 1032, 1034)
_F_SETFL, _O_ASYNC = 4, 0x2000

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32_BIT = 0x40000000
_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16

_Instruction = tuple[int, int, int, int]


def allowed_numbers() -> dict[str, tuple[int | None, int | None]]:
    """The numbers on x86_64 and aarch64 of the calls that are allowed with any arguments."""
    table = {}
    for entry in _ALLOWED.replace("\n", ";").split(";"):
        if entry.strip():
            name, *numbers = entry.split()
            x86_64, aarch64 = (None if text == "-" else int(text) for text in numbers)
            table[name] = (x86_64, aarch64)
    return table


def seccomp_filter(machine: str | None = None) -> bytes:
    """The filter as BPF instructions. Raises `SandboxError` on other processors."""
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES:
        raise SandboxError(
            f"no system call table for {machine}, only for {', '.join(_ARCHITECTURES)}: "
            "add its numbers to distil_core/sandbox/_seccomp.py"
        )
    column, architecture = _ARCHITECTURES[machine]
    code: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_OFFSET),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_OFFSET),
    ]
    if machine == "x86_64":
        code += [(_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, _KILL)]
    for numbers in allowed_numbers().values():
        number = numbers[column]
        if number is not None:
            code += _when(number, [(_RETURN, 0, 0, _ALLOW)])
    # glibc asks for a thread with clone3, whose flags a filter cannot read, and then with clone.
    code += _when(_CLONE3[column], [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)])
    code += _when(
        _CLONE[column],
        [
            (_LOAD, 0, 0, _ARGUMENTS_OFFSET),
            (_ANY_BIT, 2, 0, _CLONE_NAMESPACES),
            (_ANY_BIT, 0, 1, _CLONE_THREAD),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        ],
    )
    requests = (_TCGETS, _FIONBIO, _FIOCLEX, _FIONCLEX)
    code += _when(_IOCTL[column], _argument_is(1, requests))
    not_unix = [
        (_LOAD, 0, 0, _ARGUMENTS_OFFSET),
        (_EQUAL, 1, 0, _AF_UNIX),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
    ]
    code += _when(_SOCKETPAIR[column], [*not_unix, *_argument_is(1, _STREAMS)])
    # Signals about a descriptor are notifications, too.
    set_flags = [
        (_LOAD, 0, 0, _ARGUMENTS_OFFSET + 8),
        (_EQUAL, 0, 4, _F_SETFL),
        (_LOAD, 0, 0, _ARGUMENTS_OFFSET + 8 * 2),
        (_ANY_BIT, 0, 1, _O_ASYNC),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code += _when(_FCNTL[column], [*set_flags, *_argument_is(1, _FCNTL_COMMANDS)])
    # Without an address, so only to the other end of a socket pair.
    no_address = [
        (_LOAD, 0, 0, _ARGUMENTS_OFFSET + 8 * 4),
        (_EQUAL, 0, 3, 0),
        (_LOAD, 0, 0, _ARGUMENTS_OFFSET + 8 * 4 + 4),
        (_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
    ]
    code += _when(_SENDTO[column], no_address)
    code.append((_RETURN, 0, 0, _ERRNO | errno.EPERM))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _when(number: int, then: list[_Instruction]) -> list[_Instruction]:
    """The instructions `then`, which end in a return, for the call with this number; skipped for
    others."""
    return [(_EQUAL, 0, len(then), number), *then]


def _argument_is(index: int, values: tuple[int, ...]) -> list[_Instruction]:
    code: list[_Instruction] = [(_LOAD, 0, 0, _ARGUMENTS_OFFSET + 8 * index)]
    for value in values:
        code += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    return [*code, (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
