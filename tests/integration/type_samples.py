"""Every column type with the values at its edges, as SQL."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """A type and literals for it.

    ``shown`` is the SQL whose text the decoded value must equal; ``key`` says
    whether the type can be a primary key.
    """

    name: str
    type: str
    values: tuple[str, ...]
    shown: str = "CAST(v AS CHAR)"
    key: bool = True


def _integers(name: str, bits: int) -> list[Sample]:
    top = 1 << bits
    return [
        Sample(name, name, ("0", "1", "-1", str(top // 2 - 1), str(-top // 2))),
        Sample(f"{name}_unsigned", f"{name} UNSIGNED", ("0", "1", str(top // 2), str(top - 1))),
    ]


def _decimal(precision: int, scale: int) -> Sample:
    whole, fraction = "9" * (precision - scale) or "0", "9" * scale
    most = f"{whole}.{fraction}" if scale else whole
    least = "0." + "0" * (scale - 1) + "1" if scale else "1"
    return Sample(
        f"decimal_{precision}_{scale}",
        f"DECIMAL({precision},{scale})",
        tuple(
            dict.fromkeys(
                ("0", most, f"-{most}", least, f"-{least}", "1" * (precision > scale) or "0")
            )
        ),
    )


def _fractions(kind: str, values: tuple[str, ...]) -> list[Sample]:
    return [
        Sample(
            f"{kind.lower()}_{digits}",
            f"{kind}({digits})",
            tuple(
                f"'{value}'" if "." in value or not digits else f"'{value}{fraction}'"
                for value in values
                for fraction in (".000001", "." + "9" * digits)[: 1 if "." in value else 2]
            )
            if digits
            else tuple(f"'{value}'" for value in values if "." not in value),
        )
        for digits in range(7)
    ]


_BITS = [
    Sample(
        f"bit_{size}", f"BIT({size})", ("0", "1", str((1 << size) - 1))[: 2 + (size > 1)], "HEX(v)"
    )
    for size in (1, 7, 8, 9, 16, 33, 63, 64)
]

_FLOATS = [
    Sample("float", "FLOAT", ("0", "-1.5", "1.1", "3.402823466e38", "1e-45", "16777216"), "v+0e0"),
    Sample("float_7_3", "FLOAT(7,3)", ("0", "1.1", "-9999.999"), "v+0e0"),
    Sample(
        "double",
        "DOUBLE",
        ("0", "1.1", "-1.7976931348623157e308", "5e-324", "0.1e0+0.2e0", "123456789012345680e0"),
        "v+0e0",
    ),
]

_DATES = (
    "0000-00-00",
    "1000-01-01",
    "9999-12-31",
    "2024-00-00",
    "2024-05-00",
    "0000-01-21",
    "2023-02-31",
)

_TEMPORAL = [
    Sample("date", "DATE", tuple(f"'{value}'" for value in _DATES)),
    Sample("year", "YEAR", ("0", "1901", "2155", "2024")),
    *_fractions(
        "TIME", ("00:00:00", "-00:00:01", "12:34:56", "-12:34:56", "838:59:58", "-838:59:58")
    ),
    *_fractions("DATETIME", (*(f"{day} 23:59:58" for day in _DATES[1:]), "0000-00-00 00:00:00.0")),
    *_fractions("TIMESTAMP", ("1970-01-01 00:00:01", "2038-01-19 03:14:06", "2024-03-31 02:30:00")),
    Sample("timestamp_zero", "TIMESTAMP", ("'0000-00-00 00:00:00'", "'2001-02-03 04:05:06'")),
]

_MANY = ",".join(f"'label{number}'" for number in range(300))
_SIXTY_FOUR = ",".join(f"'m{number}'" for number in range(64))

_LABELLED = [
    Sample("enum", "ENUM('a','b,c','it''s','[x]','')", ("1", "2", "3", "4", "5")),
    Sample("enum_error", "ENUM('a','b')", ("0", "1"), "v+0"),
    Sample("enum_wide", f"ENUM({_MANY})", ("1", "255", "256", "300")),
    Sample("set_1", "SET('a','b','[c]')", ("0", "1", "2", "7")),
    Sample("set_2", f"SET({_SIXTY_FOUR[: _SIXTY_FOUR.index(',' + chr(39) + 'm9')]})", ("0", "511")),
    Sample("set_8", f"SET({_SIXTY_FOUR})", ("0", "1", "18446744073709551615")),
    Sample("enum_latin1", "ENUM('\u00e4','\u00f6') CHARACTER SET latin1", ("1", "2")),
    Sample("enum_ucs2", "ENUM('\u00e4','b') CHARACTER SET ucs2", ("1", "2")),
    Sample("set_utf16le", "SET('\u00e4','b') CHARACTER SET utf16le", ("0", "1", "3")),
    Sample("set_utf32", "SET('\u00e4','b') CHARACTER SET utf32", ("0", "1", "3")),
]

_BYTES = [
    Sample("binary_3", "BINARY(3)", ("X'110000'", "X''", "X'001100'", "X'FFFFFF'"), "HEX(v)"),
    Sample("binary_255", "BINARY(255)", ("X'11'", "REPEAT(X'AB',255)"), "HEX(v)"),
    Sample("varbinary_10", "VARBINARY(10)", ("X''", "X'00'", "X'1100'", "X'0011'"), "HEX(v)"),
    Sample("varbinary_255", "VARBINARY(255)", ("X'00'", "REPEAT(X'FF',255)"), "HEX(v)"),
    Sample("varbinary_256", "VARBINARY(256)", ("X'00'", "REPEAT(X'FF',256)"), "HEX(v)"),
    *(
        Sample(kind.lower(), kind, ("X''", "X'00FF00'", f"REPEAT(X'5C',{size})"), "HEX(v)", False)
        for kind, size in (
            ("TINYBLOB", 255),
            ("BLOB", 256),
            ("MEDIUMBLOB", 65536),
            ("LONGBLOB", 70000),
        )
    ),
    *(
        Sample(kind.lower(), kind, ("''", "'a\u00e4\u6f22'", f"REPEAT('x',{size})"), "v", False)
        for kind, size in (
            ("TINYTEXT", 255),
            ("TEXT", 256),
            ("MEDIUMTEXT", 65536),
            ("LONGTEXT", 70000),
        )
    ),
]

_CHARACTERS = [
    Sample("char_0", "CHAR(0)", ("''",), "v", False),
    Sample("char_1", "CHAR(1)", ("''", "'a'", "'\u6f22'"), "v"),
    Sample("char_63", "CHAR(63)", ("''", "'abc'", "REPEAT('\u6f22',63)"), "v"),
    Sample("char_64", "CHAR(64)", ("''", "'abc'", "REPEAT('\u6f22',64)"), "v"),
    Sample("char_255", "CHAR(255)", ("''", "'abc'", "REPEAT('\U0001f600',255)"), "v"),
    Sample("char_255_latin1", "CHAR(255) CHARACTER SET latin1", ("'abc'", "REPEAT('x',255)"), "v"),
    Sample("varchar_63", "VARCHAR(63)", ("''", "'a '", "'b''\\\\'", "REPEAT('\u6f22',63)"), "v"),
    Sample("varchar_64", "VARCHAR(64)", ("''", "'a'", "REPEAT('\u6f22',64)"), "v"),
    Sample("varchar_700", "VARCHAR(700)", ("''", "'a'", "REPEAT('x',700)"), "v"),
    Sample(
        "varchar_255_latin1", "VARCHAR(255) CHARACTER SET latin1", ("'a'", "REPEAT('x',255)"), "v"
    ),
    Sample(
        "varchar_ci", "VARCHAR(20) COLLATE utf8mb4_0900_ai_ci", ("'a'", "'b'", "'\u00f1o'"), "v"
    ),
]

_DEEP = "[" * 99 + "]" * 99
_LONG = '["' + "x" * 70000 + '", 70000, -40000, 3000000000, 1.5, true, null]'

_JSON = [
    Sample(
        "json",
        "JSON",
        (
            "'null'",
            "'true'",
            "'{}'",
            "'[]'",
            '\'"text \u6f22 \\\\" \\\\u0001"\'',
            '\'{"a": 1, "bb": [1, -1, 65535, 65536, -2147483648, 4294967295]}\'',
            "'[9223372036854775807, -9223372036854775808, 18446744073709551615]'",
            "'[1.5, -0.1, 1e100, 1.0, 1e-7]'",
            f"'{_DEEP}'",
            f"'{_LONG}'",
            "JSON_OBJECT('d', CAST('2024-02-29' AS DATE), 't', CAST('-01:02:03.5' AS TIME(6)))",
            "JSON_ARRAY(CAST('2024-02-29 01:02:03.000001' AS DATETIME(6)), -1.50)",
            "JSON_ARRAY(CAST(X'00FF' AS BINARY), 0.000000001, -99999999999999999999999999999)",
            "CAST(CAST('12:00:00' AS TIME) AS JSON)",
        ),
        key=False,
    )
]

_GEOMETRY = [
    Sample(
        "point",
        "POINT",
        ("ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('POINT(1 2)',4326)"),
        "HEX(v)",
        False,
    ),
    Sample(
        "point_srid", "POINT SRID 4326", ("ST_GeomFromText('POINT(1 2)',4326)",), "HEX(v)", False
    ),
    Sample(
        "geometry", "GEOMETRY", ("ST_GeomFromText('LINESTRING(0 0,1 1,2 2)')",), "HEX(v)", False
    ),
    Sample("vector", "VECTOR(3)", ("X'0000803F0000004000004040'",), "HEX(v)", False),
    Sample(
        "vector_wide", "VECTOR(2048)", ("REPEAT(X'0000803F',2048)", "X'0000803F'"), "HEX(v)", False
    ),
]

SAMPLES: tuple[Sample, ...] = (
    *_integers("TINYINT", 8),
    *_integers("SMALLINT", 16),
    *_integers("MEDIUMINT", 24),
    *_integers("INT", 32),
    *_integers("BIGINT", 64),
    *(
        _decimal(p, s)
        for p, s in ((1, 0), (1, 1), (9, 9), (10, 2), (18, 9), (19, 4), (30, 30), (65, 0), (65, 30))
    ),
    *_BITS,
    *_FLOATS,
    *_TEMPORAL,
    *_LABELLED,
    *_BYTES,
    *_CHARACTERS,
    *_JSON,
    *_GEOMETRY,
)
