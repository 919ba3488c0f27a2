"""The admin pages for chatbots."""

from chatbots.admin import chatbot  # noqa: F401 - registers its pages
