"""Checks that includes point the way that docs/architecture.md draws.

The rooms and what each may use are read from src/CMakeLists.txt, so that the linker and this check
hold the same list. Prints one line a finding and exits 1 if there is any.
"""

import pathlib
import re
import sys

ROOM = re.compile(r"^headrace_room\(([^)]*)\)", re.MULTILINE)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)
CONDITIONAL = re.compile(r"^[ \t]*#[ \t]*(if|ifdef|ifndef|elif)\b", re.MULTILINE)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)

# Headers of a library may be included only by rooms whose LIBS name it.
LIBRARIES = {
    "nlohmann/": "nlohmann_json::nlohmann_json",
    "pcre2": "deps_pcre2",
    "utf8proc": "deps_utf8proc",
    "liburing": "deps_uring",
    "xxhash": "deps_xxhash",
}
CUDA = ("cuda", "cublas", "nvtx3/", "device_launch_parameters")
# Headers whose templates format messages for their callers.
FORMATTING_HEADERS = ("src/base/error.h", "src/base/log.h")


class Room:
    """One room as src/CMakeLists.txt declares it."""

    def __init__(self, words):
        self.name = words[0]
        self.uses = section(words, "USES")
        self.libs = section(words, "LIBS")


def section(words, keyword):
    if keyword not in words:
        return []
    rest = words[words.index(keyword) + 1:]
    ends = [i for i, word in enumerate(rest) if word in ("USES", "LIBS")]
    return rest[: ends[0]] if ends else rest


def read_rooms(root):
    text = re.sub(r"#[^\n]*", "", (root / "src/CMakeLists.txt").read_text(encoding="utf-8"))
    return {room.name: room for room in (Room(m.group(1).split()) for m in ROOM.finditer(text))}


def check_rooms(root, rooms):
    """The list itself: every folder is a room, and a room uses only rooms above it."""
    above = []
    for room in rooms.values():
        for used in room.uses:
            if used not in above:
                yield f"src/CMakeLists.txt: {room.name} uses {used}, which is not a room above it"
        above.append(room.name)
    for folder in sorted(path for path in (root / "src").iterdir() if path.is_dir()):
        if folder.name not in rooms:
            yield f"src/{folder.name}: not declared as a room in src/CMakeLists.txt"


def check_header(name, code):
    if not code.lstrip().startswith("#pragma once"):
        yield f"{name}: the first line of code of a header is #pragma once"


def check_public_header(name, code, includes):
    match = CONDITIONAL.search(code)
    if match:
        yield f"{name}: public headers have no #{match.group(1)}"
    for _, header in includes:
        if header.startswith(("nlohmann/", "fmt/") + CUDA):
            yield f"{name}: public headers do not include {header}"


def check_own_header_first(name, path, code, includes):
    own = path.with_suffix(".h")
    if not own.exists():
        return
    first = includes[0][1] if includes else "nothing"
    expected = name.split("/", 1)[1][: -len(path.suffix)] + ".h"
    if first != expected:
        yield f'{name}: the first include is its own header, "{expected}", not {first}'


def check_room_file(name, room, rooms, includes, public_headers):
    header_file = name.endswith(".h")
    for quote, header in includes:
        if quote == '"' and header in public_headers:
            continue
        target = header.split("/", 1)[0]
        if quote == '"' and ".." in header.split("/"):
            yield f"{name}: includes are full paths from src/, not {header}"
        elif quote == '"' and target in rooms and target != room.name and target not in room.uses:
            allowed = ", ".join(room.uses) or "no other room"
            yield f"{name}: room {room.name} may not include {header} (it may use {allowed})"
        elif quote == '"' and target not in rooms:
            yield f"{name}: {header} is not a path from src/"
        for prefix, library in LIBRARIES.items():
            if header.startswith(prefix) and library not in room.libs:
                yield f"{name}: {header} needs {library} in the LIBS of room {room.name}"
        if header.startswith("fmt/") and header_file and name not in FORMATTING_HEADERS:
            yield f"{name}: fmt is included in sources, not in headers"
        if header.startswith(CUDA) and not name.startswith("src/kernels/cuda/"):
            yield f"{name}: {header} belongs under src/kernels/cuda/"


def check(root):
    """Yields one line a finding for the tree at `root`."""
    rooms = read_rooms(root)
    public = root / "include"
    public_headers = {path.relative_to(public).as_posix() for path in public.rglob("*.h")}
    yield from check_rooms(root, rooms)
    for top in ("include", "src", "apps", "python", "tests"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix not in (".h", ".cpp", ".cu", ".cuh"):
                continue
            name = path.relative_to(root).as_posix()
            code = COMMENT.sub("", path.read_text(encoding="utf-8"))
            includes = INCLUDE.findall(code)
            if path.suffix in (".h", ".cuh"):
                yield from check_header(name, code)
            elif top in ("src", "apps", "python"):
                yield from check_own_header_first(name, path, code, includes)
            if top == "include":
                yield from check_public_header(name, code, includes)
            if top == "src" and name.split("/")[1] in rooms:
                yield from check_room_file(name, rooms[name.split("/")[1]], rooms, includes,
                                           public_headers)


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1]
    findings = list(check(root))
    for finding in findings:
        print(finding, file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
