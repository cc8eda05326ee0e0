"""How a DNS hook is called: in our own way, or as programs for other ACME clients expect it. Pure.

People have scripts for certbot, plug-ins of acme.sh and programs for lego. Each of these clients
calls them in a way of its own, which is kept here to the letter:

- certbot, ``--manual-auth-hook`` and ``--manual-cleanup-hook``: no arguments, everything in
  CERTBOT_DOMAIN, CERTBOT_VALIDATION, CERTBOT_REMAINING_CHALLENGES, CERTBOT_ALL_DOMAINS; the second
  gets what the first wrote to its standard output in CERTBOT_AUTH_OUTPUT.
- acme.sh, ``dnsapi/dns_NAME.sh``: shell functions, dns_NAME_add and dns_NAME_rm, with record and
  value. They call functions of acme.sh itself, which is looked for beside them.
- lego, ``exec``: PROGRAM present|cleanup RECORD. VALUE; with EXEC_MODE=RAW (``lego-raw``) PROGRAM
  present|cleanup -- DOMAIN TOKEN KEY-AUTHORIZATION.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Literal

from ..late_dataclass import dataclass
from ..link import DnsHook, acme_sh
from .dns_provider import TxtRecord

Action = Literal["present", "cleanup"]


@dataclass(frozen=True, slots=True)
class Invocation:
    """``program`` is what messages name; ``arguments`` begin with what is executed."""

    program: Path
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


# The last line of acme.sh runs what its arguments say, and shows its help where there are none.
# Plug-ins read what people have saved in acme.sh's account.conf, and write to that file: so they
# get a copy of it.
_ACME_SH = """\
acme=$1 plugin=$2 function=$3 record=$4 value=$5
shift 5
LE_WORKING_DIR=${acme%/*} LE_CONFIG_HOME=$HOME/acme.sh
ACCOUNT_CONF_PATH=$LE_CONFIG_HOME/account.conf
export LE_WORKING_DIR LE_CONFIG_HOME ACCOUNT_CONF_PATH
mkdir -p "$LE_CONFIG_HOME" || exit 1
if [ -r "$LE_WORKING_DIR/account.conf" ]; then
  grep -v '^ *[A-Z_]*_PATH=\\|^ *CERT_HOME=\\|^ *LOG_FILE=' "$LE_WORKING_DIR/account.conf" \\
    > "$ACCOUNT_CONF_PATH"
fi
. "$acme" > /dev/null
if command -v _initpath > /dev/null; then _initpath; fi
. "$plugin"
"$function" "$record" "$value"
"""


def invocation(
    hook: DnsHook, action: Action, record: TxtRecord, said: str = ""
) -> Invocation | None:
    """Return how the hook is called; None where there is nothing to call. ``said``: what the hook
    wrote to its standard output when the record was set."""
    match hook.style:
        case "treehouse":
            return _treehouse(hook, action, record)
        case "certbot":
            return _certbot(hook, action, record, said)
        case "acme.sh":
            function = f"{hook.program.stem}_{'add' if action == 'present' else 'rm'}"
            call: tuple[str, ...] = (
                "/bin/sh", "-c", _ACME_SH, "sh", str(acme_sh(hook.program)), str(hook.program),
                function, record.name, record.value,
            )  # fmt: skip
            return Invocation(hook.program, call)
        case "lego":
            program = str(hook.program)
            call = (program, action, f"{record.name}.", record.value)
            return Invocation(hook.program, call, {"EXEC_PATH": program})
        case "lego-raw":
            program = str(hook.program)
            call = (
                program, action, "--", record.domain, record.token, record.key_authorization,
            )  # fmt: skip
            environment = {"EXEC_PATH": program, "EXEC_MODE": "RAW"}
            return Invocation(hook.program, call, environment)


def _treehouse(hook: DnsHook, action: Action, record: TxtRecord) -> Invocation:
    program = (action == "cleanup" and hook.cleanup_program) or hook.program
    return Invocation(
        program,
        (str(program), action, record.domain, record.name, record.value),
        {
            "TREEHOUSE_ACTION": action,
            "TREEHOUSE_DOMAIN": record.domain,
            "TREEHOUSE_RECORD": record.name,
            "TREEHOUSE_VALUE": record.value,
        },
    )


def _certbot(hook: DnsHook, action: Action, record: TxtRecord, said: str) -> Invocation | None:
    program = hook.program if action == "present" else hook.cleanup_program
    if program is None:
        return None  # certbot has no cleanup without such a hook either
    environment = {
        "CERTBOT_DOMAIN": record.domain,
        "CERTBOT_IDENTIFIER": record.domain,
        "CERTBOT_VALIDATION": record.value,
        "CERTBOT_REMAINING_CHALLENGES": str(record.remaining),
        "CERTBOT_ALL_DOMAINS": ",".join(record.all_domains),
        "CERTBOT_ALL_IDENTIFIERS": ",".join(record.all_domains),
    }
    if action == "cleanup":
        environment["CERTBOT_AUTH_OUTPUT"] = said
    return Invocation(program, (str(program),), environment)
