"""What is mended and published together follows one definition of each table."""

from core_values import PEER, number_table, transaction, wire_key, write

from meshnode.actors.origin import of_one_form
from meshnode.core.change import Partial, Transaction
from meshnode.core.stamp import Stamp
from meshnode.errors import Halt

OLD, NEW, OTHER = number_table(), number_table(), number_table("other")
"""The same table before and after an ALTER, and another one."""


def tx(*tables) -> Transaction:
    return transaction(*(write(table, (1, Stamp(10, PEER))) for table in tables))


def test_a_batch_ends_where_a_table_is_another_one_from_then_on():
    assert OLD.digest == NEW.digest
    before, after = [tx(OLD), tx(OTHER), tx(OLD, OTHER)], [tx(OTHER, NEW), tx(NEW)]
    assert of_one_form([*before, *after]) == before
    assert of_one_form(after) == after


def test_so_it_does_before_a_row_without_a_full_image():
    short = Transaction("a:1", 0, partial=[Partial(NEW, wire_key(1), True, None)])
    first = tx(OLD)
    assert of_one_form([first, short]) == [first]
    assert of_one_form([short, tx(NEW)])[0] is short


def test_a_batch_ends_before_an_error_and_before_another_format():
    one, other = tx(OLD), tx(OLD)
    other.format = b"of another server"
    assert of_one_form([one, Halt("no")]) == [one]
    assert of_one_form([one, other]) == [one]
