"""Runs commands of the documentation in processes forked from one that has imported everything and read the schemas.

Both take 3 s, which each command would take again.
`start` writes ``strun``, ``niriss-ee`` and ``python`` that hand their arguments, environment, directory and streams
over a socket to the server, which runs the same functions as the installed scripts.
"""

import json
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

#: the commands' stand-ins; without site packages they start in 15 ms
CLIENT = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    said = json.dumps([sys.argv[0], sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(said).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(said)
    sys.exit(int(server.makefile().readline() or 1))
"""


def start(directory):
    """Start a server and write the stand-ins into a directory; gives the server's process."""
    address = str(directory / "socket")
    for name in ("strun", "niriss-ee", "python"):
        path = directory / name
        path.write_text(CLIENT.format(python=sys.executable, address=address))
        path.chmod(0o755)
    server = subprocess.Popen([sys.executable, __file__, address], stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"ready\n"
    return server


def run(name, arguments):
    """Run a command as its script does."""
    from stpipe._cli.strun import main as strun

    from niriss_eestep.cli import main as niriss_ee

    sys.argv = [name, *arguments]
    if name == "strun":
        strun()
        return 0
    if name == "niriss-ee":
        return niriss_ee()
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")
    return 0


def serve_one(connection, listener):
    """Take one command's arguments and fork."""
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as said:
        name, arguments, directory, environment = json.loads(said.read(int.from_bytes(size, "big")))
    if os.fork():
        for stream in streams:
            os.close(stream)
        return
    listener.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    code = 1
    try:
        code = run(Path(name).name, arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(f"{code or 0}\n".encode())
        os._exit(0)


def main(address):
    """Import what the commands do, then serve until this process is ended."""
    import matplotlib.figure  # noqa: F401

    import niriss_eestep.report.page
    import niriss_eestep.simulate.program  # noqa: F401
    from niriss_eestep import products, steps

    for name in steps.__all__:  # each is imported when it is asked for
        getattr(steps, name)
    for name in products.__all__:
        if name.endswith("Model") and name != "ProductModel":
            getattr(products, name)()  # its schemas are read: 0.7 s

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                serve_one(connection, listener)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass


if __name__ == "__main__":
    main(sys.argv[1])
