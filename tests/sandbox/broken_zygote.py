"""In bubblewrap's place: a zygote that says what it should not, at one point of the conversation.

Arguments: when (ready, fork, end), the message as hexadecimal digits, how many descriptors go with
it, and bubblewrap's own, of which the last is the socket."""

import os
import socket
import sys

READY = b'{"ready":true}'


def main() -> None:
    when, message, count = sys.argv[1], bytes.fromhex(sys.argv[2]), int(sys.argv[3])
    number = int(sys.argv[-1])
    # As bubblewrap does, or the host would wait for what they tell.
    os.closerange(3, number)
    os.closerange(number + 1, 4096)
    control = socket.socket(fileno=number)
    control.recv(1 << 16)
    if when == "ready":
        socket.send_fds(control, [message], [0] * count)
    control.send(b'{"ready":"3"}')
    while True:
        asked, descriptors, _, _ = socket.recv_fds(control, 1 << 16, 4)
        if not asked:
            return
        if when == "fork":
            socket.send_fds(control, [message], [0] * count)
            continue
        pid = os.fork()
        if pid == 0:
            os.write(descriptors[3], len(READY).to_bytes(4, "big") + READY)
            os.read(descriptors[3], 4)
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)
        socket.send_fds(control, [b'{"started":true}'], [os.pidfd_open(pid)])
        os.waitpid(pid, 0)
        socket.send_fds(control, [message], [0] * count)


if __name__ == "__main__":
    main()
