"""Names of channels as laboratories write them: ``Fc5.``, ``EEG Fp1-REF`` and ``FC5`` are told as the same site."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

_NOT_BRAIN = re.compile(
    r"(?:[hvlri]?eog|e[ck]g|emg|exg|sti|trig|status|resp|pleth|osat|spo2|gsr|photic|ergo)[\w\- ]*|pr|dc[\d ]+|.*eog.*",
    re.IGNORECASE,
)

NAMED = 8
"""Names in a sentence."""


def is_no_brain_signal(name: str) -> bool:
    """Whether a channel that its file calls EEG is named as something else: formats such as EDF know no types."""
    return bool(_NOT_BRAIN.fullmatch(name.strip(" .")))


def clean_names(names: Sequence[str], known: Iterable[str] = ()) -> tuple[str, ...]:
    """Give channels the names of a montage or a model, as far as it has them.

    Args:
        names: As the file has them.
        known: Names that are right; case, blanks, dots, ``EEG`` in front and ``-REF`` at the end do not count.

    Returns:
        As many names. One that is not known only loses dots and blanks around it; where two channels would get
        one name, each of them keeps its own.
    """
    right = {_key(one): one for one in known}
    wanted = [right.get(_key(name), name.strip(" .")) for name in names]
    # A name kept may be one that another channel wanted.
    while True:
        often = Counter(wanted)
        cleaned = [name if often[wish] > 1 else wish for name, wish in zip(names, wanted, strict=True)]
        if cleaned == wanted:
            return tuple(cleaned)
        wanted = cleaned


def _key(name: str) -> str:
    plain = re.sub(r"^eeg(?=[\s_-])|-(?:ref|le|ar|avg)$", "", name.strip(" .").lower())
    return re.sub(r"[\s._]", "", plain)


def listed(names: Sequence[str]) -> str:
    """Some names for a sentence."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
