"""Email: the MIME builder and the providers that carry it."""
