"""The API calls that the widget makes from a page of another site."""

import json

SHOP = "https://shop.example"
QUESTION = "Do you sell shoes?"


class Widget:
    """The widget of a bot on a page of `origin`."""

    def __init__(self, api, bot, origin=SHOP, token=""):
        self.api, self.bot, self.origin, self.token = api, bot, origin, token

    def call(self, method, name, **options):
        headers = {"Origin": self.origin} if self.origin else {}
        if self.token:
            headers["Authorization"] = f"Visitor {self.token}"
        headers |= options.pop("headers", {})
        return self.api.request(method, f"/chatbots/{self.bot.pk}/{name}", key=None, headers=headers, **options)

    def get(self, name, **params):
        return self.call("GET", name, params=params)

    def post(self, name, **body):
        return self.call("POST", name, json=body)

    def begin(self, **body):
        self.token = self.post("session", **body).json()["token"]
        return self

    def ask(self, message=QUESTION, **more):
        """Ask a question and return the events of the answer."""
        response = self.post("stream", message=message, **more)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        return events_of(response.text)


def events_of(text):
    blocks = [block.split("\n") for block in text.split("\n\n") if block and not block.startswith(":")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]
