"""Values of FITS headers are those that astropy reads, whatever the form of a card."""

import itertools
import re

import pytest
from astropy.io import fits

from niriss_eestep.errors import ReferenceDataError
from niriss_eestep.reference.guards import primary_header

LONG = "x" * 60 + "'' and " + "y" * 90
VALUES = (
    "'abc'", "'it''s'", "''", "''''", "'   lead'", "'trail   '", "T", "F", "12", "-3", "+7", "007", "1.", "-.5", "1E5",
    "1.0D-3", "1e5", "(1,2)", "", "/ comment", "'a / b'", "'a' / it's", "T / yes", "1.5/c", "NaN", "'unclosed", "12 13",
    "1.2.3", "0x10", "1_000", "'a' 'b'",
)  # fmt: skip


def _cards(image):
    """A file of one header with this card after the mandatory ones, and what follows END."""
    own = b"".join(card.ljust(80) for card in (b"SIMPLE  =                    T", b"BITPIX  =                    8"))
    own += b"NAXIS   =                    0".ljust(80) + image
    own += b"END".ljust(80) + b"BEHIND  =                    1".ljust(80)
    return own.ljust(-(-len(own) // 2880) * 2880)


def _read(read):
    try:
        return re.sub(" at 0x[0-9a-f]+", "", repr(read()))
    except (fits.VerifyError, ReferenceDataError):
        return "cannot be read"


# the cards are as odd as astropy says
@pytest.mark.filterwarnings("ignore::astropy.io.fits.verify.VerifyWarning", "ignore:The following header keyword")
@pytest.mark.parametrize("value", VALUES)
def test_values_of_cards_are_astropys(tmp_path, value):
    path = tmp_path / "header.fits"
    keys = ("KEY     ", "key     ", " KEY    ", "KEY")
    for key, sign in itertools.product(keys, ("= ", "=                    ", "=", "  ", " =")):
        data = _cards((key + sign + value)[:80].ljust(80).encode())
        path.write_bytes(data)
        found = [card for card in fits.Header.fromstring(data).cards if card.keyword == "KEY"]
        theirs = _read(lambda found=found: found[0].value if found else None)
        ours = _read(lambda: primary_header(path, "header", ["KEY"]).get("KEY"))
        assert ours == theirs, (key, sign)


def test_long_text_and_repeated_cards_are_astropys(tmp_path):
    path = tmp_path / "header.fits"
    card = fits.Card("KEY", LONG.replace("''", "'")).image.encode()
    assert b"CONTINUE" in card
    path.write_bytes(_cards(card + b"KEY     = 'again'".ljust(80) + b"NEXT    =                    5".ljust(80)))
    found = primary_header(path, "header", ["KEY", "NEXT", "BEHIND"])
    assert found["KEY"] == fits.getval(path, "KEY") == LONG.replace("''", "'")
    assert found["NEXT"] == 5
    assert "BEHIND" not in found


@pytest.mark.parametrize("card", ["NAXIS   = 1000", "naxis   =   -1", "TFIELDS = 1.0", "NAXIS1  = 'two'", "PCOUNT  ="])
def test_sizes_that_are_none_are_refused(tmp_path, card):
    path = tmp_path / "header.fits"
    path.write_bytes(_cards(b"").replace(b"NAXIS   =                    0".ljust(80), card.ljust(80).encode()))
    said = f"{card[:6].upper().strip()}.* is .*(not an integer|FITS knows 0 to 999)"
    with pytest.raises(ReferenceDataError, match=said):
        primary_header(path, "header", [])
