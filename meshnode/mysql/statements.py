"""What a logged statement does to the stream.

Row changes come as rows.  A QUERY event holds everything else: the marks of a
transaction, DDL, and statement-format DML.  Some DDL changes data without rows
(TRUNCATE, DROP, partitions) or takes away what rows are mapped by (columns, the
key, the table's name); for a replicated table such a statement must stop the
stream.  This module says which statement it is and which tables it names.

The text is split into tokens, not matched as a whole, so that comments, quotes
and names like ``drop`` in quotes do not matter.  Whatever does not parse is
UNSURE, and the caller stops.
"""

import re
from enum import Enum

import msgspec

from meshnode.mysql.clienttext import as_utf8

ANSI_QUOTES = 0x4
NO_BACKSLASH_ESCAPES = 0x100000


class StatementClass(Enum):
    """What the statement is to the stream."""

    BEGIN = "begins a transaction"
    COMMIT = "ends a transaction"
    ROLLBACK = "takes a transaction back"
    SAVEPOINT = "marks a place in a transaction"
    ROLLBACK_TO = "takes back part of a transaction"
    XA = "belongs to a distributed transaction"
    DDL = "changes the definition of a table or schema"
    DML = "changes rows that are not in the log"
    HARMLESS = "changes no table"
    UNSURE = "was not understood"


Name = tuple[str, str | None]
"""(schema, table); table None means every table of the schema."""


class Statement(msgspec.Struct, frozen=True):
    """A classified statement.

    ``verb`` names it for messages.  ``stops`` says that a stream that replicates one
    of ``tables`` cannot go on past it.  An UNSURE statement may touch any table.
    """

    kind: StatementClass
    verb: str
    tables: tuple[Name, ...] = ()
    stops: bool = False


class _Unsure(Exception):
    """The statement does not read as expected; the text says where."""


class _Token(msgspec.Struct, frozen=True):
    """``quoted`` tells a name or text in quotes from a bare word or sign."""

    text: str
    quoted: str = ""

    @property
    def word(self) -> str:
        return "" if self.quoted else self.text.upper()


_SKIPPED = re.compile(
    r"""\s+ | --(?=[\s\x00-\x1f]|\Z)[^\n]* | \#[^\n]* | /\*(?!!)(?:.*?)\*/ | /\*![0-9]*""",
    re.VERBOSE | re.DOTALL,
)
_WORD = re.compile(r"[A-Za-z0-9_$@\x80-\U0010ffff]+")
_BACKQUOTED = re.compile(r"`((?:[^`]|``)*)`")
_TEXT = {
    (quote, escapes): re.compile(
        rf"{quote}((?:[^{quote}\\]|\\.|{quote}{quote})*){quote}"
        if escapes
        else rf"{quote}((?:[^{quote}]|{quote}{quote})*){quote}",
        re.DOTALL,
    )
    for quote in "'\""
    for escapes in (True, False)
}


def _tokens(text: str, sql_mode: int) -> list[_Token]:
    tokens: list[_Token] = []
    pos, versioned = 0, 0
    escapes = not sql_mode & NO_BACKSLASH_ESCAPES
    while pos < len(text):
        found = _SKIPPED.match(text, pos)
        if found:
            versioned += found[0].startswith("/*!")
            pos = found.end()
            continue
        if versioned and text.startswith("*/", pos):
            versioned -= 1
            pos += 2
            continue
        sign = text[pos]
        if sign == "`":
            found = _BACKQUOTED.match(text, pos)
            tokens.append(_Token(found[1].replace("``", "`"), "`") if found else _broken(pos))
        elif sign in "'\"":
            found = _TEXT[sign, escapes].match(text, pos)
            if not found:
                _broken(pos)
            is_name = sign == '"' and sql_mode & ANSI_QUOTES
            content = found[1].replace(sign * 2, sign)
            tokens.append(_Token(content, "`" if is_name else "'"))
        else:
            found = _WORD.match(text, pos)
            tokens.append(_Token(found[0] if found else sign))
        pos = found.end() if found else pos + 1
    return tokens


def _broken(pos: int) -> _Token:
    raise _Unsure(f"a quote opens at character {pos} and does not close")


class _Reader:
    """Walks over tokens; names without a schema belong to ``schema``."""

    def __init__(self, tokens: list[_Token], schema: str) -> None:
        self.tokens = tokens
        self.schema = schema
        self.at = 0

    def peek(self, ahead: int = 0) -> str:
        place = self.at + ahead
        return self.tokens[place].word if place < len(self.tokens) else ""

    def text(self, ahead: int = 0) -> str:
        """The token as it stands, quoted or not."""
        place = self.at + ahead
        return self.tokens[place].text if place < len(self.tokens) else ""

    def take(self, *words: str) -> bool:
        """Steps over the words if they all stand here."""
        if all(self.peek(ahead) == word for ahead, word in enumerate(words)):
            self.at += len(words)
            return True
        return False

    def take_any(self, *words: str) -> str:
        """Steps over one of the words."""
        word = self.peek()
        return word if word in words and self.take(word) else ""

    def identifier(self) -> str:
        token = self.tokens[self.at] if self.at < len(self.tokens) else _Token(";")
        if token.quoted == "'" or not (token.quoted or _WORD.fullmatch(token.text)):
            raise _Unsure(f"{token.text!r} stands where a name should")
        self.at += 1
        return token.text

    def table(self) -> Name:
        name = self.identifier()
        if self.take("."):
            return name, self.identifier()
        # `1e3.x` and the like never come out of the server; a bare name needs a schema.
        return self.schema, name

    def tables(self) -> tuple[Name, ...]:
        names = [self.table()]
        while self.take(","):
            names.append(self.table())
        return tuple(names)


_DML = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "CALL", "DO", "WITH", "SELECT"})
_DML |= {"HANDLER", "IMPORT", "(", "VALUES", "TABLE"}
_HARMLESS = frozenset(
    {
        "ANALYZE",
        "BINLOG",
        "CACHE",
        "CHECK",
        "CHECKSUM",
        "CLONE",
        "EXPLAIN",
        "FLUSH",
        "GRANT",
        "INSTALL",
        "KILL",
        "LOCK",
        "OPTIMIZE",
        "PURGE",
        "REPAIR",
        "RESET",
        "REVOKE",
        "SET",
        "SHOW",
        "UNINSTALL",
        "UNLOCK",
        "USE",
    }
)


_MARKS = {
    b"BEGIN": Statement(StatementClass.BEGIN, "BEGIN"),
    b"COMMIT": Statement(StatementClass.COMMIT, "COMMIT"),
}
"""The texts that the server itself writes around every transaction."""


def classify_query(
    sql: bytes, schema: bytes = b"", sql_mode: int = 0, client_collation: int = 255
) -> Statement:
    """Classifies the text of a QUERY event; its other fields say how to read it."""
    if sql in _MARKS:
        return _MARKS[sql]
    text = as_utf8(sql, client_collation)
    if text is None:
        return Statement(StatementClass.UNSURE, "text in an unknown character set")
    try:
        tokens = _tokens(text, sql_mode)
        while tokens and tokens[-1].word == ";":
            tokens.pop()
        return _classify(_Reader(tokens, schema.decode("utf-8", "surrogateescape")))
    except _Unsure as reason:
        return Statement(StatementClass.UNSURE, f"{text[:80]!r} ({reason})")


def _classify(reader: _Reader) -> Statement:
    word = reader.peek()
    simple = _transaction_mark(reader)
    if simple:
        return simple
    if word in _DML:
        return Statement(StatementClass.DML, word)
    if word in _HARMLESS:
        return Statement(StatementClass.HARMLESS, word)
    reader.at += 1
    if word == "TRUNCATE":
        reader.take("TABLE")
        return _stopping("TRUNCATE TABLE", (reader.table(),))
    if word == "DROP":
        return _drop(reader)
    if word == "RENAME":
        return _rename(reader)
    if word == "ALTER":
        return _alter(reader)
    if word == "CREATE":
        return _create(reader)
    raise _Unsure("an unknown statement" if word else "no statement")


def _stopping(verb: str, tables: tuple[Name, ...]) -> Statement:
    return Statement(StatementClass.DDL, verb, tables, stops=True)


def _transaction_mark(reader: _Reader) -> Statement | None:
    kinds = StatementClass
    for words, kind in (
        (("BEGIN",), kinds.BEGIN),
        (("START", "TRANSACTION"), kinds.BEGIN),
        (("COMMIT",), kinds.COMMIT),
        (("SAVEPOINT",), kinds.SAVEPOINT),
        (("RELEASE", "SAVEPOINT"), kinds.SAVEPOINT),
        (("ROLLBACK", "TO"), kinds.ROLLBACK_TO),
        (("ROLLBACK", "WORK", "TO"), kinds.ROLLBACK_TO),
        (("ROLLBACK",), kinds.ROLLBACK),
        (("XA",), kinds.XA),
    ):
        if reader.take(*words):
            return Statement(kind, " ".join(words))
    return None


def _drop(reader: _Reader) -> Statement:
    if reader.take("TEMPORARY"):
        return Statement(StatementClass.HARMLESS, "DROP TEMPORARY TABLE")
    if reader.take_any("TABLE", "TABLES"):
        reader.take("IF", "EXISTS")
        return _stopping("DROP TABLE", reader.tables())
    if reader.take_any("DATABASE", "SCHEMA"):
        reader.take("IF", "EXISTS")
        return _stopping("DROP SCHEMA", ((reader.identifier(), None),))
    if reader.take("INDEX"):
        primary = reader.identifier().upper() == _PRIMARY
        if not reader.take("ON"):
            raise _Unsure("DROP INDEX without ON")
        return Statement(StatementClass.DDL, "DROP INDEX", (reader.table(),), stops=primary)
    return Statement(StatementClass.HARMLESS, f"DROP {reader.peek()}")


def _rename(reader: _Reader) -> Statement:
    if reader.take("USER"):
        return Statement(StatementClass.HARMLESS, "RENAME USER")
    if not reader.take_any("TABLE", "TABLES"):
        raise _Unsure("RENAME of something unknown")
    names: list[Name] = []
    while True:
        names.append(reader.table())
        if not reader.take("TO"):
            raise _Unsure("RENAME without TO")
        names.append(reader.table())
        if not reader.take(","):
            return _stopping("RENAME TABLE", tuple(names))


def _create(reader: _Reader) -> Statement:
    if reader.take("TEMPORARY"):
        return Statement(StatementClass.HARMLESS, "CREATE TEMPORARY TABLE")
    if reader.take("TABLE"):
        reader.take("IF", "NOT", "EXISTS")
        return Statement(StatementClass.DDL, "CREATE TABLE", (reader.table(),))
    return Statement(StatementClass.HARMLESS, f"CREATE {reader.peek()}")


def _alter(reader: _Reader) -> Statement:
    if not reader.take("TABLE"):
        return Statement(StatementClass.HARMLESS, f"ALTER {reader.peek()}")
    names = [reader.table()]
    verb = ""
    depth, opens = 0, True
    while reader.at < len(reader.tokens):
        word = reader.peek()
        depth += (word == "(") - (word == ")")
        if depth == 0:
            action = _stopping_action(reader, opens, names)
            verb = verb or action
        opens = word == "," and depth == 0
        reader.at += 1
    if verb:
        return _stopping(f"ALTER TABLE ... {verb}", tuple(names))
    return Statement(StatementClass.DDL, "ALTER TABLE", tuple(names))


_NAMED_KEYS = frozenset({"INDEX", "KEY", "CONSTRAINT"})
_HARMLESS_DROPS = _NAMED_KEYS | {"FOREIGN", "CHECK", "DEFAULT"}
_PRIMARY = "PRIMARY"


def _stopping_action(reader: _Reader, opens: bool, names: list[Name]) -> str:
    """The action at the reader's place if rows cannot flow across it, else ''.

    DROP, CHANGE, CONVERT and RENAME are reserved words and count wherever they
    stand; the others may be names and count only where an action begins.
    """
    word, following = reader.peek(), reader.peek(1)
    if word == "DROP":
        if following == _PRIMARY or (
            following in _NAMED_KEYS and reader.text(2).upper() == _PRIMARY
        ):
            return "DROP PRIMARY KEY"
        if following in _HARMLESS_DROPS:
            return ""
        return "DROP PARTITION" if following == "PARTITION" else "DROP COLUMN"
    if word == "RENAME":
        if following in ("INDEX", "KEY", "COLUMN"):
            return "RENAME COLUMN" if following == "COLUMN" else ""
        place = reader.at
        reader.at += 2 if following in ("TO", "AS", "=") else 1
        names.append(reader.table())
        reader.at = place
        return "RENAME"
    if word == "CHANGE":
        return "CHANGE COLUMN"
    if word == "CONVERT":
        return "CONVERT TO CHARACTER SET"
    if word == _PRIMARY and following == "KEY":
        return "ADD PRIMARY KEY"
    if not opens:
        return ""
    if word == "EXCHANGE":
        names.append(_exchanged(reader))
        return "EXCHANGE PARTITION"
    if word in ("TRUNCATE", "DISCARD", "IMPORT"):
        return f"{word} {following}"
    return ""


def _exchanged(reader: _Reader) -> Name:
    place = reader.at
    try:
        while reader.at < len(reader.tokens):
            if reader.take("WITH", "TABLE"):
                return reader.table()
            reader.at += 1
        raise _Unsure("EXCHANGE PARTITION without WITH TABLE")
    finally:
        reader.at = place
