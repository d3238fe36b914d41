"""A page of the site that would load something from another host ends its build."""

import re
from typing import Any

from mkdocs.exceptions import PluginError

# What a browser fetches by itself; a link that a reader follows is none of these.
_FETCHED = re.compile(
    r"<(?:script|img|iframe|source|audio|video|embed)\b[^>]*?\bsrc=[\"']?(?:https?:)?//"
    r"|<link\b(?![^>]*\brel=[\"']?canonical)[^>]*?\bhref=[\"']?(?:https?:)?//"
    r"|@import\s+(?:url\()?[\"']?(?:https?:)?//",
    re.IGNORECASE,
)


def on_post_page(output: str, *, page: Any, **_: object) -> str:  # noqa: ANN401 - mkdocs has no types
    """Looks through a finished page.

    Args:
      output: The page's HTML.
      page: The page of mkdocs.

    Returns:
      The same HTML.

    Raises:
      PluginError: If a browser would ask another host; the message has the tag.
    """
    if found := _FETCHED.search(output):
        raise PluginError(f"{page.file.src_uri}: asks another host: {found[0]}")
    return output
