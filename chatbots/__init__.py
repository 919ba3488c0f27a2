"""Chatbots, their widget, and the visitors who talk to them."""
