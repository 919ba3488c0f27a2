"""puffer below a path of a host, such as https://host.example/ai, behind a proxy that removes the path or leaves it."""

import re
from collections.abc import Iterator

import pytest
import requests

from tests.support.installation import Installation, Server, serving
from tests.support.upstream import running
from tests.support.widget.browser import OWNER, PASSWORD

pytestmark = pytest.mark.slow

SITE = "https://host.example/ai"
ADDRESSES = re.compile(r'(?:href|src|action|data-url|hx-\w+)="(/[^"]*)"')


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    behind_proxy = {"PUBLIC_URL": SITE, "TRUSTED_PROXY_COUNT": "1"}
    with running() as upstream, serving(tmp_path_factory.mktemp("below"), upstream, **behind_proxy) as server:
        server.python(OWNER)
        server.python("""if True:
            from chatbots.models import Chatbot
            Chatbot.objects.create(name="Bot", provider="openai", model="m", enable_chat_page=True, status="published")
        """)
        yield server


class Visitor:
    """A visitor's browser in front of the proxy. `removed`: what the proxy removes from the paths."""

    def __init__(self, server: Server, removed: str) -> None:
        self.server, self.removed, self.session = server, removed, requests.Session()

    def call(self, method: str, path: str, **options: object) -> requests.Response:
        headers = {"Host": "host.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}
        headers |= {"Origin": "https://host.example", "Referer": f"https://host.example{path}"}
        # `requests` would not send a cookie of host.example to the loopback.
        headers["Cookie"] = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.session.cookies)
        url = self.server.url + path.removeprefix(self.removed)
        response = requests.request(method, url, headers=headers, allow_redirects=False, timeout=60, **options)  # type: ignore[arg-type]
        self.session.cookies.update(response.cookies)
        assert all("Path=/ai/" in line for line in response.raw.headers.getlist("set-cookie"))
        return response


@pytest.fixture(params=["/ai", ""], ids=["removed", "left"])
def visitor(request: pytest.FixtureRequest, server: Server) -> Visitor:
    return Visitor(server, request.param)


def test_a_user_signs_in_and_every_address_is_below_the_path(visitor):
    first = visitor.call("GET", "/ai/admin/")
    assert (first.status_code, first.headers["Location"]) == (302, "/ai/admin/login/?next=/ai/admin/")
    form = visitor.call("GET", "/ai/admin/login/?next=/ai/admin/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form.text)
    assert token
    fields = {"username": "owner", "password": PASSWORD, "csrfmiddlewaretoken": token[1], "next": "/ai/admin/"}
    signed_in = visitor.call("POST", "/ai/admin/login/?next=/ai/admin/", data=fields)
    assert (signed_in.status_code, signed_in.headers.get("Location")) == (302, "/ai/admin/"), signed_in.text[:300]
    pages = ["", "chatbots/chatbot/", "chatbots/chatbot/1/change/", "chatbots/chatbot/1/preview/", "puffer/apikey/"]
    for page in pages:
        shown = visitor.call("GET", f"/ai/admin/{page}")
        assert shown.status_code == 200, page
        addresses = set(ADDRESSES.findall(shown.text))
        assert addresses or page.endswith("preview/")
        assert {address for address in addresses if not address.startswith("/ai/")} == set(), page
        for address in addresses:
            if address.startswith("/ai/static/"):
                assert visitor.call("GET", address).status_code == 200, address


def test_the_addresses_of_the_widget_are_below_the_path(visitor):
    config = visitor.call("GET", "/ai/wp-json/aipkit/v1/chatbots/1/embed-config").json()["config"]
    assert (config["siteUrl"], config["apiUrl"]) == (SITE, f"{SITE}/wp-json/aipkit/v1/chatbots/1")
    for address in config["assetUrls"].values():
        assert address.startswith(f"{SITE}/widget/")
        assert visitor.call("GET", address.removeprefix("https://host.example")).status_code == 200
    page = visitor.call("GET", "/ai/chat/1/")
    assert page.status_code == 200
    assert {address for address in ADDRESSES.findall(page.text) if not address.startswith("/ai/")} == set()
    assert config["assetUrls"]["mainJs"] in page.text
    session = visitor.call("POST", "/ai/wp-json/aipkit/v1/chatbots/1/session", json={})  # as that page does
    assert session.status_code == 200, session.text


@pytest.mark.parametrize("path", ["/ai/embed.js", "/ai/health/ready", "/ai/api/schema/", "/ai/wp-json/aipkit/v1"])
def test_other_pages_are_found(visitor, path):
    assert visitor.call("GET", path).status_code == 200


@pytest.mark.parametrize(
    ("variables", "public_url", "root"),
    [
        ({}, "", "/"),
        ({"PUBLIC_URL": "https://host.example/"}, "https://host.example", "/"),
        ({"PUBLIC_URL": "https://host.example/ai/"}, SITE, "/ai/"),
        ({"PUBLIC_URL": "https://host.example", "FORCE_SCRIPT_NAME": "ai/"}, SITE, "/ai/"),
        ({"FORCE_SCRIPT_NAME": "/ai"}, "", "/ai/"),
    ],
)
def test_the_path_comes_from_either_setting(tmp_path, variables, public_url, root):
    installation = Installation(tmp_path, f"sqlite:///{tmp_path}/none", variables)
    shown = installation.python("from django.conf import settings as s; print([s.PUBLIC_URL, s.STATIC_URL])")
    assert shown == str([public_url, f"{root}static/"])


def test_an_address_without_a_scheme_is_refused(tmp_path):
    installation = Installation(tmp_path, f"sqlite:///{tmp_path}/none", {"PUBLIC_URL": "host.example/ai"})
    with pytest.raises(AssertionError, match="PUBLIC_URL must be an address such as https"):
        installation.manage("check")


@pytest.mark.parametrize(("path", "place"), [("/ai/", "/ai/admin/"), ("/ai/admin", "/ai/admin/")])
def test_redirects_stay_below_the_path(visitor, path, place):
    assert visitor.call("GET", path).headers["Location"] == place
