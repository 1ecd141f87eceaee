"""The schema ``lab``: tables of the kinds that applications have, made in every region.

A key that the server counts (``customers``, ``orders``), a composite key
(``stock``, ``order_lines``), a text key under an accent- and case-insensitive
collation (``tags``), JSON, DECIMAL, DATETIME(6), ENUM, a BLOB, and foreign keys
that cascade over two steps.  No secondary unique key: a collision on one parks a row.
"""

SCHEMA = "lab"

TABLES: dict[str, str] = {
    "customers": """CREATE TABLE lab.customers (
        id INT UNSIGNED NOT NULL AUTO_INCREMENT,
        name VARCHAR(80) NOT NULL,
        balance DECIMAL(14,2) NOT NULL DEFAULT 0,
        profile JSON NULL,
        seen_at DATETIME(6) NULL,
        PRIMARY KEY (id),
        KEY customers_name (name)
    ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci""",
    "orders": """CREATE TABLE lab.orders (
        id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
        customer INT UNSIGNED NOT NULL,
        state ENUM('open','paid','sent','cancelled') NOT NULL DEFAULT 'open',
        total DECIMAL(12,2) NOT NULL DEFAULT 0,
        placed_at DATETIME(6) NOT NULL,
        PRIMARY KEY (id),
        KEY orders_customer (customer),
        CONSTRAINT orders_customer FOREIGN KEY (customer)
            REFERENCES lab.customers (id) ON DELETE CASCADE
    ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci""",
    "order_lines": """CREATE TABLE lab.order_lines (
        order_id BIGINT UNSIGNED NOT NULL,
        line SMALLINT NOT NULL,
        sku VARCHAR(24) NOT NULL,
        quantity INT NOT NULL,
        price DECIMAL(10,4) NOT NULL,
        PRIMARY KEY (order_id, line),
        CONSTRAINT order_lines_order FOREIGN KEY (order_id)
            REFERENCES lab.orders (id) ON DELETE CASCADE
    ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci""",
    "stock": """CREATE TABLE lab.stock (
        warehouse SMALLINT NOT NULL,
        sku VARCHAR(24) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        quantity INT NOT NULL DEFAULT 0,
        price DECIMAL(10,4) NULL,
        attributes JSON NULL,
        changed_at DATETIME(6) NULL,
        PRIMARY KEY (warehouse, sku)
    ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci""",
    "tags": """CREATE TABLE lab.tags (
        tag VARCHAR(64) NOT NULL,
        hits BIGINT NOT NULL DEFAULT 0,
        note TEXT NULL,
        thumbnail BLOB NULL,
        PRIMARY KEY (tag)
    ) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci""",
}
"""``CREATE TABLE`` by name, parents first."""


def statements() -> list[str]:
    """The statements that make the schema on an empty server, in order."""
    create = f"CREATE DATABASE {SCHEMA} CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci"
    return [create, *TABLES.values()]
