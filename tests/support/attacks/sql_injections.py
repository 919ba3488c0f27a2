"""SQL injection payloads."""

import random

CLASSIC = 51  # number of well-known payloads; the others are mixtures of them
MARK = "zzqqmark"  # occurs in none of our SQL statements, so tests can find a payload in them


def payloads() -> list[str]:
    """Return 500 payloads: well-known ones, then random mixtures."""
    classic = [
        "' OR '1'='1", "' OR 1=1 --", '" OR ""="', "'; DROP TABLE logs_message; --", "') UNION SELECT 1,2,3 --",
        "1; ATTACH DATABASE 'x' AS y", "' || (SELECT password FROM auth_user) || '", "%' OR 1=1 /*", "\\' OR 1=1 #",
        "$$; SELECT pg_sleep(9); $$", "'; COPY logs_message TO '/tmp/x'; --", "\\x27 OR 1=1", "%s", "%(id)s", "{0}",
        "?",
        "$1", ":id", "%%", "__", "%_%_%", "\\%", "\\", "\\\\", '"', '""', "'", "''", "*", "a*", "^a", "a AND b", "a OR",
        "NOT a", "NEAR(a b, 2)", "NEAR(", "body : a", "{body} : a", "- body : a", "logs_messagesearch", "rowid:1", "(",
        ")",
        "a + b", '"a" * "b', "delete-all", "rank", "';--\x1f", "\u0027 OR 1=1", "ʼ OR 1=1", "＇ OR 1＝1", "‘ OR 1=1",
    ]  # fmt: skip
    dice = random.Random(2)
    pieces = [*classic, "%", "_", " ", "x", "SELECT", "é", "東", "😀", "0x31", "\t", "\\"]
    mixed = ["".join(dice.choices(pieces, k=dice.randint(2, 5))) for _ in range(1000)]
    return list(dict.fromkeys([*classic, *mixed]))[:500]
