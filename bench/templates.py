"""Compile and render time of one 8 KB order mail, against Jinja2's sandbox in the same run.

`python -m bench.templates`.

Both render the same mail with the same escaping and the same function for money; the outputs are compared first.
Compile times are cold (nothing cached) and best of several; ours includes inlining the CSS and making the text part,
which Jinja2 does not do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup

from app.core.templating import escaping, formats, grammar
from app.core.templating.library import Clock, Sources
from app.core.templating.message import CompiledMessage, frame_for
from app.core.templating.runtime import Run, written

LINES = 6
COLUMNS = (
    'style="padding:10px 8px 10px 0;border-bottom:1px solid #e3e7ee;'
    'font-family:Helvetica,Arial,sans-serif;font-size:15px"'
)
HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{{ data.orderId }}</title><style>
body { margin: 0; background-color: #f2f4f7; } h1 { font-size: 24px; }
.card { background-color: #ffffff; width: 560px; }
td.sum { font-weight: bold; } a { color: #1f5fbf; } @media (max-width: 480px) { .card { width: 100% !important; } }
</style></head><body><table class="card" role="presentation"><tbody><tr><td>
"""
FOOT = """</td></tr></tbody></table><p class="foot">{{ tenant.name }},
{{ tenant.street }}, {{ tenant.city }}</p></body></html>
"""
PARAGRAPH = """<p>Thank you, {{ recipient.name }}! We pack order {{ data.orderId }} with care, by hand and
in paper that can be used again, and tell you as soon as it leaves our house.
Answer this mail if something should be changed before then.</p>
"""
BODY = """<h1>Order {{ data.orderId }}</h1>
IF data.isGift<p>Gift wrapping: {{ data.gift.paper }}, with the words
<em>{{ data.gift.words }}</em></p>
ELSE<p>No gift wrapping.</p>END
<table class="lines"><tbody>
EACH<tr><td COLUMNS><a href="{{ ITEM.url }}">{{ ITEM.name }}</a><br>{{ ITEM.sku }}</td>
<td COLUMNS>{{ ITEM.quantity }}</td><td COLUMNS>MONEY ITEM.price</td></tr>
DONE
<tr><td>Postage</td><td></td><td class="sum">MONEY data.postage</td></tr>
<tr><td>Total</td><td></td><td class="sum">MONEY data.total</td></tr>
</tbody></table>
<p>To: {{ data.address.name }}, {{ data.address.street }}, {{ data.address.zip }} {{ data.address.city }}</p>
<p><a href="{{ data.url }}">View your order</a></p>
""".replace("COLUMNS", COLUMNS)


def _written_out(body: str, item: str, words: dict[str, str]) -> str:
    for word, text in words.items():
        body = body.replace(word, text)
    body = body.replace("ITEM.", item)
    for path in (f"{item}price", "data.postage", "data.total"):
        body = body.replace(f"MONEY {path}", words["PRINT"] % path)
    return HEAD + PARAGRAPH * 27 + body + FOOT


HANDLEBARS = _written_out(
    BODY,
    "",
    {
        "IF data.isGift": "{{#if data.isGift}}",
        "ELSE": "{{else}}",
        "END": "{{/if}}",
        "EACH": "{{#each data.items}}",
        "DONE": "{{/each}}",
    }
    | {"PRINT": "{{money %s @root.data.currency}}"},
)
JINJA = _written_out(
    BODY,
    "item.",
    {
        "IF data.isGift": "{% if data.isGift %}",
        "ELSE": "{% else %}",
        "END": "{% endif %}",
        "EACH": "{% for item in data.items_ %}",
    }
    | {"DONE": "{% endfor %}", "PRINT": "{{ money(%s, data.currency) }}"},
)
ITEMS = [
    {
        "name": f"Teapot & cup no. {n}",
        "sku": f"TP-{n:04}",
        "quantity": n + 1,
        "price": 12.5 * n + 9.9,
        "url": f"https://shop.example/p/{n}",
    }
    for n in range(LINES)
]
DATA: dict[str, Any] = {
    "recipient": {"name": "Ada <Lovelace>"},
    "tenant": {"name": "Tea & Co", "street": "12 Harbour St", "city": "Hull"},
    "data": {
        "orderId": "A-1001",
        "currency": "EUR",
        "isGift": True,
        "gift": {"paper": "blue", "words": "For you"},
        "items": ITEMS,
        "items_": ITEMS,
        "postage": 4.9,
        "total": 249.4,
        "url": "https://shop.example/orders/A-1001",
        "address": {"name": "Ada", "street": "1 High St", "zip": "HU1", "city": "Hull"},
    },
}


def best(work: Callable[[], Any], rounds: int, repeat: int) -> float:
    """Milliseconds of one call, best of the rounds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(repeat):
            work()
        times.append((time.perf_counter() - start) / repeat * 1000)
    return min(times)


def _jinja() -> SandboxedEnvironment:
    environment = SandboxedEnvironment(autoescape=True)
    run = Run("en", "UTC")
    environment.globals["money"] = lambda amount, currency: formats.money(run, amount, currency)
    environment.finalize = lambda value: "" if value is None else value
    return environment


def _cold() -> CompiledMessage:
    grammar._parse.cache_clear()
    return CompiledMessage("email", {"subject": "Order", "html": HANDLEBARS}, {})


def _same(ours: str, theirs: str) -> bool:
    return str(Markup(ours).unescape()).split() == str(Markup(theirs).unescape()).split()


def main() -> None:
    """Print the figures."""
    environment = _jinja()
    theirs = environment.from_string(JINJA)
    # The bare template, as Jinja2 sees it: what is compared is one text out of one template.
    bare = Sources({}, escaping.html, True, Clock()).template(HANDLEBARS)
    message = _cold()

    def render_bare() -> str:
        return written(bare, frame_for(DATA, Run("en", "UTC")))

    if not _same(render_bare(), theirs.render(DATA)):
        raise SystemExit("The two mails differ, so their times mean nothing")
    compiled = best(_cold, 7, 1)
    jinja_compiled = best(lambda: _jinja().from_string(JINJA), 7, 1)
    rendered, jinja_rendered = best(render_bare, 9, 200), best(lambda: theirs.render(DATA), 9, 200)
    whole = best(lambda: message.render(DATA), 9, 200)
    is_static = message._html is not None and message._html.is_static
    aside = f"Jinja2, without CSS and text: {jinja_compiled:.1f}"
    print(f"the mail                     {len(HANDLEBARS):7} characters of template, {len(render_bare())} of HTML")
    print(f"compile, nothing cached      {compiled:7.1f} ms   (aim: under 60; {aside})")
    print(f"render the HTML              {rendered:7.3f} ms")
    print(f"the same in Jinja2's sandbox {jinja_rendered:7.3f} ms")
    print(f"ratio                        {rendered / jinja_rendered:7.2f}      (aim: at most 1)")
    print(f"whole message, with its text {whole:7.3f} ms   (styled once: {is_static})")


if __name__ == "__main__":
    main()
