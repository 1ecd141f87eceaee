"""Who can reach the ops port, and what an operator should know of it."""

from meshnode.topology import OpsAddress

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

REMEDY = 'listen on 127.0.0.1, or add token_file = "..." (or token_env) to `ops` of the region'


def open_to_others(ops: OpsAddress) -> str:
    """What to say of an address that other machines reach without a token; '' if all is well."""
    if ops.host in LOOPBACK or ops.token_env or ops.token_file:
        return ""
    return (
        f"the ops port {ops} can be reached from other machines and has no token: "
        "they can read /status and /metrics, and nobody can pause a peer through it"
    )
