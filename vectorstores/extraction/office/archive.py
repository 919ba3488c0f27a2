"""Documents that are ZIP archives of XML: their parts, with limits against archives that unpack to gigabytes."""

import io
import posixpath
import zipfile
import zlib
from typing import Any
from urllib.parse import unquote

from lxml import etree

from vectorstores.extraction.extracted import Unreadable

MAX_UNPACKED = 300 * 1024 * 1024  # bytes of all parts together
MAX_PARTS = 20_000
SHOWN_PARTS = 5
OLD_FORMAT = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # of Office files before 2007, and of encrypted ones since
DAMAGED = "The file is damaged and cannot be read."


class Archive:
    """The parts of a document, by their names. Its methods raise Unreadable."""

    def __init__(self, data: bytes) -> None:
        if data.startswith(OLD_FORMAT):
            raise Unreadable("The file is password-protected or in an old format. Save it as .docx, .xlsx or .pptx.")
        try:
            self.file = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise Unreadable(DAMAGED) from error
        self.infos = {info.filename: info for info in self.file.infolist()}
        self.broken: set[str] = set()  # the parts of which the XML was not well-formed
        sizes = sum(info.file_size for info in self.file.infolist())
        if sizes > MAX_UNPACKED or len(self.infos) > MAX_PARTS:
            raise Unreadable(f"The file unpacks to more than {MAX_UNPACKED // 1024**2} MB.")

    def __contains__(self, name: str) -> bool:
        return name in self.infos

    def read(self, name: str) -> bytes:
        """Return a part, which never has more bytes than the archive says."""
        try:
            return self.file.read(self.infos[name])
        except KeyError:
            raise Unreadable(DAMAGED) from None
        except RuntimeError as error:  # encrypted
            raise Unreadable("The file is password-protected.") from error
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError) as error:
            raise Unreadable(DAMAGED) from error

    def xml(self, name: str) -> Any:
        """Return the root of a part, of a damaged one as much as can be read. No entity is resolved."""
        parser = etree.XMLParser(
            recover=True, resolve_entities=False, no_network=True, huge_tree=True, remove_comments=True, remove_pis=True
        )
        try:
            root = etree.fromstring(self.read(name), parser)
        except etree.LxmlError as error:
            raise Unreadable(DAMAGED) from error
        if root is None:
            raise Unreadable(DAMAGED)
        if any(error.level == etree.ErrorLevels.FATAL for error in parser.error_log):
            self.broken.add(name)
        return root

    def notes(self) -> list[str]:
        """Return what people should know about the parts that were read."""
        shown = ", ".join(sorted(self.broken)[:SHOWN_PARTS])
        return [f"The file is damaged, so text may be missing: {shown}."] if self.broken else []

    def related(self, name: str) -> dict[str, tuple[str, str]]:
        """Return the parts to which a part refers: id -> (the last word of the type, name)."""
        folder, base = posixpath.split(name)
        relations = posixpath.join(folder, "_rels", f"{base}.rels")
        if relations not in self:
            return {}
        return {
            relation.get("Id", ""): (
                relation.get("Type", "").rpartition("/")[2],
                joined_path(folder, relation.get("Target", "")),
            )
            for relation in self.xml(relations).iter("{*}Relationship")
            if relation.get("TargetMode") != "External"
        }

    def title(self, name: str) -> str:
        """Return the title in the properties of the document, in the part with this name."""
        if name not in self:
            return ""
        return next(("".join(title.itertext()) for title in self.xml(name).iter("{*}title")), "")


def part_of_type(archive: Archive, name: str, kind: str) -> str:
    """Return the first part of a kind that another part names; "" if it names no such part."""
    return next((part for found, part in archive.related(name).values() if found == kind and part in archive), "")


def joined_path(folder: str, target: str) -> str:
    """Return the name of a part that is named relative to a folder, or from the root."""
    return posixpath.normpath(posixpath.join("/", folder, unquote(target))).lstrip("/")
