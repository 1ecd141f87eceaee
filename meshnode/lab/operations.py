"""What the lab's workload does: transactions of an application, drawn from a generator.

Half of all keys come from a small hot set that every region writes, so that
conflicts of every kind happen: insert against insert, update against update or
delete, deletes of the same row, cascades against new children, a key that one
region changes while another writes it.

It makes no orphans, so that whatever ``verify`` finds is worth a look.  Two regions make one
together when one deletes a parent while the other writes a child of it.  Hence some
customers are *doomed*: only their home region, whose server gave out numbers like theirs,
deletes them, and only there they get orders and their orders change.  Every region
updates the customers themselves, also against the delete.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from meshnode.lab.blueprint import AUTO_INCREMENT_STEP

HOT_CUSTOMERS = 24
HOT_SKUS = 20
HOT_TAGS = 16
HOT_SHARE = 0.5
COLD_SKUS = 5_000
NOW = "UTC_TIMESTAMP(6)"

_WORDS = (
    "mesh", "node", "Straße", "straße", "Ärger", "arger", "naïve", "naive", "日本", "emoji 🐬",
    "Ω", "ω", "x" * 40, "tab\there", "O'Brien", "back\\slash",
)  # fmt: skip

LAST_ID = "LAST_INSERT_ID()"

Transaction = list[str]
"""SQL statements of one transaction, in order; a single one runs in autocommit."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of transaction: how often it is drawn, relative to the others, and how it is made."""

    name: str
    weight: int
    make: Callable[["Draw"], Transaction]


class Draw(random.Random):
    """The generator of one client, which knows the id of the region that it writes in."""

    def __init__(self, seed: str, region: int) -> None:
        super().__init__(seed)
        self.region = region


def text(value: str) -> str:
    """A string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def hot_rows() -> list[str]:
    """Statements that make the hot set; every region runs them, which is the first conflict."""
    return [
        "INSERT IGNORE INTO lab.customers (id, name, balance, profile) VALUES "
        + ",".join(
            f"({number}, 'customer {number}', 100, '{{\"level\": 0}}')"
            for number in range(1, HOT_CUSTOMERS + 1)
        ),
        "INSERT IGNORE INTO lab.stock (warehouse, sku, quantity, price) VALUES "
        + ",".join(f"(1, 'hot-{number}', 100, 9.9900)" for number in range(HOT_SKUS)),
        "INSERT IGNORE INTO lab.tags (tag, hits) VALUES "
        + ",".join(f"({text(_tag(number))}, 0)" for number in range(HOT_TAGS)),
    ]


def _hot(draw: Draw) -> bool:
    return draw.random() < HOT_SHARE


def _tag(number: int) -> str:
    return f"{_WORDS[number % len(_WORDS)][:40]} {number}"


def _customer(draw: Draw) -> int:
    # The lowest ids exist in every region; beyond the hot set most do.
    return draw.randint(1, HOT_CUSTOMERS if _hot(draw) else HOT_CUSTOMERS * 8)


def home(customer: int) -> int:
    """The id of the region where a doomed customer is at home; 0 for all others."""
    block, offset = divmod(customer, AUTO_INCREMENT_STEP)
    return offset if block % 2 else 0


def _parent(draw: Draw) -> int:
    """A customer whose orders this region may write."""
    while True:
        customer = _customer(draw)
        if home(customer) in (0, draw.region):
            return customer


def _stock(draw: Draw) -> tuple[int, str]:
    if _hot(draw):
        return 1, f"hot-{draw.randrange(HOT_SKUS)}"
    return draw.randint(2, 9), f"sku-{draw.randrange(COLD_SKUS)}"


def _some_tag(draw: Draw) -> str:
    word = _tag(draw.randrange(HOT_TAGS)) if _hot(draw) else f"tag {draw.randrange(3000)}"
    # Another spelling of the same key: the collation ignores case.
    return word.upper() if draw.random() < 0.2 else word


def _profile(draw: Draw) -> str:
    words = ", ".join(f'"{draw.randrange(100)}"' for _ in range(draw.randrange(6)))
    return f"JSON_OBJECT('level', {draw.randrange(9)}, 'seen', JSON_ARRAY({words}))"


def _new_customer(draw: Draw) -> Transaction:
    name = text(draw.choice(_WORDS))
    return [
        "INSERT INTO lab.customers (name, balance, profile, seen_at)"
        f" VALUES ({name}, {draw.randrange(10**6)}/100, {_profile(draw)}, {NOW})"
    ]


def _chosen_customer(draw: Draw) -> Transaction:
    return [
        "INSERT IGNORE INTO lab.customers (id, name, balance)"
        f" VALUES ({_customer(draw)}, {text(draw.choice(_WORDS))}, {draw.randrange(100)})"
    ]


def _new_order(draw: Draw) -> Transaction:
    statements = [
        "INSERT INTO lab.orders (customer, state, total, placed_at)"
        f" VALUES ({_parent(draw)}, 'open', {draw.randrange(10**5)}/100, {NOW})",
        f"SET @order_id = {LAST_ID}",
    ]
    for line in range(1, draw.randint(2, 5)):
        warehouse, sku = _stock(draw)
        statements.append(
            "INSERT INTO lab.order_lines (order_id, line, sku, quantity, price)"
            f" VALUES (@order_id, {line}, '{sku}', {draw.randint(1, 9)}, {draw.random():.4f})"
        )
        statements.append(
            f"UPDATE lab.stock SET quantity = quantity - 1, changed_at = {NOW}"
            f" WHERE warehouse = {warehouse} AND sku = '{sku}'"
        )
    return statements


def _order_state(draw: Draw) -> Transaction:
    state = draw.choice(("paid", "sent", "cancelled"))
    return [
        f"UPDATE lab.orders SET state = '{state}', total = total + 1"
        f" WHERE customer = {_parent(draw)} ORDER BY id DESC LIMIT 3"
    ]


def _transfer(draw: Draw) -> Transaction:
    source, target = sorted((_customer(draw), _customer(draw)))
    amount = f"{draw.randint(1, 900)}/100"
    return [
        f"UPDATE lab.customers SET balance = balance - {amount}, seen_at = {NOW}"
        f" WHERE id = {source}",
        f"UPDATE lab.customers SET balance = balance + {amount}, profile = {_profile(draw)}"
        f" WHERE id = {target}",
    ]


def _delete_customer(draw: Draw) -> Transaction:
    block = 1 if _hot(draw) else draw.randrange(1, 12, 2)
    return [f"DELETE FROM lab.customers WHERE id = {block * AUTO_INCREMENT_STEP + draw.region}"]


def _count_tag(draw: Draw) -> Transaction:
    return [
        f"INSERT INTO lab.tags (tag, hits, thumbnail) VALUES ({text(_some_tag(draw))}, 1,"
        f" x'{draw.randbytes(draw.randrange(40)).hex()}') ON DUPLICATE KEY UPDATE hits = hits + 1"
    ]


def _delete_tag(draw: Draw) -> Transaction:
    return [f"DELETE FROM lab.tags WHERE tag = {text(_some_tag(draw))}"]


def _respell_tag(draw: Draw) -> Transaction:
    word = _some_tag(draw)
    return [f"UPDATE lab.tags SET tag = {text(word.title())} WHERE tag = {text(word)}"]


def _replace_stock(draw: Draw) -> Transaction:
    warehouse, sku = _stock(draw)
    return [
        "REPLACE INTO lab.stock (warehouse, sku, quantity, price, attributes, changed_at)"
        f" VALUES ({warehouse}, '{sku}', {draw.randrange(500)}, {draw.random() * 90:.4f},"
        f" {_profile(draw)}, {NOW})"
    ]


def _delete_stock(draw: Draw) -> Transaction:
    warehouse, sku = _stock(draw)
    return [f"DELETE FROM lab.stock WHERE warehouse = {warehouse} AND sku = '{sku}'"]


def _move_stock(draw: Draw) -> Transaction:
    warehouse, sku = _stock(draw)
    target = draw.randint(1, 9)
    return [
        f"UPDATE IGNORE lab.stock SET warehouse = {target}, changed_at = {NOW}"
        f" WHERE warehouse = {warehouse} AND sku = '{sku}'"
    ]


def _raise_prices(draw: Draw) -> Transaction:
    return [
        f"UPDATE lab.stock SET price = LEAST(ROUND(price * 1.01, 4), 9999), changed_at = {NOW}"
        f" WHERE warehouse = {draw.randint(1, 9)} ORDER BY sku LIMIT {draw.randint(5, 40)}"
    ]


def _come_and_go(draw: Draw) -> Transaction:
    warehouse, sku = _stock(draw)
    return [
        f"DELETE FROM lab.stock WHERE warehouse = {warehouse} AND sku = '{sku}'",
        "INSERT INTO lab.stock (warehouse, sku, quantity, price)"
        f" VALUES ({warehouse}, '{sku}', 7, 7.0000)",
        *_raise_prices(draw),
    ]


KINDS = (
    Kind("new customer", 10, _new_customer),
    Kind("chosen customer", 6, _chosen_customer),
    Kind("new order", 20, _new_order),
    Kind("order state", 8, _order_state),
    Kind("transfer", 18, _transfer),
    Kind("delete customer", 2, _delete_customer),
    Kind("count tag", 10, _count_tag),
    Kind("delete tag", 3, _delete_tag),
    Kind("respell tag", 3, _respell_tag),
    Kind("replace stock", 8, _replace_stock),
    Kind("delete stock", 4, _delete_stock),
    Kind("move stock", 3, _move_stock),
    Kind("raise prices", 2, _raise_prices),
    Kind("come and go", 3, _come_and_go),
)


class Generator:
    """An endless sequence of transactions; the same seed gives the same one."""

    def __init__(self, seed: str, region: int) -> None:
        self._draw = Draw(seed, region)
        self._weights = [kind.weight for kind in KINDS]

    def next(self) -> tuple[str, Transaction]:
        """The name of the kind, and the statements."""
        kind = self._draw.choices(KINDS, self._weights)[0]
        return kind.name, kind.make(self._draw)
