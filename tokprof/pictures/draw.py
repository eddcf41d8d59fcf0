"""Draws the three bundled pictures: a few objects before wide, plain backgrounds.

Run `python -m tokprof.pictures.draw` to draw them again; the result depends on nothing but this file.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
FOLDER = Path(__file__).parent


def main() -> None:
    for name, picture in (("harbour", harbour()), ("window", window()), ("table", table())):
        picture.save(FOLDER / f"{name}.png", optimize=True)


def harbour() -> Image.Image:
    """640×480: a red boat and a lighthouse between sky and sea."""
    picture = _gradient(640, 480, (150, 200, 240), (225, 238, 250))
    picture.paste(_gradient(640, 190, (30, 90, 140), (20, 60, 100)), (0, 290))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((500, 50, 580, 130), fill=(250, 220, 90))
    draw.polygon(((150, 330), (390, 330), (350, 390), (190, 390)), fill=(190, 40, 40))
    draw.rectangle((262, 170, 270, 330), fill=(90, 60, 40))
    draw.polygon(((274, 180), (274, 315), (370, 315)), fill=(250, 250, 245))
    draw.polygon(((20, 300), (130, 300), (110, 260), (40, 260)), fill=(90, 90, 80))
    for band in range(5):
        colour = (200, 50, 50) if band % 2 == 0 else (245, 245, 240)
        draw.rectangle((60, 110 + 30 * band, 92, 140 + 30 * band), fill=colour)
    draw.rectangle((54, 92, 98, 110), fill=(60, 60, 60))
    for crest in range(0, 640, 80):
        draw.arc((crest, 420, crest + 60, 440), 200, 340, fill=(170, 200, 220), width=3)
    return picture


def window() -> Image.Image:
    """480×640: a plant on a sill, a clock on the wall."""
    picture = _gradient(480, 640, (235, 225, 205), (220, 205, 180))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((60, 60, 300, 420), fill=(170, 210, 235), outline=(250, 250, 250), width=14)
    draw.rectangle((174, 60, 186, 420), fill=(250, 250, 250))
    draw.rectangle((30, 420, 450, 446), fill=(245, 245, 240))
    draw.polygon(((200, 350), (290, 350), (275, 420), (215, 420)), fill=(180, 95, 55))
    for x, y in ((205, 300), (245, 260), (285, 300), (225, 320), (265, 320)):
        draw.ellipse((x - 26, y - 40, x + 26, y + 40), fill=(50, 140, 70), outline=(30, 100, 50), width=2)
    draw.ellipse((350, 110, 440, 200), fill=(250, 250, 250), outline=(40, 40, 40), width=5)
    draw.line((395, 155, 395, 122), fill=(20, 20, 20), width=4)
    draw.line((395, 155, 420, 168), fill=(20, 20, 20), width=4)
    draw.rectangle((60, 520, 220, 600), fill=(70, 90, 150))
    draw.rectangle((75, 500, 205, 524), fill=(150, 60, 70))
    return picture


def table() -> Image.Image:
    """672×672: a plate with fruit, a cup and a note on a wooden table."""
    picture = _gradient(672, 672, (160, 115, 75), (130, 90, 55))
    draw = ImageDraw.Draw(picture)
    for line in range(0, 672, 84):
        draw.line((0, line, 672, line), fill=(115, 78, 48), width=3)
    draw.ellipse((90, 150, 390, 450), fill=(245, 245, 245), outline=(205, 205, 210), width=8)
    for x, y, colour in ((180, 240, (200, 40, 45)), (270, 230, (240, 150, 40)), (230, 320, (120, 170, 60))):
        draw.ellipse((x - 48, y - 48, x + 48, y + 48), fill=colour)
        draw.line((x, y - 48, x + 8, y - 66), fill=(80, 55, 30), width=5)
    draw.ellipse((470, 110, 610, 250), fill=(60, 100, 160), outline=(40, 70, 120), width=6)
    draw.ellipse((490, 130, 590, 230), fill=(70, 42, 25))
    draw.polygon(((430, 430), (620, 400), (645, 585), (455, 615)), fill=(252, 244, 170))
    for line in range(4):
        draw.line((465, 465 + 32 * line, 600, 444 + 32 * line), fill=(90, 90, 120), width=4)
    return picture


def _gradient(width: int, height: int, top: Colour, bottom: Colour) -> Image.Image:
    column = Image.new("RGB", (1, height))
    for y in range(height):
        share = y / (height - 1)
        column.putpixel((0, y), tuple(round(a + share * (b - a)) for a, b in zip(top, bottom, strict=True)))
    return column.resize((width, height))


if __name__ == "__main__":
    main()
