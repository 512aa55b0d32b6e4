"""A font wider than any usual font, to test that layouts work with all fonts."""

from __future__ import annotations

import base64
from io import BytesIO

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from playwright.sync_api import Page

UNITS_PER_EM = 1000
WIDTH = 2 * UNITS_PER_EM  # of every letter; the widest Latin letters of DejaVu Sans are one em
CHARACTERS = range(0x20, 0x2100)  # Latin, and the punctuation of the page

# The font is loaded from memory and used in a constructed style sheet: the page's content policy blocks other sources.
_USE = """async (font) => {
    const face = new FontFace("Wide", Uint8Array.from(atob(font), (character) => character.charCodeAt(0)));
    document.fonts.add(await face.load());
    const sheet = new CSSStyleSheet();
    sheet.replaceSync("* { font-family: Wide !important }");
    document.adoptedStyleSheets.push(sheet);
}"""


def wide_font() -> bytes:
    """Return a TrueType font in which every character is a bar two em wide."""
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((100, 700), (WIDTH - 100, 700), (WIDTH - 100, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder = FontBuilder(UNITS_PER_EM)
    builder.setupGlyphOrder([".notdef", "bar"])
    builder.setupCharacterMap(dict.fromkeys(CHARACTERS, "bar"))
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "bar": pen.glyph()})
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", "bar"], (WIDTH, 100)))
    builder.setupHorizontalHeader(ascent=900, descent=-300)
    builder.setupNameTable({"familyName": "Wide", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900, sTypoDescender=-300, usWinAscent=900, usWinDescent=300)
    builder.setupPost()
    file = BytesIO()
    builder.save(file)
    return file.getvalue()


def use_wide_font(page: Page) -> None:
    """Set all of a page's text in the wide font."""
    page.evaluate(_USE, base64.b64encode(wide_font()).decode("ascii"))
