"""CNN/DailyMail: the appendix's texts from the real files, tables and stories, and broken rows."""

import hashlib
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.downstream.cnn_dailymail import CNNDailyMail, LetterCase
from raysynth.downstream.rows import Pair
from raysynth.errors import InputError


def test_cnndm_is_as_in_the_appendix(shared):
    pair = CNNDailyMail().read(str(shared / "data/cnndm"))["train"][0]
    assert pair.source.startswith("summarize: by . associated press . published: . 14:11 est, 25 october 2013 . ")
    assert pair.target.startswith("bishop john folda, of north dakota, is taking time off after being diagnosed . he ")
    cased = CNNDailyMail(letter_case=LetterCase.AS_WRITTEN).read(str(shared / "data/cnndm"))["train"][0]
    assert cased.source.startswith("summarize: By . Associated Press . PUBLISHED: . 14:11 EST, ")
    assert (cased.source.lower(), cased.target.lower()) == pair[:2]


def test_stories_are_joined_as_in_the_tables(shared, tmp_path):
    shutil.copytree(shared / "data/cnndm/cnn", tmp_path / "cnn")
    stories = sorted((tmp_path / "cnn/stories").glob("*.story"))
    (tmp_path / "train").mkdir()
    for story in stories:
        shutil.copy(story, tmp_path / "train")
    pairs = CNNDailyMail(letter_case=LetterCase.AS_WRITTEN).read(str(tmp_path))["train"]
    assert len(pairs) == 10
    for pair, story in zip(pairs, stories, strict=True):
        article, *highlights = story.read_text().split("@highlight")
        assert pair.source.split(": ", 1)[1].replace(" .", "").split() == article.replace(" .", "").split()
        assert pair.target.replace(" .", "").split() == " ".join(highlights).replace(" .", "").split()
        assert pair.target.endswith((".", "?", "!", '"', "'", ")"))


def test_columns_may_come_in_any_order_and_fields_may_span_lines(write, tmp_path):
    train = 'id,highlights,article,more\r\n1,"Ann won .\nBob lost .","He said ""no"",\nand left .",x\r\n'
    validation = ",article,highlights\n0,Short .,It is .\n"
    table = pa.table({"id": ["1"], "article": ["A"], "highlights": ["B\nC"]})
    pq.write_table(table, tmp_path / "test-00000-of-00001.parquet")
    splits = CNNDailyMail().read(write({"train.csv": train, "dev.csv": validation}))
    assert splits["train"] == [Pair('summarize: he said "no", and left .', "ann won . bob lost .")]
    assert splits["validation"] == [Pair("summarize: short .", "it is .")]
    assert splits["test"] == [Pair("summarize: a", "b c")]


def test_a_broken_parquet_file_is_one_line(write):
    with pytest.raises(InputError, match=r"train-0\.parquet cannot be read: ") as error:
        CNNDailyMail().read(write({"train-0.parquet": b"PAR1 not really"}))
    assert "\n" not in str(error.value)


def test_stories_may_be_listed_by_their_addresses(write, tmp_path):
    story = "One sentence.\n\nA caption\n\n@highlight\n\nIt rained\n\n@highlight\n\nNobody left!\n"
    address = "http://news.example/1"
    digest = hashlib.sha1(address.encode()).hexdigest()
    files = {f"dailymail/stories/{digest}.story": story, "url_lists/all_val.txt": f"{address}\n"}
    assert CNNDailyMail().read(write(files)) == {
        "validation": [Pair("summarize: one sentence. a caption .", "it rained . nobody left!")]
    }
    (tmp_path / f"dailymail/stories/{digest}.story").unlink()
    with pytest.raises(
        InputError, match=rf"all_val\.txt, line 1: {digest}\.story, the story of {address}, is not under"
    ):
        CNNDailyMail().read(str(tmp_path))


HEADER = "id,article,highlights\n1,Good .,Fine .\n"


@pytest.mark.parametrize(
    ("rows", "message", "num_good"),
    [
        ("2,Only two\n", r"train\.csv, line 3: has 2 columns, the header has 3", 1),
        ("2,Text, \n", r"train\.csv, line 3: empty highlights", 1),
        ('2,"a"b,c\n', r"train\.csv, line 3: broken CSV: ", 1),
        ('2,"a,c\n\n', r"train\.csv, line 3: broken CSV: unexpected end of data", 1),
        (b"2,caf\xe9,c\n", r"train\.csv, line 3: not UTF-8", 1),
        ('2,"a\nb",c\n3,d\n', r"train\.csv, line 5: has 2 columns", 2),
    ],
    ids=["columns", "empty target", "quote", "open quote", "utf-8", "second line"],
)
def test_a_bad_row_of_a_table_is_one_line_or_skipped_and_counted(rows, message, num_good, check_bad_row):
    content = HEADER.encode() + (rows if isinstance(rows, bytes) else rows.encode())
    check_bad_row(CNNDailyMail(), {"train.csv": content}, message, num_good=num_good)


@pytest.mark.parametrize(
    ("story", "message"),
    [
        ("Text.\n", r"train/b\.story: empty highlights"),
        (b"Text.\n\n\xff\n", r"train/b\.story, line 3: not UTF-8 at byte 8 of the file"),
    ],
    ids=["no highlights", "utf-8"],
)
def test_a_bad_story_is_one_line_or_skipped_and_counted(story, message, check_bad_row):
    files = {"train/a.story": "Text.\n\n@highlight\n\nGood", "train/b.story": story}
    check_bad_row(CNNDailyMail(), files, message)
