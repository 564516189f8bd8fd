"""SVG files of matplotlib's as parts of one HTML page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_HREF = f"{{{_XLINK}}}href"
# Its metadata are for a file of its own; its style sheet would hold for the whole page.
_DROPPED = (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style")
_POINTS_TO_PIXELS = 96 / 72
_NARROWEST = 600.0
"""Pixels below which a figure is no longer legible: it is scrolled sideways instead."""


def inline_svg(text: str, prefix: str, alt: str) -> str:
    """Turn an SVG document into an element of a page.

    Every id gets the prefix, with all that refers to it: matplotlib names the parts of each
    figure alike (``figure_1``, ``axes_1``, ...), and ids must be unique within a page.

    Args:
        text: A document as ``savefig`` writes it.
        prefix: Unique within the page, of letters, digits, "-" and "_".
        alt: What the picture shows, in words.
    Returns:
        ``<svg role="img" aria-label=...>`` without declaration, metadata and style sheet.
    Raises:
        ValueError: If the text is not an SVG document with a size in points.
    """
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"the picture {prefix} is not an SVG document: {error}.") from error
    size = re.fullmatch(r"([\d.]+)pt", root.get("width", ""))
    if root.tag != f"{{{_SVG}}}svg" or size is None:
        raise ValueError(f"the picture {prefix} is not an SVG document with a width in points.")
    _drop(root)
    for element in root.iter():
        _rename(element, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    width = float(size.group(1)) * _POINTS_TO_PIXELS
    root.set("role", "img")
    root.set("aria-label", alt)
    root.set("style", f"max-width:{width:.0f}px;min-width:{min(width, _NARROWEST):.0f}px")
    return ElementTree.tostring(root, encoding="unicode").strip()


def _drop(parent: ElementTree.Element) -> None:
    for child in list(parent):
        if child.tag in _DROPPED:
            parent.remove(child)
        else:
            _drop(child)


def _rename(element: ElementTree.Element, prefix: str) -> None:
    for name, value in element.attrib.items():
        if name == "id":
            element.set(name, f"{prefix}-{value}")
        elif name in (_HREF, "href") and value.startswith("#"):
            element.set(name, f"#{prefix}-{value[1:]}")
        elif "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{prefix}-"))
