"""Streaming: input goes in while output comes out, and a signal ends what would go on for ever."""

import signal

from pyro_workspaces import Pyro, Stream

with Pyro().create_workspace("debian:12") as workspace:
    # All of the input at once, the output line by line.
    for stream, data in workspace.exec(["sort"], stdin="pear\napple\nfig\n"):
        print(data.decode(), end="")

    # A conversation.
    with workspace.exec(["python3", "-iq"], stdin=True) as python:
        python.write("print(6 * 7)\n")
        for output in python:
            if output.stream is Stream.STDOUT:
                print(f"it says {output.text.strip()}")
                python.close_stdin()

    # Something that goes on until it is told to stop.
    with workspace.exec("while sleep 0.1; do date; done") as clock:
        first = next(clock)
        clock.signal(signal.SIGTERM)
        print(f"one tick, then signal {clock.result().signal}")
