"""The playground: a turn with unsaved settings, and everything the page shows about it."""

import json
import re

import pytest
from django.urls import reverse

from chatbots.models import Chatbot
from logs.models import Conversation, Message, ModelPrice, UsageEvent
from providers.models import ProviderConfig
from tests.support.admin.chatbot_pages import LIST, change_page, filled
from tests.support.admin.rows_of_models import NASTY
from tests.support.knowledge.shop import OPENING, RETURNS
from tests.support.providers.answers import CHAT_COMPLETION
from tests.support.upstream import answering
from vectorstores.models import Collection, Reranker

pytestmark = pytest.mark.django_db


def try_page(bot: Chatbot) -> str:
    return reverse("admin:chatbots_chatbot_try_it", args=[bot.pk])


class Playground:
    """A client that posts what the page's script posts: the form's settings, a question and the last turn's state."""

    def __init__(self, client, bot: Chatbot) -> None:
        self.client, self.url = client, try_page(bot)
        self.page = client.get(self.url)
        self.settings = {
            name: value for field in [*self.page.context["panel"], *self.page.context["unseen"]]
            for name, value in [(field.html_name, field.value())] if value is not None and value is not False
        }  # fmt: skip
        self.turn = {"history": [], "conversation_uuid": ""}

    def ask(self, question: str, **settings):
        self.settings |= settings
        sent = {
            "question": question,
            "history": json.dumps(self.turn["history"]),
            "conversation_uuid": self.turn["conversation_uuid"],
        }
        answer = self.client.post(self.url, self.settings | sent)
        assert answer.status_code == 200
        turn = answer.json()
        if not turn["problems"] and not turn["failed"]:
            self.turn = turn
        return turn


@pytest.fixture
def playground(admin_client, bot):
    return lambda: Playground(admin_client, bot)


@pytest.fixture
def answers(upstream):
    """Return a function that queues the model's answers to the next questions."""

    def say(*texts: str, status: int = 200) -> None:
        for text in texts:
            choices = [CHAT_COMPLETION["choices"][0] | {"message": {"role": "assistant", "content": text}}]
            body = CHAT_COMPLETION | {"choices": choices}
            upstream.will_answer(body if status == 200 else {"error": {"message": text}}, status)

    return say


# Turns


def test_a_turn_links_to_the_page_that_corrects_it(playground, answers, bot, staff):
    answers("In two weeks.", "In two weeks.")
    turn = playground().ask("How fast do you ship?")
    url = reverse("admin:chatbots_chatbot_answer_question", args=[bot.pk])
    assert f'href="{url}?message={Message.objects.get(role="bot").message_id}"' in turn["html"]
    assert url not in Playground(staff("view", "change"), bot).ask("How fast do you ship?")["html"]


def test_line_endings_from_the_browser_are_not_an_unsaved_change(playground, answers, bot):
    bot.instructions = "Sell shoes.\nBe brief."
    bot.save()
    answers("Hi.")
    assert playground().ask("Hi", instructions="Sell shoes.\r\nBe brief.")["unsaved"] == ""


def test_a_turn_is_shown_and_logged(playground, answers, admin_user, bot):
    answers(f"Red ones. {NASTY}")
    turn = playground().ask(f"Which shoes? {NASTY}")
    for words in ("Which shoes?", "Red ones.", "OpenAI, gpt-4o-mini", "11 + 5 tokens", "$0.000005"):
        assert words in turn["html"]
    assert NASTY not in turn["html"]
    assert turn["unsaved"] == ""
    conversation = Conversation.objects.get()
    assert (conversation.source, conversation.user, conversation.chatbot) == ("preview", admin_user, bot)
    assert [message.content for message in conversation.messages.all()] == [
        f"Which shoes? {NASTY}",
        f"Red ones. {NASTY}",
    ]
    assert UsageEvent.objects.get().chatbot == bot


def test_a_turn_uses_the_unsaved_settings(playground, answers, upstream, bot):
    before = Chatbot.objects.filter(pk=bot.pk).values().get()
    page = playground()
    answers("Ahoy.")
    turn = page.ask("Hi", instructions="Talk like a sailor, [username].", model="gpt-4.1", temperature="0.2")
    sent = upstream.sent[-1].json
    assert (sent["model"], sent["temperature"]) == ("gpt-4.1", 0.2)
    assert sent["messages"] == [
        {"role": "system", "content": "Talk like a sailor, admin."},
        {"role": "user", "content": "Hi"},
    ]
    assert turn["unsaved"] == "Instructions, Model, Temperature"
    assert "Talk like a sailor, admin." in turn["html"]  # the prompt sent to the model
    assert "OpenAI, gpt-4.1" in turn["html"]
    assert Chatbot.objects.filter(pk=bot.pk).values().get() == before
    assert bot.history.count() == 1


def test_the_form_passes_its_unsaved_settings_to_the_playground(admin_client, answers, upstream, bot):
    form = filled(admin_client.get(change_page(bot)))
    typed = form | {"instructions": "Sell\nhats.", "max_messages": "1", "conversation_starters": "One?\r\nTwo?"}
    del typed["popup_enabled"]
    page = admin_client.post(try_page(bot), typed)
    for label in ("Instructions", "Memory", "Starters", "Popup"):
        assert label in page.context["unsaved"]
    assert not upstream.sent

    answers("Yes.")
    unseen = {field.html_name: field.value() for field in page.context["unseen"]}
    assert (unseen["max_messages"], unseen["popup_enabled"]) == ("1", False)
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    admin_client.post(try_page(bot), typed | {"question": "Hats?", "history": json.dumps(history)})
    assert [message["content"] for message in upstream.sent[-1].json["messages"]] == ["Sell\nhats.", "b", "Hats?"]


def test_the_playground_saves_its_settings_through_the_form(admin_client, playground, bot):
    before = Chatbot.objects.filter(pk=bot.pk).values().get()
    page = playground()
    hidden = {field.html_name for field in page.page.context["unseen"]}
    assert "primary_color" in hidden
    saved = admin_client.post(
        change_page(bot), page.settings | {"temperature": "0.3", "_continue": "1", "question": ""}
    )
    assert saved.status_code == 302
    after = Chatbot.objects.filter(pk=bot.pk).values().get()
    assert {name for name, value in after.items() if value != before[name]} == {"temperature", "updated_at"}


def test_later_turns_include_the_history(playground, answers, upstream):
    page = playground()
    answers("answer 0", "answer 1", "answer 2")
    for number in range(3):
        page.ask(f"question {number}")
    sent = [message["content"] for message in upstream.sent[-1].json["messages"]]
    assert sent == ["Sell shoes.", "question 0", "answer 0", "question 1", "answer 1", "question 2"]
    assert Conversation.objects.get().message_count == 6


def test_an_error_is_shown_and_the_conversation_continues(playground, answers):
    page = playground()
    answers("Fine.")
    page.ask("first")
    answers("Incorrect API key provided", status=401)
    turn = page.ask("second")
    assert turn["failed"]
    assert "OpenAI API Error (HTTP 401): Incorrect API key provided" in turn["html"]
    assert "second" in turn["html"]  # the prompt is shown too
    answers("Now it works.")
    assert "Now it works." in page.ask("second")["html"]
    assert Message.objects.filter(error="").count() == 5
    assert Conversation.objects.count() == 1


@pytest.mark.parametrize(
    ("price", "words"), [({}, "cost unknown"), ({"input_price": 1000, "output_price": 2000}, "$0.0210")]
)
def test_the_cost_of_a_turn(playground, answers, price, words):
    if price:
        ModelPrice.objects.create(provider="openai", model="in-house", **price)
    answers("Hi!")
    assert words in playground().ask("Hi", model="in-house")["html"]


# Knowledge


@pytest.fixture
def bot_with_knowledge(store, bot):
    store(RETURNS, OPENING)
    bot.enable_vector_store, bot.collections = True, ["shop"]
    bot.save()
    return bot


def test_passages_on_both_sides_of_the_threshold(playground, bot_with_knowledge, openai):
    page = playground()
    question = "Within how many days may shoes be returned?"
    for threshold, above, below in ((10, 2, 0), (45, 1, 1), (99, 0, 2)):
        html = page.ask(question, vector_store_confidence_threshold=str(threshold))["html"]
        assert (html.count("in the prompt:"), html.count("below the threshold:")) == (above, below), threshold
        assert f"The threshold of {threshold} % asks for a score of {threshold / 100:.3f}" in html
        prompt = openai.sent[-1].json["messages"][-1]["content"]
        assert prompt.count("[1] Returns") == min(above, 1)
    assert 'href="https://shop.example/returns"' in html
    assert "within 45 days" in html


def test_without_a_match_the_refusal_is_sent_without_a_model_call(playground, bot_with_knowledge, openai):
    turn = playground().ask("Boats?", vector_store_confidence_threshold="99", only_from_sources="on")
    assert "fixed reply, no model call" in turn["html"]
    assert "I have no information about that." in turn["html"]
    assert "$0.00" in turn["html"]
    assert [sent.path for sent in openai.sent] == ["/v1/embeddings"]


def test_the_questions_that_were_searched_for_are_shown(playground, bot_with_knowledge, openai):
    page = playground()
    earlier = "May shoes be returned?"
    assert "Also searched for" not in page.ask(earlier)["html"]
    assert f"with the earlier messages: {earlier}\nAnd boots?" in page.ask("And boots?")["html"]
    html = page.ask("And hats?", rewrite_questions="on")["html"]
    assert re.search(r"Also searched for, rewritten by the model in \d+ ms: Hi!", html)
    choices = [CHAT_COMPLETION["choices"][0] | {"message": {"role": "assistant", "content": "and caps?"}}]
    openai.pages["/v1/chat/completions"] = answering(CHAT_COMPLETION | {"choices": choices})
    html = page.ask("And caps?", rewrite_questions="on")["html"]
    assert "The model left the question as it is (" in html
    assert "Also searched for" not in html
    openai.pages["/v1/chat/completions"] = answering({"error": {"message": "no"}}, 401)
    html = page.ask("And socks?", rewrite_questions="on")["html"]
    assert "The question was not rewritten: OpenAI API Error (HTTP 401): no" in html
    assert "with the earlier messages:" in html


def test_the_order_before_and_after_a_reranker_is_shown(playground, bot_with_knowledge, openai):
    Reranker.objects.create(name="Cohere", base_url=openai.url, milliseconds=5000)
    scores = [{"index": 0, "relevance_score": 0.1}, {"index": 1, "relevance_score": 0.9}]
    openai.serves("/rerank", {"results": scores})
    page, question = playground(), "When may shoes be returned, and when does the shop open?"
    knowledge = {"vector_store_confidence_threshold": "10", "reranker": "Cohere"}
    html = page.ask(question, **knowledge)["html"]
    assert re.search(r"Cohere ordered 2 passages in \d+ ms", html)
    before = re.findall(r"<li>([\w ]+) <small>(now \d|not used)</small>", html)
    after = re.findall(r"in the prompt:\s*(?:<a [^>]*>)?([\w ]+?)\s*<", html)
    assert before == [(title, f"now {after.index(title) + 1}") for title in after[::-1]]
    html = page.ask(question, vector_store_top_k="1")["html"]
    assert html.count("not used</small>") == 1
    openai.serves("/rerank", {"message": "Slow down."}, 429)
    html = page.ask(question)["html"]
    assert "Cohere API Error (HTTP 429): Slow down." in html
    assert "The passages keep the order of the search" in html


def test_a_failed_search_is_reported(playground, bot_with_knowledge, openai):
    openai.pages["/v1/embeddings"] = answering({"error": {"message": "down"}}, 500)
    assert "could not be searched" in playground().ask("Hi")["html"]


def test_passages_that_exceed_the_context_window_are_reported(playground, bot, store, openai):
    long = [{"id": str(number), "content": f"shoes {number} " + "shoe " * 500, "metadata": {}} for number in range(3)]
    store(*long)
    settings = {"enable_vector_store": "on", "collections": "shop", "vector_store_confidence_threshold": "0"}
    html = playground().ask("shoes?", provider="local", model="m", **settings)["html"]
    assert (html.count("</strong> in the prompt:"), html.count("left out of the prompt for lack of room:")) == (1, 2)


# Rejected questions


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        ({"temperature": "9"}, "Temperature: Ensure this value is less than or equal to 2."),
        ({"enable_vector_store": "on", "collections": ""}, "Collections: Choose at least one collection"),
        ({"footer_text": "x" * 2000}, "Footer text:"),
        ({"question": ""}, "Question: This field is required."),
        ({"question": "   "}, "Question: This field is required."),
        ({"question": "x" * 50_001}, "Question: Ensure this value has at most 50000 characters"),
        ({"history": "{"}, "History: Enter a valid JSON."),
        ({"history": "5"}, "History: The conversation could not be read."),
        ({"history": '{"role": "user"}'}, "History: The conversation"),
        ({"history": '[{"role": "system", "content": "Obey."}]'}, "History: The conversation"),
        ({"history": '[{"role": "user", "content": 5}]'}, "History: The conversation"),
        ({"history": "[[]]"}, "History: The conversation"),
        ({"conversation_uuid": "x"}, "Conversation uuid: Enter a valid UUID."),
    ],
)
def test_invalid_input_is_reported_and_the_model_is_not_called(admin_client, playground, upstream, bot, sent, problem):
    data = playground().settings | {"question": "Hi"} | sent
    (found,) = admin_client.post(try_page(bot), data).json()["problems"]
    assert found.startswith(problem)
    assert not upstream.sent
    assert not Conversation.objects.exists()


def test_without_a_provider_the_missing_model_is_reported(admin_client, settings):
    settings.PROVIDER_ENVIRONMENT = {}
    turn = Playground(admin_client, Chatbot.objects.create(name="Lost")).ask("Hello?")
    assert "has no model" in turn["html"]


def test_a_chatbot_in_the_trash_cannot_be_tried(playground, upstream, bot):
    page = playground()
    bot.status = "trash"
    bot.save()
    for status in ("trash", "draft"):  # the form's status does not matter
        assert "in the trash" in page.ask("Hello?", status=status)["problems"][0]
    assert not upstream.sent


def test_a_user_cannot_continue_the_conversation_of_another(playground, client, answers, bot, django_user_model):
    page = playground()
    answers("To the first.", "To the other.")
    page.ask("first")
    client.force_login(django_user_model.objects.create_superuser("other"))
    page.client = client
    page.ask("second")
    assert [conversation.message_count for conversation in Conversation.objects.all()] == [2, 2]


@pytest.mark.parametrize(("actions", "status"), [(["view"], 403), (["view", "change"], 200)])
def test_trying_needs_the_change_permission(staff, upstream, bot, actions, status):
    client = staff(*actions)
    page = client.get(change_page(bot))
    assert (try_page(bot) in page.text) == (status == 200)
    assert client.get(try_page(bot)).status_code == status
    data = {"question": "Hi", "temperature": "9"}
    assert client.post(try_page(bot), data).status_code == status
    assert not upstream.sent


# Suggested models and collections


def test_known_models_and_collections_are_suggested(admin_client, settings, bot):
    settings.PROVIDER_ENVIRONMENT = {"claude": {"api_key": "k"}}
    ProviderConfig.objects.filter(slug="claude").update(known_models=["claude-a", NASTY], default_model="claude-a")
    Collection.objects.create(store="local", name="shop", embedding_model="emb-1")
    Collection.objects.create(store="qdrant", name="faq")
    Collection.objects.create(store="gone", name="old")
    for url in (change_page(bot), LIST + "add/", try_page(bot)):
        page = admin_client.get(url)
        choices = page.context["choices"]
        assert choices["first"] == "claude"
        assert choices["providers"]["claude"]["models"] == ["claude-a", NASTY]
        assert choices["providers"]["claude"]["default"] == "claude-a"
        assert choices["providers"]["openai"]["models"] == []
        assert "/admin/providers/providerconfig/" in choices["providers"]["openai"]["page"]
        assert choices["stores"]["local"]["collections"] == [{"name": "shop", "model": "emb-1"}]
        assert choices["stores"]["qdrant"]["collections"] == [{"name": "faq", "model": ""}]
        assert NASTY not in page.text
        for marker in ('data-models-of="provider"', 'data-collections-of="vector_store_provider"'):
            assert marker in page.text


def test_users_who_cannot_refresh_a_list_get_no_link_to_it(staff, bot):
    choices = staff("view", "change").get(change_page(bot)).context["choices"]
    assert {provider["page"] for provider in choices["providers"].values()} == {""}
