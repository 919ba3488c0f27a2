"""How good the answers are: golden questions and unanswered questions."""
