"""Tables of .ini texts: mistakes with what is said about them, and other libraries' settings."""
