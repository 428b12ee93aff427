import base64
import hashlib
import io
import re
import subprocess
import sys
import time
from html.parser import HTMLParser

import numpy as np
import pytest

from niriss_eestep import products
from niriss_eestep.errors import OutputError, ProductError
from niriss_eestep.report.bundle import bundle_of_models, read_bundle
from niriss_eestep.report.numbers import measured, number
from niriss_eestep.report.page import report_html, write_report, write_report_of_models

HOSTILE = "</title></style><script>alert(1)</script><img src=x onerror=alert(1)>\"' & {{ 7*7 }} \x1b[31m \u202e"


class Page(HTMLParser):
    """Elements of a page and their text; every element that is opened is closed in its turn."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["script"], ["style"]):
            self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(scope="module")
def good(program):
    return report_html(program.bundle)


@pytest.fixture(scope="module")
def bad(troubled):
    return report_html(troubled.bundle)


def test_everything_is_inside_the_file(good):
    page = Page(good)
    sources = [image["src"] for image in page.all("img")]
    # 2 of all groups, 3 of each of 2 groups
    assert len(sources) == 8
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert all(image["alt"] for image in page.all("img"))
    assert {link["href"] for link in page.all("link")} == {"data:,"}
    assert not [script for script in page.all("script") if "src" in script]
    assert all(link["href"].startswith("#") for link in page.all("a"))
    for source in sources:
        svg = base64.b64decode(source.partition(",")[2]).decode()
        references = re.findall(r'(?:href|src)="([^"]*)"', svg) + re.findall(r"url\(([^)]*)\)", svg)
        assert all(name.startswith(("#", "data:")) for name in references)


def test_only_our_own_script_may_run(good):
    page = Page(good)
    (policy,) = (meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    (script,) = re.findall(r"<script>(.*?)</script>", good, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_links_lead_somewhere(bad):
    page = Page(bad)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in page.all("a")} <= set(ids)


def test_no_problems(good):
    text = Page(good).text
    assert "No problems" in text
    assert "4 measured, 0 measured with warnings, 0 failed" in text


def test_problems_come_first_and_the_worst_of_them(bad, troubled):
    text = Page(bad).text
    problems, summary = text.index("problems"), text.index("measured of all")
    where = [text.index(name, problems) for name in ("truncated", "no star", "no expected rate")]
    assert max(where[0], where[2]) < summary  # those of groups
    # each stands once: what is wrong with an exposure beside it, in its group
    assert where[1] > summary
    assert "4 measured, 0 measured with warnings, 5 failed" not in text  # the exposure that was not read counts too
    assert "5 failed" in text
    assert len(troubled.abs_flux.exposures) == 10


def test_numbers_are_those_of_the_product(good, program):
    text = Page(good).text
    for row in program.abs_flux.table:
        for name in ("electron_rate", "ratio", "photmjsr"):
            assert measured(float(row[name]), float(row[f"{name}_err"])) in text


def test_header_strings_are_text(make_program):
    program = make_program(("F480M",), n_dithers=1, target=HOSTILE)
    program.abs_flux._instance["meta"]["ref_file"]["psfee"]["name"] = f"packaged {HOSTILE}"
    for model in (program.ee[0], program.abs_flux):
        model._instance["meta"]["eestep"]["parameters"] = {HOSTILE: HOSTILE}
        model._instance["meta"]["program"]["title"] = HOSTILE
    html = report_html(program.bundle)
    page = Page(html)
    assert len(page.all("script")) == 1
    assert not [image for image in page.all("img") if "onerror" in image]
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7*7 }}" in page.text
    assert not set(html) & {"\x1b", "\u202e"}


def test_page_of_one_exposure(single):
    text = Page(report_html(single.bundle)).text
    assert "Stamps" in text


def test_report_of_saved_products_is_that_of_models_in_memory(program, tmp_path):
    path = program.save(tmp_path)
    assert bundle_of_models(products.open(path)).name == "jw01094-o001_t001_niriss"
    written = write_report(path)
    assert written == tmp_path / "jw01094-o001_t001_niriss_report.html"
    again = write_report_of_models(
        tmp_path / "..", products.open(path), program.combined, [*program.ee, *program.sb]
    ).read_text(encoding="utf-8")
    assert written.read_text(encoding="utf-8") == again


def test_missing_products_are_said(program, tmp_path):
    path = program.save(tmp_path)
    (tmp_path / program.ee[0].meta.filename).unlink()
    (tmp_path / program.combined[1].meta.filename).write_bytes(b"nothing")
    page = Page(write_report(path).read_text(encoding="utf-8"))
    assert f"{program.ee[0].meta.filename}" in page.text
    assert "not an ASDF file" in page.text


def test_products_of_another_run_are_not_shown(program, tmp_path):
    path = program.save(tmp_path)
    other = program.ee[1].copy()
    other.count_rate = 2 * other.count_rate
    other.save(str(tmp_path / program.ee[1].meta.filename))
    group = next(m for m in program.combined if m.kind == "combined_ee" and m.meta.group.filter == "F480M").copy()
    group.exposure_count_rate = 2 * group.exposure_count_rate
    group.save(str(tmp_path / group.meta.filename))
    bundle = read_bundle(path)
    assert program.ee[1].meta.filename not in bundle.models
    (combined,) = bundle.of_kind("combined_ee")
    assert combined.meta.filename == "jw01094-o001_t001_niriss_f090w_sub128_eecombined.asdf"
    assert sum("another run" in remark for remark in bundle.remarks) == 2


def test_a_name_in_a_product_leads_to_no_other_directory(program, tmp_path):
    path = program.save(tmp_path)
    model = products.open(path)
    table = model.exposures.astype(
        [(n, "U80" if n == "product" else model.exposures.dtype[n]) for n in model.exposures.dtype.names]
    )
    table["product"] = f"../{tmp_path.name}/{table['product'][0]}"
    model.exposures = table
    model.save(str(path))
    assert read_bundle(path).of_kind("combined_ee") == []


def test_another_kind_of_product_is_refused(program, tmp_path):
    program.save(tmp_path)
    with pytest.raises(ProductError, match="holds EEProfileModel"):
        write_report(tmp_path / program.ee[0].meta.filename)


def test_page_is_written_whole_or_not_at_all(program, tmp_path):
    path = program.save(tmp_path)
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(path, tmp_path / "missing")
    assert not list(tmp_path.glob("*.html*"))


def test_reference_that_is_gone_is_said(program):
    program.abs_flux._instance["meta"]["ref_file"]["psfee"]["name"] = "/nowhere/psfee.asdf"
    try:
        text = Page(report_html(program.bundle)).text
    finally:
        program.abs_flux._instance["meta"]["ref_file"]["psfee"]["name"] = "packaged"
    assert "/nowhere/psfee.asdf" in text
    assert "the packaged encircled energy is drawn instead" in text


def _reference_time():
    """Processor time of twenty plain figures: what a figure costs on this machine, as busy as it is [s]."""
    from matplotlib.figure import Figure

    start = time.process_time()
    for _ in range(20):
        figure = Figure()
        for axis in figure.subplots(2):
            axis.plot(range(100), label="line")
            axis.legend()
        figure.savefig(io.BytesIO(), format="svg")
    return time.process_time() - start


def test_66_exposures(make_program, spectrum):
    """A page of 33 groups of two exposures stays below 10 MB and 8 s of processor time.

    On the machine whose seconds these are, idle, the reference takes 1.2 s and the page less than 6 s.
    """
    filters = ("F090W", "F115W", "F140M", "F150W", "F158M", "F200W", "F277W", "F356W", "F380M", "F430M", "F480M")
    program = make_program(filters, ("SUB64", "SUB128", "SUB256"), spectrum=spectrum)
    _reference_time()  # fonts are found
    before = _reference_time()
    start = time.process_time()
    html = report_html(program.bundle)
    page = time.process_time() - start
    assert page < 8 / 1.2 * max(before, _reference_time())
    assert len(html) < 10e6
    assert len(Page(html).all("img")) == 2 + 33 * 3


def test_the_pipeline_writes_it_only_when_asked(tmp_path):
    """End to end; without save_report matplotlib is not imported."""
    code = f"""
import sys
from niriss_eestep.cli import main
from niriss_eestep import FluxCalPipeline
main(["simulate", {str(tmp_path / "sim")!r}, "--filters", "F480M"])
from pathlib import Path
asn = str(next(Path({str(tmp_path / "sim")!r}).glob("*_asn.json")))
FluxCalPipeline.call(asn, save_results=True, output_dir={str(tmp_path)!r}, logcfg=None)
assert "matplotlib" not in sys.modules
assert not list(Path({str(tmp_path)!r}).glob("*.html"))
FluxCalPipeline.call(asn, save_results=True, save_report=True, output_dir={str(tmp_path)!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    (page,) = tmp_path.glob("*_report.html")
    assert page.with_name(page.name.replace("_report.html", "_absflux.asdf")).is_file()
    assert "F480M" in Page(page.read_text(encoding="utf-8")).text


@pytest.mark.parametrize(
    ("value", "err", "text"),
    [
        (74585.4, 84.43, "74585 \u00b1 84"),
        (120082.7, 135.9, "120083 \u00b1 136"),
        (0.99988, 0.00241, "0.9999 \u00b1 0.0024"),
        (1.5, np.nan, "1.5"),
        (1.5, 0.0, "1.5"),
        (np.nan, 1.0, "\u2013"),
        (1e-20, 3e-22, "1e-20 \u00b1 3e-22"),
    ],
)
def test_numbers_to_the_second_digit_of_their_error(value, err, text):
    assert measured(value, err) == text


def test_number_that_is_not_there():
    assert number(np.inf) == "\u2013"
    assert number(2.5, ".3f") == "2.500"
