/* LD_PRELOAD: makes writes, reads and syncs of files below FAULTY_DIR fail as the file FAULTY_PLAN says.
 *
 * The plan holds one word: "none", "enospc", "eio", "short" (a part is written, then ENOSPC: what a disk that runs
 * full does), "sync" (fdatasync gives EIO), "read" (pread gives EIO). It is read before each call.
 *
 * FAULTY_CLOCK names a file with a number of seconds by which the wall clock is wrong. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int planned(int fd, const char *word)
{
    const char *dir = getenv("FAULTY_DIR"), *plan = getenv("FAULTY_PLAN");
    char link[64], path[4096], text[32];
    ssize_t length;
    int file;

    if (!dir || !plan)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        return 0;
    path[length] = 0;
    if (strncmp(path, dir, strlen(dir)))
        return 0;
    file = (int)syscall(SYS_openat, AT_FDCWD, plan, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    length = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    text[length < 0 ? 0 : length] = 0;
    return !strncmp(text, word, strlen(word));
}

static int write_error(int fd)
{
    if (planned(fd, "enospc"))
        return ENOSPC;
    return planned(fd, "eio") ? EIO : 0;
}

static int fails(int error)
{
    if (error)
        errno = error;
    return error;
}

ssize_t write(int fd, const void *data, size_t size)
{
    if (fails(write_error(fd)))
        return -1;
    return syscall(SYS_write, fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    static __thread int again;

    if (fails(write_error(fd)))
        return -1;
    if (planned(fd, "short")) {
        again = !again;
        if (!again) {
            errno = ENOSPC;
            return -1;
        }
        return syscall(SYS_write, fd, parts[0].iov_base, parts[0].iov_len / 2 + 1);
    }
    return syscall(SYS_writev, fd, parts, count);
}

#define PWRITE(name, offset_type)                                                \
    ssize_t name(int fd, const void *data, size_t size, offset_type offset)      \
    {                                                                            \
        if (fails(write_error(fd)) || (planned(fd, "short") && fails(ENOSPC)))   \
            return -1;                                                           \
        return syscall(SYS_pwrite64, fd, data, size, offset);                    \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define PREAD(name, offset_type)                                                 \
    ssize_t name(int fd, void *data, size_t size, offset_type offset)            \
    {                                                                            \
        if (planned(fd, "read") && fails(EIO))                                   \
            return -1;                                                           \
        return syscall(SYS_pread64, fd, data, size, offset);                     \
    }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

int fdatasync(int fd)
{
    if (planned(fd, "sync") && fails(EIO))
        return -1;
    return (int)syscall(SYS_fdatasync, fd);
}

static long wrong_by(void)
{
    const char *name = getenv("FAULTY_CLOCK");
    char text[32];
    ssize_t length;
    int file = name ? (int)syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC) : -1;

    if (file < 0)
        return 0;
    length = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    text[length < 0 ? 0 : length] = 0;
    return atol(text);
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    int outcome = (int)syscall(SYS_clock_gettime, id, now);

    if (!outcome && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        now->tv_sec += wrong_by();
    return outcome;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    int outcome = (int)syscall(SYS_gettimeofday, now, zone);

    if (!outcome && now)
        now->tv_sec += wrong_by();
    return outcome;
}

time_t time(time_t *out)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}
