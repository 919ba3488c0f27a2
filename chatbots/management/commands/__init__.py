"""Commands that import and export chatbots, embed collections again, and erase persons."""
