"""Errors of the calls that the widget makes."""

from puffer.api import ApiError


class OriginRefused(ApiError):
    status = 403
    code = "rest_aipkit_cors_denied"
    message = "This chatbot may not be used on this site."


class InvalidBotId(ApiError):
    """WordPress' error for a parameter that its own check refuses. `details` is an empty list, like PHP's array."""

    status = 400
    code = "rest_invalid_param"
    message = "Invalid parameter(s): bot_id"

    def __init__(self) -> None:
        super().__init__(data={"params": {"bot_id": "Invalid parameter."}, "details": []})


class NoSuchBot(ApiError):
    status = 404
    code = "rest_aipkit_bot_not_found"
    message = "This chatbot does not exist or is not published."


class CannotAnswer(ApiError):
    status = 502
    code = "chatbot_unavailable"
    message = "The chatbot can't answer right now. Please try again in a moment."


class NoSuchConversation(ApiError):
    status = 404
    code = "conversation_not_found"
    message = "You have no such conversation."
