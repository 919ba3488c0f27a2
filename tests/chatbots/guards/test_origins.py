"""The rule for allowed origins: which sites may use a chatbot."""

import pytest

from chatbots.guards.origins import InvalidOrigin, is_allowed, read_pattern

ALLOWED = [
    ("example.com", "https://example.com"),
    ("example.com", "http://example.com"),
    ("example.com", "https://EXAMPLE.com"),
    ("EXAMPLE.com/", "https://example.com"),
    ("example.com", "https://example.com:443"),
    ("example.com", "http://example.com:80"),
    ("https://example.com", "https://example.com"),
    ("https://example.com/shop?x=1", "https://example.com"),
    ("https://example.com:443", "https://example.com"),
    ("https://example.com:8443", "https://example.com:8443"),
    ("example.com:8443", "https://example.com:8443"),
    ("localhost:3000", "http://localhost:3000"),
    ("127.0.0.1:5500", "http://127.0.0.1:5500"),
    ("[::1]:3000", "http://[::1]:3000"),
    ("[0:0:0:0:0:0:0:1]:3000", "http://[::1]:3000"),
    ("*.example.com", "https://shop.example.com"),
    ("*.example.com", "https://a.b.example.com"),
    ("https://*.example.com", "https://shop.example.com"),
    ("*.example.com:8080", "http://shop.example.com:8080"),
    ("münchen.example", "https://xn--mnchen-3ya.example"),
    ("xn--mnchen-3ya.example", "https://münchen.example"),
    ("straße.example", "https://xn--strae-oqa.example"),  # UTS 46, as all browsers have it
    ("☕.example", "https://xn--53h.example"),
    ("example。com", "https://example.com"),
    ("ＥＸＡＭＰＬＥ.com", "https://example.com"),
    ("example.com.", "https://example.com"),
    (" example.com ", "https://example.com"),
]
REFUSED = [
    ("example.com", "https://example.org"),
    ("example.com", "https://shop.example.com"),
    ("example.com", "https://example.com.evil.example"),
    ("example.com", "https://evilexample.com"),
    ("example.com", "https://example.com:8443"),
    ("example.com", "http://example.com:443"),
    ("example.com:8443", "https://example.com"),
    ("https://example.com", "http://example.com"),
    ("http://example.com", "https://example.com"),
    ("*.example.com", "https://example.com"),
    ("*.example.com", "https://shopexample.com"),
    ("*.example.com", "https://example.com.evil.example"),
    ("https://*.example.com", "http://shop.example.com"),
    ("example.com", "null"),
    ("example.com", ""),
    ("example.com", "example.com"),
    ("example.com", "file://"),
    ("example.com", "chrome-extension://example.com"),
    ("example.com", "https://user@example.com"),
    ("example.com", "https://example.com@evil.example"),
    ("example.com", "https://evil.example\\@example.com"),
    ("example.com", "https://example.com evil.example"),
    ("example.com", "https://exa\tmple.com"),
    ("example.com", "https://еxample.com"),  # its first letter is Cyrillic
    ("example.com", "https://example.com:99999"),
    ("example.com", "https://example.com:0"),
    ("127.0.0.1", "http://127.0.0.2"),
    ("straße.example", "https://strasse.example"),
    ("example.com", "https://" + "é." * 60_000 + "example.com"),
    ("example.com", "https://" + "a" * 300 + ".example.com"),
]


@pytest.mark.parametrize(("domain", "origin"), ALLOWED)
def test_origin_is_allowed(domain, origin):
    assert is_allowed(origin, ["other.example", domain], any_domain=False)


@pytest.mark.parametrize(("domain", "origin"), REFUSED)
def test_origin_is_refused(domain, origin):
    assert not is_allowed(origin, [domain], any_domain=False)


@pytest.mark.parametrize("origin", ["https://example.com", "null", ""])
def test_an_empty_list_allows_no_origin_unless_any_domain_is_allowed(origin):
    assert not is_allowed(origin, [], any_domain=False)
    assert is_allowed(origin, [], any_domain=True)


@pytest.mark.parametrize(
    "pattern",
    ["", "*", "*.", "*.com", "*.*.com", "a.*.com", "shop*.example.com", "http://", "ftp://example.com", "a b", "a,b",
     "https://user:pw@example.com", "example.com:0", "example.com:port", "-a.com", "a..b", "*.127.0.0.1",
     f"{'a' * 64}.com", f"{'a.' * 130}com", "https:///", "//example.com", None, 5, ["example.com"]],
)  # fmt: skip
def test_invalid_patterns_are_rejected(pattern):
    with pytest.raises(InvalidOrigin):
        read_pattern(pattern)
