"""SQLite files, the vote journal, and what is read from them."""
