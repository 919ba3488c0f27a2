"""The encoding of a file: as browsers find it, and what is told when it is not certain."""

import pytest

from vectorstores.extraction import Unreadable, decode, known_encoding

RUSSIAN = "Гарантия на чайник составляет два года. Доставка бесплатно."
GERMAN = "Größe und Öl: Äpfel kosten 3 €.\n"
MIXED = "id,content\n" + "1,Größe Öl Äpfel für Mädchen\n" * 3
POLISH = "Żółty czajnik ma dwuletnią gwarancję"
JAPANESE = "返品は三十日以内に限ります。保証は二年です。"


@pytest.mark.parametrize(
    ("data", "charset", "media_type", "text"),
    [
        # A byte order mark counts more than what is declared.
        ("\ufeffGröße".encode(), "windows-1251", "text/html", "Größe"),
        ("\ufeffGröße".encode("utf-16-le"), "utf-8", "text/csv", "Größe"),
        ("\ufeffGröße".encode("utf-16-be"), None, "text/csv", "Größe"),
        ("Größe".encode("utf-32"), None, "text/csv", "Größe"),
        # The names of encodings mean what browsers understand.
        (b"\x80 39", "iso-8859-1", "text/plain", "€ 39"),
        ("丂保修".encode("gb18030"), "gb2312", "text/plain", "丂保修"),
        ("똠방각하".encode("cp949"), "ks_c_5601-1987", "text/plain", "똠방각하"),
        ("①返品".encode("cp932"), "Shift_JIS", "text/plain", "①返品"),
        ("Żółty".encode("iso8859-2"), ' "ISO-8859-2" '.strip(' "'), "text/plain", "Żółty"),
        # Names that nobody knows, and codecs that are no encodings, are ignored.
        (GERMAN.encode(), "utf8mb4", "text/html", GERMAN),
        (b"abc", "zlib", "text/plain", "abc"),
        (b"abc", "punycode", "text/plain", "abc"),
        (b"abc", "\x00", "text/plain", "abc"),
        # UTF-16 without a mark, as JSON and exports of databases come.
        ('{"content": "Größe"}'.encode("utf-16-le"), None, "application/json", '{"content": "Größe"}'),
        ('{"content": "Größe"}'.encode("utf-16-be"), None, "application/json", '{"content": "Größe"}'),
        # Characters that look like damage but are none.
        ("a \ufffd b".encode(), None, "text/plain", "a \ufffd b"),
        ("\x1b[31mred Größe".encode(), None, "text/plain", "\x1b[31mred Größe"),
        (b"a\r\nb\rc\x00", None, "text/plain", "a\nb\nc"),
        (b"", None, "text/plain", ""),
    ],
)  # fmt: skip
def test_what_is_certain_is_read_without_a_word(data, charset, media_type, text):
    decoded = decode(data, charset, media_type)
    assert (decoded.text, decoded.encoding.doubt) == (text, "")


@pytest.mark.parametrize(
    ("page", "codec", "media_type"),
    [
        (f'<meta charset="windows-1251">{RUSSIAN}', "cp1251", "text/html"),
        ("<META content='text/html; charset=gb2312' http-equiv=content-type>保", "gb18030", "text/html"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?><p>café</p>', "latin1", "application/xhtml+xml"),
        ("<!-- <meta charset=koi8-r> --><meta charset=utf-8><p>café</p>", "utf-8", "text/html"),
        ('<meta charset="utf-16"><p>café</p>', "utf-8", "text/html"),  # then it could not have been read
        ("<p>café</p><meta charset=koi8-r>", "utf-8", "text/plain"),  # a text about HTML
    ],
)
def test_a_page_declares_its_encoding(page, codec, media_type):
    decoded = decode(page.encode(codec), None, media_type)
    assert (decoded.text, decoded.encoding.doubt) == (page, "")


@pytest.mark.parametrize(
    ("data", "charset", "text", "word"),
    [
        (GERMAN.encode("cp1252"), None, GERMAN, "a guess"),
        (RUSSIAN.encode("cp1251"), None, RUSSIAN, "cp1251, a guess"),
        (RUSSIAN.encode("koi8-r"), None, RUSSIAN, "koi8-"),
        (JAPANESE.encode("cp932"), None, JAPANESE, "a guess"),
        (JAPANESE.encode("euc-jp"), None, JAPANESE, "a guess"),
        (JAPANESE.encode("iso2022-jp"), None, JAPANESE, "iso2022_jp"),
        ("本店的退货期限为三十天。保修两年。".encode("gb18030"), None, "本店的退货期限为三十天。保修两年。", "gb18030"),
        ("반품은 삼십 일 이내에 가능합니다.".encode("cp949"), None, "반품은 삼십 일 이내에 가능합니다.", "cp949"),
        (POLISH.encode("cp1250"), None, POLISH, "cp1250"),
        ("Příliš žluťoučký kůň".encode("iso8859-2"), None, "Příliš žluťoučký kůň", "iso8859-2"),
        # Behind more ASCII than anybody samples.
        (b"id,content\n" * 200_000 + GERMAN.encode("cp1252"), None, "id,content\n" * 200_000 + GERMAN, "a guess"),
        # What the server says is wrong.
        (GERMAN.encode(), "iso-8859-1", GERMAN, "declared as cp1252, but was read as utf-8"),
        (GERMAN.encode("cp1252"), "utf-8", GERMAN, "declared as utf-8, but was read as cp1252"),
        ("Größe 日本 Größe ".encode() * 3 + b"\xff", "utf-8", "Größe 日本 Größe " * 3 + "ÿ", "1 bytes in it are not"),
        (b"\xef\xbb\xbf" + b"It\x92s open", None, "It’s open", "1 bytes in it are not"),
        # Lines of an old program below those of a new one.
        (MIXED.encode() + "2,Straße\n".encode("cp1252"), None, MIXED + "2,Straße\n", "were read as windows-1252"),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_told(data, charset, text, word):
    decoded = decode(data, charset)
    assert decoded.text == text
    assert word in decoded.encoding.doubt
    assert "name its encoding" in decoded.encoding.doubt


@pytest.mark.parametrize("data", [bytes(range(256)) * 40, b"\x89PNG\r\n\x1a\n" + b"\x01\x02\xf7" * 100])
def test_what_is_not_text_is_refused(data):
    with pytest.raises(Unreadable, match="not text"):
        decode(data)


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("latin1", "cp1252"), ("UTF8", "utf-8"), (" gbk ", "gb18030"), ("cp850", "cp850"), ("martian", None),
        ("idna", None), ("", None),
    ],
)  # fmt: skip
def test_names_of_encodings(label, codec):
    assert known_encoding(label) == codec
