"""The admin's users, rows and pages."""
