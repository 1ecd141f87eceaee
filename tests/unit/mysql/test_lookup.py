"""What a lookup refuses before any statement is made of it."""

import pytest

from meshnode.core.shape import Column, FieldType, Shape
from meshnode.errors import Halt
from meshnode.mysql.lookup import Collation, Lookup

KNOWN = {255: Collation("utf8mb4_0900_ai_ci", "utf8mb4", False)}


def shape(collation: int) -> Shape:
    key = Column("name", FieldType.VARCHAR, 40, nullable=False, collation=collation)
    return Shape("app", "t", (key,), (0,))


def test_a_collation_that_the_server_does_not_have_stops_the_stream_with_its_name():
    Lookup(shape(255), KNOWN)
    with pytest.raises(Halt, match=r"`name` of table app\.t has the collation id 2047") as caught:
        Lookup(shape(2047), KNOWN)
    assert "install the collation" in caught.value.remedy
