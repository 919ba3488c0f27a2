"""The rows behind two-factor authentication: a user's authenticator app, and the recovery codes in place of it."""

import hashlib
import secrets
import time
from base64 import b32encode
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _
from django_otp.models import Device, ThrottlingMixin
from django_otp.oath import TOTP

from puffer.security.encryption import EncryptedTextField

STEP = 30  # seconds that a code is shown
TOLERANCE = 1  # steps before and after
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
RECOVERY_LENGTH = 16  # 80 bits, so that their digests cannot be inverted by trying
ISSUER = "puffer"


def new_secret() -> str:
    return secrets.token_hex(20)  # the length that RFC 4226 recommends


class AuthenticatorApp(ThrottlingMixin, Device):
    """The authenticator app of a user, `confirmed` once its first code was right. Its key is encrypted."""

    key = EncryptedTextField(default=new_secret, editable=False)  # in hex
    drift = models.SmallIntegerField(default=0)  # steps by which the app's clock is off
    last_step = models.BigIntegerField(default=-1)  # of the last accepted code: each works once

    objects: ClassVar[Any]

    class Meta:
        verbose_name = _("authenticator app")
        verbose_name_plural = _("authenticator apps")

    def get_throttle_factor(self) -> int:
        return 1  # second to wait after the first wrong code, doubled with each further one

    def verify_token(self, token: str) -> bool:
        """Return whether the token is the app's current code or an unused recovery code. Each works once."""
        allowed, _details = self.verify_is_allowed()
        if not allowed:
            return False
        if not (self.take_code(token) or self.take_recovery_code(token)):
            self.throttle_increment()
            return False
        self.throttle_reset(commit=False)
        self.save()
        return True

    def take_code(self, code: str) -> bool:
        if not (self.key and code.isdecimal() and code.isascii()):  # a key that cannot be decrypted reads as empty
            return False
        totp = TOTP(bytes.fromhex(self.key), STEP, drift=self.drift)
        totp.time = time.time()
        if not totp.verify(int(code), TOLERANCE, self.last_step + 1):
            return False
        self.last_step, self.drift = totp.t(), totp.drift
        return True

    def take_recovery_code(self, code: str) -> bool:
        if not self.confirmed:
            return False
        deleted, _rows = RecoveryCode.objects.filter(user=self.user, digest=digest(code)).delete()
        return bool(deleted)

    @property
    def base32_key(self) -> str:
        return b32encode(bytes.fromhex(self.key)).decode()

    @property
    def config_url(self) -> str:
        """Return the otpauth:// URL that the QR code contains.

        Source: https://github.com/google/google-authenticator/wiki/Key-Uri-Format
        """
        parameters = {"secret": self.base32_key, "digits": 6, "period": STEP, "issuer": ISSUER}
        return f"otpauth://totp/{ISSUER}:{quote(self.user.get_username())}?{urlencode(parameters)}"


class RecoveryCode(models.Model):
    """A code that works once in place of the app. Only its digest is stored."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, editable=False)
    digest = models.CharField(max_length=64, db_index=True, editable=False)

    class Meta:
        verbose_name = _("recovery code")
        verbose_name_plural = _("recovery codes")

    def __str__(self) -> str:
        return self.digest[:8]


def new_recovery_code() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(RECOVERY_LENGTH))


def digest(code: str) -> str:
    return hashlib.sha256(code.encode(errors="replace")).hexdigest()
