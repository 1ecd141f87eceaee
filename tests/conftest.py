"""Options of the test run."""

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no reason for a property not to hold.
settings.register_profile("meshnode", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("meshnode")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bus",
        choices=("file", "kafka"),
        default="file",
        help="what carries the streams in integration tests (default: file)",
    )
