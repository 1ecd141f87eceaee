"""What a broker or the way to it answers, in the mesh's own errors, with the setting to change.

Kafka answers with numbers; `refusal` turns one into an error of the right
reaction.  What is transient (a leader that moves, replicas that are away) is
`Retry`; what an operator has to set is `Refused` or `Halt`.  A connection that
fails says less: `unreachable` looks through the chain of causes, and where a
silent end has several usual reasons it names them all.
"""

import ssl
from typing import NamedTuple

from aiokafka import errors as kafka

from meshnode.bus.port import Corrupt
from meshnode.errors import Fenced, Halt, MeshError, Refused, Retry

OFFSET_OUT_OF_RANGE = 1
UNKNOWN_TOPIC = 3
LEADER_NOT_AVAILABLE = 5
COORDINATOR_LOADING = 14
COORDINATOR_NOT_AVAILABLE = 15
NOT_COORDINATOR = 16
TOPIC_EXISTS = 36
CONCURRENT_TRANSACTIONS = 51
UNKNOWN_TOPIC_ID = 100
INCONSISTENT_TOPIC_ID = 103

TOPIC_GONE = frozenset({UNKNOWN_TOPIC, UNKNOWN_TOPIC_ID, INCONSISTENT_TOPIC_ID})
SOON = frozenset(
    {COORDINATOR_LOADING, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, CONCURRENT_TRANSACTIONS}
)
"""What a coordinator answers while it starts, or ends a predecessor's transaction."""


_TLS_CUT_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""A connection that ended, which says nothing about how TLS is set up."""


class _Answer(NamedTuple):
    error: type[MeshError]
    what: str
    remedy: str = ""


_MOVED = _Answer(Retry, "the leader of {topic} has moved")
_REPLICAS = _Answer(
    Retry,
    "too few replicas of {topic} are in sync",
    "bring the missing brokers back; the topic's min.insync.replicas says how many it needs",
)
_ACL = (
    "grant it with kafka-acls.sh: a node needs Create, Describe, DescribeConfigs and Write on its "
    "own topic, Describe and Write on the transactional id of the same name, Describe and Read on "
    "every topic of the mesh"
)
_FENCED = _Answer(Fenced, "another process writes {topic} now", "run one node for each region")
_TOO_LARGE = _Answer(
    Halt,
    "the broker takes no message of this size for {topic}",
    "raise the topic's max.message.bytes to what the topology file says (kafka-configs.sh --alter "
    "--entity-type topics --add-config max.message.bytes=...), or lower it in the topology file",
)
_SEQUENCE = _Answer(Retry, "the broker has lost the order of this writer's messages to {topic}")

_ANSWERS = {
    2: _Answer(Corrupt, "the broker found a damaged message in {topic}", "see the broker's log"),
    UNKNOWN_TOPIC: _Answer(Retry, "{topic} does not exist", "the node of its region creates it"),
    LEADER_NOT_AVAILABLE: _Answer(Retry, "{topic} has no leader", "bring its brokers back"),
    6: _MOVED,
    7: _Answer(Retry, "the replicas of {topic} do not follow in time", "see the broker's log"),
    8: _Answer(Retry, "the broker is not available"),
    9: _MOVED,
    10: _TOO_LARGE,
    13: _Answer(Retry, "the broker was disconnected from its peers"),
    COORDINATOR_LOADING: _Answer(Retry, "the transaction coordinator is starting"),
    COORDINATOR_NOT_AVAILABLE: _Answer(
        Retry,
        "there is no transaction coordinator",
        "if this lasts: transaction.state.log.replication.factor of the brokers must not be "
        "above their number",
    ),
    NOT_COORDINATOR: _Answer(Retry, "the transaction coordinator has moved"),
    17: _Answer(Refused, "{topic} is no name of a topic", "rename the mesh or the region"),
    18: _TOO_LARGE,
    19: _REPLICAS,
    20: _REPLICAS,
    29: _Answer(Refused, "the user may not do this with topic {topic}", _ACL),
    31: _Answer(Refused, "the user may not do this in the cluster", _ACL),
    34: _Answer(
        Refused,
        "the listener asks for no password",
        "leave the user out, or name its SASL listener",
    ),
    37: _Answer(Refused, "{topic} cannot have one partition", "see the cluster's policies"),
    38: _Answer(
        Refused,
        "the cluster has too few brokers for the replicas of {topic}",
        "lower replication_factor in the topology file, or add brokers",
    ),
    40: _Answer(Refused, "the cluster refuses a setting of {topic}", "see the broker's log"),
    41: _Answer(Retry, "the controller has moved"),
    44: _Answer(Refused, "a policy of the cluster forbids {topic}", "create the topic by hand"),
    45: _SEQUENCE,
    46: _SEQUENCE,
    47: _FENCED,
    CONCURRENT_TRANSACTIONS: _Answer(Retry, "the fence of {topic} is being set"),
    53: _Answer(Refused, "the user may not use transactional id {topic}", _ACL),
    56: _Answer(Retry, "the broker has a disk error", "see the broker's log"),
    58: _Answer(
        Refused, "user or password is wrong", "correct the secret, or the user at the broker"
    ),
    59: _SEQUENCE,
    72: _Answer(Retry, "the broker cannot be reached by its peers"),
    74: _MOVED,
    75: _MOVED,
    76: _Answer(
        Refused, "the broker does not know the compression", "choose zstd, or a newer Kafka"
    ),
    78: _MOVED,
    89: _Answer(Retry, "the quota of the user is used up", "raise it (kafka-configs.sh, users)"),
    90: _FENCED,
    UNKNOWN_TOPIC_ID: _Answer(Retry, "{topic} was deleted"),
    INCONSISTENT_TOPIC_ID: _Answer(Retry, "{topic} was deleted and made again"),
}


def refusal(code: int, cluster: str, topic: str, said: str | None = None) -> MeshError:
    """The error that the broker's ``code`` means; ``said`` is what it added in words."""
    name = getattr(kafka.for_code(code), "message", "") or "UNKNOWN"
    answer = _ANSWERS.get(code, _Answer(Retry, "the broker refuses", "see the broker's log"))
    what = f"Kafka at {cluster}: {answer.what.format(topic=topic)} ({name}, error {code})"
    return answer.error(f"{what}: {said}" if said else what, answer.remedy)


def unreachable(where: str, error: BaseException) -> MeshError:
    """The error that a failed connection to ``where``, or a request on it, means."""
    for cause in _chain(error):
        if isinstance(cause, MeshError):
            return cause
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Refused(
                f"the certificate of Kafka at {where} does not fit: {cause}",
                "name the CA that signed it in the topology file, and the broker as the "
                "certificate does",
            )
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, _TLS_CUT_OFF):
            return Refused(
                f"TLS with Kafka at {where} fails: {cause}",
                "name a listener that speaks TLS; if it asks for a certificate of the client, "
                "give one",
            )
        if isinstance(cause, kafka.IncompatibleBrokerVersion):
            return Refused(f"Kafka at {where} is too old: {cause}", "use Kafka 3.1 or newer")
        if isinstance(cause, kafka.UnsupportedSaslMechanismError):
            return Refused(
                f"the listener of Kafka at {where} does not offer SCRAM-SHA-512",
                "add it to the listener's sasl.enabled.mechanisms, or name another listener",
            )
        if isinstance(cause, kafka.BrokerResponseError):
            return refusal(cause.errno, where, "the topic", str(cause))
    told = _first_words(error)
    return Retry(
        f"Kafka at {where} cannot be used: {told}",
        "see that the broker runs and can be reached under this address (brokers name each other "
        "by advertised.listeners); if it can, see that the topology file and the listener agree on "
        "TLS and on user and password",
    )


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _first_words(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "it does not answer in time"
    if isinstance(error, EOFError | kafka.KafkaConnectionError):
        return "it has closed the connection"
    return str(error) or type(error).__name__
