/* Makes chosen operations on files fail, fall short, or end the process.

   A library for LD_PRELOAD. It stands between a program and the C library's calls on files, does
   nothing until soak_arm is called, and then counts the operations that fit a rule: of these kinds,
   on a path below this folder whose rest fits this pattern. From the first one that the rule names
   on, every so many operations, an operation is struck. Each strike is a line in the report,
   "<number> <kind> <errno> <path below the folder>"; with the action TRACE each operation is one.
   With POWER the process is killed at the operation, and lines with the number 0 tell what the disk
   was given until then: what is written, the size of what is synchronised in the place of an errno,
   and renamed paths with a tab between them.
   What it does itself goes through raw system calls. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* as tests/soak/rules.py lists them */
enum { CREATE, OPEN, READ, WRITE, SYNC, RENAME, MKDIR, UNLINK, RMDIR, TRUNCATE, STAT, LIST, LOCK };
static const char *KINDS[] = {"create", "open",  "read",     "write", "sync", "rename", "mkdir",
                              "unlink", "rmdir", "truncate", "stat",  "list", "lock"};
enum { TRACE, FAIL, SHORT, KILL_BEFORE, KILL_AFTER, SIGNAL, POWER };

static struct {
  atomic_int armed;
  char folder[PATH_MAX], pattern[256];
  unsigned kinds;
  long first, every, most;
  int errors[16], error_count, action, number, report;
  atomic_long seen, struck;
} rule;

/* Installs a rule. errors holds error_count numbers, taken in turn; most = 0 means no end. */
int soak_arm(const char *folder, const char *pattern, unsigned kinds, const long *when,
             const int *errors, int error_count, int action, const char *report) {
  rule.armed = 0;
  if (strlen(folder) >= sizeof rule.folder || strlen(pattern) >= sizeof rule.pattern) return -1;
  strcpy(rule.folder, folder);
  strcpy(rule.pattern, pattern);
  rule.kinds = kinds;
  rule.first = when[0];
  rule.every = when[1];
  rule.most = when[2];
  rule.number = (int)when[3];
  for (int i = 0; i < error_count && i < 16; i++) rule.errors[i] = errors[i];
  rule.error_count = error_count < 16 ? error_count : 16;
  rule.action = action;
  rule.seen = 0;
  rule.struck = 0;
  int made = syscall(SYS_openat, AT_FDCWD, report, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (made < 0) return -1;
  rule.report = syscall(SYS_fcntl, made, F_DUPFD_CLOEXEC, 700);
  syscall(SYS_close, made);
  rule.armed = rule.report >= 0;
  return rule.armed ? 0 : -1;
}

static void note(long number, int kind, int error, const char *rest) {
  char line[2 * PATH_MAX + 64];
  int length = snprintf(line, sizeof line, "%ld %s %d %s\n", number, KINDS[kind], error, rest);
  if (length > 0) syscall(SYS_write, rule.report, line, (size_t)length);
}

/* The path below the rule's folder, NULL if it lies elsewhere. */
static const char *below(int at, const char *path, char *room) {
  if (path == NULL || path[0] != '/') {
    char link[64];
    if (at == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, room, PATH_MAX - 1);
    if (length <= 0 || room[0] != '/') return NULL;
    room[length] = 0;
    if (path && path[0]) {
      if (length + strlen(path) + 2 > PATH_MAX) return NULL;
      room[length] = '/';
      strcpy(room + length + 1, path);
    }
    path = room;
  }
  size_t length = strlen(rule.folder);
  if (strncmp(path, rule.folder, length) || (path[length] && path[length] != '/')) return NULL;
  return path[length] ? path + length + 1 : path + length;
}

static void end_here(void) { syscall(SYS_kill, syscall(SYS_getpid), SIGKILL); }

/* For POWER: what an operation on files gives to the disk. */
static void remember(int kind, int at, const char *path, const char *rest) {
  struct stat found;
  int size = 0;
  if (kind == SYNC && path == NULL && syscall(SYS_fstat, at, &found) == 0) size = (int)found.st_size;
  if (kind == WRITE || kind == TRUNCATE || kind == SYNC || kind == UNLINK) note(0, kind, size, rest);
}

static void remember_move(int old_at, const char *old, int new_at, const char *new) {
  if (!rule.armed || rule.action != POWER) return;
  char rooms[2][PATH_MAX], both[2 * PATH_MAX];
  const char *from = below(old_at, old, rooms[0]), *to = below(new_at, new, rooms[1]);
  if (from == NULL || to == NULL) return;
  snprintf(both, sizeof both, "%s\t%s", from, to);
  note(0, RENAME, 0, both);
}

/* What happens to an operation: 0 nothing, an error, or -1 for SHORT, -2 for KILL_AFTER. */
static int struck(int kind, int at, const char *path) {
  if (!rule.armed || !(rule.kinds >> kind & 1 || rule.action == POWER)) return 0;
  char room[PATH_MAX];
  int kept = errno;
  const char *rest = below(at, path, room);
  if (rest == NULL || !(rule.kinds >> kind & 1) || fnmatch(rule.pattern, rest, 0)) {
    if (rest && rule.action == POWER) remember(kind, at, path, rest);
    errno = kept;
    return 0;
  }
  long seen = ++rule.seen;
  int result = 0;
  if (rule.action == TRACE) {
    note(seen, kind, 0, rest);
  } else if (seen >= rule.first && (seen - rule.first) % rule.every == 0) {
    long count = ++rule.struck;
    if (!rule.most || count <= rule.most) {
      int error = rule.error_count ? rule.errors[(count - 1) % rule.error_count] : 0;
      note(seen, kind, error, rest);
      if (rule.action == FAIL) result = error;
      if (rule.action == SHORT) result = -1;
      if (rule.action == KILL_BEFORE || rule.action == POWER) end_here();
      if (rule.action == KILL_AFTER) result = -2;
      if (rule.action == SIGNAL) syscall(SYS_kill, syscall(SYS_getpid), rule.number);
    }
  }
  if (rule.action == POWER) remember(kind, at, path, rest);
  errno = kept;
  return result;
}

#define REAL(name) \
  static __typeof__(&name) real; \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
/* Returns `failure` with errno if the operation is struck. */
#define STRIKE(kind, at, path, failure) \
  int hit = struck(kind, at, path); \
  if (hit > 0) { \
    errno = hit; \
    return failure; \
  }
#define DONE(result) \
  do { \
    __auto_type value = (result); \
    if (hit == -2) end_here(); \
    return value; \
  } while (0)

static int open_kind(int flags) {
  return flags & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC) ? CREATE : OPEN;
}
#define MODE \
  mode_t mode = 0; \
  if (flags & (O_CREAT | O_TMPFILE)) { \
    va_list list; \
    va_start(list, flags); \
    mode = va_arg(list, mode_t); \
    va_end(list); \
  }
#define OPENS(name) \
  int name(const char *path, int flags, ...) { \
    REAL(name); \
    MODE STRIKE(open_kind(flags), AT_FDCWD, path, -1) DONE(real(path, flags, mode)); \
  }
#define OPENS_AT(name) \
  int name(int at, const char *path, int flags, ...) { \
    REAL(name); \
    MODE STRIKE(open_kind(flags), at, path, -1) DONE(real(at, path, flags, mode)); \
  }
OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)
/* what the fortified headers make of open without a mode */
int __open_2(const char *path, int flags) { return open(path, flags, 0); }
int __open64_2(const char *path, int flags) { return open64(path, flags, 0); }
int __openat_2(int at, const char *path, int flags) { return openat(at, path, flags, 0); }
int __openat64_2(int at, const char *path, int flags) { return openat64(at, path, flags, 0); }

/* Half of the bytes are written where a write falls short, or is the last act of the process. */
static size_t part(int hit, size_t size) { return hit < 0 && size > 1 ? size / 2 : size; }

ssize_t write(int file, const void *data, size_t size) {
  REAL(write);
  STRIKE(WRITE, file, NULL, -1) DONE(real(file, data, part(hit, size)));
}
ssize_t writev(int file, const struct iovec *parts, int count) {
  REAL(writev);
  STRIKE(WRITE, file, NULL, -1) DONE(real(file, parts, (int)part(hit, (size_t)count)));
}
#define READS(name, offset_type) \
  ssize_t name(int file, void *data, size_t size, offset_type offset) { \
    REAL(name); \
    STRIKE(READ, file, NULL, -1) DONE(real(file, data, part(hit, size), offset)); \
  }
#define WRITES(name, offset_type) \
  ssize_t name(int file, const void *data, size_t size, offset_type offset) { \
    REAL(name); \
    STRIKE(WRITE, file, NULL, -1) DONE(real(file, data, part(hit, size), offset)); \
  }
#define WRITES_PARTS(name, offset_type) \
  ssize_t name(int file, const struct iovec *parts, int count, offset_type offset) { \
    REAL(name); \
    STRIKE(WRITE, file, NULL, -1) DONE(real(file, parts, (int)part(hit, (size_t)count), offset)); \
  }
ssize_t read(int file, void *data, size_t size) {
  REAL(read);
  STRIKE(READ, file, NULL, -1) DONE(real(file, data, part(hit, size)));
}
READS(pread, off_t)
READS(pread64, off64_t)
WRITES(pwrite, off_t)
WRITES(pwrite64, off64_t)
WRITES_PARTS(pwritev, off_t)
WRITES_PARTS(pwritev64, off64_t)

#define ON_FILE(name, kind) \
  int name(int file) { \
    REAL(name); \
    STRIKE(kind, file, NULL, -1) DONE(real(file)); \
  }
#define ON_PATH(name, kind) \
  int name(const char *path) { \
    REAL(name); \
    STRIKE(kind, AT_FDCWD, path, -1) DONE(real(path)); \
  }
ON_FILE(fsync, SYNC)
ON_FILE(fdatasync, SYNC)
ON_PATH(unlink, UNLINK)
ON_PATH(rmdir, RMDIR)
int ftruncate(int file, off_t size) {
  REAL(ftruncate);
  STRIKE(TRUNCATE, file, NULL, -1) DONE(real(file, size));
}
int ftruncate64(int file, off64_t size) {
  REAL(ftruncate64);
  STRIKE(TRUNCATE, file, NULL, -1) DONE(real(file, size));
}
int unlinkat(int at, const char *path, int flags) {
  REAL(unlinkat);
  STRIKE(flags & AT_REMOVEDIR ? RMDIR : UNLINK, at, path, -1) DONE(real(at, path, flags));
}
int mkdir(const char *path, mode_t mode) {
  REAL(mkdir);
  STRIKE(MKDIR, AT_FDCWD, path, -1) DONE(real(path, mode));
}
int mkdirat(int at, const char *path, mode_t mode) {
  REAL(mkdirat);
  STRIKE(MKDIR, at, path, -1) DONE(real(at, path, mode));
}
int rename(const char *old, const char *new) {
  REAL(rename);
  STRIKE(RENAME, AT_FDCWD, new, -1)
  remember_move(AT_FDCWD, old, AT_FDCWD, new);
  DONE(real(old, new));
}
int renameat(int old_at, const char *old, int new_at, const char *new) {
  REAL(renameat);
  STRIKE(RENAME, new_at, new, -1)
  remember_move(old_at, old, new_at, new);
  DONE(real(old_at, old, new_at, new));
}
int flock(int file, int operation) {
  REAL(flock);
  STRIKE(LOCK, file, NULL, -1) DONE(real(file, operation));
}
DIR *opendir(const char *path) {
  REAL(opendir);
  STRIKE(LIST, AT_FDCWD, path, NULL) DONE(real(path));
}
DIR *fdopendir(int file) {
  REAL(fdopendir);
  STRIKE(LIST, file, NULL, NULL) DONE(real(file));
}

#define STATS(name, type) \
  int name(const char *path, struct type *found) { \
    REAL(name); \
    STRIKE(STAT, AT_FDCWD, path, -1) DONE(real(path, found)); \
  }
#define STATS_FILE(name, type) \
  int name(int file, struct type *found) { \
    REAL(name); \
    STRIKE(STAT, file, NULL, -1) DONE(real(file, found)); \
  }
#define STATS_AT(name, type) \
  int name(int at, const char *path, struct type *found, int flags) { \
    REAL(name); \
    STRIKE(STAT, at, path, -1) DONE(real(at, path, found, flags)); \
  }
STATS(stat, stat)
STATS(lstat, stat)
STATS(stat64, stat64)
STATS(lstat64, stat64)
STATS_FILE(fstat, stat)
STATS_FILE(fstat64, stat64)
STATS_AT(fstatat, stat)
STATS_AT(fstatat64, stat64)
