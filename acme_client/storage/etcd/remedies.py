"""Why a member of etcd gave no answer, in words that a person can act on, and what mends it. Pure.

etcd never says why it ends a connection, and the libraries below name what they saw, not the cause:
"EOF occurred in violation of protocol" is a missing client certificate, or a port without TLS. So
each cause has its words here, which stand in the log and in the status, and its remedy, which
`doctor` and `cluster check` add.
"""

from __future__ import annotations

# Beginnings of what is said.
SPEAKS_TLS = "it ended the connection at once, as members do that speak TLS"
NO_TLS = "it does not speak TLS there"
ASKS_CLIENTS = "it ended the connection, as etcd does without a client certificate"
NOT_OUR_CLIENT = "it does not take our client certificate (cluster.cert_file)"
CLIENT_NAMED = "where users log in, it takes no client certificate with a common name"
CLIENT_EXPIRED = "our client certificate (cluster.cert_file) has expired"
UNTRUSTED = "its certificate is not trusted"
UNNAMED = "its name cannot be looked up"
LOST = "the connection was lost"
LATE = "no answer in time"
NO_GATEWAY = "it has no JSON gateway (enable-grpc-gateway), or is no etcd"

_OTHERWISE = "see that etcd runs there, and that a firewall lets this machine to it"
# By a part of what was said: the first that fits.
_REMEDIES = {
    SPEAKS_TLS: "write https:// in cluster.etcd, with ca_file, cert_file and key_file",
    NO_TLS: (
        "see that cluster.etcd names etcd's port, and that etcd has a certificate (ETCD_CERT_FILE, "
        "ETCD_KEY_FILE); where it shall have none, write http://"
    ),
    ASKS_CLIENTS: "name a client certificate of etcd's CA: cluster.cert_file, cluster.key_file",
    NOT_OUR_CLIENT: (
        "have cluster.cert_file made by the CA that etcd trusts (ETCD_TRUSTED_CA_FILE), for "
        "clients (extendedKeyUsage clientAuth)"
    ),
    CLIENT_NAMED: "have cluster.cert_file made without a common name (CN)",
    "uthentication failed": "see cluster.user and cluster.password_file",
    CLIENT_EXPIRED: "have it made anew, and reload",
    "ot valid for": "ask etcd by a name or an address that its certificate has (ETCD_CERT_FILE)",
    "certificate has expired": "have etcd's certificate made anew (ETCD_CERT_FILE)",
    "certificate is not yet valid": "set the clock of this machine right",
    UNTRUSTED: "name the CA that made etcd's certificate (ETCD_CERT_FILE) in cluster.ca_file",
    UNNAMED: "write the member's address, or have its name in the DNS or in /etc/hosts",
    NO_GATEWAY: (
        "name the port for clients (ETCD_LISTEN_CLIENT_URLS), which is 2379; 2380 is for the "
        "members of etcd"
    ),
    "refused": (
        "start etcd there, and see that it listens at this address and port "
        "(ETCD_LISTEN_CLIENT_URLS)"
    ),
    LATE: (
        "have the firewalls on the way let this machine to that port, and see that the machine "
        "there runs"
    ),
    "o leader": "start the other members: etcd needs most of them",
    "o route to host": "see that the machine there runs, and the network between",
    "etwork is unreachable": "see that this machine has a network, with a route to that one",
}
# What etcd's own gateway says when etcd does not take the certificate with which it asks.
_GATEWAY_CUT_OFF = ("connection closed", "transport is closing", "connection error: desc")


def of_member(said: str) -> str:
    """Return what to do about a member that gives no answer."""
    return next((remedy for part, remedy in _REMEDIES.items() if part in said), _OTHERWISE)


def is_gateway_cut_off(said: str) -> bool:
    """Whether etcd's gateway was refused by etcd itself, which it asks with the server's
    certificate, as a client."""
    return any(part in said for part in _GATEWAY_CUT_OFF)
