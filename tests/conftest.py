"""Options of the test run."""

import signal

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no reason for a property not to hold.
settings.register_profile("meshnode", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("meshnode")

# A shell without job control has what it starts in the background ignore Ctrl-C, and so would the
# commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bus",
        choices=("file", "kafka"),
        default="file",
        help="what carries the streams in integration tests (default: file)",
    )
