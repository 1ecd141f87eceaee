"""TLS towards the servers of a topology: MySQL and Kafka alike."""

import ssl

from meshnode.errors import Refused
from meshnode.topology import Tls


def client_context(tls: Tls, server: str) -> ssl.SSLContext:
    """The settings for a connection to ``server`` (a name for errors).

    Raises Refused if the CA file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ssl.SSLError) as error:
        raise Refused(
            f"the CA file {tls.ca} for {server} cannot be used: {error}",
            "name a readable file with PEM certificates under tls.ca",
        ) from error
    if tls.verify != "identity":
        context.check_hostname = False
    if tls.verify == "none":
        context.verify_mode = ssl.CERT_NONE
    return context
