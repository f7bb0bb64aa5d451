"""Template and data to the words of a message.

Handlebars, parsed by pybars3's grammar, evaluated here, nothing executed.

`compile_message` reads the parts of a message once, `faults_of` says all that is wrong with them;
`CompiledMessage.render` fills in data. `FileTemplates` are the ones that ship with the product. `TemplateError` is the
author's mistake, `RenderError` and `LimitError` the data's.
docs/templates.md is the author's page.
"""

from .email_html.part import finish_html
from .errors import HurryError, LimitError, RenderError, TemplateError
from .files import FileTemplates
from .grammar import load_grammar
from .helpers import HELPERS
from .message import PARTS, CompiledMessage, compile_message, faults_of

__all__ = [
    "HELPERS",
    "PARTS",
    "CompiledMessage",
    "FileTemplates",
    "HurryError",
    "LimitError",
    "RenderError",
    "TemplateError",
    "compile_message",
    "faults_of",
    "finish_html",
    "load_grammar",
]
