"""Load questions that other people wrote, with the documents that answer them: python benchmarks/public_collections.py

Each collection ships in a package. The package is downloaded once, to ~/.cache/puffer-benchmarks/collections, and is
never installed or copied into the repository. Without arguments, the command loads all of them and prints their sizes.

- semanlink (PyPI: cherche 2.2.1; MIT license): bookmarks and papers about AI and the semantic web; the questions are
  the tags that their collector gave them
- perlfaq (Debian: perl-doc; Artistic license or GPL 1 and later): the answers of the Perl FAQ; the questions are the
  headings above them
- debian-faq-LANGUAGE (Debian: debian-faq and its translations; a copyleft license of its own): the same for the Debian
  FAQ
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections import defaultdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from lxml import html

CACHE = Path.home() / ".cache" / "puffer-benchmarks" / "collections"
CHERCHE = "cherche==2.2.1 --hash=sha256:7984a88f0bf9349cd08907baefc2527deaacea95d3acf5f4a1692896c507fe34"
LEAST_TEXT = 200  # characters of a bookmark's description
# A tag with a single document is mostly that document's name; one with many is too general to be a question.
LEAST_TAGGED, MOST_TAGGED = 2, 15
LEAST_ANSWER = 40  # characters; shorter ones only refer to another answer
DEBIAN_LANGUAGES = ("en", "de", "fr", "it", "ja", "ko", "nl", "pt", "ru", "zh-cn")
# "1.2. ", "Chapter 1. ", "第 6 章 ", "4장. "
NUMBERING = re.compile(r"^(?:[\d.]+|\w+\s\d+\.|第\s?\d+\s?章|\d+장\.)\s+")
POD_CODE = re.compile(r"([A-Z])(?:<<+\s+(.*?)\s+>>+|<([^<>]*)>)", re.DOTALL)
ENTITIES = {"lt": "<", "gt": ">", "sol": "/", "verbar": "|"}


class Collection(NamedTuple):
    """Documents {id: (title, text)}, questions {id: text} and relevant {question id: {document id: grade}}.

    Grades are at least 1. A title never contains the question: the FAQs' titles are those of the chapters.
    """

    documents: dict[str, tuple[str, str]]
    questions: dict[str, str]
    relevant: dict[str, dict[str, int]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("collections", nargs="*", metavar="collection", help=f"one of {', '.join(COLLECTIONS)}")
    names = parser.parse_args().collections or list(COLLECTIONS)
    if unknown := set(names) - COLLECTIONS.keys():
        parser.error(f"Unknown: {', '.join(sorted(unknown))}. Choose from {', '.join(COLLECTIONS)}.")
    print("| collection | documents | median characters | questions | relevant documents per question |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in names:
        documents, questions, relevant = load(name)
        characters = median(len(text) for _, text in documents.values())
        judged = sum(map(len, relevant.values())) / len(relevant)
        print(f"| {name} | {len(documents)} | {characters:.0f} | {len(questions)} | {judged:.1f} |")


def load(name):
    """Return the Collection of this name, downloading its package first if necessary."""
    return COLLECTIONS[name]()


def semanlink():
    """Load the bookmarks of semanlink.net with their descriptions, and each tag as a question.

    The tags are one person's: documents that lack a tag may still fit it.
    """
    folder = unpacked_sdist("cherche", CHERCHE) / "cherche" / "data" / "semanlink"
    bookmarks = json.loads((folder / "docs.json").read_text(encoding="utf-8"))
    tags = json.loads((folder / "tags.json").read_text(encoding="utf-8"))
    documents, tagged = {}, defaultdict(dict)
    for bookmark in bookmarks:
        text = "\n\n".join(part.strip() for part in (bookmark["arxiv_summary"], bookmark["comment"]) if part)
        if len(text) >= LEAST_TEXT:
            documents[bookmark["document"]] = bookmark["arxiv_title"] or bookmark["title"], text
            for tag in bookmark["tag"]:
                tagged[tag][bookmark["document"]] = 1
    relevant = {tag: graded for tag, graded in tagged.items() if LEAST_TAGGED <= len(graded) <= MOST_TAGGED}
    return Collection(documents, {tag: tags[tag]["prefLabel"][0] for tag in relevant}, relevant)


def perl_faq():
    """Load Perl's FAQ: each answer is a document, and its heading the question."""
    answers = {}
    for path in sorted(unpacked_deb("perl-doc").glob("usr/share/perl/*/pod/perlfaq[1-9].pod")):
        chapter = ""
        for part in re.split(r"^(?==head[12] )", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            heading, _, body = part.partition("\n")
            directive, _, heading = heading.partition(" ")
            if directive == "=head2":
                answers[f"{path.stem}-{len(answers)}"] = chapter, plain_pod(heading), plain_pod(body)
            elif heading == "NAME":  # above "perlfaq4 - Data Manipulation"
                chapter = body.partition(" - ")[2].strip()
            elif heading not in ("VERSION", "DESCRIPTION"):
                chapter = plain_pod(heading)
    return faq_of(answers)


def plain_pod(text):
    """Return the text without the markup of perlpod."""
    text = re.sub(r"^=item +", "", text, flags=re.MULTILINE)
    text = re.sub(r"^=\w+.*\n?", "", text, flags=re.MULTILINE)
    while POD_CODE.search(text):
        text = POD_CODE.sub(as_text, text)
    return text.strip()


def as_text(match):
    content = match[3] if match[2] is None else match[2]
    if match[1] == "L":  # L<text|page>
        return content.partition("|")[0]
    return ENTITIES.get(content, content) if match[1] == "E" else content


def debian_faq(language):
    """Load the Debian FAQ in a language: each answer is a document, and its heading the question.

    Answers have the same ids in all languages. Those that are not translated are left out.
    """
    answers = debian_answers(language)
    if language != "en":
        english = debian_answers("en")
        answers = {key: answer for key, answer in answers.items() if key not in english or answer[1] != english[key][1]}
    return faq_of(answers)


def debian_answers(language):
    answers = {}
    for path in sorted(unpacked_deb("debian-faq" if language == "en" else f"debian-faq-{language}").rglob("*.html")):
        page = html.fromstring(path.read_bytes())
        chapter = page.xpath("string(//div[@class='chapter']/div[@class='titlepage']//h1)")
        for section in page.xpath("//div[@class='section']"):
            [anchor, *_] = section.xpath("./div[@class='titlepage']//a/@id")
            title = section.xpath("string(./div[@class='titlepage'])")
            body = [part.text_content() for part in section if part.get("class") not in ("titlepage", "section", "toc")]
            text = "\n\n".join(filter(None, map(one_line, body)))
            answers[anchor] = without_number(chapter), without_number(title), text
    return answers


def without_number(heading):
    """Return a heading without the number of its chapter and section."""
    return NUMBERING.sub("", one_line(heading))


def faq_of(answers):
    """Make a Collection of {id: (chapter, heading, answer)}. Headings that ask nothing are documents only."""
    answers = {key: answer for key, answer in answers.items() if len(answer[2]) >= LEAST_ANSWER}
    questions = {key: heading for key, (_, heading, _) in answers.items() if "?" in heading or "？" in heading}
    documents = {key: (chapter, text) for key, (chapter, _, text) in answers.items()}
    return Collection(documents, questions, {key: {key: 1} for key in questions})


def one_line(text):
    return re.sub(r"\s+", " ", text).strip()


def unpacked_sdist(name, requirement):
    """Return the folder of a source package, which pip downloads and whose hash it checks."""
    target = CACHE / name
    if not target.exists():
        scratch = new_folder(CACHE / f"{name}.part")
        (scratch / "requirements.txt").write_text(requirement)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name, "--require-hashes"]
        subprocess.run([*pip, "--requirement", "requirements.txt"], cwd=scratch, check=True)
        [archive] = scratch.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        [folder] = [path for path in scratch.iterdir() if path.is_dir()]
        folder.rename(target)
        shutil.rmtree(scratch)
    return target


def unpacked_deb(name):
    """Return the folder with the files of a package of Debian or Ubuntu. The release decides on the version."""
    target = CACHE / name
    if not target.exists():
        if not shutil.which("apt-get"):
            raise SystemExit(f"{name} is a package of Debian: run this on Debian or Ubuntu.")
        scratch = new_folder(CACHE / f"{name}.part")
        subprocess.run(["apt-get", "download", "--quiet=2", name], cwd=scratch, check=True)
        [archive] = scratch.glob("*.deb")
        subprocess.run(["dpkg-deb", "--extract", archive, scratch / "files"], check=True)
        (scratch / "files").rename(target)
        shutil.rmtree(scratch)
    return target


def new_folder(path):
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


COLLECTIONS = {
    "semanlink": semanlink,
    "perlfaq": perl_faq,
    **{f"debian-faq-{language}": partial(debian_faq, language) for language in DEBIAN_LANGUAGES},
}

if __name__ == "__main__":
    main()
