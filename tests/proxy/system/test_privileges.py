"""The drop, tried for real in a forked child: it holds, and there is no way back."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")
REPOSITORY = Path(__file__).resolve().parents[3]


def child(code: str) -> str:
    """Run ``code`` in a process of its own; what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


REGAIN = """
    import os, ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    def attempt(name, call, *arguments):
        try:
            result = call(*arguments)
        except OSError:
            return
        if result in (None, 0):
            print("regained by", name)
    attempt("setuid", os.setuid, 0)
    attempt("seteuid", os.seteuid, 0)
    attempt("setreuid", os.setreuid, -1, 0)
    attempt("setresuid", os.setresuid, -1, -1, 0)
    attempt("setgid", os.setgid, 0)
    attempt("setgroups", os.setgroups, [0])
    attempt("setresgid", os.setresgid, 0, 0, 0)
    attempt("chroot", os.chroot, "/")
    attempt("capset", libc.capset, ctypes.byref((ctypes.c_uint32 * 2)(0x20080522, 0)),
            ctypes.byref((ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)))
    attempt("prctl keepcaps off nnp", libc.prctl, 38, 0, 0, 0, 0)
    status = {line.split(":")[0]: line.split(":")[1].split() for line in open("/proc/self/status")}
    print(status["Uid"], status["Gid"], status["Groups"], status["NoNewPrivs"],
          *(int(status[key][0], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")))
"""


@needs_root
def test_everything_is_given_up_and_nothing_comes_back() -> None:
    said = child(
        "from proxy.system import privileges\nprivileges.drop(65534, 65534)\n"
        + textwrap.dedent(REGAIN)
    )
    assert said == f"{['65534'] * 4} {['65534'] * 4} [] ['1'] 0 0 0 0 0\n"


@needs_root
def test_a_set_user_id_program_gives_nothing_back() -> None:
    said = child(
        """
        import os, shutil, subprocess, tempfile
        from proxy.system import privileges
        folder = tempfile.mkdtemp(dir="/var/tmp")
        os.chmod(folder, 0o755)
        shutil.copy("/usr/bin/id", folder + "/id")
        os.chmod(folder + "/id", 0o4755)
        if os.fork() == 0:
            privileges.drop(65534, 65534)
            os.execv(folder + "/id", ["id", "-u"])
        os.wait()
        shutil.rmtree(folder)
        """
    )
    assert said == "65534\n"


@needs_root
def test_a_drop_that_fails_ends_the_program() -> None:
    """A kernel that lies about success is caught by the proof."""
    done = subprocess.run(
        [sys.executable, "-c",
         ("import os\nfrom proxy.system import privileges\nos.setresuid = lambda *_: None\n"
         "privileges.drop(65534, 65534)\nprint('went on')")],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    assert "went on" not in done.stdout


@needs_root
def test_the_process_cannot_be_traced_by_its_own_user() -> None:
    said = child(
        """
        import os, ctypes, signal
        from proxy.system import privileges
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            privileges.drop(65534, 65534)
            privileges.confine_process()
            os.write(write, b"x")
            signal.pause()
        os.read(read, 1)
        other = os.fork()
        if other == 0:
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            libc = ctypes.CDLL(None, use_errno=True)
            print("ptrace", libc.ptrace(16, pid, 0, 0))
            for name in ("mem", "environ", "maps", "fd"):
                try:
                    os.listdir(f"/proc/{pid}/fd") if name == "fd" else open(f"/proc/{pid}/{name}", "rb").read(1)
                    print("read", name)
                except OSError:
                    pass
            import sys; sys.stdout.flush()
            os._exit(0)
        os.waitpid(other, 0)
        os.kill(pid, 9)
        """
    )
    assert said == "ptrace -1\n"


WORKER = """
    import os, socket, sys, signal
    from pathlib import Path
    from proxy import sandbox
    from proxy.system import preload, privileges
    from proxy.config.model import Config, Site, Route, FilesAction, ProxyAction, Backend
    root, state, port, other = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    config = Config((Site(("a.test",), (Route("/*", FilesAction(root)),
        Route("/app/*", ProxyAction((Backend("", "http", "127.0.0.1", port),))))),), state)
    victim = os.getppid()
    preload.while_root(65534, 65534, lambda: None)
    privileges.drop(65534, 65534)
    privileges.confine_process()
    preload.everything()
    sandbox.apply(sandbox.policies(config)[sys.argv[5]], "require")
    def attempt(name, call):
        try:
            call()
            print("could", name)
        except OSError as error:
            pass
    def connect(port):
        with socket.socket() as sock:
            sock.connect(("127.0.0.1", port))
    def listen():
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
    attempt("read the document root", lambda: (root / "index.html").read_bytes())
    attempt("write to the document root", lambda: (root / "new").write_bytes(b"x"))
    attempt("list the state", lambda: os.listdir(state))
    attempt("read a key", lambda: (state / "privkey.pem").read_bytes())
    attempt("write to the state", lambda: (state / "new").write_bytes(b"x"))
    attempt("read /etc/passwd", lambda: open("/etc/passwd").read())
    attempt("write to /tmp", lambda: open("/tmp/treehouse-test", "w"))
    attempt("execute", lambda: os.posix_spawn("/bin/true", ["true"], {}))
    attempt("connect to the backend", lambda: connect(port))
    attempt("connect elsewhere", lambda: connect(other))
    attempt("bind", listen)
    stranger = int(sys.argv[6])
    attempt("signal a stranger", lambda: os.kill(stranger, 0))
    attempt("signal the parent", lambda: os.kill(victim, 0))
    attempt("read a stranger's memory", lambda: open(f"/proc/{stranger}/mem", "rb"))
    attempt("read a stranger's descriptors", lambda: os.listdir(f"/proc/{stranger}/fd"))
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    def trace(pid):
        if libc.ptrace(16, pid, 0, 0):  # PTRACE_ATTACH
            raise OSError(ctypes.get_errno(), "ptrace")
    attempt("trace a stranger", lambda: trace(stranger))
    attempt("make a device", lambda: os.mknod(root / "device", 0o600))
    attempt("link into the document root", lambda: os.symlink("/etc", root / "link"))
    attempt("remove from the document root", lambda: os.unlink(root / "index.html"))
    attempt("become root", lambda: os.setuid(0))
"""


@needs_root
@pytest.mark.parametrize(
    ("role", "can"),
    [
        ("worker", {"read the document root", "connect to the backend"}),
        ("certifier", {"list the state", "read a key", "write to the state"}),
    ],
)
def test_what_a_confined_process_can_do(role: str, can: set[str], tmp_path: Path) -> None:
    """Tried from inside: open, write, execute, connect, bind, signal."""
    from proxy.sandbox import landlock

    if landlock.abi() < 6:
        pytest.skip("this kernel's Landlock cannot do all of it")
    folder = Path("/var/tmp") / f"th-{os.urandom(4).hex()}"
    (folder / "www").mkdir(parents=True)
    (folder / "state").mkdir(mode=0o700)
    (folder / "www/index.html").write_text("x")
    (folder / "www").chmod(0o777)  # so that only the sandbox stands in the way
    (folder / "state/privkey.pem").write_text("key")
    for path in (folder / "state", folder / "state/privkey.pem"):
        os.chown(path, 65534, 65534)
    stranger = subprocess.Popen(["sleep", "60"], user=65534)
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as one,
            socket.create_server(("127.0.0.1", 0)) as other,
        ):
            done = subprocess.run(
                [sys.executable, "-c", textwrap.dedent(WORKER), str(folder / "www"), str(folder / "state"),
                 str(one.getsockname()[1]), str(other.getsockname()[1]), role, str(stranger.pid)],
                cwd=REPOSITORY, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
    finally:
        stranger.kill()
        stranger.wait()
        subprocess.run(["rm", "-rf", str(folder)], check=True)
    assert done.returncode == 0, done.stderr
    could = {line.removeprefix("could ") for line in done.stdout.splitlines()}
    assert could == can
    assert not (folder / "www/new").exists()
