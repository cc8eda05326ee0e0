"""What a worker finds made when it is forked, in a process in which nothing has been used yet."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import proxy.serve
from acme_client import late_dataclass
from proxy.ipc import codec, messages
from proxy.worker.warming_up import warm_up

warm_up()
late_dataclass._compile = codec._dataclass = None  # whoever makes anything ends by it
for vocabulary, message in (
    (messages.FROM_WORKER, messages.Ready()),
    (messages.TO_WORKER, messages.AskStats()),
    (messages.TO_WORKER, messages.Stop()),
    (messages.FROM_WORKER, messages.ProbeResult(3, "ab")),
):
    assert vocabulary.decode(codec.encode(message)) == message
print("made")
"""


def test_messages_of_every_worker_are_understood_without_making_anything() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "made\n", done.stderr
