"""Which pages are given back, and that what lies in them works afterwards."""

import subprocess
import sys

from proxy.system.mapped_code import unchanged

SMAPS = """\
00400000-00423000 r--p 00000000 08:01 100 /usr/bin/python3.11
Rss:                 140 kB
Anonymous:             0 kB
00423000-006f5000 r-xp 00023000 08:01 100 /usr/bin/python3.11
Rss:                2600 kB
Anonymous:             4 kB
00945000-00946000 r--p 00544000 08:01 100 /usr/bin/python3.11
Anonymous:             4 kB
00946000-00a85000 rw-p 00545000 08:01 100 /usr/bin/python3.11
Anonymous:             0 kB
7f0000000000-7f0000021000 r--p 00000000 00:00 0
Anonymous:             0 kB
7f1000000000-7f1000100000 r-xp 00000000 08:01 7 /usr/lib/with a space.so
Anonymous:             0 kB
7f2000000000-7f2000001000 r-xs 00000000 00:01 9 /memfd:shared (deleted)
Anonymous:             0 kB
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
"""

AFTERWARDS = """
import ssl, time
from cryptography.hazmat.primitives.asymmetric import ec
from proxy.system.mapped_code import let_go

def mapped():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssFile:"))

ec.generate_private_key(ec.SECP256R1())
before = mapped()
let_go()
print(before, mapped())
ec.generate_private_key(ec.SECP256R1())
ssl.create_default_context()
print("well")
"""


def test_only_what_nobody_has_written_to_or_may_write_to() -> None:
    assert list(unchanged(SMAPS.splitlines())) == [
        (0x400000, 0x423000),
        (0x7F1000000000, 0x7F1000100000),
    ]


def test_a_process_goes_on_with_less() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AFTERWARDS], capture_output=True, text=True, check=True, timeout=60
    )
    before, after, well = done.stdout.split()
    assert int(after) < int(before) / 2
    assert well == "well"
