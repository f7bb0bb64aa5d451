"""The headers that keep a page to itself."""

from __future__ import annotations

from flask import Response, make_response, render_template

_PAGE = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# What is caught was written by anybody. No script, no form, no request but (when asked for) images, an origin of its
# own, no way to move the page around it; a link opens a page that does not know who opened it.
_HOSTILE = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data:{images}; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


def page(template: str, **values: object) -> Response:
    """A page of ours."""
    response = make_response(_bytes(render_template(template, **values)))
    response.headers["Content-Security-Policy"] = _PAGE
    # What a caught message opens must not get a hand on the page that shows the message.
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "no-store"
    return response


def hostile(html: str, *, images: bool) -> Response:
    """Somebody else's HTML, for a sandboxed frame of ours. `images`: may it fetch images from elsewhere?"""
    response = Response(_bytes(html), mimetype="text/html")
    response.headers["Content-Security-Policy"] = _HOSTILE.format(images=" http: https:" if images else "")
    response.headers["X-Frame-Options"] = "SAMEORIGIN"
    response.headers["X-DNS-Prefetch-Control"] = "off"
    response.headers["Cache-Control"] = "no-store"
    return response


def _bytes(text: str) -> bytes:
    """A half of a surrogate pair, which UTF-8 has no bytes for, becomes a question mark instead of a fault."""
    return text.encode("utf-8", "replace")
