"""python -m shnet_course.measure.phrases --phrases referit_query_train.json

What phrases are like, in counts: how long they are, which words they are made of, how they are
spelt. Without --out the counts of ReferIt's training phrases go to docs/results, since the phrases
themselves belong to others.
"""

import argparse
import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase

from shnet_course.paths import COURSE
from shnet_lib.data.text import tokenize
from shnet_lib.files import write_table

REFERIT_COUNTS = COURSE / "docs" / "results" / "referit_phrases.csv"
# Words that say where in the picture something is. "On", "below" and the like say where it is in
# relation to another thing, and are not counted.
LOCATION_WORDS = frozenset(
    "left right top bottom upper lower middle center centre front back leftmost rightmost topmost "
    "bottommost highest lowest corner edge".split()
)
FREQUENT = 20  # how many of the most frequent words are told
# A slip is looked for in words of six letters or more that were said a hundred times or more: in
# short ones too many slips are other words ("right", "night"). And it is a hundred times rarer.
LONG, COMMON, RARER = 6, 100, 100
SPELT = "bottom"  # the word whose spellings are told


@dataclass(frozen=True)
class PhraseCounts:
    """Counts over a list of phrases; `Counter` gives 0 for what does not occur."""

    phrases: int
    placed: int  # phrases with a location word
    numbered: int  # phrases that lose a word where only words of letters are kept
    slipped: int  # phrases with a slip in a long, common word: a lower bound of misspelling
    distinct: int  # different words
    once: int  # words that were said once
    lengths: Counter  # words of a phrase -> phrases
    words: Counter  # the most frequent words -> how often
    spellings: Counter  # of the word SPELT, the right one first -> how often

    @property
    def mean_length(self) -> float:
        return sum(length * count for length, count in self.lengths.items()) / self.phrases

    def shorter_than(self, words: int) -> float:
        """The share of phrases with fewer words."""
        return sum(n for length, n in self.lengths.items() if length < words) / self.phrases


NUMBERS = ("phrases", "placed", "numbered", "slipped", "distinct", "once")
TABLES = ("lengths", "words", "spellings")


def has_location_word(text: str) -> bool:
    """Whether a phrase says where in the picture the thing is, by one of LOCATION_WORDS."""
    return not LOCATION_WORDS.isdisjoint(tokenize(text))


def count_phrases(texts: Iterable[str]) -> PhraseCounts:
    """Count a list of phrases, each cut into words as the library does."""
    texts = list(texts)
    cut = [tokenize(text) for text in texts]
    words = Counter(word for phrase in cut for word in phrase)
    common = [word for word, count in words.items() if len(word) >= LONG and count >= COMMON]
    slips = {slip for word in common for slip in slips_of(word, words)}
    return PhraseCounts(
        phrases=len(texts),
        placed=sum(map(has_location_word, texts)),
        numbered=sum(tokenize(t, keep_numbers=False) != c for t, c in zip(texts, cut, strict=True)),
        slipped=sum(not slips.isdisjoint(phrase) for phrase in cut),
        distinct=len(words),
        once=sum(count == 1 for count in words.values()),
        lengths=Counter(sorted(map(len, cut))),
        words=Counter(dict(_ordered(words)[:FREQUENT])),
        spellings=Counter(
            {word: words[word] for word in (SPELT, *slips_of(SPELT, words)) if words[word]}
        ),
    )


def slips_of(word: str, counts: Mapping[str, int]) -> list[str]:
    """The words that are one slip of the finger away and RARER times rarer, frequent ones first.

    A slip leaves out a letter, adds one, takes another, or swaps two neighbours.
    """
    cuts = [(word[:place], word[place:]) for place in range(len(word) + 1)]
    slips = {a + b[1:] for a, b in cuts if b}
    slips |= {a + b[1] + b[0] + b[2:] for a, b in cuts if len(b) > 1}
    slips |= {a + letter + b[1:] for a, b in cuts if b for letter in ascii_lowercase}
    slips |= {a + letter + b for a, b in cuts for letter in ascii_lowercase}
    found = {slip: n for slip in slips if 0 < (n := counts.get(slip, 0)) * RARER <= counts[word]}
    return [slip for slip, _ in _ordered(found)]


def _ordered(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The frequent ones first, equals by alphabet."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def read_phrases(path: Path) -> list[str]:
    """The phrases of a JSON file of lists by region, as ReferIt's query files are."""
    regions = json.loads(Path(path).read_text(encoding="utf-8"))
    return [phrase for region in regions.values() for phrase in region]


def write_counts(counts: PhraseCounts, path: Path) -> None:
    """As CSV: what is counted, of which length or word, how often."""
    told = [(name, "", getattr(counts, name)) for name in NUMBERS]
    for name in TABLES:
        told += [(name, key, count) for key, count in getattr(counts, name).items()]
    head = ("counted", "of", "count")
    write_table(path, [dict(zip(head, row, strict=True)) for row in told])


def read_counts(path: Path = REFERIT_COUNTS) -> PhraseCounts:
    """What write_counts wrote; without a path the counts of ReferIt's training phrases."""
    numbers: dict[str, int] = {}
    tables: dict[str, Counter] = {name: Counter() for name in TABLES}
    with Path(path).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["counted"] in NUMBERS:
                numbers[row["counted"]] = int(row["count"])
            else:
                key = int(row["of"]) if row["counted"] == "lengths" else row["of"]
                tables[row["counted"]][key] = int(row["count"])
    return PhraseCounts(**numbers, **tables)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m shnet_course.measure.phrases")
    parser.add_argument("--phrases", required=True, help="JSON of lists of phrases by region")
    parser.add_argument("--out", default=REFERIT_COUNTS, type=Path, help="default %(default)s")
    asked = parser.parse_args()
    counts = count_phrases(read_phrases(asked.phrases))
    write_counts(counts, asked.out)
    print(f"{asked.out}: {counts.phrases:,} phrases, {counts.mean_length:.1f} words on average")


if __name__ == "__main__":
    main()
