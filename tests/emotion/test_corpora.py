"""Corpora: every naming scheme, list and database is read with its speakers, classes and texts; nothing is guessed."""

import csv
import json
import shutil
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.emotion.corpora import SCHEMES, fingerprint, read_corpus, read_mapping, suggest_mapping
from core.emotion.corpora.classes import CODES, WORDS, class_of
from core.emotion.corpora.emobox import lists_in, read_emobox
from core.emotion.corpora.files import Place
from core.emotion.corpora.names import NAMES, RAVDESS_EMOTIONS
from core.errors import DataError, InputError
from core.scoring import CorpusSettings, LabelledCorpus
from tests.emotion import corpora_fakes as fakes

AUTO = CorpusSettings()
BIG_FOUR = {"anger", "happiness", "neutral", "sadness"}
EMODB_COUNTS = {
    **{"anger": 127, "boredom": 81, "disgust": 46, "fear": 69},
    **{"happiness": 71, "neutral": 79, "sadness": 62},
}


def counts(corpus: LabelledCorpus) -> dict[str, int]:
    return dict(Counter(clip.label for clip in corpus.clips))


def said(corpus: LabelledCorpus, *words: str) -> bool:
    return any(all(word in sentence for word in words) for sentence in corpus.warnings)


def write_list(path: Path, rows: list[dict[str, str]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def small_rows(n_speakers: int = 2, n: int = 8) -> list[dict[str, str]]:
    return [
        {"file": f"{number}.wav", "speaker": f"s{number % n_speakers}", "emotion": ("angry", "sad")[number // 2 % 2]}
        for number in range(n)
    ]


def small_list(folder: Path, rows: list[dict[str, str]] | None = None) -> Path:
    rows = rows or small_rows()
    fakes.make_files(folder, {row["file"] for row in rows if row["file"]})
    return write_list(folder / "list.csv", rows)


# Folders


def test_ravdess(tmp_path):
    corpus = read_corpus(fakes.make_files(tmp_path / "R", fakes.RAVDESS), AUTO)
    assert (corpus.name, corpus.scheme, len(corpus.clips)) == ("R", "ravdess", 1440)
    expected = dict.fromkeys(("calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise"), 192)
    assert counts(corpus) == {"neutral": 96, **expected}
    assert corpus.mapping["fearful"] == "fear"
    assert len(set(corpus.speakers)) == 24
    clip = next(clip for clip in corpus.clips if clip.name == "03-01-06-01-02-01-12")
    assert (clip.speaker, clip.label, clip.given) == ("12", "fear", "fearful")
    assert clip.text == "Dogs are sitting by the door"
    assert said(corpus, "24 speakers", "same 2 texts")


def test_ravdess_sings_and_is_filmed_too(tmp_path):
    speech = [name for name in fakes.RAVDESS if name.startswith(("Actor_01", "Actor_02"))]
    songs = [name.replace("03-01-", "03-02-", 1) for name in speech if "-01-07-" not in name and "-01-08-" not in name]
    films = [name.replace("03-01-", "01-01-", 1).replace(".wav", ".mp4") for name in speech[:30]]
    silent = [name.replace("03-01-", "02-01-", 1).replace(".wav", ".mp4") for name in speech[:20]]
    again = [f"audio_speech_actors_01-24/{name}" for name in speech]
    root = fakes.make_files(tmp_path / "all", [*speech, *songs, *films, *silent, *again])
    corpus = read_corpus(root, AUTO)
    assert len(corpus.clips) == len(speech) == 120
    assert all(clip.source.suffix == ".wav" for clip in corpus.clips)
    assert said(corpus, f"{len(songs)} songs", "left out")
    assert said(corpus, "20 silent videos")
    assert said(corpus, "120 recordings", "counts once")
    only = read_corpus(fakes.make_files(tmp_path / "songs", songs), AUTO)
    assert len(only.clips) == len(songs)
    assert not said(only, "song")


def test_emodb(tmp_path):
    corpus = read_corpus(fakes.make_files(tmp_path, fakes.EMODB), AUTO)
    assert (corpus.scheme, len(corpus.clips), len(set(corpus.speakers))) == ("emodb", 560, 10)
    assert set(counts(corpus).values()) == {80}
    assert corpus.mapping == {
        **{"W": "anger", "L": "boredom", "E": "disgust", "A": "fear"},
        **{"F": "happiness", "T": "sadness", "N": "neutral"},
    }
    clip = next(clip for clip in corpus.clips if clip.name == "03a01Fa")
    assert (clip.speaker, clip.label, clip.text) == ("03", "happiness", "a01")


def test_crema_d(tmp_path):
    corpus = read_corpus(fakes.make_files(tmp_path, fakes.CREMA_D), AUTO)
    assert (corpus.scheme, len(set(corpus.speakers))) == ("crema-d", 11)
    assert counts(corpus) == {
        **dict.fromkeys(("anger", "disgust", "fear", "happiness"), 99),
        **{"sadness": 100, "neutral": 33},
    }
    assert {clip.text for clip in corpus.clips} == {"IEO", "TIE", "DFA", "ITH"}


def test_tess(tmp_path):
    corpus = read_corpus(fakes.make_files(tmp_path, fakes.TESS), AUTO)
    assert (corpus.scheme, set(corpus.speakers)) == ("tess", {"OAF", "YAF"})
    assert counts(corpus)["surprise"] == 10
    assert counts(corpus)["neutral"] == 11
    assert next(clip for clip in corpus.clips if clip.text == "bite").speaker == "OAF"
    assert said(corpus, "2 speakers", "too few")


@pytest.mark.parametrize("flat", [False, True])
def test_savee(tmp_path, flat):
    names = [name.replace("/", "_") for name in fakes.SAVEE] if flat else fakes.SAVEE
    corpus = read_corpus(fakes.make_files(tmp_path, names), AUTO)
    assert (corpus.scheme, len(corpus.clips), set(corpus.speakers)) == ("savee", 480, {"DC", "JE", "JK", "KL"})
    assert counts(corpus)["neutral"] == 120
    assert counts(corpus)["sadness"] == counts(corpus)["surprise"] == 60
    texts = {clip.name: clip.text for clip in corpus.clips}
    # The first sentence of anger is not the first of disgust.
    assert (texts["DC_a01" if flat else "DC/a01"], texts["DC_d01" if flat else "DC/d01"]) == ("a01", "d01")
    assert said(corpus, "one emotion only", "their words alone")


def test_nemo(tmp_path):
    corpus = read_corpus(fakes.make_files(tmp_path, fakes.NEMO), AUTO)
    assert (corpus.scheme, len(set(corpus.speakers))) == ("nemo", 9)
    assert counts(corpus) == dict.fromkeys(("anger", "fear", "happiness", "neutral", "sadness", "surprise"), 45)


def test_urdu(tmp_path):
    corpus = read_corpus(fakes.make_files(tmp_path, fakes.URDU), AUTO)
    assert (corpus.scheme, counts(corpus)) == ("urdu", dict.fromkeys(BIG_FOUR, 25))
    assert {"SM1", "SF1"} <= set(corpus.speakers)
    assert {clip.text for clip in corpus.clips} == {""}
    assert said(corpus, "one class only", "SF1")


DIGITS = st.integers(0, 99).map("{:02}".format)
WORD = st.text("abcdefghijklmnopqrstuvwxyz'-", min_size=1, max_size=10)


@given(st.data(), st.sampled_from(sorted(NAMES)), st.sampled_from([".wav", ".FLAC", ".mp3"]))
@settings(max_examples=150, deadline=None)
def test_what_goes_into_a_name_comes_out_and_no_other_scheme_reads_it(data, scheme, suffix):
    given_ = data.draw(st.sampled_from(sorted(CODES[scheme])))
    actor, number = data.draw(DIGITS), data.draw(st.integers(1, 99))
    text = data.draw(WORD)
    code = data.draw(st.sampled_from(["a01", "b10"]))
    emotion = RAVDESS_EMOTIONS.index(given_) + 1 if scheme == "ravdess" else 0
    speaker, stem, words = {
        "ravdess": (actor, f"03-01-{emotion:02}-02-02-01-{actor}", "Dogs are sitting by the door"),
        "emodb": (actor, f"{actor}{code}{given_}b", code),
        "crema-d": (f"10{actor}", f"10{actor}_TSI_{given_}_MD", "TSI"),
        "tess": ("YAF", f"YAF_{text}_{given_}", text),
        "savee": ("JK", f"JK_{given_}{number:02}", f"{given_}{number:02}"),
        "nemo": (f"AB{number}", f"AB{number}_{given_}_{number}", str(number)),
        "urdu": (f"SF{number}", f"SF{number}_F{number}_{given_}0{number}", ""),
    }[scheme]  # fmt: skip
    path = Path("some folder") / f"{stem}{suffix}"
    named = NAMES[scheme](path)
    assert named is not None
    assert (named.speaker, named.given, named.text) == (speaker, given_, words)
    assert [other for other, parse in NAMES.items() if parse(path)] == [scheme]


@given(st.text("0123456789-_abFNAWLSMDCOKYX ä\n.", max_size=24))
@settings(max_examples=100, deadline=None)
def test_no_name_breaks_a_parser(name):
    for parse in NAMES.values():
        parse(Path("x") / name)


def test_every_class_of_every_scheme_is_in_the_one_table():
    for scheme, codes in CODES.items():
        assert set(codes.values()) <= set(WORDS), scheme
    words = [word for name, own in WORDS.items() for word in (name, *own)]
    assert len(words) == len(set(words)), "a word stands for two classes"
    assert set(CODES) == set(NAMES)


def test_files_that_do_not_fit_are_named(tmp_path):
    junk = ["wav/03a01Fa (1).wav", "wav/readme.wav", "__MACOSX/wav/._03a01Fa.wav", "wav/._03a01Wa.wav"]
    corpus = read_corpus(fakes.make_files(tmp_path / "ä b", [*fakes.EMODB, *junk]), AUTO)
    assert len(corpus.clips) == len(fakes.EMODB)
    assert sorted(Path(failure["file"]).name for failure in corpus.failures) == ["03a01Fa (1).wav", "readme.wav"]
    assert all("emodb" in failure["error"] for failure in corpus.failures)


def test_two_corpora_in_one_folder_are_not_guessed(tmp_path):
    root = fakes.make_files(tmp_path, [*fakes.TESS, *fakes.SAVEE[:70]])
    with pytest.raises(InputError, match="tess 71, savee 70") as caught:
        read_corpus(root, AUTO)
    assert "file,speaker,emotion" in str(caught.value)
    one = read_corpus(root, CorpusSettings(scheme="tess"))
    assert (len(one.clips), len(one.failures)) == (71, 70)


def test_unknown_names_are_shown(tmp_path):
    root = fakes.make_files(tmp_path, ["one.wav", "two.wav", "three.wav"])
    with pytest.raises(InputError, match=r"one\.wav and two\.wav"):
        read_corpus(root, AUTO)
    with pytest.raises(InputError, match=r"No file of .* is named as in emodb"):
        read_corpus(root, CorpusSettings(scheme="emodb"))
    with pytest.raises(InputError, match="expected one of auto"):
        read_corpus(root, CorpusSettings(scheme="iemocap"))
    with pytest.raises(InputError, match="no list that can be read as audformat"):
        read_corpus(root, CorpusSettings(scheme="audformat"))


def test_what_is_no_corpus_is_said(tmp_path):
    for data, match in (
        (tmp_path / "none", "does not exist"),
        (fakes.make_files(tmp_path, ["a.wav"]) / "a.wav", "expected a folder"),
    ):
        with pytest.raises(InputError, match=match):
            read_corpus(data, AUTO)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no recording"):
        read_corpus(tmp_path / "empty", AUTO)


# Lists


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("label", ["emotion", "label", " Emotion "])
def test_lists_as_programs_write_them(tmp_path, encoding, delimiter, label):
    rows = [
        {"FILE": f"ä {row['file']}", "Speaker": row["speaker"], label: f" {row['emotion']} "} for row in small_rows()
    ]
    fakes.make_files(tmp_path, [row["FILE"] for row in rows])
    corpus = read_corpus(write_list(tmp_path / "my.csv", rows, delimiter, encoding), AUTO)
    assert (corpus.name, corpus.scheme) == ("my", "manifest")
    assert counts(corpus) == {"angry": 4, "sad": 4}
    assert corpus.clips[0].source == tmp_path / "ä 0.wav"


def test_a_tab_separated_list_with_everything(tmp_path):
    rows = [
        {**row, "file": "long.wav", "start": f"{number},5", "end": f"{number + 1},5", "split": split, "text": "hello"}
        for number, (row, split) in enumerate(zip(small_rows(), ("train", "dev", "TEST", "") * 2, strict=True))
    ]
    fakes.make_files(tmp_path, ["long.wav"])
    corpus = read_corpus(write_list(tmp_path / "l.tsv", rows, "\t"), AUTO)
    first = corpus.clips[0]
    assert (first.name, first.start, first.stop, first.text) == ("long 0.5-1.5", 0.5, 1.5, "hello")
    assert [clip.split for clip in corpus.clips[:4]] == ["train", "validation", "test", ""]
    assert said(corpus, "split", "more than one side", "s0")
    assert not said(corpus, "overlap")


def test_overlapping_parts_are_told(tmp_path):
    rows = [{**row, "file": "l.wav", "start": str(n), "end": str(n + 2)} for n, row in enumerate(small_rows())]
    fakes.make_files(tmp_path, ["l.wav"])
    assert said(read_corpus(write_list(tmp_path / "l.csv", rows), AUTO), "7 clips overlap")


def test_a_folder_is_read_through_its_list(tmp_path):
    rows = [{**row, "file": f"Actor_{row['speaker']}\\{row['file']}"} for row in small_rows()]
    fakes.make_files(tmp_path / "deep" / "flac", [row["file"].replace("\\", "/") for row in rows])
    write_list(tmp_path / "deep" / "labels.csv", rows)
    (tmp_path / "deep" / "speakers.csv").write_text("speaker,sex\ns0,f\n")
    corpus = read_corpus(tmp_path, AUTO)
    assert (corpus.scheme, corpus.name, len(corpus.clips)) == ("manifest", "deep", 8)
    assert corpus.clips[0].source == tmp_path / "deep" / "flac" / "Actor_s0" / "0.wav"


def test_a_name_that_is_there_twice_is_not_guessed(tmp_path):
    small_list(tmp_path)
    (tmp_path / "0.wav").unlink()
    fakes.make_files(tmp_path, ["x/y/0.wav", "z/0.wav", "w/0.wav"])
    with pytest.raises(DataError, match=r"0\.wav is there more than once: w/0\.wav, z/0\.wav"):
        read_corpus(tmp_path, AUTO)


def test_a_list_alone_does_not_search_the_whole_disk(tmp_path):
    path = small_list(tmp_path / "lists")
    (tmp_path / "lists" / "0.wav").unlink()
    fakes.make_files(tmp_path, ["lists/a/b/0.wav"])
    with pytest.raises(DataError, match=r"0\.wav does not exist"):
        read_corpus(path, AUTO)
    assert len(read_corpus(tmp_path / "lists", AUTO).clips) == 8


def test_two_lists_in_a_folder_are_not_guessed(tmp_path):
    small_list(tmp_path)
    shutil.copy(tmp_path / "list.csv", tmp_path / "other.csv")
    with pytest.raises(InputError, match=r"several lists of recordings: list\.csv, other\.csv"):
        read_corpus(tmp_path, AUTO)
    shutil.copy(tmp_path / "list.csv", tmp_path / "labels.csv")
    assert len(read_corpus(tmp_path, AUTO).clips) == 8


def test_a_second_name_for_a_column_is_told(tmp_path):
    rows = [{**row, "label": "x"} for row in small_rows()]
    assert said(read_corpus(small_list(tmp_path, rows), AUTO), "column emotion", "label")


def one_changed(change: dict[str, str], at: int = 3) -> list[dict[str, str]]:
    base = dict.fromkeys(change, "")
    return [{**base, **row, **(change if number == at else {})} for number, row in enumerate(small_rows())]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"speaker": " "}, r"speaker is empty in 1 of 8 rows \(list\.csv, line 5\).*nobody can be kept out"),
        ({"emotion": ""}, r"emotion is empty in 1 of 8 rows \(list\.csv, line 5\)"),
        ({"file": ""}, "line 5: the column file is empty"),
        ({"start": "2", "end": "1"}, r"line 5: got start 2 s and end 1 s; expected start < end"),
        ({"start": "2", "end": "2"}, "expected start < end"),
        ({"end": "0"}, "expected start < end"),
        *(({"start": value}, "line 5: got start") for value in ("-1", "nan", "inf", "1:30", "1e999")),
        ({"file": "1.wav"}, r"1\.wav is listed twice .*line 3.*line 5.*'angry' and as 'sad'"),
        ({"file": "1.wav", "end": "1"}, r"1\.wav is listed whole and in parts"),
        ({"file": "a\0b.wav"}, "no CSV|no file name"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path, change, match):
    path = small_list(tmp_path, small_rows())
    with pytest.raises((DataError, InputError), match=match):
        read_corpus(write_list(path, one_changed(change)), AUTO)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "columns none"),
        ("file,speaker\na.wav,s\n", "missing: emotion"),
        ("file,speaker,emotion\n,,\n", "names no recording"),
        ("file,speaker,emotion\na.wav,s,sad,why\n", "line 2: got 4 values for 3 columns"),
        ('file,speaker,emotion\n"a.wav' + "x" * 140_000, "no CSV file"),
    ],
)
def test_lists_that_are_none(tmp_path, text, match):
    path = tmp_path / "l.csv"
    path.write_text(text)
    with pytest.raises((DataError, InputError), match=match):
        read_corpus(path, AUTO)


def test_a_list_in_latin_letters_is_said(tmp_path):
    path = tmp_path / "l.csv"
    path.write_bytes("file,speaker,emotion\nä.wav,s,sad\n".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_corpus(path, AUTO)


def test_missing_files_among_500_are_named_or_left_out(tmp_path):
    path = small_list(tmp_path, small_rows(10, 500))
    (tmp_path / "7.wav").unlink()
    (tmp_path / "9.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 500 .*7\.wav does not exist.*9\.wav is empty.*--skip-missing"):
        read_corpus(path, AUTO)
    corpus = read_corpus(path, CorpusSettings(skip_missing=True))
    assert len(corpus.clips) == 498
    assert [failure["file"] for failure in corpus.failures] == ["7.wav", "9.wav"]
    for number in range(500):
        (tmp_path / f"{number}.wav").unlink(missing_ok=True)
    with pytest.raises(DataError, match="500 of 500"):
        read_corpus(path, AUTO)
    with pytest.raises(DataError, match="No clip is left"):
        read_corpus(path, CorpusSettings(skip_missing=True))


def test_confined_lists_stay_in_their_folder(tmp_path):
    rows = small_rows()
    rows[0]["file"] = "../outside.wav"
    rows[1]["file"] = str(tmp_path / "outside.wav")
    fakes.make_files(tmp_path, ["outside.wav", *(f"in/{row['file']}" for row in rows[2:])])
    (tmp_path / "in" / "link.wav").symlink_to(tmp_path / "outside.wav")
    rows[2]["file"] = "link.wav"
    rows[3]["file"] = "../nothing.wav"
    path = write_list(tmp_path / "in" / "l.csv", rows)
    corpus = read_corpus(path, CorpusSettings(skip_missing=True), confined=True)
    assert len(corpus.clips) == 4
    # Whether there is such a file outside is not told either.
    assert all("lies outside" in failure["error"] for failure in corpus.failures)


# Classes


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([{**row, "emotion": "sad"} for row in small_rows()], "All 8 clips have the class 'sad'.*two classes"),
        ([{**row, "speaker": "me"} for row in small_rows()], "All 8 clips have the speaker 'me'.*two speakers"),
    ],
)
def test_one_class_or_one_speaker_is_not_enough(tmp_path, rows, match):
    with pytest.raises(DataError, match=match):
        read_corpus(small_list(tmp_path, rows), AUTO)


def test_a_mapping_is_complete_and_recorded(tmp_path):
    rows = small_rows(n=12)
    for row in rows[8:]:
        row["emotion"] = "calm"
    path = small_list(tmp_path, rows)
    with pytest.raises(DataError, match="does not name calm; it names angry, sad"):
        read_corpus(path, CorpusSettings(mapping={"angry": "anger", "sad": "sadness"}))
    mapping = {"angry": "anger", "sad": "sadness", "calm": ""}
    corpus = read_corpus(path, CorpusSettings(mapping=mapping))
    assert counts(corpus) == {"anger": 4, "sadness": 4}
    assert corpus.mapping == mapping
    assert said(corpus, "4 clips are left out", "calm (4)")
    assert corpus.clips[0].given == "angry"


def test_codes_may_be_mapped_by_what_they_stand_for(tmp_path):
    root = fakes.make_files(tmp_path, fakes.EMODB)
    mapping = {"anger": "high", "happiness": "high", "fear": "high", "W": "rage", "sadness": "low", "neutral": "low"}
    with pytest.raises(DataError, match=r"does not name E \(disgust\), L \(boredom\)"):
        read_corpus(root, CorpusSettings(mapping=mapping))
    corpus = read_corpus(root, CorpusSettings(mapping={**mapping, "disgust": "", "boredom": "low"}))
    assert counts(corpus) == {"rage": 80, "high": 160, "low": 240}
    assert corpus.mapping["F"] == "high"


def test_mappings_as_people_write_them(tmp_path):
    expected = {"angry": "anger", "sad": "sadness", "calm": ""}
    assert read_mapping(" angry=anger, sad = sadness,calm=") == expected
    table, tree = tmp_path / "m.csv", tmp_path / "m.json"
    table.write_text("\ufeffFrom;To\nangry;anger\nsad;sadness\ncalm;\n")
    tree.write_text(json.dumps(expected))
    assert read_mapping(table) == read_mapping(str(tree)) == expected


@pytest.mark.parametrize("text", ["", "angry", "=anger", "a=b,a=c", "none.csv", "none.json"])
def test_mappings_that_are_none(text):
    with pytest.raises(InputError, match="mapping"):
        read_mapping(text)


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": 1}', "{}"])
def test_json_mappings_that_are_none(tmp_path, text):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(InputError, match="mapping"):
        read_mapping(tmp_path / "m.json")


def test_words_for_one_class_are_brought_together():
    assert suggest_mapping(["Angry", "fearful", "Pleasant_Surprise", "odd one"]) == {
        **{"Angry": "anger", "fearful": "fear", "Pleasant_Surprise": "surprise", "odd one": "odd one"},
    }
    assert class_of("boredem") == "boredom"


# EmoBox


def emobox_lines(names: list[str], key: str = "wav", emotion: str = "emo") -> str:
    words = {"W": "anger", "L": "boredem", "E": "disgust", "A": "fear", "F": "happy", "T": "sad", "N": "neutral"}
    lines = [
        {
            "key": name,
            "dataset": "emodb",
            key: f"downloads/emodb/wav/{Path(name).name}",
            emotion: words[Path(name).stem[5]],
        }
        for name in names
    ]
    return "\n".join(map(json.dumps, lines)) + "\n"


@pytest.mark.parametrize("where", [".", "..", "../../.."])
def test_emobox_paths_begin_at_the_list_or_above(tmp_path, where):
    folder = tmp_path / "EmoBox" / "data" / "emodb"
    folder.mkdir(parents=True)
    (folder / "emodb.jsonl").write_text(emobox_lines(fakes.EMODB))
    (folder / "label_map.json").write_text(json.dumps({"boredem": "Boredom", "happy": "Happy"}))
    fakes.make_files((folder / where).resolve() / "downloads" / "emodb", fakes.EMODB)
    corpus = read_corpus(folder / "emodb.jsonl", AUTO)
    assert (corpus.scheme, len(corpus.clips), len(set(corpus.speakers))) == ("emobox", 560, 10)
    assert corpus.labels == tuple(sorted(EMODB_COUNTS))
    assert corpus.mapping["boredem"] == "boredom"
    assert corpus.clips[0].text == "a01"


def test_an_emobox_fold_has_sides_and_may_be_there_twice(tmp_path):
    train = [name for name in fakes.EMODB if not name.startswith("wav/03")]
    test = [name for name in fakes.EMODB if name.startswith("wav/03")]
    fakes.make_files(tmp_path / "audio", [f"{Path(name).stem}.flac" for name in fakes.EMODB])
    (tmp_path / "emodb_train_fold_1.jsonl").write_text(emobox_lines(train))
    (tmp_path / "emodb_test_fold_1.jsonl").write_text(emobox_lines(test))
    (tmp_path / "emodb_test_fold1.jsonl").write_text(emobox_lines(test, "audio", "label"))
    corpus = read_corpus(tmp_path, AUTO)
    assert Counter(clip.split for clip in corpus.clips) == {"train": len(train), "test": len(test)}
    assert all(clip.source.suffix == ".flac" for clip in corpus.clips)
    assert not said(corpus, "more than one side")


def test_emobox_lists_that_cannot_be_used(tmp_path):
    path = tmp_path / "x.jsonl"
    for text, match in (
        ("", "names no recording"),
        ("{", "line 1 is no JSON"),
        ('{"wav": "a.wav"}', "line 1: expected an object"),
        ('{"wav": "odd.wav", "emo": "sad", "dataset": "mine"}', r"does not say who speaks.*odd\.wav.*key speaker"),
        ('{"wav": "odd.wav", "emo": "sad", "dataset": "emodb"}', "read as emodb"),
    ):
        path.write_text(text)
        with pytest.raises((DataError, InputError), match=match):
            read_corpus(path, AUTO)
    fakes.make_files(tmp_path, ["1.wav", "2.wav"])
    lines = [{"wav": f"{n}.wav", "emo": "ab"[n - 1], "speaker": n} for n in (1, 2)]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert list(read_corpus(path, AUTO).speakers) == ["1", "2"]


# Audformat: the databases are written by its own package


def audformat_database(root: Path, storage: str, *, gold: bool = True) -> Path:
    import audformat

    files = [f"wav/{speaker}{number}.wav" for speaker in "abcde" for number in range(4)]
    labels = ["W", "N", "T", "N"] * 5
    db = audformat.Database("mine")
    db.schemes["emotion"] = audformat.Scheme(labels={code: {"meaning": word} for code, word in
                                                     (("W", "angry"), ("N", "neutral"), ("T", "sad"))})  # fmt: skip
    db.schemes["speaker"] = audformat.Scheme(labels=list("abcde"))
    db.schemes["duration"] = audformat.Scheme("time")
    for split in ("train", "test"):
        db.splits[split] = audformat.Split(split)
    everything = audformat.filewise_index(files)
    db["files"] = audformat.Table(everything)
    db["files"]["who"] = audformat.Column(scheme_id="speaker")
    db["files"]["who"].set([file[4] for file in files])
    db["files"]["sentence"] = audformat.Column()
    db["files"]["sentence"].set([file[5] for file in files])
    if gold:
        # What one rater said is not what all agreed on.
        db["emotion.rater1"] = audformat.Table(everything)
        db["emotion.rater1"]["emotion"] = audformat.Column(scheme_id="emotion")
        db["emotion.rater1"]["emotion"].set(["T"] * len(files))
    for split, part in (("train", slice(0, 12)), ("test", slice(12, 20))):
        name = f"emotion.{split}.gold_standard"
        starts = [f"{0.25 + number % 4}s" for number in range(len(files[part]))]
        ends = [f"{1.5 + number % 4}s" for number in range(len(files[part]))]
        index = audformat.segmented_index(files[part], starts, ends) if split == "train" else audformat.filewise_index(
            files[part])  # fmt: skip
        db[name] = audformat.Table(index, split_id=split)
        db[name]["emotion"] = audformat.Column(scheme_id="emotion")
        db[name]["emotion"].set([*labels[part][:-1], None])
    db.save(str(root), storage_format=storage)
    return fakes.make_files(root, files)


@pytest.mark.parametrize("storage", ["csv", "parquet"])
def test_audformat(tmp_path, storage):
    root = audformat_database(tmp_path / "db", storage)
    before = sorted(root.rglob("*"))
    corpus = read_corpus(root, AUTO)
    assert (corpus.scheme, len(corpus.clips), set(corpus.speakers)) == ("audformat", 18, set("abcde"))
    assert counts(corpus) == {"anger": 5, "neutral": 8, "sadness": 5}
    assert corpus.mapping == {"W": "anger", "N": "neutral", "T": "sadness"}
    clip = next(clip for clip in corpus.clips if clip.source.name == "a1.wav")
    assert (clip.start, clip.stop, clip.split, clip.text) == (1.25, 2.5, "train", "1")
    whole = next(clip for clip in corpus.clips if clip.source.name == "e0.wav")
    assert (whole.start, whole.stop, whole.split) == (None, None, "test")
    assert said(corpus, "2 rows name no class")
    assert sorted(root.rglob("*")) == before, "nothing is written into the folder"


def test_audformat_pickles_are_not_read(tmp_path):
    root = audformat_database(tmp_path / "db", "pkl")
    with pytest.raises(InputError, match="pickled table is not read"):
        read_corpus(root, AUTO)


def test_audformat_headers_that_cannot_be_used(tmp_path):
    root = audformat_database(tmp_path / "db", "csv")
    header = (root / "db.yaml").read_text()
    for text, match in (
        ("{", "no YAML"),
        ("name: x", "expected tables"),
        ("!!python/object/apply:os.system ['true']", "no YAML"),
        ("tables:\n  ../x:\n    type: filewise\n    columns: {}\n", "without slashes"),
        ("tables:\n  files: {type: filewise, columns: {sentence: {}}}\n", "has a column or scheme emotion"),
        (header.replace("who: {scheme_id: speaker}", "who: {}"), "says who speaks"),
        (header.replace("gold_standard", "other"), "lacks the table"),
    ):
        (root / "db.yaml").write_text(text)
        with pytest.raises((DataError, InputError), match=match):
            read_corpus(root, AUTO)
    for path in root.glob("db.*.gold_standard.csv"):
        shutil.copy(path, str(path).replace("gold_standard", "other"))
    (root / "db.yaml").write_text(header.replace("gold_standard", "other"))
    with pytest.raises(DataError, match=r"wav/\w\d\.wav is 'T' in one table and"):
        read_corpus(root, AUTO)
    (root / "db.yaml").write_text(header)
    (root / "db.files.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="no Parquet file"):
        read_corpus(root, AUTO)


# Archives


def test_an_archive_is_unpacked_once_and_read_as_its_folder(tmp_path):
    root = fakes.make_files(tmp_path / "EmoDB", fakes.EMODB)
    path = tmp_path / "My corpus.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in fakes.EMODB:
            archive.write(root / name, f"emodb/{name}")
            archive.writestr(f"__MACOSX/emodb/wav/._{Path(name).name}", b"m")
        archive.writestr("emodb/licence.txt", b"free")
    corpus = read_corpus(path, AUTO, tmp_path / "unpacked")
    assert (corpus.name, corpus.scheme, len(corpus.clips)) == ("My corpus", "emodb", 560)
    assert corpus.failures == ()
    assert said(corpus, "emodb/licence.txt")
    assert fingerprint(corpus) == fingerprint(read_corpus(root, AUTO))
    stamp = corpus.clips[0].source.stat().st_mtime_ns
    again = read_corpus(path, AUTO, tmp_path / "unpacked")
    assert again.clips == corpus.clips
    assert again.clips[0].source.stat().st_mtime_ns == stamp
    assert len(list((tmp_path / "unpacked").iterdir())) == 1
    with pytest.raises(InputError, match="unpack it"):
        read_corpus(path, AUTO)


def test_a_list_in_an_archive_cannot_reach_out(tmp_path):
    fakes.make_files(tmp_path, ["secret.wav"])
    rows = small_rows()
    rows[0]["file"] = str(tmp_path / "secret.wav")
    listing = write_list(tmp_path / "l.csv", rows)
    path = tmp_path / "c.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(listing, "l.csv")
        for row in rows[1:]:
            archive.writestr(row["file"], b"x")
    with pytest.raises(DataError, match="lies outside"):
        read_corpus(path, AUTO, tmp_path / "unpacked")


# What limits a score


def test_warnings_are_of_what_is_there(tmp_path):
    # Six speakers, three classes out of balance, texts of their own.
    rows = [
        {
            "file": f"{n}.wav",
            "speaker": f"s{n % 6}",
            "emotion": "a" if n < 120 else "b" if n < 145 else "c",
            "text": f"t{n}",
        }
        for n in range(168)
    ]
    corpus = read_corpus(small_list(tmp_path / "a", rows), AUTO)
    assert corpus.warnings == (
        "6 speakers are few: intervals over them are wide.",
        "Classes are out of balance: 120 clips of a, 23 of c.",
    )
    rows = [{**row, "speaker": f"s{n % 12}", "emotion": "abc"[n // 12 % 3]} for n, row in enumerate(rows)]
    assert read_corpus(small_list(tmp_path / "b", rows), AUTO).warnings == ()


def test_confounded_speakers_and_texts_are_told(tmp_path):
    rows = [
        {"file": f"{n}.wav", "speaker": f"s{n % 12}", "emotion": "ab"[n % 12 % 2], "text": f"t{n % 2}"}
        for n in range(96)
    ]
    corpus = read_corpus(small_list(tmp_path, rows), AUTO)
    assert said(corpus, "12 of 12 speakers have one class only")
    assert said(corpus, "2 of 2 texts (96 clips) are said in one emotion only")
    rows[0]["emotion"], rows[1]["emotion"] = "A ", "c"
    odd = read_corpus(small_list(tmp_path, rows), AUTO)
    assert said(odd, "'A', 'a'", "count as 2")
    assert said(odd, "Only one speaker has A, c")
    assert said(odd, "fewer than 20 clips", "c (1)")


def test_the_fingerprint_is_of_what_is_taught(tmp_path):
    root = fakes.make_files(tmp_path / "a", fakes.EMODB)
    corpus = read_corpus(root, AUTO)
    moved = read_corpus(root.rename(tmp_path / "b"), AUTO)
    assert fingerprint(moved) == fingerprint(corpus)
    assert fingerprint(replace(corpus, clips=corpus.clips[::-1])) == fingerprint(corpus)
    first = corpus.clips[0]
    for change in ({"label": "x"}, {"speaker": "x"}, {"start": 1.0}, {"stop": 1.0}, {"name": "x"}):
        changed = replace(corpus, clips=(replace(first, **change), *corpus.clips[1:]))
        assert fingerprint(changed) != fingerprint(corpus)
    assert fingerprint(corpus, {first.source: "00"}) != fingerprint(corpus)


# Real recordings


def test_the_real_emodb(shared_data):
    listed = read_corpus(shared_data("emodb_2s"), AUTO)
    named = read_corpus(shared_data("emodb_2s"), CorpusSettings(scheme="emodb"))
    assert (listed.scheme, named.scheme) == ("manifest", "emodb")
    for corpus in (listed, named):
        assert (len(corpus.clips), len(set(corpus.speakers)), counts(corpus)) == (535, 10, EMODB_COUNTS)
        assert said(corpus, "10 speakers", "same 10 texts")
    assert fingerprint(listed) == fingerprint(named)


def test_the_real_ravdess(shared_data):
    listed = read_corpus(shared_data("ravdess"), CorpusSettings(mapping=suggest_mapping(RAVDESS_EMOTIONS)))
    named = read_corpus(shared_data("ravdess"), CorpusSettings(scheme="ravdess"))
    assert (len(listed.clips), len(set(listed.speakers)), len(listed.labels)) == (1440, 24, 8)
    assert fingerprint(listed) == fingerprint(named)


def test_the_real_partitions_of_emobox(shared_data, tmp_path):
    """EmoBox's own lists of RAVDESS say of our files what their names do, and its folds keep speakers apart."""
    data = shared_data("emobox_partitions") / "data" / "ravdess"
    folder = tmp_path / "ravdess" / "fold_1"
    folder.mkdir(parents=True)
    shutil.copy(data / "label_map.json", folder.parent)
    for path in data.glob("fold_1/*.jsonl"):
        shutil.copy(path, folder)
    (folder / "audio").symlink_to(shared_data("ravdess") / "flac16k")
    corpus = read_corpus(folder, AUTO)
    assert corpus.scheme == "emobox"
    assert fingerprint(corpus) == fingerprint(read_corpus(shared_data("ravdess"), CorpusSettings(scheme="ravdess")))
    assert Counter(clip.split for clip in corpus.clips) == {"train": 1200, "test": 240}
    assert not said(corpus, "more than one side")


def test_every_real_list_of_emobox_says_who_speaks(shared_data):
    data = shared_data("emobox_partitions") / "data"
    for name, n_clips, n_speakers in (("emodb", 535, 10), ("ravdess", 1440, 24), ("urdu", 400, 29)):
        for folder in (data / name, *sorted((data / name).glob("fold_*"))):
            rows = read_emobox(name, lists_in(folder), Place(folder, whole=False, confined=True)).rows
            assert (len(rows), len({row.speaker for row in rows})) == (n_clips, n_speakers), folder
            assert all(row.problem and row.given for row in rows)


def test_the_real_lists_of_urdu(shared_data, tmp_path):
    path = shared_data("emobox_partitions") / "data" / "urdu" / "urdu.jsonl"
    names = [Path(json.loads(line)["wav"]) for line in path.read_text().splitlines()]
    root = fakes.make_files(tmp_path / "URDU", [f"{name.parent.name}/{name.name}" for name in names])
    shutil.copytree(path.parent, tmp_path / "lists")
    (tmp_path / "lists" / "downloads").mkdir()
    root = root.rename(tmp_path / "lists" / "downloads" / "urdu")
    listed, named = read_corpus(tmp_path / "lists" / "urdu.jsonl", AUTO), read_corpus(root, AUTO)
    for corpus in (listed, named):
        assert counts(corpus) == dict.fromkeys(BIG_FOUR, 100)
    assert fingerprint(listed) == fingerprint(named)
    # The folds that EmoBox draws for it do not keep speakers apart, and that is told.
    shutil.copytree(root, tmp_path / "lists" / "fold_1" / "wav")
    assert said(read_corpus(tmp_path / "lists" / "fold_1", AUTO), "split", "more than one side")


def test_every_scheme_has_a_name():
    assert set(NAMES) < set(SCHEMES)


CELL = st.one_of(
    st.sampled_from(
        ["0.wav", "1.wav", "x/../0.wav", "s1", "s2", "angry", "sad", "", "1", "-1", "nan", "0.5", '"', "\0"]
    ),
    st.text(max_size=6),
)


@given(st.lists(st.lists(CELL, max_size=6), max_size=6), st.sampled_from(",;\t"), st.booleans())
@settings(max_examples=100, deadline=None)
def test_no_list_breaks_the_reader(tmp_path_factory, lines, delimiter, skip):
    folder = fakes.make_files(tmp_path_factory.mktemp("fuzz"), ["0.wav", "1.wav"])
    head = delimiter.join(("file", "speaker", "emotion", "start", "end"))
    text = "\n".join([head, *(delimiter.join(line) for line in lines)])
    (folder / "l.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        corpus = read_corpus(folder, CorpusSettings(skip_missing=skip))
    except (DataError, InputError) as error:
        assert str(error)
    else:
        assert len(corpus.labels) > 1
        assert len({clip.name for clip in corpus.clips}) == len(corpus.clips)


KEY = st.sampled_from(["emotion", "labels", "columns", "type", "scheme_id", "x"])
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(KEY, deeper, max_size=3),
    max_leaves=8,
)


@given(VALUE, VALUE, VALUE, st.text("file,speaker,emotion\n01ab.wav:", max_size=60))
@settings(max_examples=60, deadline=None)
def test_no_header_breaks_the_reader(tmp_path_factory, columns, schemes, split, table):
    folder = fakes.make_files(tmp_path_factory.mktemp("fuzz"), ["0.wav"])
    header = {
        "schemes": schemes,
        "tables": {"t": {"split_id": split, "columns": columns or {"emotion": None, "speaker": None}}},
    }
    (folder / "db.yaml").write_text(json.dumps(header))
    (folder / "db.t.csv").write_text(f"file,emotion,speaker\n{table}")
    with pytest.raises((DataError, InputError)):
        read_corpus(folder, CorpusSettings(skip_missing=True))


@given(st.lists(st.dictionaries(st.sampled_from(["wav", "emo", "speaker", "dataset"]), VALUE) | VALUE, max_size=4))
@settings(max_examples=60, deadline=None)
def test_no_line_breaks_the_reader(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("fuzz") / "l.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises((DataError, InputError)):
        read_corpus(path, CorpusSettings(skip_missing=True))
