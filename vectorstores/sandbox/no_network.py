"""Block network access of the current process permanently, with a seccomp filter of the Linux kernel.

It needs no privileges and works in containers. Source: https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

import ctypes
import platform
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
ALLOW, DENY = 0x7FFF0000, 0x00050001  # DENY: the system call fails with EPERM
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06  # instructions of the filter
NUMBER, ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
X32 = 0x40000000  # numbers from here on are a second way to make the same calls on x86-64

# What opens a connection, runs a program, or reaches into another process: the architecture and the calls' numbers.
# socket, socketpair, connect, sendto, bind; execve, execveat; ptrace, process_vm_readv, process_vm_writev;
# io_uring_setup, pidfd_getfd; kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal; bpf,
# perf_event_open.
DENIED = {
    "x86_64": (
        0xC000003E,
        [41, 53, 42, 44, 49, 59, 322, 101, 310, 311, 425, 438, 62, 200, 234, 129, 297, 424, 321, 298],
    ),
    "aarch64": (
        0xC00000B7,
        [198, 199, 203, 206, 200, 221, 281, 117, 270, 271, 425, 438, 129, 130, 131, 138, 240, 424, 280, 241],
    ),
}


def block_network() -> bool:
    """Install the filter and return whether it is in place: only on Linux, and not on rare processors."""
    if sys.platform != "linux" or platform.machine() not in DENIED:
        return False
    architecture, numbers = DENIED[platform.machine()]
    checks = [(AT_LEAST, X32), *((EQUAL, number) for number in numbers)]
    program = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 0, len(checks) + 2, architecture),  # another architecture: jump to the last line
        (LOAD, 0, 0, NUMBER),
        *((code, len(checks) - index, 0, value) for index, (code, value) in enumerate(checks)),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, DENY),
    ]
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filter_ = struct.pack("HP", len(program), ctypes.addressof(instructions))
    libc = ctypes.CDLL(None, use_errno=True)
    return (
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
        and libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_, 0, 0) == 0
    )
