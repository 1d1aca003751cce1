import itertools
import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echolung.datasets import load_manifest, table
from echolung.errors import InputError


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a CSV, and an empty file for each row's `path`, and returns the CSV."""

    def write_csv(text, touch=True, name="videos.csv"):
        lines = text.splitlines()
        if touch:
            column = lines[0].split(",").index("path")
            for line in lines[1:]:
                file = tmp_path / line.split(",")[column]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write_csv


def test_columns_and_kinds(write):
    csv = write(
        "path,Patient,source,view,ef,grade\n"
        "clips/a.mp4,p1,s1,L1,55.5,2\nclips/b.avi,p1,s1,L2,40,10\n c.mp4,p2, s2 ,L1,61,2\n"
    )
    csv.parent.joinpath("c.mp4").touch()
    manifest = load_manifest("table", csv, kinds={"grade": "ordinal"})
    videos = manifest.videos
    assert list(videos.columns) == ["video_id", "path", "patient", "source", "view", "ef", "grade"]
    assert list(videos["video_id"]) == ["a", "b", "c"] and list(videos["path"])[2] == "c.mp4"
    assert list(videos["patient"]) == ["p1", "p1", "p2"] and list(videos["source"]) == ["s1", "s1", "s2"]
    assert manifest.root == csv.parent and all(manifest.file(i).is_file() for i in range(3))
    tasks = manifest.tasks
    assert list(tasks) == ["view", "ef", "grade"]
    assert (tasks["view"].kind, tasks["view"].classes, tasks["view"].ordinal) == ("classification", ("L1", "L2"), False)
    assert tasks["ef"].kind == "regression" and videos["ef"].dtype == float
    assert (tasks["grade"].classes, tasks["grade"].ordinal) == (("2", "10"), True)  # by number, not by letter
    assert set(videos["grade"]) == {"2", "10"}
    assert manifest.notes == ()


def test_zero_and_one_are_classes_unless_said_otherwise(write):
    csv = write("path,patient,b_lines\na.mp4,1,0\nb.mp4,2,1.0\nc.mp4,3,1\n")
    manifest = load_manifest("table", csv)
    assert manifest.tasks["b_lines"].classes == ("0", "1") and list(manifest.videos["b_lines"]) == ["0", "1", "1"]
    assert "b_lines holds just 0 and 1" in manifest.notes[0] and "--kind b_lines=KIND" in manifest.notes[0]
    manifest = load_manifest("table", csv, kinds={"b_lines": "regression"})
    assert manifest.tasks["b_lines"].kind == "regression" and manifest.videos["b_lines"].sum() == 2
    assert manifest.notes == ()


def test_classes_that_are_numbers_sort_as_numbers(write):
    csv = write("path,patient,zone\na.mp4,1,10\nb.mp4,2,9\nc.mp4,3,9.0\n")
    assert load_manifest("table", csv, kinds={"zone": "classification"}).tasks["zone"].classes == ("9", "10")


def test_few_whole_numbers_are_a_regression_with_a_note(write):
    manifest = load_manifest("table", write("path,patient,score\na.mp4,1,0\nb.mp4,2,3\nc.mp4,3,3\n"))
    assert manifest.tasks["score"].kind == "regression"
    assert "2 whole numbers" in manifest.notes[0]


def test_remarks_and_ignored_columns_are_kept_without_a_task(write):
    rows = "".join(f"{i}.mp4,{i},{'ab'[i % 2]},seen on day {i},{i}\n" for i in range(12))
    csv = write("path,patient,label,remark,room\n" + rows)
    manifest = load_manifest("table", csv, kinds={"room": "ignore"})
    assert list(manifest.tasks) == ["label"] and "remark" in manifest.videos and "room" in manifest.videos
    assert "remark" in manifest.notes[0] and len(manifest.notes) == 1


def test_missing_labels(write):
    csv = write("path,patient,a,b\n1.mp4,1,x,1.5\n2.mp4,2,,2.5\n3.mp4,3,N/A,nan\n4.mp4,4,y,\n5.mp4,5,x,7\n")
    with pytest.raises(InputError, match=r"label a is missing on 2 of the 5 rows of .*: lines 3, 4\. .*drop"):
        load_manifest("table", csv)
    manifest = load_manifest("table", csv, missing_labels="drop")
    assert list(manifest.videos["video_id"]) == ["1", "2", "4", "5"]
    assert list(manifest.videos["a"]) == ["x", "", "y", "x"]
    np.testing.assert_array_equal(manifest.videos["b"], [1.5, 2.5, np.nan, 7])
    assert manifest.tasks["a"].classes == ("x", "y") and "Left out, without any label (1): 3." in manifest.notes[-1]
    with pytest.raises(InputError, match="'error' or 'drop'"):
        load_manifest("table", csv, missing_labels="maybe")


def test_folder_of_frames_and_absolute_path(tmp_path):
    for folder in ("v1.a", "v1.b"):
        (tmp_path / "frames" / folder).mkdir(parents=True)
        (tmp_path / "frames" / folder / "0001.PNG").touch()
    (tmp_path / "far.mp4").touch()
    (tmp_path / "t").mkdir()
    csv = tmp_path / "t" / "t.csv"
    csv.write_text(f"path,label\n../frames/v1.a,x\n../frames/v1.b/,y\n{tmp_path / 'far.mp4'},y\n")
    manifest = load_manifest("table", csv)
    assert list(manifest.videos["video_id"]) == ["v1.a", "v1.b", "far"]
    assert manifest.file(0).is_dir() and manifest.file(2).is_file()
    assert "No column `patient` or `source`" in manifest.notes[0]
    (tmp_path / "frames" / "v1.b" / "0001.PNG").unlink()
    with pytest.raises(InputError, match=r"names a folder without a frame image .*v1\.b \(line 3\)"):
        load_manifest("table", csv)


def test_umlauts_are_found_as_the_disk_writes_them(write, tmp_path):
    """One letter or a letter and two dots, in any mixture; the same for a table and a disk that differ."""
    ways = list(itertools.product(("NFC", "NFD"), repeat=2))
    names = {
        way: f"{unicodedata.normalize(way[0], f'Größe {i}')}/{unicodedata.normalize(way[1], 'ü.mp4')}"
        for i, way in enumerate(ways)
    }
    for name in names.values():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    for form in ("NFC", "NFD"):
        rows = "".join(f"{unicodedata.normalize(form, name)},{'xy'[i % 2]}\n" for i, name in enumerate(names.values()))
        manifest = load_manifest("table", write(f"path,label\n{rows}", touch=False))
        assert [manifest.file(i).relative_to(tmp_path).as_posix() for i in range(4)] == list(names.values())


def test_video_ids(write):
    assert list(load_manifest("table", write("path,x\na/1.mp4,u\nb/1.mp4,v\n")).videos["video_id"]) == [
        "a/1.mp4",
        "b/1.mp4",
    ]
    given_ids = load_manifest("table", write("path,x,video_id\na/1.mp4,u,one\nb/1.mp4,v,two\n"))
    assert list(given_ids.videos["video_id"]) == ["one", "two"]


def test_split(write):
    csv = write("path,patient,split,x\n1.mp4,p,Train,u\n2.mp4,q,VAL,v\n3.mp4,p,test,u\n")
    manifest = load_manifest("table", csv)
    assert list(manifest.videos["split"]) == ["train", "val", "test"] and list(manifest.tasks) == ["x"]
    assert "Patients in several parts of split, which leaks (1): p" in manifest.notes[0]
    with pytest.raises(
        InputError, match=r"split of .* takes train, val, test on every row, and holds 'dev' \(line 3\)"
    ):
        load_manifest("table", write("path,split,x\n1.mp4,train,u\n2.mp4,dev,v\n"))


def test_spreadsheet_habits(tmp_path, write):
    (tmp_path / "é.mp4").touch()
    (tmp_path / "a,b.mp4").touch()
    csv = tmp_path / "excel.csv"
    csv.write_bytes('\ufeff,PATH,patient,x\r\n0,"a,b.mp4",1,u\r\n,,,\r\n1,é.mp4,2,v\r\n'.encode())
    manifest = load_manifest("table", csv)
    assert list(manifest.videos["video_id"]) == ["a,b", "é"]
    assert "column without a name" in manifest.notes[0]


def test_no_label_column_is_fine_for_extraction(write):
    manifest = load_manifest("table", write("path,patient\n1.mp4,p\n"))
    assert manifest.tasks == {} and "no label column" in manifest.notes[0]
    with pytest.raises(InputError, match="no label column"):
        manifest.task()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", r"is empty\. It needs a header with `path`"),
        ("\n , \n", "is empty"),
        ("path,x\n", "has a header but no row"),
        ("file,x\n1.mp4,u\n", r"has no column `path`.*first line: file, x"),
        ("pth,x\n1.mp4,u\n", r"no column `path`.*Did you mean 'pth'"),
        ("path,x,x\n1.mp4,u,u\n", "several columns named x"),
        ("path,x\n1.mp4,u\n2.mp4,u,w\n", "has 2 columns, but line 3 has 3 cells"),
        ('path,x\n1.mp4,"u\n', "not a well-formed CSV: line 2"),
        ("path,x\n,u\n", r"no path on line 2"),
        ("path,x\n1.mp4\0,u\n", "binary data"),
    ],
)
def test_wrong_files(write, text, match):
    with pytest.raises(InputError, match=match):
        load_manifest("table", write(text, touch=False))


def test_paths_that_do_not_exist_are_named_and_counted(write):
    csv = write("path,x\n" + "".join(f"gone/{i}.mp4,u\n" for i in range(7)), touch=False)
    with pytest.raises(InputError, match=r"7 of the 7 paths .*: gone/0.mp4 \(line 2\), .* and 2 more\. .*start at"):
        load_manifest("table", csv)


def test_duplicates(write):
    with pytest.raises(InputError, match=r"same video more than once: .*1\.mp4 \(lines 2, 4\)"):
        load_manifest("table", write("path,x\n1.mp4,u\n2.mp4,v\n./1.mp4,v\n"))
    with pytest.raises(InputError, match=r"same video_id more than once: k \(lines 2, 3\)"):
        load_manifest("table", write("path,video_id,x\n1.mp4,k,u\n2.mp4,k,v\n"))


@pytest.mark.parametrize(
    ("kinds", "match"),
    [
        ({"y": "ordinal"}, r"--kind names 'y'.*label columns are label, number"),
        ({"lable": "ordinal"}, "Did you mean 'label'"),
        ({"path": "ordinal"}, "no such label column"),
        ({"label": "classes"}, r"one of classification, regression, ordinal, ignore, not 'classes'"),
        ({"label": "regression"}, r"label .* is regression, which needs numbers, and holds 'u' \(line 2\)"),
        ({"label": "ordinal"}, "which needs numbers"),
    ],
)
def test_wrong_kinds(write, kinds, match):
    with pytest.raises(InputError, match=match):
        load_manifest("table", write("path,label,number\n1.mp4,u,1.5\n2.mp4,v,2.5\n"), kinds=kinds)


@pytest.mark.parametrize("column", ["u,u", "2,2", "2,2.0", "1.5,1.5"])
def test_one_value_only_is_nothing_to_learn(write, column):
    first, second = column.split(",")
    with pytest.raises(InputError, match=r"label x .*one value only .*x=ignore"):
        load_manifest("table", write(f"path,x\n1.mp4,{first}\n2.mp4,{second}\n"))


def test_a_label_without_any_value(write):
    with pytest.raises(InputError, match=r"label x .* holds no value"):
        load_manifest("table", write("path,x\n1.mp4,\n2.mp4,NA\n"), missing_labels="drop")


def test_infinite_numbers_are_no_labels(write):
    with pytest.raises(InputError, match=r"needs numbers, and holds 'inf' \(line 3\)"):
        load_manifest("table", write("path,x\n1.mp4,1.5\n2.mp4,inf\n"))


def test_not_a_csv_file(tmp_path, write):
    with pytest.raises(
        InputError, match=r"Cannot read the CSV .*none.csv: No such file or directory. Check the path given"
    ):
        load_manifest("table", tmp_path / "none.csv")
    with pytest.raises(
        InputError, match=r"is a folder where a CSV with the column `path` was expected. .*It holds none"
    ):
        load_manifest("table", tmp_path)
    write("path\n", touch=False)
    with pytest.raises(InputError, match=r"It holds videos.csv: give that file"):
        load_manifest("table", tmp_path)
    (tmp_path / "latin.csv").write_bytes("path,x\na.mp4,u\nb.mp4,Böe\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"not UTF-8 text \(line 3\)"):
        load_manifest("table", tmp_path / "latin.csv")


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=8, unique=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
def test_numbers_come_back_as_they_were(tmp_path, numbers):
    (tmp_path / "v").mkdir(exist_ok=True)
    for i in range(len(numbers)):
        (tmp_path / "v" / str(i)).touch()
    csv = tmp_path / "n.csv"
    csv.write_text("path,x\n" + "".join(f"v/{i},{number!r}\n" for i, number in enumerate(numbers)))
    manifest = load_manifest("table", csv, kinds={"x": "regression"})
    np.testing.assert_allclose(manifest.videos["x"], numbers, rtol=1e-14)


def test_listed_cuts():
    assert table.listed([]) == "" and table.listed([1, 2]) == "1, 2"
    assert table.listed("abcde", 3) == "a, b, c and 2 more"


def test_a_table_is_named_after_its_file(write):
    csv = write("path,label\n1.mp4,u\n2.mp4,v\n")
    assert load_manifest("table", csv).name == csv.stem
