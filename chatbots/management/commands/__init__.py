"""Commands that move chatbots and erase visitors."""
