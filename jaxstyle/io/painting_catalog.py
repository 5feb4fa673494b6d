"""The paintings that have a name: title, painter, license and where they are published."""

import urllib.parse
from typing import NamedTuple

EMBEDDED = "starry"


class Painting(NamedTuple):
    """A painting in the public domain.

    Attributes:
      title: in English.
      painter: with the year of death, which the copyright depends on.
      year: in which it was made.
      license: of painting and reproduction.
      url: of a JPEG; '' where it comes with jaxstyle.
      known_hash: as `pooch` takes it, None where it is not known: Wikimedia scales its pictures
        anew from time to time, and the bytes change with its software.
    """

    title: str
    painter: str
    year: str
    license: str
    url: str
    known_hash: str | None = None


_OLD = "public domain (painter died more than 100 years ago)"
_LIFE_70 = "public domain (US, and where copyright lasts 70 years after death or less)"


def _commons(file: str, site: str = "commons.wikimedia.org") -> str:
    """Return the address that redirects to a file, 1280 pixels wide: a width Wikimedia serves."""
    return f"https://{site}/wiki/Special:FilePath/{urllib.parse.quote(file)}?width=1280"


PAINTINGS = {
    EMBEDDED: Painting(
        "A night over a lake", "painted by configs/paint_starry.py", "2026", "Apache-2.0", ""
    ),
    "almond-blossom": Painting(
        "Almond Blossom", "Vincent van Gogh (d. 1890)", "1890", _OLD,
        _commons("Vincent_van_Gogh_-_Almond_blossom_-_Google_Art_Project.jpg"),
    ),
    "composition-vii": Painting(
        "Composition VII", "Wassily Kandinsky (d. 1944)", "1913", _LIFE_70,
        _commons("Vassily_Kandinsky,_1913_-_Composition_7.jpg"),
    ),
    "grande-jatte": Painting(
        "A Sunday on La Grande Jatte", "Georges Seurat (d. 1891)", "1884-86", _OLD,
        _commons("A_Sunday_on_La_Grande_Jatte,_Georges_Seurat,_1884.jpg"),
    ),
    "great-wave": Painting(
        "The Great Wave off Kanagawa", "Katsushika Hokusai (d. 1849)", "c. 1831", _OLD,
        _commons("Tsunami_by_hokusai_19th_century.jpg"),
    ),
    "impression-sunrise": Painting(
        "Impression, Sunrise", "Claude Monet (d. 1926)", "1872", _LIFE_70,
        _commons("Claude_Monet,_Impression,_soleil_levant.jpg"),
    ),
    "kiss": Painting(
        "The Kiss", "Gustav Klimt (d. 1918)", "1907-08", _OLD,
        _commons("The_Kiss_-_Gustav_Klimt_-_Google_Cultural_Institute.jpg"),
    ),
    "scream": Painting(
        "The Scream", "Edvard Munch (d. 1944)", "1893", _LIFE_70,
        _commons(
            "Edvard_Munch,_1893,_The_Scream,_oil,_tempera_and_pastel_on_cardboard,_91_x_73_cm,"
            "_National_Gallery_of_Norway.jpg"
        ),
    ),
    "shipwreck": Painting(
        "The Wreck of a Transport Ship, known as The Shipwreck of the Minotaur",
        "J. M. W. Turner (d. 1851)", "c. 1810", _OLD,
        _commons("Shipwreck_of_the_Minotaur_William_Turner.jpg"),
    ),
    "starry-night": Painting(
        "The Starry Night", "Vincent van Gogh (d. 1890)", "1889", _OLD,
        _commons("Van_Gogh_-_Starry_Night_-_Google_Art_Project.jpg"),
    ),
    "udnie": Painting(
        "Udnie (Young American Girl, The Dance)", "Francis Picabia (d. 1953)", "1913", _LIFE_70,
        _commons(
            "Francis_Picabia,_1913,_Udnie_(Young_American_Girl,_The_Dance),_oil_on_canvas,"
            "_290_x_300_cm,_Musée_National_d\N{RIGHT SINGLE QUOTATION MARK}Art_Moderne,"
            "_Centre_Georges_Pompidou,_Paris..jpg",
            "en.wikipedia.org",  # which also leads to Commons, if the file has moved there
        ),
    ),
    "woman-with-hat": Painting(
        "Woman with a Hat", "Henri Matisse (d. 1954)", "1905", _LIFE_70,
        _commons("Matisse-Woman-with-a-Hat.jpg"),
    ),
}  # fmt: skip
