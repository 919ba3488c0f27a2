"""The quality of answers: golden questions and unanswered questions."""
