"""Whatever chunks came, in any order, back to files: each exactly what was packed, or not there."""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.checkpoint import durable, layout, seal
from pipeline.config import FULL, BadInput, RunFailed
from pipeline.ground.downlink import manifest, received
from pipeline.ground.downlink.chunk import Malformed, Moment, Version
from pipeline.ground.downlink.inbox import Piece, chosen, read_inbox
from pipeline.ground.downlink.paths import folder_of, is_packed, is_sealed
from pipeline.ground.downlink.received import Span, gaps
from pipeline.ground.held import held

_DRAFT = ".rebuilding"
_LISTING = {received.NAME, received.NAME + ".tmp"}  # where a durable write of it begins
_BLOCK = 1 << 20  # bytes


def unpack(inbox: Path | str, out: Path | str) -> dict[str, Any]:
    """Rebuilds in the folder `out` every file of which all bytes are among the chunks of the folder `inbox`.

    A file appears when its SHA-256 is that of what was packed, in place of an older version, and never otherwise; a
    step of weights/ gets its number when all of its files are there, one of checkpoints/ when it is what was sealed,
    and is NUMBER.partial until then. One that is sealed anew on board takes the place of the first when it is whole.
    What is whole in `out` is not built again, so its chunks may be removed. Cut short anywhere, it is run again; a
    second one into the same folder waits for the first.

    Returns:
        complete: the paths of which `out` has the newest version that is known of.
        missing: of each other path the `bytes` that did not come, as [first, after the last] pairs; `chunks`, the
            addresses that the manifest has for them; `base`, a file to which chunks that came are differences, and
            that is not here; `problem`, where all came and are not what was packed, or what was sealed.
        manifest: whether one came, without which there may be files that nothing here knows of.
        later: of those that are whole, those of a later pack than the manifest; where none was sent they are forged.
        damaged: files of the inbox that are no chunk, and why. chunks: how many are one, copies counted once.
        ahead: names of chunks of a time that nothing has come to, which count as the oldest.

    Raises:
        BadInput: no inbox, or `out` cannot be written or is another's.
        RunFailed: the disk is full.
    """
    inbox, out = Path(inbox), Path(out)
    if not inbox.is_dir():
        raise BadInput(f"{inbox}: no such folder; name the one that holds the chunks")
    try:
        with held(out):
            if any(out.iterdir()) and not any(path.name in _LISTING for path in out.iterdir()):
                raise BadInput(f"--out: {out}: is not empty and holds no {received.NAME}; give a new folder")
            return _Rebuild(out, inbox).run()
    except OSError as error:
        if error.errno in FULL:
            raise RunFailed(f"{out}: no space; free some and unpack again: nothing is lost") from error
        raise BadInput(f"--out: {out}: {error.strerror} ({error.filename}); give another folder") from error


class _Lacking(Exception):
    """A version that cannot be built yet, or not at all."""

    def __init__(self, file: Version, spans: list[Span], **why: str | None):
        super().__init__(file.path)
        self.file, self.spans = file, spans
        self.why = {name: reason for name, reason in why.items() if reason}


class _Rebuild:
    def __init__(self, out: Path, inbox: Path):
        self.out, self.known = out, received.read(out / received.NAME, missing=True)
        self.inbox = read_inbox(inbox, self.known.latest)
        here = {path: kept for path, kept in self.known.whole.items() if is_packed(path) and self._is_here(kept[0])}
        self.known.whole = here
        self.known.parts = {}
        # Of what is here, until another version is: a few bytes can ask for either thousands of times.
        self.prefixes: dict[str, dict[int, str]] = {}  # path -> size -> SHA-256 of so many leading bytes
        self.seals: dict[Version, seal.Seal | str] = {}  # a string: what is wrong with it
        if manifest.NAME in self.known.whole:
            self._holds(self.known.whole[manifest.NAME][0])  # one that rotted says nothing
        self._remember()  # from here on the folder is ours

    def run(self) -> dict[str, Any]:
        try:
            lacking, unsealed = self._build_all(), self._finish_steps()
            if self._forget_rotten(unsealed):
                lacking, unsealed = self._build_all(), self._finish_steps()
        finally:
            (self.out / _DRAFT).unlink(missing_ok=True)
        for path, found in lacking.items():
            came = [] if "problem" in found.why else gaps(found.spans, found.file.size)
            self.known.parts[path] = (found.file, came)
        self._remember()
        return self._report(lacking, unsealed)

    def _build_all(self) -> dict[str, _Lacking]:
        """Of each path, the newest version that cannot be built."""
        lacking: dict[str, _Lacking] = {}
        for file in self.inbox.oldest_first():  # an older version is what a newer one may be told by
            newest = self.known.whole.get(file.path)
            if newest and (newest[0] == file or newest[1] > self.inbox.at(file)):
                continue
            if self._is_left_out(file):
                continue
            lacking.pop(file.path, None)
            try:
                self._build(file)
            except _Lacking as lack:
                lacking[file.path] = lack
        return lacking

    def _build(self, file: Version) -> None:
        if not is_packed(file.path):
            raise _Lacking(file, [(0, file.size)], problem="no file of a pack")
        if file.path == manifest.NAME and file.size > manifest.LARGEST:
            raise _Lacking(file, [(0, file.size)], problem=f"a manifest has no more than {manifest.LARGEST:,} bytes")
        pieces, base, absent = self._pieces(file)
        if missing := gaps([(start, end) for start, end, _ in pieces], file.size):
            raise _Lacking(file, missing, base=absent)
        draft = self.out / _DRAFT
        try:
            self._write(draft, file, pieces, base)
        except _Lacking:
            if sum(end - start for start, end, _ in pieces) == file.size:
                raise
            # A chunk may hold what its file never did; and there are others for its place.
            self._write(draft, file, pieces, base, oldest_first=True)
        if file.path == manifest.NAME:
            try:
                manifest.decode(draft.read_bytes())
            except ValueError as error:
                raise _Lacking(file, [(0, file.size)], problem=f"no manifest: {error}") from error
        target = self._target(file.path)
        try:
            self._make_parents(target)
            durable.rename(draft, target)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise _Lacking(file, [(0, file.size)], problem=f"its place is taken: {error.filename}") from error
        self.prefixes.pop(file.path, None)
        self.seals.pop(file, None)
        self.known.whole[file.path] = (file, self.inbox.at(file))
        self._finish_folder(file.path, max(place.head.together for place in self.inbox.places[file].values()))

    def _write(
        self, draft: Path, file: Version, pieces: list[Piece], base: Path | None, oldest_first: bool = False
    ) -> None:
        digest = hashlib.sha256()
        with draft.open("wb") as written:
            for data in self._content(file, chosen(pieces, file.size, oldest_first), base):
                digest.update(data)
                written.write(data)
            written.flush()
            os.fsync(written.fileno())
        if digest.hexdigest() != file.sha256:
            raise _Lacking(file, [(0, file.size)], problem="all bytes came, and are not those that were packed")

    def _pieces(self, file: Version) -> tuple[list[Piece], Path | None, str | None]:
        """What there is of a version, sorted; the base that some of it needs, or the path of one that is not here.

        Packs name one base for a version; were there two, chunks that need the other are left out, to be sent again.
        """
        places = self.inbox.places[file].values()
        bases = sorted({place.head.base for place in places if place.head.base}, key=lambda base: base.sha256)
        here = next(((base, path) for base in bases if (path := self._holds(base))), None)
        pieces: list[Piece] = []
        for place in places:
            head = place.head
            if head.base is None or (here and head.base == here[0]):
                pieces.append((head.offset, head.offset + head.length, place))
                pieces += [(0, head.kept, None)] if head.kept else []
        absent = bases[0].path if bases and not here else None
        return sorted(set(pieces), key=lambda piece: piece[:2]), here and here[1], absent

    def _holds(self, base: Version) -> Path | None:
        """The file in `out` that begins as `base` is: that itself, or what was appended to it."""
        path = self._place(base.path)
        if not _is_plain(path) or path.stat().st_size < base.size:
            return None
        if self._prefix_sha256(path, base) == base.sha256:
            return path
        if self.known.has(base):  # changed since it came: it is built or asked for again
            del self.known.whole[base.path]
        return None

    def _prefix_sha256(self, path: Path, base: Version) -> str:
        """Of as many bytes of a file as the base has. Where that is not all of it, which it is in the packs of a run as
        they come, all sizes that chunks ask for are hashed in one go."""
        found = self.prefixes.setdefault(base.path, {})
        if base.size not in found:
            length, digest, at = path.stat().st_size, hashlib.sha256(), 0
            more = self.inbox.bases[base.path] if base.size < length else ()
            for size in sorted({base.size, *(size for size in more if size <= length)}):
                for data in _blocks(path, at, size):
                    digest.update(data)
                found[size], at = digest.hexdigest(), size
        return found[base.size]

    def _content(self, file: Version, pieces: Iterable[Piece], base: Path | None) -> Iterator[bytes]:
        """The bytes of pieces of which each goes on where the one before ends, or begins sooner."""
        at = 0
        for start, end, place in pieces:
            if place is None:
                assert base is not None
                yield from _blocks(base, at, end)
            else:
                size = place.head.base.size if place.head.base else 0
                before = b"".join(_blocks(base, start, min(end, size))) if base and size else b""
                try:
                    yield place.content(before)[at - start :]
                except Malformed as error:
                    raise _Lacking(file, [(start, end)], problem=f"{place.path.name}: {error}") from error
            at = end

    def _target(self, path: str) -> Path:
        """Where a file is written. A checkpoint that has its number is whole, and stays as it is."""
        folder = folder_of(path)
        if folder is None or (not is_sealed(folder) and (self.out / folder).is_dir()):
            return self.out / path
        return self.out / f"{folder}.partial" / PurePosixPath(path).relative_to(folder)

    def _place(self, path: str) -> Path:
        """Where a file lies, if it is here."""
        return target if _is_plain(target := self._target(path)) else self.out / path

    def _make_parents(self, target: Path) -> None:
        folder = self.out
        for part in target.relative_to(self.out).parts[:-1]:
            folder = folder / part
            if folder.is_symlink():
                raise FileExistsError(errno.EEXIST, "a link", str(folder))
            if not folder.is_dir():
                folder.mkdir()
                durable.fsync(folder.parent)
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder", str(target))

    def _finish_folder(self, path: str, together: int) -> None:
        """Gives a step its number if `path` was the last of its files."""
        folder = folder_of(path)
        if folder is None:
            return
        if is_sealed(folder):
            self._finish_step(folder)
        elif (self.out / folder).exists():
            return
        elif sum(folder_of(whole) == folder for whole in self.known.whole) == together:
            durable.rename(self.out / f"{folder}.partial", self.out / folder)

    def _finish_steps(self) -> dict[str, str]:
        """Of checkpoints without their number, or of which a new seal came: why they are not what was sealed."""
        folders = {folder for path in self.known.whole if (folder := folder_of(path)) and is_sealed(folder)}
        begun = [folder for folder in folders if (self.out / f"{folder}.partial").is_dir()]
        return {folder: why for folder in begun if (why := self._finish_step(folder))}

    def _forget_rotten(self, folders: Collection[str]) -> bool:
        """Whether of these some file is no longer what came."""
        before = len(self.known.whole)
        for path, (file, _) in list(self.known.whole.items()):
            if folder_of(path) in folders:
                self._holds(file)
        return len(self.known.whole) < before

    def _seal(self, folder: str) -> tuple[seal.Seal | None, Moment, str | None]:
        """The newest SEAL of a checkpoint that came, its time, and what is wrong with it."""
        name = f"{folder}/{seal.NAME}"
        if name not in self.known.whole:
            return None, (0, 0.0), None
        file, at = self.known.whole[name]
        if file not in self.seals:
            try:
                self.seals[file] = seal.read(self._place(name).parent, int(PurePosixPath(folder).name))
            except (seal.Damaged, seal.OtherVersion, ValueError) as error:
                self.seals[file] = str(error)
        found = self.seals[file]
        return (None, at, found) if isinstance(found, str) else (found, at, None)

    def _is_left_out(self, file: Version) -> bool:
        """Whether it is a file of a checkpoint that was sealed again since, without it."""
        folder = folder_of(file.path)
        if folder is None or not is_sealed(folder) or file.path == f"{folder}/{seal.NAME}":
            return False
        sealed, at, _ = self._seal(folder)
        return sealed is not None and file.path[len(folder) + 1 :] not in sealed.files and self.inbox.at(file) <= at

    def _finish_step(self, folder: str) -> str | None:
        """Gives a checkpoint its number once it is what was sealed; why not, if all that its SEAL names is here."""
        sealed, at, wrong = self._seal(folder)
        if sealed is None:
            return wrong
        number, partial = self.out / folder, self.out / f"{folder}.partial"
        if not partial.is_dir() or any(f"{folder}/{name}" not in self.known.whole for name in sealed.files):
            return None
        names = {*sealed.files, seal.NAME}
        for path, (_, came) in list(self.known.whole.items()):
            if folder_of(path) == folder and path[len(folder) + 1 :] not in names and came <= at:  # of an earlier seal
                del self.known.whole[path]
        for left in [left for left in partial.rglob("*") if left.is_symlink() or not left.is_dir()]:
            name = left.relative_to(partial).as_posix()
            if name not in names and f"{folder}/{name}" not in self.known.whole:
                left.unlink()
        for name in names:
            if not _is_plain(partial / name):  # as it was under the earlier seal
                self._make_parents(partial / name)
                shutil.copyfile(number / name, partial / name, follow_symlinks=False)
        if problems := seal.problems(partial, sealed):
            return "; ".join(problems[:3])
        durable.fsync_tree(partial)
        if number.exists():
            layout.sweep(number.parent, f"{number.name}*")
            layout.remove(layout.take_out(number.parent, sealed.step))
        durable.rename(partial, number)
        return None

    def _is_here(self, file: Version) -> bool:
        path = self._place(file.path)
        return _is_plain(path) and path.stat().st_size == file.size

    def _remember(self) -> None:
        durable.write(self.out / received.NAME, received.encode(self.known))

    def _report(self, lacking: dict[str, _Lacking], unsealed: dict[str, str]) -> dict[str, Any]:
        kept = self.known.whole.get(manifest.NAME)
        listed = manifest.decode((self.out / manifest.NAME).read_bytes()) if kept else []
        # What is lacking is of interest if it is newer than the manifest, or in it.
        newer = {path: found for path, found in lacking.items() if not kept or self.inbox.at(found.file) > kept[1]}
        missing: dict[str, dict[str, Any]] = {
            path: {"bytes": found.spans, "chunks": []} | found.why for path, found in newer.items()
        }
        for entry in listed:
            path = entry.file.path
            known, found = self.known.whole.get(path), lacking.get(path)
            if path in newer or (known and kept and (known[0] == entry.file or known[1] > kept[1])):
                continue
            ours = found if found and found.file == entry.file else None
            spans = ours.spans if ours else gaps([(0, entry.kept)], entry.file.size)
            came = self.inbox.places.get(entry.file, {}).keys()
            missing[path] = {"bytes": spans, "chunks": entry.addresses(spans, came)} | (ours.why if ours else {})
        for folder, why in unsealed.items():
            file, at = self.known.whole[name := f"{folder}/{seal.NAME}"]
            if not kept or at > kept[1] or any(entry.file.path == name for entry in listed):
                missing.setdefault(name, {"bytes": [(0, file.size)], "chunks": [], "problem": f"{folder}: {why}"})
        files = {entry.file for entry in listed}
        later = [path for path, (file, at) in self.known.whole.items() if kept and at > kept[1] and file not in files]
        return {
            "complete": sorted(path for path in self.known.whole if path not in missing),
            "missing": missing,
            "manifest": kept is not None,
            "later": sorted(later),
            "damaged": self.inbox.damaged,
            "chunks": self.inbox.chunks,
            "ahead": self.inbox.ahead,
        }


def _is_plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _blocks(path: Path, start: int, end: int) -> Iterator[bytes]:
    """Bytes [start, end) of a file."""
    with path.open("rb") as file:
        file.seek(start)
        while start < end and (data := file.read(min(_BLOCK, end - start))):
            yield data
            start += len(data)
