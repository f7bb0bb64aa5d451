"""What mail programs need of HTML: styles in attributes, and a text part for those who read no HTML."""

from .part import HtmlPart

__all__ = ["HtmlPart"]
