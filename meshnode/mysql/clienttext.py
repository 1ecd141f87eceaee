"""Statement texts: bytes in the client's character set, made readable.

Most client character sets keep ASCII bytes for ASCII signs only, so quotes and
commas are where they seem to be.  In GBK, Big5, Shift-JIS and GB18030 the second
byte of a character can look like a backquote or a backslash: such a text has to
be decoded before it is split.
"""

_CODECS: dict[str, tuple[int, ...]] = {
    "big5hkscs": (1, 84),
    "cp932": (13, 88, 95, 96),
    "gbk": (28, 87),
    "gb18030": (248, 249, 250),
    "cp1252": (5, 8, 15, 31, 47, 48, 49, 94),
    "iso8859_2": (2, 9, 21, 27, 77),
    "koi8_r": (7, 74),
    "euc_jp": (12, 91, 97, 98),
    "euc_kr": (19, 85),
    "gb2312": (24, 86),
    "iso8859_9": (30, 78),
    "iso8859_7": (25, 70),
    "iso8859_8": (16, 71),
    "iso8859_13": (20, 41, 42, 79),
    "koi8_u": (22, 75),
    "cp1250": (26, 34, 44, 66, 99),
    "cp1251": (14, 23, 50, 51, 52),
    "cp1256": (57, 67),
    "cp1257": (29, 58, 59),
    "cp850": (4, 80),
    "cp852": (40, 81),
    "cp866": (36, 68),
    "tis_620": (18, 89),
}

_CODEC_OF = {collation: codec for codec, collations in _CODECS.items() for collation in collations}

_UTF8 = {11, 33, 45, 46, 63, 65, 76, 83, *range(192, 248), *range(255, 400)}


def as_utf8(text: bytes, collation: int) -> str | None:
    """``text`` decoded; bytes that are no characters become surrogates.

    None when the character set is unknown or the text is not valid in one where
    quotes cannot be told without decoding.
    """
    if text.isascii() or collation in _UTF8:
        return text.decode("utf-8", "surrogateescape")
    codec = _CODEC_OF.get(collation)
    if codec is None:
        return None
    try:
        return text.decode(codec)
    except UnicodeDecodeError:
        return None
