"""Chatbots moved in and out, and visitors erased."""
