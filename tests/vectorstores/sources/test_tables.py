"""CSV files as people export them: what becomes of their rows and columns."""

import pytest

from tests.support.knowledge.imports import counts, run, stored, texts, write
from vectorstores.sources import tables
from vectorstores.sources.columns import text_of_cell

pytestmark = pytest.mark.django_db


def imported(tmp_path, content, *, code=0, **options):
    summary = run(write(tmp_path / "rows.csv", content), code=code, **options)
    return summary, stored() if code != 2 else {}


TEAPOT_AND_CUP = {"1": "Teapot", "2": "Cup"}


@pytest.mark.parametrize(
    "content",
    [
        "id,content\n1,Teapot\n2,Cup\n",
        "\ufeffID;Content\r\n1;Teapot\r\n2;Cup\r\n",
        "sep=;\nid;content\n1;Teapot\n2;Cup\n",
        '"sep=|"\r\nid|content\r\n1|Teapot\r\n2|Cup',
        'id, "content"\n1, "Teapot"\n2,  Cup \n',
        "id,CONTENT,,,\n1,Teapot,,\n2,Cup,,,,,\n",
        "id,content\n\n1,Teapot\n,,\n,\n2,Cup\n\n",
        "id\tcontent\r1\tTeapot\r2\tCup\r",
        "Products 2024\n\nid;content\n1;Teapot\n2;Cup\n",
        "id,content\n1,Tea\x00pot\n2,Cup\n",
        "id,content\n1,Teapot\n2,Cup\n".encode("utf-16"),
        "id,content\n1,Teapot\n2,Cup\n".encode("utf-16-le"),
    ],
)
def test_tables_of_any_shape(model, tmp_path, content):
    summary, rows = imported(tmp_path, content)
    assert {row_id: row.text for row_id, row in rows.items()} == TEAPOT_AND_CUP
    assert not summary["notes"]


def test_tab_separated_files(model, tmp_path):
    run(write(tmp_path / "rows.tsv", "id\tcontent\n1\tTeapot, black\n"))
    assert texts() == {"Teapot, black"}


def test_the_only_column_may_contain_commas(model, tmp_path):
    imported(tmp_path, 'content\nTeapots, cups and more\n"Quoted, too"\n')
    assert texts() == {"Teapots, cups and more", "Quoted, too"}


@pytest.mark.parametrize(
    ("header", "row", "title", "text", "row_id"),
    [
        ("Question,Answer", "How long?,24 months", "How long?", "24 months", ""),
        ("Antwort;Frage", "24 Monate;Wie lange?", "Wie lange?", "24 Monate", ""),
        ("title,body", "Returns,Within 45 days", "Returns", "Within 45 days", ""),
        ("Name,Description,SKU", "Teapot,Of iron,AB-1", "Teapot", "Of iron", "AB-1"),
        ("post_title,post_content,ID", "Hello,World,7", "Hello", "World", "7"),
        ('"Page\nURL",text', "https://x.example/a,Hello", "", "Hello", ""),
    ],
)
def test_columns_are_guessed_by_usual_names(model, tmp_path, header, row, title, text, row_id):
    summary, rows = imported(tmp_path, f"{header}\n{row}\n")
    ((found_id, vector),) = rows.items()
    assert vector.text == text
    assert vector.metadata.get("title", "") == title
    assert not row_id or found_id == row_id
    assert "were guessed" in summary["notes"][0]["text"]


def test_the_same_answer_to_many_questions(model, tmp_path):
    imported(tmp_path, "question,answer\nIs it iron?,Yes.\nIs it black?,Yes.\n")
    assert {vector.metadata["title"] for vector in stored().values()} == {"Is it iron?", "Is it black?"}


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({}, "no column 'content'"),
        ({"content_column": "Texts"}, "no column 'Texts'"),
        ({"content_column": "colour", "id_column": "sku"}, "no column 'sku'"),
    ],
)
def test_columns_that_are_not_there(model, tmp_path, options, word):
    summary, _ = imported(tmp_path, "number;colour\n1;blue\n", code=2, **options)
    assert word in summary["refusals"][0]["reason"]
    assert "number, colour" in summary["refusals"][0]["reason"]


def test_chosen_columns_in_any_letter_case(model, tmp_path):
    imported(tmp_path, "Nr,Kommentar,Body (HTML)\n1,No,<p>Yes</p>\n", content_column="body (html)", id_column="nr")
    assert stored()["1"].text == "Yes\n\nKommentar: No"


# Other columns


def test_other_columns_are_embedded_and_stored_with_the_text(model, tmp_path):
    imported(tmp_path, "id,title,content,Price,Stock\np1,Kyoto,Of iron.,39.90 EUR,12\np2,Oslo,Of glass.,,\n")
    kyoto, oslo = stored()["p1"], stored()["p2"]
    assert (kyoto.text, oslo.text) == ("Of iron.\n\nPrice: 39.90 EUR\nStock: 12", "Of glass.")
    assert kyoto.metadata["price"] == "39.90 EUR"
    sent = [text for request in model.sent if request.method == "POST" for text in request.json["input"]]
    assert "Kyoto\nOf iron.\n\nPrice: 39.90 EUR\nStock: 12" in sent


def test_each_chunk_has_the_other_columns(model, tmp_path):
    imported(tmp_path, f"id,content,price\n1,{'Long text. ' * 100},39.90 EUR\n", chunk_size=200)
    assert len(texts()) > 5
    assert all(text.endswith("price: 39.90 EUR") and len(text) <= 200 for text in texts())


def test_a_long_column_follows_the_text_once(model, tmp_path):
    imported(tmp_path, f"id,content,notes\n1,Teapot.,{'Careful. ' * 50}\n", chunk_size=200)
    assert sum("Teapot." in text for text in texts()) == 1
    assert "Careful." in "".join(texts())


def test_a_changed_price_replaces_the_row(model, tmp_path):
    imported(tmp_path, "title,content,price\nPot,Of iron,39\n")
    summary, _ = imported(tmp_path, "title,content,price\nPot,Of iron,42\n")
    assert counts(summary) == (1, 0, 0)
    assert texts() == {"Of iron\n\nprice: 42"}


SHOPIFY = """\
Handle,Title,Body (HTML),Vendor,Status,Option1 Value,Variant SKU,Variant Price,Image Src
pot,Iron pot,"<p>A <b>pot</b> of&nbsp;iron.</p><ul><li>0.8 l</li></ul>",Acme,active,black,AB-1,39.90,https://x/y.jpg?v=1
pot,,,,,red,AB-2,44.90,
new,New pot,<p>Secret</p>,Acme,draft,,AB-3,9.90,
new,,,,,blue,AB-4,8.90,
cup,Cup,,Acme,active,,C-1,5.00,
"""


def test_an_export_of_shopify(model, tmp_path):
    summary, rows = imported(tmp_path, SHOPIFY)
    assert rows.keys() == {"pot", "cup"}
    assert rows["pot"].text == (
        "A pot of iron.\n- 0.8 l\n\nVendor: Acme\nStatus: active\nOption1 Value: black\nVariant SKU: AB-1\n"
        "Variant Price: 39.90\nOption1 Value: red; Variant SKU: AB-2; Variant Price: 44.90"
    )
    assert rows["cup"].text.endswith("Variant Price: 5.00")  # it has no description
    assert summary["left_out"] == 1
    assert "1 rows are drafts" in summary["stderr"]


WOOCOMMERCE = """\
ID,Type,SKU,Name,Published,"Short description",Description,"In stock?","Regular price"
10,simple,S-1,Teapot,1,"<b>Fine</b>","<p>Of iron &amp; wood</p>",1,"39,90"
11,simple,S-2,Old,0,,Old,1,1
12,simple,S-3,Draft,-1,,Draft,1,1
"""


def test_an_export_of_woocommerce(model, tmp_path):
    summary, rows = imported(tmp_path, WOOCOMMERCE)
    assert rows.keys() == {"10"}
    assert rows["10"].text.startswith("Of iron & wood\n\n")
    assert "\nShort description: Fine\nIn stock?: 1\nRegular price: 39,90" in rows["10"].text
    assert rows["10"].metadata["title"] == "Teapot"
    assert summary["left_out"] == 2


# What is faulty is told, and the rest is read


@pytest.mark.parametrize(
    ("content", "read", "faulty"),
    [
        ('id,content\n1,"Teapot\n2,Cup\n3,Bowl\n', {"2": "Cup", "3": "Bowl"}, 2),
        ('id,content\n1,Pot\n2,"Cup', {"1": "Pot"}, 3),
        ('id,content\n1,"Pot\n2,Cup\n3,"Bowl, big"\n4,Pan\n', {"2": "Cup", "3": "Bowl, big", "4": "Pan"}, 2),
        ("id,content\n1,Pot, black\n2,Cup\n", {"2": "Cup"}, 2),
        ("id,content\n1,\n2,Cup\n", {"2": "Cup"}, 2),
    ],
)
def test_faulty_rows(model, tmp_path, content, read, faulty):
    summary, rows = imported(tmp_path, content, code=1)
    assert {row_id: row.text for row_id, row in rows.items()} == read
    assert [refusal["place"] for refusal in summary["refusals"]] == [f"{tmp_path}/rows.csv:{faulty}"]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ('"with ""lid"""', 'with "lid"'), ('5" pipe', '5" pipe'), ('"a\nb"', "a\nb"), ('"a" ', "a"),
        (r'"He said \"hi, you\" there"', 'He said "hi, you" there'),
        ("x < 5 and y > 3", "x < 5 and y > 3"), ("Use the <b> element", "Use the <b> element"),
    ],
)  # fmt: skip
def test_odd_fields(model, tmp_path, field, text):
    imported(tmp_path, f"id,content\n1,{field}\n")
    assert texts() == {text}


def test_a_quotation_mark_that_is_never_closed_in_a_large_file(model, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_RECORD", 5000)
    rows = "".join(f"{number},Cup number {number}\n" for number in range(1000))
    summary, found = imported(tmp_path, f'id,content\na,"Pot\n{rows}', code=1)
    assert (summary["refused"], len(found)) == (1, 1000)


@pytest.mark.parametrize("content", ["id,content\n", "id,content\n,\n\n", "", "\n\n"])
def test_a_table_without_rows_is_told(model, tmp_path, content):
    summary, _ = imported(tmp_path, content, code=2)
    assert summary["refused"] == 1


def test_a_guessed_encoding_is_told_and_can_be_named(model, tmp_path):
    table = "id,content\n" * 10_000 + "1,Größe für 3 €\n"
    file = write(tmp_path / "rows.csv", table.encode("cp1252"))
    assert "cp1252, a guess" in run(file)["stderr"]
    assert stored()["1"].text == "Größe für 3 €"
    assert "a guess" not in run(file, encoding="macintosh")["stderr"]
    assert stored()["1"].text.startswith("Grˆ")


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p><p>Two&nbsp;&amp; three<br/>four</p>", "One\nTwo & three\nfour"),
        ("<ul><li>a</li><li>b</li></ul>", "- a\n- b"),
        ("<table><tr><td>Size</td><td>9</td></tr></table>", "Size 9"),
        ("<style>p {}</style><script>x</script><!-- c --><b>Bold</b>", "Bold"),
        ("&lt;b&gt; is a tag", "<b> is a tag"),
        ("a\n\n\n\nb", "a\n\n\n\nb"),
        ("<div>a</div>\n\n\n<div>b</div>", "a\nb"),
        ("<ul><li><p>a</p></li></ul>x", "a\nx"),
        ("a</script> b<br>c", "a b\nc"),
        ("<script>" * 100_000 + "</script>", ""),
        ("<div>" * 5_000 + "deep</div>", "deep"),
        ("Gr\ud83d&ouml;&szlig;e &euro; 5 &lt; 6", "Gr?öße € 5 < 6"),
    ],
)
def test_html_in_cells(html, text):
    assert text_of_cell(html) == text
