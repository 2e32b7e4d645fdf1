"""Plain text, folders of classes, and tagged words: what is a document, where it lies, and what is refused."""

import os
from pathlib import Path

import numpy as np
import pytest

from test_data_read import load, put, refusal, sequences
from throughtime.data import TextSlices, files, text
from throughtime.data.files import Origins, text_blocks
from throughtime.data.read import read
from throughtime.settings import Settings

POEM = "It was a quiet evening in the little town by the sea.\n\nNobody spoke.\n" * 40
NAMES = "emma\nolivia\nava\nemma\n"
CONLLU = """# sent_id = 1
1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tdo\tdo\tAUX\tVBP\t_\t0\troot\t_\t_
2\tn't\tnot\tPART\tRB\t_\t1\tadvmod\t_\t_
2.1\tgo\tgo\tVERB\tVB\t_\t_\t_\t_\t_

# sent_id = 2
1\t#\t#\tSYM\tNN\t_\t0\troot\t_\t_
"""


class TestPlainText:
    def test_a_list_is_read_by_lines(self, tmp_path):
        found = load(put(tmp_path, "names.txt", NAMES))
        content = sequences(found)
        assert found.task == "lm"
        assert isinstance(content.inputs, TextSlices)
        assert list(content.inputs) == ["emma", "olivia", "ava", "emma"]
        assert content.targets is None
        assert content.origin(3) == "names.txt line 4"
        assert found.resolved == {"task": "lm", "documents": "line"}
        assert found.warnings == ["names.txt: repeated lines: 1 of 4; they are kept, and stay in one part"]
        assert found.sentence == (
            "learn to write like 4 lines of names.txt (17 bytes), each line a document; overrule with --task, --documents"
        )

    def test_prose_is_one_document(self, tmp_path):
        found = load(put(tmp_path, "a.txt", POEM))
        assert list(sequences(found).inputs) == [POEM]
        assert found.resolved["documents"] == "file"
        assert sequences(found).origin(0) == "a.txt"

    def test_documents_overrule(self, tmp_path):
        assert len(load(put(tmp_path, "a.txt", POEM), documents="line").content) == 80
        assert list(sequences(load(put(tmp_path, "b.txt", NAMES), documents="file")).inputs) == [NAMES]

    @pytest.mark.parametrize("block", [3, 4, 5, 64])
    @pytest.mark.parametrize("end", [b"\n", b"\r\n"])
    def test_pieces_of_any_size_give_the_same_lines(self, tmp_path, monkeypatch, block, end):
        lines = ["Zoë", "", "a\rb", "日本語", "x", "", "end"]
        path = put(tmp_path, "a.txt", b"\xef\xbb\xbf" + end.join(line.encode() for line in lines))
        monkeypatch.setattr(files, "BLOCK", block)
        content = sequences(load(path, task="lm", documents="line"))
        assert list(content.inputs) == [line for line in lines if line]
        assert list(content.origins) == [f"a.txt line {number}" for number in (1, 3, 4, 5, 7)]

    def test_a_folder_of_code(self, tmp_path):
        put(tmp_path, "code/b.py", "x = 1\r\n")
        put(tmp_path, "code/deep/a.py", "y = 2\n")
        put(tmp_path, "code/__pycache__/a.pyc", b"\xcb\r\r\n\0")
        put(tmp_path, "code/old.py", b"caf\xe9")
        put(tmp_path, "code/none.py", b"")
        put(tmp_path, "code/.git/config", "hidden")
        found = load(tmp_path / "code", task="lm")
        assert list(sequences(found).inputs) == ["x = 1\r\n", "y = 2\n"]
        assert list(sequences(found).origins) == ["b.py", "deep/a.py"]
        assert [warning.split(";")[0] for warning in found.warnings] == [
            f"1 empty file in {tmp_path / 'code'} passed over",
            f"1 file in {tmp_path / 'code'} passed over as no UTF-8 text",
            "files whose lines end with CR LF: 1 of 2",
        ]
        assert "2 files of code (2 .py)" in found.sentence

    def test_a_folder_of_txt(self, tmp_path):
        put(tmp_path, "a.txt", "one\ntwo\n")
        put(tmp_path, "b.txt", "three\n")
        assert list(sequences(load(tmp_path)).inputs) == ["one\ntwo\n", "three\n"]
        assert list(sequences(load(tmp_path, documents="line")).origins) == ["a.txt line 1", "a.txt line 2", "b.txt line 1"]
        put(tmp_path, "c.txt", b"caf\xe9\n")
        assert "FILE/c.txt: byte 3 (line 1) is 0xe9, which is not UTF-8" in refusal(tmp_path)

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"", "FILE is empty"),
            (b"\n\n\r\n", "FILE holds nothing but empty lines"),
            (b"ok\nbad \xff\n", "FILE: byte 7 (line 2) is 0xff, which is not UTF-8; convert the file"),
            (b"ok\nbad\0\n", "FILE: byte 6 (line 2) is NUL"),
            ("ok\ncafé".encode()[:-1], "FILE: the last character is cut off at byte 7"),
            (b"\xff\xfeo\0k\0", "UTF-16"),
        ],
    )
    def test_what_is_no_text(self, tmp_path, content, expected):
        assert expected in refusal(put(tmp_path, "a.txt", content), documents="line")

    @pytest.mark.parametrize("block", [1, 2, 3])
    def test_the_place_of_a_bad_byte_does_not_depend_on_pieces(self, tmp_path, monkeypatch, block):
        path = put(tmp_path, "a.txt", "é\n日".encode() + b"\xe6\x97X")
        monkeypatch.setattr(files, "BLOCK", block)
        assert "FILE: byte 6 (line 2)" in refusal(path)

    def test_origins_are_worded_when_asked_for(self):
        origins = Origins(["a", "b"], "line", np.arange(1, 5), np.array([0, 0, 1, 1], np.int32))
        assert origins[-1] == "b line 4"
        assert list(origins[np.array([3, 0])]) == ["b line 4", "a line 1"]
        assert list(origins[1:3]) == ["a line 2", "b line 3"]

    def test_a_large_file_is_never_in_memory_as_a_whole(self, tmp_path):
        path = put(tmp_path, "a.txt", b"")
        with path.open("wb") as handle:
            for _ in range(12):
                handle.write(b"0123456789abcde\n" * (1 << 17))
        import tracemalloc

        tracemalloc.start()
        slices, _, _ = text.slices([path], "file", path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert slices.sizes().tolist() == [12 << 21]
        assert peak < 4.5 * files.BLOCK
        assert sum(map(len, text_blocks(path))) == 12 << 21

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read(self, tmp_path):
        path = put(tmp_path, "a.txt", NAMES)
        path.chmod(0)
        assert refusal(path).startswith("FILE may not be read")


class TestClasses:
    def make(self, folder: Path) -> Path:
        for name, content in {
            "pos/1.txt": "good\r\nfilm",
            "pos/2.txt": "good\nfilm",
            "neg/1.txt": "bad",
            "neg/2.txt": "",
        }.items():
            put(folder, name, content)
        return folder

    def test_a_folder_per_class(self, tmp_path):
        found = load(self.make(tmp_path))
        content = sequences(found)
        assert found.task == "classify"
        assert content.targets == ["neg", "neg", "pos", "pos"]
        assert list(content.inputs) == ["bad", "", "good\nfilm", "good\nfilm"]
        assert list(content.origins) == [
            os.path.join("neg", "1.txt"),
            os.path.join("neg", "2.txt"),
            *("pos/1.txt", "pos/2.txt"),
        ]
        assert found.resolved == {"task": "classify"}
        assert found.warnings == [
            "files without text: 1 of 4; they are sequences of length 0",
            f"{found.files[0].parents[1].name}: repeated texts: 1 of 4; they are kept, and stay in one part",
        ]
        assert "(2 classes), 4 files" in found.sentence

    def test_folders_of_parts(self, tmp_path):
        self.make(tmp_path / "train")
        self.make(tmp_path / "test")
        put(tmp_path, "README", "about")
        found = load(tmp_path)
        assert sequences(found).parts == ["test"] * 4 + ["train"] * 4
        assert set(sequences(found).targets) == {"pos", "neg"}
        assert found.warnings[0] == f"1 file in {tmp_path} left out: no .txt in the folder of a class"

    def test_lm_may_read_them_too(self, tmp_path):
        assert load(self.make(tmp_path), task="lm").task == "lm"

    def test_refused(self, tmp_path):
        self.make(tmp_path)
        assert "--target means nothing" in refusal(tmp_path, target="label")
        put(tmp_path, "loose.txt", "text")
        assert "--task classify expects a folder per class" in refusal(tmp_path, task="classify")
        assert "which --task regress does not take" in refusal(tmp_path, task="regress")
        put(tmp_path / "other" / "a", "x.txt", b"\xff\xff")
        put(tmp_path / "other" / "b", "x.txt", "fine")
        assert "byte 0 (line 1) is 0xff" in refusal(tmp_path / "other")


class TestUnlabelled:
    def test_lines_and_files_to_predict(self, tmp_path):
        path = put(tmp_path, "a.txt", "one two\n\nthree\n")
        found = load(path, False, task="classify", text="text", target="label")
        assert list(sequences(found).inputs) == ["one two", "three"]
        assert list(sequences(found).origins) == ["a.txt line 1", "a.txt line 3"]
        found = load(path, False, task="tag", target="UPOS")
        assert sequences(found).inputs == [["one", "two"], ["three"]]
        assert list(sequences(load(tmp_path, False, task="classify")).inputs) == ["one two\n\nthree\n"]


class TestTagged:
    def test_conllu(self, tmp_path):
        path = put(tmp_path, "a.conllu", CONLLU)
        found = load(path)
        content = sequences(found)
        assert found.task == "tag"
        assert content.kind == "words"
        assert content.inputs == [["do", "n't"], ["#"]]
        assert content.targets == [["AUX", "PART"], ["SYM"]]
        assert list(content.origins) == ["a.conllu line 3", "a.conllu line 8"]
        assert found.resolved == {"task": "tag", "target": "UPOS"}
        assert found.sentence == "tag words with UPOS (3 tags): 2 sentences, 3 words of a.conllu; overrule with --target"
        assert sequences(load(path, target="xpos")).targets == [["VBP", "RB"], ["NN"]]
        assert sequences(load(path, target="8")).target_name == "DEPREL"

    @pytest.mark.parametrize("separator", ["\t", " "])
    @pytest.mark.parametrize("name", ["a.conll", "a.txt", "a.tsv", "a.bio"])
    def test_columns(self, tmp_path, separator, name):
        rows = [
            "-DOCSTART- -X- O",
            "",
            "EU NNP B-ORG",
            "rejects VBZ O",
            "",
            "# NNP O",
            "",
            "",
            "German JJ B-MISC",
            "call NN O",
            "call NN O",
        ]
        path = put(tmp_path, name, "\r\n".join(row.replace(" ", separator) for row in rows))
        content = sequences(load(path))
        assert content.inputs == [["EU", "rejects"], ["#"], ["German", "call", "call"]]
        assert content.targets == [["B-ORG", "O"], ["O"], ["B-MISC", "O", "O"]]
        assert load(path).resolved == {"task": "tag", "target": "3"}
        assert sequences(load(path, target="2")).targets[0] == ["NNP", "VBZ"]

    def test_a_header_is_no_word(self, tmp_path):
        assert sequences(load(put(tmp_path, "a.tsv", "word\ttag\nI\tP\n\ngo\tV\n"))).inputs == [["I"], ["go"]]

    def test_words_alone_to_predict(self, tmp_path):
        path = put(tmp_path, "a.conll", "I\ngo\n\nstop\n")
        content = sequences(load(path, False, task="tag", target="2"))
        assert content.inputs == [["I", "go"], ["stop"]]
        assert content.targets is None
        assert "expected a word and its tag" in refusal(path)
        bare = "\n".join(
            "\t".join([*line.split("\t")[:2], *"_" * 8]) if line[:1].isdigit() else line for line in CONLLU.split("\n")
        )
        path = put(tmp_path, "b.conllu", bare)
        assert sequences(load(path, False)).targets is None
        assert "column UPOS holds nothing but _; choose another" in refusal(path)

    def test_verse_is_no_table(self, tmp_path):
        verse = "".join(f"word{i} rhyme{i}\n{'' if i % 4 else chr(10)}" for i in range(40))
        assert load(put(tmp_path, "a.txt", verse)).task == "lm"

    @pytest.mark.parametrize(
        ("name", "content", "settings", "expected"),
        [
            ("a.conllu", CONLLU.replace("\troot\t_\t_", "\troot"), {}, "FILE line 3: 8 columns, expected 10 parted by tabs"),
            (
                "a.conllu",
                CONLLU.replace("\nn1\t", "\nx\t").replace("1\tdo", "x\tdo"),
                {},
                "FILE line 3: the first column is 'x'",
            ),
            ("a.conllu", CONLLU, {"target": "UPSO"}, "no column 'UPSO'; did you mean 'UPOS'?"),
            ("a.conllu", CONLLU, {"target": "FORM"}, "--target FORM is no tag"),
            ("a.conllu", "# only a comment\n", {}, "FILE holds no sentence"),
            ("a.conllu", CONLLU.replace("AUX", ""), {}, "FILE line 3: the tag (UPOS) is blank"),
            ("a.conll", "a\tX\n\nb\n", {}, "FILE line 3: 1 column, expected 2 parted by tabs; found 'b'"),
            ("a.conll", "a X\n\nb Y Z\n", {}, "FILE line 3: 3 columns, expected 2 parted by blanks"),
            ("a.conll", "a\tX\n\tY\n", {}, "FILE line 2: the word is blank"),
            ("a.tsv", "a\tX\n" * 20 + "\nb\n", {}, "FILE line 22: 1 column"),
            ("a.conll", "a X\n", {"target": "3"}, "--target '3' is no column of tags; expected a number from 2 to 2"),
            ("a.conll", "a X\n", {"target": "POS"}, "--target 'POS' is no column of tags"),
            ("a.conll", b"a\tX\ncaf\xe9\tX\n", {}, "FILE: byte 7 (line 2) is 0xe9"),
            ("a.conll", "a X\n", {"task": "regress"}, "words with a tag each, which --task regress does not take"),
            ("a.txt", "one line of text only here\nand one\n", {"task": "tag"}, "FILE line 2: 2 columns, expected 6"),
        ],
    )
    def test_broken(self, tmp_path, name, content, settings, expected):
        assert expected in refusal(put(tmp_path, name, content), **settings)

    def test_a_first_word_that_is_called_like_a_column(self, tmp_path: Path) -> None:
        for word, tag in (("text", "V"), ("word", "NN"), ("Form", "NOUN")):
            found = sequences(load(put(tmp_path, "words.conll", f"{word}\t{tag}\nwb\tN\n\n")))
            assert found.inputs == [[word, "wb"]]
        for header in ("text\tlabel", "Word\tPOS", "token\tner_tag", "tokens\tgold_tags"):
            found = sequences(load(put(tmp_path, "words.conll", f"{header}\nHe\tN\nwent\tV\n\n")))
            assert found.inputs == [["He", "went"]]

    def test_one_sentence_in_a_table_file(self, tmp_path: Path) -> None:
        path = put(tmp_path, "words.tsv", "He\tPRON\nwent\tVERB\n3\tNUM\n")
        for role in ("training", "part"):
            assert sequences(read(path, Settings.of({"task": "tag"}), role=role)).inputs == [["He", "went", "3"]]
        rows = "".join(f"{row}\t{step}\t{step / 2}\t{'ab'[step % 2]}\n" for row in range(3) for step in range(4))
        path = put(tmp_path, "steps.tsv", f"id\tstep\tx\tlabel\n{rows}")
        assert sequences(read(path, Settings.of({"task": "tag"}))).kind == "numeric"
