/* Keeps account of what a process does to the files below one directory, so that a power loss can
 * be played afterwards: which writes a sync has covered, and which not (disk.rs reads it).
 *
 *     LD_PRELOAD=shim.so CROSSLATCH_SHIM_ROOT=/absolute/directory CROSSLATCH_SHIM_LOG=/a/file
 *
 * Every call that changes a file or a directory below the root is logged twice: that it is about
 * to happen (BEGIN), and, once it has returned, what it did. One lock is held over both and the
 * call, so the log's order is that of the calls, and a process that is killed leaves at most one
 * call that is on the disk and not in the log: the one its last event announces.
 *
 * A sync is logged without the lock, as it takes long: what was logged before its SYNC_BEGIN is
 * covered by it once there is a SYNC_DONE, which is written before the caller hears of it.
 *
 * Files are known by their inode numbers, so copies of descriptors, renames and files that are
 * unlinked while open need no care. System calls are made directly: nothing has to be looked up,
 * and the log is not logged. What is not intercepted (mapped memory, stdio, copy_file_range) is
 * noticed by disk.rs, which compares what the log leads to with what is on the disk.
 *
 * With CROSSLATCH_SHIM_DIE_AT=n the process is killed at its n-th event, so that every gap between
 * two calls is as likely as any other, however short it is.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind {
    BEGIN = 1,       /* path [path2]: something is about to happen there */
    CREATE = 2,      /* path, inode: a new empty file */
    RESIZE = 3,      /* inode, offset: its length now */
    WRITE = 4,       /* inode, offset, bytes */
    SYNC_BEGIN = 5,  /* inode of a file or directory, offset: number of this sync */
    SYNC_DONE = 6,   /* offset: number of the sync */
    MKDIR = 7,       /* path, inode */
    RENAME = 8,      /* path, path2 */
    LINK = 9,        /* path, path2 */
    UNLINK = 10,     /* path of a file or directory */
    UNSUPPORTED = 11 /* path: what disk.rs has no model of */
};

/* What an event begins with; path, path2 and bytes follow. */
struct head {
    uint32_t magic, kind, path_len, path2_len;
    uint64_t inode, offset, bytes;
};

#define MAGIC 0x544f4c53u
#define LOG_FD 900

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_len;
static int log_fd = -1;
static uint64_t syncs, events, die_at;

static void die(const char *why) {
    fprintf(stderr, "shim: %s: %s\n", why, strerror(errno));
    abort();
}

__attribute__((constructor)) static void start(void) {
    const char *directory = getenv("CROSSLATCH_SHIM_ROOT"), *log = getenv("CROSSLATCH_SHIM_LOG");
    if (!directory || !log) return;
    const char *number = getenv("CROSSLATCH_SHIM_DIE_AT");
    die_at = number ? strtoull(number, NULL, 10) : 0;
    root_len = strlen(directory);
    if (root_len >= sizeof root) die("root");
    memcpy(root, directory, root_len + 1);
    int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) die(log);
    log_fd = syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, LOG_FD);
    if (log_fd < 0) die("log descriptor");
    syscall(SYS_close, fd);
}

/* Appends one event. A regular file on a local disk takes it whole or the process is dying. */
static void emit(enum kind kind, const char *path, const char *path2, uint64_t inode,
                 uint64_t offset, const struct iovec *data, int parts, uint64_t bytes) {
    struct head head = {MAGIC, kind, path ? strlen(path) : 0, path2 ? strlen(path2) : 0,
                        inode, offset, bytes};
    struct iovec all[3 + parts];
    int n = 3;
    all[0] = (struct iovec){&head, sizeof head};
    all[1] = (struct iovec){(void *)path, head.path_len};
    all[2] = (struct iovec){(void *)path2, head.path2_len};
    for (uint64_t left = bytes; left > 0; n++) {
        size_t len = data[n - 3].iov_len < left ? data[n - 3].iov_len : left;
        all[n] = (struct iovec){data[n - 3].iov_base, len};
        left -= len;
    }
    ssize_t whole = sizeof head + head.path_len + head.path2_len + bytes;
    if (syscall(SYS_writev, log_fd, all, n) != whole) die("log");
    if (++events == die_at) kill(getpid(), SIGKILL);
}

static int is_below(const char *path) {
    return strncmp(path, root, root_len) == 0 && (path[root_len] == '/' || path[root_len] == 0);
}

/* The path of an open file, if it is below the root. */
static int path_of(int fd, char *path) {
    if (log_fd < 0) return 0;
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int saved = errno;
    ssize_t len = syscall(SYS_readlink, link, path, PATH_MAX - 1);
    errno = saved;
    path[len < 0 ? 0 : len] = 0;
    return is_below(path);
}

/* A path made absolute, if it is below the root; no symbolic links are expected there. */
static int path_at(int dir, const char *name, char *path) {
    if (log_fd < 0) return 0;
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
    } else {
        char base[PATH_MAX];
        int there = dir == AT_FDCWD ? getcwd(base, sizeof base) && is_below(base)
                                    : path_of(dir, base);
        if (!there || snprintf(path, PATH_MAX, "%s/%s", base, name) >= PATH_MAX) return 0;
    }
    return is_below(path);
}

static uint64_t inode_of(int fd) {
    struct stat stat;
    if (fstat(fd, &stat) < 0) die("fstat");
    return stat.st_ino;
}

static void begin(const char *path, const char *path2) {
    pthread_mutex_lock(&lock);
    emit(BEGIN, path, path2, 0, 0, NULL, 0, 0);
}

static void end(void) {
    int saved = errno;
    pthread_mutex_unlock(&lock);
    errno = saved;
}

/* ---- Opening. */

static int do_open(int dir, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
    if (!writes || !path_at(dir, name, path)) return syscall(SYS_openat, dir, name, flags, mode);
    begin(path, NULL);
    struct stat before;
    int saved = errno, was_there = fstatat(dir, name, &before, 0) == 0;
    errno = saved;
    int fd = syscall(SYS_openat, dir, name, flags, mode);
    if (fd >= 0) {
        if (flags & (O_DSYNC | O_SYNC | O_DIRECT)) {
            emit(UNSUPPORTED, "open with O_SYNC, O_DSYNC or O_DIRECT", NULL, 0, 0, NULL, 0, 0);
        }
        if (!was_there) {
            emit(CREATE, path, NULL, inode_of(fd), 0, NULL, 0, 0);
        } else if ((flags & O_TRUNC) && before.st_size > 0) {
            emit(RESIZE, NULL, NULL, inode_of(fd), 0, NULL, 0, 0);
        }
    }
    end();
    return fd;
}

#define OPEN_MODE(flags, mode)                         \
    mode_t mode = 0;                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {             \
        va_list rest;                                  \
        va_start(rest, flags);                         \
        mode = va_arg(rest, mode_t);                   \
        va_end(rest);                                  \
    }

int open(const char *name, int flags, ...) {
    OPEN_MODE(flags, mode)
    return do_open(AT_FDCWD, name, flags, mode);
}
int open64(const char *name, int flags, ...) {
    OPEN_MODE(flags, mode)
    return do_open(AT_FDCWD, name, flags | O_LARGEFILE, mode);
}
int openat(int dir, const char *name, int flags, ...) {
    OPEN_MODE(flags, mode)
    return do_open(dir, name, flags, mode);
}
int openat64(int dir, const char *name, int flags, ...) {
    OPEN_MODE(flags, mode)
    return do_open(dir, name, flags | O_LARGEFILE, mode);
}
int creat(const char *name, mode_t mode) {
    return do_open(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
int creat64(const char *name, mode_t mode) { return creat(name, mode); }

/* ---- Writing. */

/* At the file's own place if `at` is negative. */
static ssize_t do_write(int fd, const struct iovec *data, int parts, off_t at) {
    char path[PATH_MAX];
    int tracked = path_of(fd, path);
    if (tracked) begin(path, NULL);
    ssize_t n = at < 0 ? syscall(SYS_writev, fd, data, parts)
                       : syscall(SYS_pwritev, fd, data, parts, at, 0L);
    if (!tracked) return n;
    if (n > 0) {
        off_t place = at < 0 ? lseek(fd, 0, SEEK_CUR) - n : at;
        emit(WRITE, NULL, NULL, inode_of(fd), place, data, parts, n);
    }
    end();
    return n;
}

ssize_t write(int fd, const void *data, size_t len) {
    struct iovec one = {(void *)data, len};
    return do_write(fd, &one, 1, -1);
}
ssize_t writev(int fd, const struct iovec *data, int parts) { return do_write(fd, data, parts, -1); }
ssize_t pwrite(int fd, const void *data, size_t len, off_t at) {
    struct iovec one = {(void *)data, len};
    return do_write(fd, &one, 1, at);
}
ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at) {
    return pwrite(fd, data, len, at);
}
ssize_t pwritev(int fd, const struct iovec *data, int parts, off_t at) {
    return do_write(fd, data, parts, at);
}
ssize_t pwritev64(int fd, const struct iovec *data, int parts, off64_t at) {
    return do_write(fd, data, parts, at);
}

/* Notes a file's length after a call that may have changed it. */
static int resized(int fd, int result) {
    struct stat now;
    if (result == 0 && fstat(fd, &now) == 0) {
        emit(RESIZE, NULL, NULL, now.st_ino, now.st_size, NULL, 0, 0);
    }
    end();
    return result;
}

int ftruncate(int fd, off_t len) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return syscall(SYS_ftruncate, fd, len);
    begin(path, NULL);
    return resized(fd, syscall(SYS_ftruncate, fd, len));
}
int ftruncate64(int fd, off64_t len) { return ftruncate(fd, len); }

int fallocate(int fd, int mode, off_t at, off_t len) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return syscall(SYS_fallocate, fd, mode, at, len);
    begin(path, NULL);
    struct stat before;
    int is_behind = fstat(fd, &before) == 0 && (mode & FALLOC_FL_KEEP_SIZE) && at >= before.st_size;
    if (mode & ~FALLOC_FL_KEEP_SIZE && !is_behind) {
        emit(UNSUPPORTED, "fallocate that changes bytes", NULL, 0, 0, NULL, 0, 0);
    }
    return resized(fd, syscall(SYS_fallocate, fd, mode, at, len));
}
int fallocate64(int fd, int mode, off64_t at, off64_t len) { return fallocate(fd, mode, at, len); }

int posix_fallocate(int fd, off_t at, off_t len) {
    int saved = errno, failed = fallocate(fd, 0, at, len) < 0 ? errno : 0;
    errno = saved;
    return failed;
}
int posix_fallocate64(int fd, off64_t at, off64_t len) { return posix_fallocate(fd, at, len); }

/* ---- Syncing. sync_file_range proves nothing, and is not looked at. */

static int do_sync(int number, int fd) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return syscall(number, fd);
    pthread_mutex_lock(&lock);
    uint64_t mine = ++syncs;
    emit(SYNC_BEGIN, NULL, NULL, inode_of(fd), mine, NULL, 0, 0);
    end();
    int result = syscall(number, fd);
    if (result == 0) {
        pthread_mutex_lock(&lock);
        emit(SYNC_DONE, NULL, NULL, 0, mine, NULL, 0, 0);
        end();
    }
    return result;
}

int fsync(int fd) { return do_sync(SYS_fsync, fd); }
int fdatasync(int fd) { return do_sync(SYS_fdatasync, fd); }

/* ---- Names. */

int mkdirat(int dir, const char *name, mode_t mode) {
    char path[PATH_MAX];
    if (!path_at(dir, name, path)) return syscall(SYS_mkdirat, dir, name, mode);
    begin(path, NULL);
    int result = syscall(SYS_mkdirat, dir, name, mode);
    struct stat made;
    if (result == 0 && fstatat(dir, name, &made, 0) == 0) {
        emit(MKDIR, path, NULL, made.st_ino, 0, NULL, 0, 0);
    }
    end();
    return result;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int unlinkat(int dir, const char *name, int flags) {
    char path[PATH_MAX];
    if (!path_at(dir, name, path)) return syscall(SYS_unlinkat, dir, name, flags);
    begin(path, NULL);
    int result = syscall(SYS_unlinkat, dir, name, flags);
    if (result == 0) emit(UNLINK, path, NULL, 0, 0, NULL, 0, 0);
    end();
    return result;
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

/* A rename or a link, which must stay below the root or outside of it. */
static int two_names(enum kind kind, int from_dir, const char *from, int to_dir, const char *to,
                     unsigned flags) {
    char path[PATH_MAX], path2[PATH_MAX];
    int number = kind == RENAME ? SYS_renameat2 : SYS_linkat;
    int tracked = path_at(from_dir, from, path);
    if (tracked != path_at(to_dir, to, path2)) {
        pthread_mutex_lock(&lock);
        emit(UNSUPPORTED, "a rename or link across the root", NULL, 0, 0, NULL, 0, 0);
        end();
    }
    if (!tracked) return syscall(number, from_dir, from, to_dir, to, flags);
    begin(path, path2);
    int result = syscall(number, from_dir, from, to_dir, to, flags);
    if (result == 0) emit(kind, path, path2, 0, 0, NULL, 0, 0);
    end();
    return result;
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    return two_names(RENAME, from_dir, from, to_dir, to, flags);
}
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return two_names(RENAME, from_dir, from, to_dir, to, 0);
}
int rename(const char *from, const char *to) {
    return two_names(RENAME, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    return two_names(LINK, from_dir, from, to_dir, to, flags);
}
int link(const char *from, const char *to) {
    return two_names(LINK, AT_FDCWD, from, AT_FDCWD, to, 0);
}
