/* Fails, kills at or interrupts the n-th system call of a kind: a preload library of the sweep (tests/sweep/resident.py).
 *
 * It stands between the program and the functions of the C library through which Python and SQLite reach the
 * kernel. Nothing happens until arm(); then calls are counted, those that change something and those that only
 * read apart. mode 1: count; 2: the n-th call of the class fails; 3: SIGKILL before it; 4: SIGKILL after it; 5: SIGINT
 * after it, before the program goes on.
 *
 * A program that is started by another arms itself by its environment: ISTHMUS_FAULT is "MODE CLASS N ERRNO LOG
 * PROGRAM", and it does so if its command line holds PROGRAM. ERRNO 0: the usual one. What it forks counts for itself,
 * from FORKED on, since nobody knows in which order the two come. LOG is told what was counted, or what was hit. With ISTHMUS_FAULT_CALL only calls that begin so count.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CHANGE, READ };
enum { OFF, COUNT, FAIL, KILL_BEFORE, KILL_AFTER, INTERRUPT };
enum { FORKED = 1000 };

static int mode, wanted_class, fired, after_class;
static int wanted_error;
static const char *wanted_call, *log_path;
static long wanted, counts[2];
#define NAMES 8192
static char names[2][NAMES][64];

void arm(int how, int which, long n)
{
    wanted_class = which;
    wanted = n;
    fired = 0;
    counts[0] = counts[1] = 0;
    mode = how;
}

void disarm(void) { mode = OFF; }
int has_fired(void) { return fired; }
long counted(int which) { return counts[which]; }
const char *name_of(int which, long n) { return names[which][n]; }

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;)
        ;
}

static void tell(int which, long n, const char *name)
{
    char line[128];
    int size = snprintf(line, sizeof line, "%d %ld %s\n", which, n, name);
    int fd = syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    syscall(SYS_write, fd, line, size);
    syscall(SYS_close, fd);
}

static __attribute__((constructor)) void arm_by_environment(void)
{
    const char *said = getenv("ISTHMUS_FAULT");
    static char path[256], program[256], line[4096];
    int how, which, error;
    long n;
    if (!said || sscanf(said, "%d %d %ld %d %255s %255[^\n]", &how, &which, &n, &error, path, program) != 6)
        return;
    int fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY);
    long size = syscall(SYS_read, fd, line, sizeof line - 1);
    syscall(SYS_close, fd);
    for (long i = 0; i + 1 < size; i++)
        if (!line[i])
            line[i] = ' ';
    if (!strstr(line, program))
        return;
    log_path = path;
    wanted_call = getenv("ISTHMUS_FAULT_CALL");
    wanted_error = error;
    arm(how, which, n);
}

static int hit(int which, const char *name, const char *detail, int error)
{
    if (mode == OFF)
        return 0;
    char said[64];
    snprintf(said, sizeof said, "%s %s", name, detail ? detail : "");
    if (wanted_call && strncmp(said, wanted_call, strlen(wanted_call)))
        return 0;
    long n = __atomic_fetch_add(&counts[which], 1, __ATOMIC_SEQ_CST);  /* threads */
    if (n < NAMES)
        memcpy(names[which][n], said, sizeof said);
    int is_wanted = mode != COUNT && which == wanted_class && n == wanted;
    if (log_path && (mode == COUNT || is_wanted))
        tell(which, n, said);
    if (!is_wanted)
        return 0;
    fired = 1;
    if (mode == FAIL) {
        errno = wanted_error ? wanted_error : error;
        return 1;
    }
    if (mode == KILL_BEFORE)
        die();
    after_class = 1;
    return 0;
}

static void passed(void)
{
    if (!after_class)
        return;
    after_class = 0;
    if (mode != INTERRUPT)
        die();
    raise(SIGINT);
}

static const char *kind_of(int family, int protocol)
{
    static char kind[32];
    snprintf(kind, sizeof kind, "%d %d", family, protocol);
    return kind;
}

static const char *path_of(int fd)
{
    static char path[64];
    char link[32];
    if (mode == OFF)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = syscall(SYS_readlink, link, path, sizeof path - 1);
    path[size < 0 ? 0 : size] = 0;
    return path;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) \
        real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define PASS(type, call) \
    do { \
        type result = (call); \
        int kept = errno; \
        passed(); \
        errno = kept; \
        return result; \
    } while (0)

/* One function that changes something: its type, name, parameters, arguments, what to log, errno. */
#define CALL(type, which, name, parameters, arguments, detail, error) \
    type name parameters \
    { \
        static type (*real) parameters; \
        if (!real) \
            real = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
        if (hit(which, #name, detail, error)) \
            return -1; \
        PASS(type, real arguments); \
    }

CALL(ssize_t, CHANGE, send, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags), 0, ENOBUFS)
CALL(ssize_t, CHANGE, sendto,
     (int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length),
     (fd, data, size, flags, to, length), 0, ENOBUFS)
CALL(ssize_t, CHANGE, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags), 0, ENOBUFS)
CALL(ssize_t, READ, recv, (int fd, void *data, size_t size, int flags), (fd, data, size, flags), 0, ENOBUFS)
CALL(ssize_t, READ, recvfrom,
     (int fd, void *data, size_t size, int flags, struct sockaddr *from, socklen_t *length),
     (fd, data, size, flags, from, length), 0, ENOBUFS)
CALL(ssize_t, READ, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags), 0, ENOBUFS)
CALL(int, READ, socket, (int family, int type, int protocol), (family, type, protocol),
     kind_of(family, protocol), EMFILE)
CALL(int, READ, bind, (int fd, const struct sockaddr *to, socklen_t length), (fd, to, length), 0, ENOMEM)
CALL(int, READ, socketpair, (int family, int type, int protocol, int ends[2]), (family, type, protocol, ends), 0, EMFILE)
CALL(int, READ, setsockopt, (int fd, int level, int name, const void *value, socklen_t length),
     (fd, level, name, value, length), 0, ENOBUFS)
CALL(int, READ, getsockopt, (int fd, int level, int name, void *value, socklen_t *length),
     (fd, level, name, value, length), 0, ENOBUFS)
CALL(ssize_t, READ, read, (int fd, void *data, size_t size), (fd, data, size), path_of(fd), EIO)
CALL(ssize_t, READ, pread64, (int fd, void *data, size_t size, off64_t at), (fd, data, size, at), 0, EIO)
CALL(ssize_t, READ, readlink, (const char *path, char *data, size_t size), (path, data, size), path, EIO)
CALL(ssize_t, CHANGE, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), 0, ENOSPC)
CALL(int, CHANGE, fsync, (int fd), (fd), 0, EIO)
CALL(int, CHANGE, fdatasync, (int fd), (fd), 0, EIO)
CALL(int, CHANGE, ftruncate64, (int fd, off64_t size), (fd, size), 0, EIO)
CALL(int, CHANGE, unlink, (const char *path), (path), path, EIO)
CALL(int, CHANGE, unlinkat, (int at, const char *path, int flags), (at, path, flags), path, EIO)
CALL(int, CHANGE, mkdir, (const char *path, mode_t bits), (path, bits), path, ENOSPC)
CALL(int, CHANGE, rmdir, (const char *path), (path), path, EIO)
CALL(int, CHANGE, symlink, (const char *to, const char *path), (to, path), path, ENOSPC)
CALL(int, CHANGE, rename, (const char *from, const char *to), (from, to), to, EIO)
CALL(int, CHANGE, chmod, (const char *path, mode_t bits), (path, bits), path, EIO)
CALL(int, CHANGE, setns, (int fd, int type), (fd, type), 0, ENOMEM)
CALL(int, CHANGE, unshare, (int flags), (flags), 0, ENOSPC)
CALL(int, CHANGE, mount,
     (const char *from, const char *to, const char *type, unsigned long flags, const void *data),
     (from, to, type, flags, data), to, ENOMEM)
CALL(int, CHANGE, umount2, (const char *path, int flags), (path, flags), path, EBUSY)
CALL(int, CHANGE, kill, (pid_t pid, int number), (pid, number), 0, EPERM)
CALL(int, READ, memfd_create, (const char *name, unsigned int flags), (name, flags), name, EMFILE)
CALL(int, READ, dup, (int fd), (fd), 0, EMFILE)
CALL(int, READ, dup2, (int fd, int to), (fd, to), 0, EBUSY)
CALL(int, CHANGE, execve, (const char *path, char *const argv[], char *const environment[]),
     (path, argv, environment), path, ENOMEM)

pid_t fork(void)
{
    REAL(pid_t, fork, void);
    if (hit(CHANGE, "fork", 0, EAGAIN))
        return -1;
    pid_t pid = real();
    if (!pid && log_path)
        for (int which = CHANGE; which <= READ; which++)
            counts[which] = counts[which] / FORKED * FORKED + FORKED;
    PASS(pid_t, pid);
}

int flock(int fd, int what)
{
    REAL(int, flock, int, int);
    /* Letting go of a lock cannot fail. */
    if (hit(what & LOCK_UN ? READ : CHANGE, "flock", 0, ENOLCK) && !(what & LOCK_UN))
        return -1;
    PASS(int, real(fd, what));
}

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(ssize_t, write, int, const void *, size_t);
    if (fd > 2 && hit(CHANGE, "write", path_of(fd), ENOSPC))
        return -1;
    PASS(ssize_t, real(fd, data, size));
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *how, char *const argv[], char *const environment[])
{
    REAL(int, posix_spawn, pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
         char *const[], char *const[]);
    if (hit(CHANGE, "posix_spawn", path, EAGAIN))
        return EAGAIN;
    PASS(int, real(pid, path, actions, how, argv, environment));
}

static int opening(const char *name, const char *path, int flags)
{
    int which = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC) ? CHANGE : READ;
    return hit(which, name, path, which == CHANGE ? ENOSPC : EMFILE);
}

#define BITS(last) \
    mode_t bits = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, last); \
        bits = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open64(const char *path, int flags, ...)
{
    REAL(int, open64, const char *, int, ...);
    BITS(flags);
    if (opening("open", path, flags))
        return -1;
    PASS(int, real(path, flags, bits));
}

int openat64(int at, const char *path, int flags, ...)
{
    REAL(int, openat64, int, const char *, int, ...);
    BITS(flags);
    if (opening("openat", path, flags))
        return -1;
    PASS(int, real(at, path, flags, bits));
}

int ioctl(int fd, unsigned long request, ...)
{
    REAL(int, ioctl, int, unsigned long, ...);
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    /* 0x5401: TCGETS, asked by whoever opens a file with buffers. */
    if (request != 0x5401 && hit(CHANGE, "ioctl", 0, EIO))
        return -1;
    PASS(int, real(fd, request, argument));
}

/* pidfd_open, pidfd_send_signal and the like. */
long syscall(long number, ...)
{
    REAL(long, syscall, long, ...);
    va_list rest;
    va_start(rest, number);
    long a = va_arg(rest, long), b = va_arg(rest, long), c = va_arg(rest, long);
    long d = va_arg(rest, long), e = va_arg(rest, long), f = va_arg(rest, long);
    va_end(rest);
    if ((number == SYS_pidfd_open || number == SYS_pidfd_send_signal) && hit(CHANGE, "pidfd", 0, EMFILE))
        return -1;
    PASS(long, real(number, a, b, c, d, e, f));
}
