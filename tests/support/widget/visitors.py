"""Visitors of the widget, whom a site has signed in or not."""

import hashlib
import hmac
import time


def change(bot, **fields):
    for name, value in fields.items():
        setattr(bot, name, value)
    bot.save()


def signed(bot, **changes):
    claimed = {"user_id": "u-7", "name": "Ada", "email": "ada@shop.example", "timestamp": int(time.time()),
               "nonce": "abcdefgh1", **changes}  # fmt: skip
    messages = "\n".join(str(claimed[name]) for name in ("user_id", "name", "email", "timestamp", "nonce"))
    claimed.setdefault("hash", hmac.new(bot.identity_secret.encode(), messages.encode(), hashlib.sha256).hexdigest())
    return claimed
