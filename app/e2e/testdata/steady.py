"""A program in the middle of many things, for a machine of which a snapshot is taken: it counts in an open file of the machine's disk, holds an open file of the workspace,
a pipe that is full with its writer blocked, a listening socket, and an open answer of a host outside. It says "steady" when all that is so, then takes commands, one line for
each connection to 127.0.0.1:7070.

Arguments: a folder on the machine's disk, the workspace, the host."""
import http.client
import os
import socket
import sys
import threading
import time

disk, workspace, host = sys.argv[1:]
changed = threading.Condition()
ticks = 0
history = []  # how each held answer ended
holding = threading.Event()

# The pipe, with a process of its own to write it. It says that the pipe is full just before it blocks.
WHOLE = b"".join(b"%07d\n" % i for i in range(40000))
pipe, writing = os.pipe()
full, tell = os.pipe()
if os.fork() == 0:
    sent = 0
    os.set_blocking(writing, False)
    try:
        while True:
            sent += os.write(writing, WHOLE[sent:sent + 4096])
    except BlockingIOError:
        os.set_blocking(writing, True)
    os.write(tell, b"f")
    while sent < len(WHOLE):
        sent += os.write(writing, WHOLE[sent:])
    os._exit(0)
os.close(writing)
os.read(full, 1)


def count():
    """Counts on the second processor: that one must go on too."""
    global ticks
    os.sched_setaffinity(threading.get_native_id(), {1})
    with open(disk + "/count", "wb", buffering=0) as f:
        while True:
            f.write(b"%d %s\n" % (ticks + 1, socket.gethostname().encode()))
            with changed:
                ticks += 1
                changed.notify_all()
            time.sleep(0.02)


address = socket.gethostbyname(host)  # looked up once: what it got must stay good


def get(path):
    c = http.client.HTTPConnection(address, timeout=None)
    c.request("GET", path, headers={"Host": host})
    return c.getresponse()


def hold():
    while True:
        answer = get("/held")
        answer.read(5)
        holding.set()
        try:
            end = answer.read().decode()
        except (OSError, http.client.HTTPException) as e:
            end = type(e).__name__
        holding.clear()
        end += ", then " + get("/again/" + socket.gethostname()).read().decode()
        with changed:
            history.append(end)
            changed.notify_all()


notes = open(workspace + "/notes", "ab", buffering=0)
listener = socket.create_server(("127.0.0.1", 7070))
threading.Thread(target=count, daemon=True).start()
threading.Thread(target=hold, daemon=True).start()
holding.wait()
print("steady", flush=True)


def obey(command, *args):
    if command == "past":  # waits until the count is past a number
        with changed:
            changed.wait_for(lambda: ticks > int(args[0]))
            return ticks
    if command == "held":  # waits until so many held answers have ended and another is held
        with changed:
            changed.wait_for(lambda: len(history) >= int(args[0]))
        holding.wait()
        return "; ".join(history)
    if command == "note":
        notes.write(" ".join(args).encode() + b"\n")
        return "noted"
    if command == "pipe":
        parts = []
        while part := os.read(pipe, 1 << 20):
            parts.append(part)
        return "whole" if b"".join(parts) == WHOLE else "broken: %d bytes" % len(b"".join(parts))
    if command == "draw":  # of the kernel, by the library's own generator where it has one
        return os.urandom(16).hex()


while True:
    conn, _ = listener.accept()
    with conn, conn.makefile("rw") as f:
        print(obey(*f.readline().split()), file=f, flush=True)
