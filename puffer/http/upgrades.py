"""HTTP connections that are never upgraded to another protocol."""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

DROPPED = {b"upgrade", b"http2-settings"}


class NoUpgradeProtocol(HttpToolsProtocol):
    """A connection that ignores the offer of an upgrade (`Upgrade: h2c`, as Java's HttpClient sends it).

    RFC 9110, section 7.8, lets a server ignore the offer. httptools ends such a request after its headers, so its body
    would be lost: the request is parsed again without the offer.
    """

    def on_headers_complete(self) -> None:
        if not self.offers_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.offers_upgrade():
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            while data:
                data = self.feed(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def feed(self, data: bytes) -> bytes:
        """Parse data, and return what must be parsed again without an offer."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if not self.offers_upgrade():
                raise httptools.HttpParserError("CONNECT is not supported") from None
            rest = self.head_without_offer() + data[offer.args[0] :]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            return rest
        return b""

    def offers_upgrade(self) -> bool:
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                options = [option.strip() for option in value.split(b",")]
                value = b", ".join(option for option in options if option.lower() not in DROPPED)
            if name not in DROPPED and (value or name != b"connection"):
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join([*lines, b"", b""])
