/* Records what a program does to the files below a directory, for R05: every write, truncation,
 * creation, rename and removal, and the beginning and end of every fsync. Loaded by LD_PRELOAD.
 *
 * RECORD_ROOT: the directory. RECORD_LOG: the file that is appended to. A record is
 *   op (1 byte), inode, offset, length (8 bytes each, as the machine has them), content
 * W: content written at offset. T: truncated to offset. C: content is the path of a new file.
 * M: of a new directory. U: of what is removed. R: two paths with a NUL between. B, E: a sync
 * of inode begins, ends; content is its path. A write is recorded before it is done, the end of
 * a sync after it: what happens between is on the safe side for whoever replays the log.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 65536
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static uint64_t inode_of[FILES]; /* 0: not below the directory */
static const char *root;
static size_t root_length;
static int log_file = -1;

__attribute__((constructor)) static void start(void) {
    const char *place = getenv("RECORD_LOG");
    root = getenv("RECORD_ROOT");
    if (!root || !place) return;
    root_length = strlen(root);
    log_file = REAL(open)(place, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void record(char op, uint64_t inode, uint64_t offset, const void *content, uint64_t length) {
    if (log_file < 0) return;
    unsigned char head[25];
    head[0] = (unsigned char)op;
    memcpy(head + 1, &inode, 8);
    memcpy(head + 9, &offset, 8);
    memcpy(head + 17, &length, 8);
    struct iovec parts[2] = {{head, sizeof head}, {(void *)content, length}};
    int before = errno;
    if (writev(log_file, parts, 2) != (ssize_t)(sizeof head + length)) abort();
    errno = before;
}

static int below(const char *path) {
    size_t length = strlen(path);
    if (strncmp(path, root, root_length) != 0) return 0;
    if (path[root_length] != '/' && path[root_length] != 0) return 0;
    if (length > 4 && (!strcmp(path + length - 4, "-shm") || !strcmp(path + length - 5, ".lock")))
        return 0;
    return 1;
}

/* The absolute path of a name under a directory file; 0 if it is not below the root. */
static int place_of(int directory, const char *name, char *path) {
    if (log_file < 0 || !name) return 0;
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return below(path);
    }
    char base[PATH_MAX], link[64];
    if (directory == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) return 0;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
        ssize_t size = readlink(link, base, sizeof base - 1);
        if (size < 0) return 0;
        base[size] = 0;
    }
    if (strlen(base) + strlen(name) + 2 > PATH_MAX) return 0;
    strcpy(path, base);
    strcat(path, "/");
    strcat(path, name);
    return below(path);
}

static int opened(int file, const char *path, int existed) {
    struct stat found;
    if (file < 0 || file >= FILES) return file;
    inode_of[file] = 0;
    if (!path || fstat(file, &found) != 0) return file;
    inode_of[file] = found.st_ino;
    if (!existed) record('C', found.st_ino, 0, path, strlen(path));
    return file;
}

static int open_at(int directory, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    int ours = place_of(directory, name, path);
    int existed = !ours || access(path, F_OK) == 0;
    return opened(REAL(openat)(directory, name, flags, mode), ours ? path : NULL, existed);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        return open_at(AT_FDCWD, path, flags, mode); \
    }
#define OPENAT(name) \
    int name(int directory, const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        return open_at(directory, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int close(int file) {
    if (file >= 0 && file < FILES) inode_of[file] = 0;
    return REAL(close)(file);
}

static uint64_t known(int file) { return file >= 0 && file < FILES ? inode_of[file] : 0; }

ssize_t write(int file, const void *content, size_t length) {
    if (known(file) && file != log_file)
        record('W', known(file), (uint64_t)lseek(file, 0, SEEK_CUR), content, length);
    return REAL(write)(file, content, length);
}

#define PWRITE(name, type) \
    ssize_t name(int file, const void *content, size_t length, type offset) { \
        if (known(file)) record('W', known(file), (uint64_t)offset, content, length); \
        return REAL(name)(file, content, length, offset); \
    }
#define TRUNCATE(name, type) \
    int name(int file, type size) { \
        if (known(file)) record('T', known(file), (uint64_t)size, NULL, 0); \
        return REAL(name)(file, size); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

static void synced(char op, int file) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path);
    record(op, known(file), 0, path, size < 0 ? 0 : (uint64_t)size);
}

#define SYNC(name) \
    int name(int file) { \
        int ours = known(file) != 0; \
        if (ours) synced('B', file); \
        int result = REAL(name)(file); \
        if (ours && result == 0) synced('E', file); \
        return result; \
    }
SYNC(fsync)
SYNC(fdatasync)

static int renamed(int result, int from_at, const char *from, int to_at, const char *to) {
    char both[2 * PATH_MAX + 1], second[PATH_MAX];
    if (result == 0 && place_of(from_at, from, both) && place_of(to_at, to, second)) {
        size_t first = strlen(both);
        strcpy(both + first + 1, second);
        record('R', 0, 0, both, first + 1 + strlen(second));
    }
    return result;
}

int rename(const char *from, const char *to) {
    return renamed(REAL(rename)(from, to), AT_FDCWD, from, AT_FDCWD, to);
}

int renameat(int from_at, const char *from, int to_at, const char *to) {
    return renamed(REAL(renameat)(from_at, from, to_at, to), from_at, from, to_at, to);
}

static int removed(int result, int directory, const char *name) {
    char path[PATH_MAX];
    if (result == 0 && place_of(directory, name, path)) record('U', 0, 0, path, strlen(path));
    return result;
}

int unlink(const char *path) { return removed(REAL(unlink)(path), AT_FDCWD, path); }

int unlinkat(int directory, const char *name, int flags) {
    return removed(REAL(unlinkat)(directory, name, flags), directory, name);
}

static int made(int result, int directory, const char *name) {
    char path[PATH_MAX];
    if (result == 0 && place_of(directory, name, path)) record('M', 0, 0, path, strlen(path));
    return result;
}

int mkdir(const char *path, mode_t mode) {
    return made(REAL(mkdir)(path, mode), AT_FDCWD, path);
}

int mkdirat(int directory, const char *name, mode_t mode) {
    return made(REAL(mkdirat)(directory, name, mode), directory, name);
}
