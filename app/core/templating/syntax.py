"""pybars3's grammar of what stands inside a tag.

Nothing else of pybars3 is used, least of all its code generator.

PyMeta, the engine under the grammar, `eval`s constant expressions of its rules as it parses; no text of a template
reaches them (a test holds the list). The grammar is that of pybars3 0.9.7 with the lines of `_PATCHES` replaced,
which bring it to handlebars.js 4.7; importing this module fails if one of the lines is not there.

Importing it takes most of a second, for PyMeta makes its parsers then.
"""

from __future__ import annotations

import re
from typing import Any

import pybars
from pybars._compiler import handlebars_grammar
from pymeta.grammar import OMeta
from pymeta.runtime import ParseError, expected

from .errors import TemplateError

_PATCHES = {
    # A tag starts with a literal or a path; the name of a partial may be a sub-expression.
    "expression_inner ::= <spaces> <path>:p": "expression_inner ::= <spaces> (<subexpression>|<literal>|<path>):p",
    # Names of one letter and with every character of handlebars.js; brackets, dots and @ are told apart from names.
    "symbol ::=  ~<alt_inner> '['? (<letterOrDigit>|'-'|'@')+:symbol ']'?": "symbol ::= <letterOrDigit>+:symbol",
    "'[' <notclosebracket>+:symbol ']' => u''.join(symbol)": "'[' <bracketed>*:s ']' => ('segment', u''.join(s))",
    "| ('@' '.' '.' '/') => u'@@_parent'": "| '@'",
    "| '/' => u''": "| '/'",
    "| ('.' '.' '/') => u'@_parent'": "| ('.' '.') => u'..'",
    "| '.' => u''": "| '.'",
    # Named arguments may be called anything, and have spaces around the equals sign.
    "<safesymbol>:s '=' (<literal>|": "<pathseg>:s <spaces> '=' <spaces> (<literal>|",
    # Strings as they stand, decimals, and no keyword or number at the start of a longer name.
    "<notdquote>*:ls '\"' => u'\"' + u''.join(ls) + u'\"'": "<dquoted>*:ls '\"' => ('string', u''.join(ls))",
    '<notsquote>*:ls "\'" => u"\'" + u\'\'.join(ls) + u"\'"': "<squoted>*:ls \"'\" => ('string', u''.join(ls))",
    "<digit>+:ds => int((sign if sign else '') + ''.join(ds))": (
        "<digit>+:ds <fraction>:f <boundary> => ('number', (sign or u'') + u''.join(ds + f))"
    ),
    "<false>|<true>": "(<false>|<true>):b <boundary> => b",
    "null ::= ('n' 'u' 'l' 'l') => None": "null ::= ('n' 'u' 'l' 'l') <boundary> => u'null'",
    "('u' 'n' 'd' 'e' 'f' 'i' 'n' 'e' 'd')": "('u' 'n' 'd' 'e' 'f' 'i' 'n' 'e' 'd') <boundary>",
}
_ADDED = r"""
bracketed ::= '\\' ('\\' | ']'):c => c
    | <notclosebracket>
dquoted ::= '\\' '"' => u'"'
    | (~('"') <anything>)
squoted ::= "\\" "'" => u"'"
    | (~("'") <anything>)
fraction ::= '.' <digit>+:ds => [u'.'] + ds
    | => []
"""
_NOT_IN_NAMES = re.compile(r"[\s!\"#%-,./;->@\[-^`{-~]")


class _Rules(OMeta):  # type: ignore[misc]
    """The three rules that look at single characters, as handlebars.js sees them."""

    def rule_letterOrDigit(self) -> Any:  # noqa: N802 - PyMeta's name
        char, error = self.rule_anything()
        if _NOT_IN_NAMES.match(char):
            raise ParseError(error[0], expected("name"))
        return char, error

    def rule_digit(self) -> Any:
        char, error = self.rule_anything()
        if char not in "0123456789":
            raise ParseError(error[0], expected("digit"))
        return char, error

    def rule_boundary(self) -> Any:
        char, error = self.input.head()
        if char not in " \t\r\n\v\f\u00a0})]":
            raise ParseError(error[0], expected("end of a value"))
        return None, error


def _patched(grammar: str) -> str:
    if pybars.__version__ != "0.9.7":
        raise ImportError("pybars3 is not 0.9.7: read its grammar again before moving on")
    for old, new in _PATCHES.items():
        if grammar.count(old) != 1:
            raise ImportError(f"The grammar of pybars3 has changed: {old!r} is not in it once")
        grammar = grammar.replace(old, new)
    return grammar + _ADDED


_Grammar = _Rules.makeGrammar(_patched(handlebars_grammar), {}, "tidings_tag")


def read(body: str) -> tuple[Any, list[Any]]:
    """The head and the arguments of a tag, as the grammar's trees. Raises TemplateError with the column."""
    parser = _Grammar(body + "}}")
    try:
        (head, arguments), _ = parser.apply("expression_inner")
    except ParseError:
        position = min(parser.currentError[0] or 0, len(body))
        near = body[position : position + 20]
        message = f"This cannot be read from here: {near}" if near else "Something is missing at the end of the tag"
        raise TemplateError(message, 1, position + 1) from None
    if parser.input.position != len(body) + 2:
        raise TemplateError("This cannot be read")
    return head, arguments
