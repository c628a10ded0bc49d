#!/usr/bin/env python3
"""Does file system calls for a test, in a process of its own: fs-worker.py DIRECTORY

A test that touched its own mount could wait for itself, and Node has no flock, xattrs, mmap or renameat2. One JSON command a line on stdin:
["id", "name", arguments...]; one answer a line on stdout: ["id", null, result] or ["id", "ENOENT", null]. Paths are relative to DIRECTORY.
Bytes travel as latin-1 text. Files stay open under names the test gives. Commands run one after the other; those that wait (locks) run in a
thread when their name ends in "&", and are interrupted by ["id", "signal", thread id].
"""
import ctypes, errno, fcntl, hashlib, json, mmap, os, random, signal, stat, struct, sys, threading

libc = ctypes.CDLL(None, use_errno=True)
os.chdir(sys.argv[1])
os.umask(0o022)
files, maps, threads = {}, {}, {}
answer_lock = threading.Lock()


def checked(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def described(st):
    kind = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo",
            stat.S_IFSOCK: "socket", stat.S_IFCHR: "char", stat.S_IFBLK: "block"}[stat.S_IFMT(st.st_mode)]
    return {"kind": kind, "mode": stat.S_IMODE(st.st_mode), "uid": st.st_uid, "gid": st.st_gid, "size": st.st_size,
            "nlink": st.st_nlink, "inode": st.st_ino, "blocks": st.st_blocks, "rdev": st.st_rdev,
            "atime": str(st.st_atime_ns), "mtime": str(st.st_mtime_ns), "ctime": str(st.st_ctime_ns)}


def raw(text):
    """A path that may hold any bytes: latin-1 when marked so."""
    return text[6:].encode("latin-1") if text.startswith("bytes:") else text


def open_file(name, path, flags, mode=0o644):
    value = 0
    for flag in flags.split("|"):
        value |= getattr(os, flag)
    files[name] = os.open(raw(path), value, mode)


def renameat2(old, new, flags):
    checked(libc.renameat2(-100, os.fsencode(raw(old)), -100, os.fsencode(raw(new)), flags))


def fallocate(name, mode, offset, length):
    checked(libc.fallocate(files[name], mode, ctypes.c_int64(offset), ctypes.c_int64(length)))


def lock(name, kind, start, length, wait):
    flags = {"read": fcntl.LOCK_SH, "write": fcntl.LOCK_EX, "unlock": fcntl.LOCK_UN}[kind] | (0 if wait or kind == "unlock" else fcntl.LOCK_NB)
    fcntl.lockf(files[name], flags, length, start, 0)


def test_lock(name, kind, start, length):
    want = struct.pack("hhqqi", {"read": fcntl.F_RDLCK, "write": fcntl.F_WRLCK}[kind], 0, start, length, 0)
    kind, _, start, length, pid = struct.unpack("hhqqi", fcntl.fcntl(files[name], fcntl.F_GETLK, want)[:28])
    return None if kind == fcntl.F_UNLCK else {"kind": "read" if kind == fcntl.F_RDLCK else "write", "start": start, "length": length}


def flock(name, kind, wait):
    fcntl.flock(files[name], {"read": fcntl.LOCK_SH, "write": fcntl.LOCK_EX, "unlock": fcntl.LOCK_UN}[kind] | (0 if wait else fcntl.LOCK_NB))


def map_file(name, file, length, writable):
    maps[name] = mmap.mmap(files[file], length, mmap.MAP_SHARED, mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0))


def map_write(name, offset, data):
    maps[name][offset:offset + len(data)] = data.encode("latin-1")


def map_touch(name, offset, data):
    """Writes through a mapping at an offset within the file, or does nothing when it is empty. Returns what was there."""
    st = os.fstat(files[name])
    size = st.st_size
    if not stat.S_ISREG(st.st_mode):
        raise OSError(errno.ENODEV, "only files can be mapped")
    if size == 0:
        return None
    offset %= size
    data = data.encode("latin-1")[:size - offset]
    with mmap.mmap(files[name], size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
        before = mapped[offset:offset + len(data)].decode("latin-1")
        mapped[offset:offset + len(data)] = data
        mapped.flush()
    return before


def tree(path):
    """Everything below path: kind, mode, size, links, and the digest of files or the target of links. Names of one file share a number."""
    found, numbers = [], {}
    for directory, directories, names in os.walk(path):
        directories.sort()
        for name in sorted(directories + names):
            full = os.path.join(directory, name)
            st = described(os.lstat(full))
            number = numbers.setdefault(st["inode"], len(numbers))
            content = digest(full) if st["kind"] == "file" else os.readlink(full) if st["kind"] == "symlink" else None
            size, links = (None, None) if st["kind"] == "directory" else (st["size"], st["nlink"])
            found.append([full, st["kind"], st["mode"], size, links, number, content])
    return found


def become(uid, gid, groups):
    os.seteuid(0)
    os.setegid(0)
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)


def whole(path):
    with open(raw(path), "rb") as file:
        return file.read().decode("latin-1")


def digest(path):
    total = hashlib.sha256()
    with open(raw(path), "rb", buffering=0) as file:
        while part := file.read(1 << 20):
            total.update(part)
    return total.hexdigest()


def write_whole(path, data):
    with open(raw(path), "wb", buffering=0) as file:
        file.write(data.encode("latin-1"))


def append_lines(path, prefix, count, locked):
    """Appends count lines, each by an open, write and close of its own; under flock when locked."""
    for number in range(count):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        if locked:
            fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(fd, f"{prefix} {number:06d}\n".encode())
        os.close(fd)


def append_kept_open(path, prefix, count):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in range(count):
        os.write(fd, f"{prefix} {number:06d}\n".encode())
    os.close(fd)


def append_and_look(path, prefix, count):
    """Appends lines without a lock while others do, and looks in between. Returns what was wrong: zeros, torn lines, own lines that are not there."""
    wrong, file_size = [], 0
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in range(count):
        os.write(fd, f"{prefix} {number:06d}\n".encode())
        if number % 7 == 3:
            size = os.fstat(fd).st_size
            if size < file_size or size < (number + 1) * len(f"{prefix} {number:06d}\n"):
                wrong.append(f"size {size} after {file_size}, {number + 1} own lines")
            file_size = size
        if number % 23 == 7:
            os.fsync(fd)
        if number % 31 == 11:
            os.close(fd)
            fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        if number % 17 == 5:
            with open(path, "rb") as file:
                lines = file.read().decode("latin-1").split("\n")
            own = [line for line in lines if line.startswith(f"{prefix} ")]
            if own != [f"{prefix} {one:06d}" for one in range(number + 1)]:
                wrong.append(f"{len(own)} own lines of {number + 1}, the last {own[-1:]}")
            wrong += [f"line {line[:60]!r}" for line in lines[:-1] if not line[-6:].isdigit() or "\0" in line]
    os.close(fd)
    return wrong[:10]


def count_up(path, times):
    """Read, add one, write back: only right when flock excludes and carries the data along."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    for _ in range(times):
        fcntl.flock(fd, fcntl.LOCK_EX)
        value = int(os.pread(fd, 32, 0) or b"0")
        os.pwrite(fd, b"%d" % (value + 1), 0)
        fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def replace_often(path, times, size):
    """Writes a file whole under another name and renames it over path."""
    for number in range(times):
        temporary = f"{path}.new"
        with open(temporary, "wb") as file:
            file.write(bytes([65 + number % 26]) * size)
        os.rename(temporary, path)


def read_often(path, times, size):
    """Every read must find a whole file. Returns what was wrong."""
    wrong = []
    for _ in range(times):
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            wrong.append(errno.errorcode[error.errno])
            continue
        if len(data) != size or data.count(data[:1]) != size:
            wrong.append(f"{len(data)} bytes, {sorted(set(data))[:4]}")
    return wrong


def move_directories(seed, directories, times):
    """Moves directories into each other at random, as somebody else does at the same time. Returns what should not happen."""
    chance, wrong = random.Random(seed), []
    def find():
        return {os.path.basename(path): path for path, _, _ in os.walk("moved")}
    for _ in range(times):
        where = find()
        one, other = chance.choice(directories), chance.choice(directories + ["moved"])
        if one not in where or other not in where:
            continue
        try:
            os.rename(where[one], os.path.join(where[other], one))
        except OSError as error:
            # Into itself, or moved by the other meanwhile.
            if error.errno not in (errno.EINVAL, errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ESTALE):
                wrong.append(errno.errorcode[error.errno])
    return wrong


def write_random(path, size):
    """Random bytes in pieces of 1 MiB, synced. Returns the digest."""
    total = hashlib.sha256()
    with open(path, "wb", buffering=0) as file:
        for _ in range(size >> 20):
            piece = os.urandom(1 << 20)
            total.update(piece)
            file.write(piece)
        os.fsync(file.fileno())
    return total.hexdigest()


def seek(name, offset, whence):
    return os.lseek(files[name], offset, {"data": os.SEEK_DATA, "hole": os.SEEK_HOLE, "end": os.SEEK_END}[whence])


commands = {
    "open": open_file,
    "close": lambda name: os.close(files.pop(name)),
    "read": lambda name, length, offset: os.pread(files[name], length, offset).decode("latin-1"),
    "write": lambda name, data, offset: os.pwrite(files[name], data.encode("latin-1"), offset),
    "append": lambda name, data: os.write(files[name], data.encode("latin-1")),
    "fsync": lambda name: os.fsync(files[name]),
    "ftruncate": lambda name, size: os.ftruncate(files[name], size),
    "fstat": lambda name: described(os.fstat(files[name])),
    "fchmod": lambda name, mode: os.fchmod(files[name], mode),
    "futimens": lambda name, atime, mtime: os.utime(files[name], ns=(int(atime), int(mtime))),
    "seek": seek,
    "fallocate": fallocate,
    "copy": lambda source, target, length, source_offset, target_offset:
        os.copy_file_range(files[source], files[target], length, source_offset, target_offset),
    "lock": lock, "lock&": lock, "testLock": test_lock, "flock": flock, "flock&": flock,
    "map": map_file, "mapWrite": map_write,
    "mapRead": lambda name, offset, length: maps[name][offset:offset + length].decode("latin-1"),
    "mapSync": lambda name: maps[name].flush(),
    "unmap": lambda name: maps.pop(name).close(),
    "mapTouch": map_touch, "tree": tree,
    "stat": lambda path: described(os.stat(raw(path))),
    "lstat": lambda path: described(os.lstat(raw(path))),
    "truncate": lambda path, size: os.truncate(raw(path), size),
    "mkdir": lambda path, mode=0o755: os.mkdir(raw(path), mode),
    "rmdir": lambda path: os.rmdir(raw(path)),
    "unlink": lambda path: os.unlink(raw(path)),
    "rename": lambda old, new: os.rename(raw(old), raw(new)),
    "renameat2": renameat2,
    "link": lambda old, new: os.link(raw(old), raw(new)),
    "symlink": lambda target, path: os.symlink(raw(target), raw(path)),
    "readlink": lambda path: os.readlink(raw(path)),
    "mknod": lambda path, mode, device=0: os.mknod(raw(path), mode, device),
    "chmod": lambda path, mode: os.chmod(raw(path), mode),
    "chown": lambda path, uid, gid: os.lchown(raw(path), uid, gid),
    "utimens": lambda path, atime, mtime: os.utime(raw(path), ns=(int(atime), int(mtime)), follow_symlinks=False),
    "touch": lambda path: os.utime(raw(path)),
    "list": lambda path: sorted(os.listdir(raw(path))),
    "setxattr": lambda path, name, value, flags=0: os.setxattr(path, name, value.encode("latin-1"), flags, follow_symlinks=False),
    "getxattr": lambda path, name: os.getxattr(path, name, follow_symlinks=False).decode("latin-1"),
    "listxattr": lambda path: sorted(os.listxattr(path, follow_symlinks=False)),
    "removexattr": lambda path, name: os.removexattr(path, name, follow_symlinks=False),
    "access": lambda path, mode: os.access(path, mode, effective_ids=True),
    "statvfs": lambda: {"namemax": os.statvfs(".").f_namemax, "total": os.statvfs(".").f_blocks, "free": os.statvfs(".").f_bavail},
    "cd": os.chdir,
    "umask": os.umask,
    "become": become,
    "whole": whole, "digest": digest, "writeWhole": write_whole,
    "makeFiles": lambda path, count: [os.close(os.open(f"{path}/file-{i:06d}", os.O_CREAT | os.O_WRONLY, 0o644)) for i in range(count)] and None,
    "count": lambda path: (lambda names: [len(names), len(set(names))])(os.listdir(path)),
    "appendLines": append_lines, "appendKeptOpen": append_kept_open, "appendAndLook": append_and_look, "countUp": count_up,
    "replaceOften": replace_often, "moveDirectories": move_directories, "writeRandom": write_random, "readOften": read_often,
}


def run(identity, name, arguments):
    try:
        answer = [identity, None, commands[name](*arguments)]
    except OSError as error:
        answer = [identity, errno.errorcode.get(error.errno, str(error.errno)), None]
    except (BufferError, ValueError, KeyError, IndexError, TypeError) as error:
        answer = [identity, f"worker: {error!r}", None]
    with answer_lock:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


class Interrupted(Exception):
    pass


def waiting(identity, name, arguments):
    """A child, since only a process of its own can be interrupted while it waits in a call."""
    is_ready, ready = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGUSR1, interrupt)
            os.write(ready, b".")
            commands[name](*arguments)
            result = None
        except Interrupted:
            result = "EINTR"
        except OSError as error:
            result = errno.errorcode[error.errno]
        os.write(1, (json.dumps([identity, result, None]) + "\n").encode())
        os._exit(0)
    threads[identity] = child
    # Until then the signal would end it without an answer.
    os.close(ready)
    os.read(is_ready, 1)
    os.close(is_ready)


def interrupt(*_):
    raise Interrupted


signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    identity, name, *arguments = json.loads(line)
    if name == "signal":
        os.kill(threads[arguments[0]], signal.SIGUSR1)
        run(identity, "access", [".", os.F_OK])
    elif name.endswith("&"):
        waiting(identity, name, arguments)
    else:
        run(identity, name, arguments)
